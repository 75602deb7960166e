"""What the doctor says of documents, and of languages that the rules would reject."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.languages import LANGUAGES, declaration
from speed_assets.orchestration.doctor import corpus_probes
from speed_assets.recipe import Recipe
from tests.test_corpus_loop import recipe_of

URL = "http://127.0.0.1:1/v1"


def with_languages(recipe: Recipe, *languages: str) -> Recipe:
    rules = {"languages": languages, "language_confidence": 0.98}
    data = recipe.model_dump()
    data["final_triplets"]["rules"] |= rules
    return Recipe.model_validate(data)


def write_articles(folder: Path, language: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (title, paragraphs) in enumerate(declaration(language)):
        (folder / f"{language}{number:02}.md").write_text("\n\n".join([f"# {title}", *paragraphs]), encoding="utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_documents_in_another_language_are_announced(language: str, tmp_path: Path) -> None:
    write_articles(tmp_path / "corpus", language)
    recipe = recipe_of(URL, tmp_path)
    (found,) = corpus_probes.corpus(recipe)
    assert (found.status, found.line) == ("ok", "31 files; of 31 documents and files tried 0 cannot be read")
    assert corpus_probes.text_languages(with_languages(recipe, language)) == []
    other = "en" if language != "en" else "de"
    (found,) = corpus_probes.text_languages(with_languages(recipe, other))
    assert found.status == "warning"
    assert int(found.line.split()[0]) > 25
    assert f"final_triplets.rules.languages ({other})" in found.line


def test_a_few_documents_in_another_language_are_no_matter(tmp_path: Path) -> None:
    write_articles(tmp_path / "corpus", "en")
    for number, (title, paragraphs) in enumerate(declaration("de")[5:7]):
        (tmp_path / "corpus" / f"x{number}.txt").write_text("\n".join([title, *paragraphs]), encoding="utf-8")
    assert corpus_probes.text_languages(with_languages(recipe_of(URL, tmp_path), "en")) == []


def test_examples_and_topics_are_read_too(tmp_path: Path) -> None:
    write_articles(tmp_path / "corpus", "en")
    lines = [{"query": " ".join(paragraphs)} for _, paragraphs in declaration("hi")[:10]]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "topics.txt").write_text("\n".join(f"人権/第{n}条の権利" for n in range(20)), encoding="utf-8")
    data = with_languages(recipe_of(URL, tmp_path, share=0.5), "en").model_dump()
    data["examples"] = {"file": str(tmp_path / "own.jsonl"), "task_type": "grounded"}
    data["topics"] |= {"file": str(tmp_path / "topics.txt"), "alignment": None}
    found = corpus_probes.text_languages(Recipe.model_validate(data))
    assert [" ".join(one.line.split()[:5]) for one in found] == ["10 of 10 queries of", "20 of 20 topics are"]


def test_documents_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    recipe = recipe_of(URL, tmp_path)
    (found,) = corpus_probes.corpus(recipe)
    assert (found.status, found.mend) == ("error", "corpus.path")
    write_articles(tmp_path / "corpus", "en")
    for number in range(10):
        (tmp_path / "corpus" / f"scan{number}.png").write_bytes(b"x")
    (found,) = corpus_probes.corpus(recipe)
    assert found.status == "warning"
    assert "of 40 documents and files tried 9 cannot be read" in found.line
    assert "9 cannot be read: scan0.png: no reader of .png; " in found.line
    assert found.line.count("no reader of .png") == 3
    assert found.line.endswith("; and 6 more (a sample: 1 of the files were not tried)")


def test_a_sample_that_cannot_be_read_ends_no_run(tmp_path: Path) -> None:
    """Files that were not tried may hold all there is."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "scan.png").write_bytes(b"x")
    (found,) = corpus_probes.corpus(recipe_of(URL, tmp_path))
    assert (found.status, found.line) == (
        "error",
        "none of 1 files tried can be read as documents: scan.png: no reader of .png",
    )
    (folder / "large.jsonl").write_text('{"text": "' + "x" * 6_000_000 + '"}')
    (found,) = corpus_probes.corpus(recipe_of(URL, tmp_path))
    assert found.status == "warning"


def test_a_broken_row_of_a_large_table_is_a_small_share(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    lines = [json.dumps({"id": f"row {n}", "text": f"Text {n}."}) for n in range(60)]
    (tmp_path / "corpus" / "rows.jsonl").write_text("\n".join([*lines, "{broken"]))
    (found,) = corpus_probes.corpus(recipe_of(URL, tmp_path))
    assert found.status == "ok"
    assert found.line.startswith(
        "1 files; of 61 documents and files tried 1 cannot be read: rows.jsonl: line 61 is no JSON"
    )


def test_an_id_to_forget_that_no_document_has_is_announced(tmp_path: Path) -> None:
    write_articles(tmp_path / "corpus", "en")
    (tmp_path / "corpus" / "rows.jsonl").write_text('{"id": "row-17", "text": "Text."}\n')
    data = recipe_of(URL, tmp_path).model_dump()
    data["corpus"]["forget"] = ("en03.md", "row-17", "en03.dm", "rwo-17", "of another time")
    first, *found = corpus_probes.corpus(Recipe.model_validate(data))
    assert (first.status, {one.status for one in found}) == ("ok", {"warning"})
    assert [one.line for one in found] == [
        "corpus.forget names 'en03.dm', and no document has this id now; 'en03.md' is the nearest that one has",
        "corpus.forget names 'rwo-17', and no document has this id now; 'row-17' is the nearest that one has",
        "corpus.forget names 'of another time', and no document has this id now",
    ]
    assert found[0].mend == "corpus.forget, unless the document is gone from corpus.path"
