"""Evaluation folders as people have them: BEIR's layout without a description, other names of columns, planted faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from resources.inputs.evaluation_sets import check_folder, local_texts, scored_folders
from speed_assets.domain.evaluation_folders import beir_description
from speed_assets.recipe import RecipeError

pytest.importorskip("mteb")
from speed_assets.workers.folder_tasks import local_task, notes_of

CORPUS = [{"_id": f"d{n}", "title": f"Title {n}", "text": text} for n, text in enumerate(("a cat", "a dog", "a cow"))]
QUERIES = [{"_id": "q1", "text": "cat"}, {"_id": "q2", "text": "dog"}, {"_id": "q3", "text": "never judged"}]
UNJUDGED = "my-search: 1 of 3 queries has no judgement, such as 'q3', and will not be scored"
QRELS = "query-id\tcorpus-id\tscore\nq1\td0\t1\nq2\td1\t2\n"


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def beir(root: Path, corpus: list[dict[str, Any]] = CORPUS, qrels: str = QRELS, mark: str = "") -> Path:
    folder = root / "my search"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(mark + lines(corpus), encoding="utf-8")
    (folder / "queries.jsonl").write_text(mark + lines(QUERIES), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(mark + qrels, encoding="utf-8")
    return folder


def data_of(folder: Path) -> Any:
    return local_task(folder, "0" * 64).dataset["default"]["test"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_beir_folder_works_by_naming_it(tmp_path: Path, mark: str) -> None:
    folder = beir(tmp_path, mark=mark)
    assert scored_folders([str(folder)]) == [folder]
    task = local_task(folder, "0" * 64)
    assert task.metadata.name == "my-search"
    data = data_of(folder)
    assert data["relevant_docs"] == {"q1": {"d0": 1}, "q2": {"d1": 2}}
    assert data["queries"]["id"] == ["q1", "q2"]
    assert data["corpus"]["title"] == ["Title 0", "Title 1", "Title 2"]
    assert notes_of(task) == [UNJUDGED]
    texts = local_texts([str(folder)])["my search"]
    assert {"cat", "a cow", "Title 1"} <= set(texts)
    assert not {"q1", "d0"} & set(texts)


def test_only_the_test_split_is_scored_unless_there_is_one_other() -> None:
    files = ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"]
    described = beir_description("set", files)
    assert described is not None
    assert described.splits == {"test": "qrels/test.tsv"}
    described = beir_description("set", [*files[:2], "qrels/dev.tsv"])
    assert described is not None
    assert described.eval_splits == ("dev",)
    with pytest.raises(ValueError, match=r"qrels has dev, train and no test.tsv"):
        beir_description("set", [*files[:3], "qrels/dev.tsv"])
    assert beir_description("set", files[:2]) is None


@pytest.mark.parametrize(
    ("corpus", "qrels", "message"),
    [
        (CORPUS, QRELS + "q1\td9\t1\n", "1 of 3 judgements point nowhere: no document has the id 'd9'"),
        (CORPUS, QRELS + "q9\td0\t1\n", "no query has the id 'q9'"),
        (CORPUS, QRELS + "q1\td1\t0.5\n", "1 relevance is no integer"),
        ([*CORPUS, CORPUS[0]], QRELS, "corpus.jsonl: 1 id stands more than once, such as 'd0'"),
        (CORPUS, "query\tdoc\n1\t2\n", r"no column query_id or query-id, document_id or corpus-id, relevance or score"),
        ([{"_id": "d0", "body": "a"}], QRELS, r"corpus.jsonl has no column text: it has _id, body"),
    ],
)
def test_planted_faults_are_refused(tmp_path: Path, corpus: list[dict[str, Any]], qrels: str, message: str) -> None:
    folder = beir(tmp_path, corpus, qrels)
    with pytest.raises(ValueError, match=message) as error:
        local_task(folder, "0" * 64)
    assert str(folder) in str(error.value)
    with pytest.raises(RecipeError) as planned:
        check_folder(str(folder), ())
    assert str(planned.value) == f"evaluation.local: {error.value}"


def test_a_plan_notes_what_the_scores_note(tmp_path: Path) -> None:
    """Texts are equal for a plan, which holds none of them, where they are for the worker."""
    corpus = [*CORPUS, {"_id": "d7", "title": "Title 0", "text": "a  CAT"}, {"_id": "d8", "title": "", "text": " "}]
    folder = beir(tmp_path, corpus, f"{QRELS}q3\td2\t-1\n")
    (folder / "queries.jsonl").write_text(lines([*QUERIES, {"_id": "q4", "text": "CAT "}]))
    (folder / "qrels" / "test.tsv").write_text(f"{QRELS}q3\td2\t-1\nq4\td2\t1\n")
    notes = notes_of(local_task(folder, "0" * 64))
    assert len(notes) == 5
    assert list(check_folder(str(folder), ())) == notes


def test_double_ids_of_queries_are_refused(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "queries.jsonl").write_text(lines([*QUERIES, {"_id": "q1", "text": "another"}]))
    with pytest.raises(ValueError, match=r"queries.jsonl: 1 id stands more than once, such as 'q1'"):
        local_task(folder, "0" * 64)


@pytest.mark.parametrize(
    ("grade", "message"),
    [
        ("", "relevance holds something that is not a number|rows without relevance"),
        ("high", "not a number"),
        ("nan", "not a number"),
        ("inf", "not a number"),
    ],
)
def test_grades_that_are_no_numbers_are_refused(grade: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        local_task(beir(tmp_path, qrels=f"{QRELS}q1\td1\t{grade}\n"), "0" * 64)


def test_a_pair_judged_twice_is_refused_unless_both_agree(tmp_path: Path) -> None:
    again = beir(tmp_path / "a", qrels=QRELS + "q1\td0\t1\n")
    assert data_of(again)["relevant_docs"] == {"q1": {"d0": 1}, "q2": {"d1": 2}}
    with pytest.raises(ValueError, match="1 pair is judged twice with different grades"):
        local_task(beir(tmp_path / "b", qrels=QRELS + "q1\td0\t0\n"), "0" * 64)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_long_cells_of_a_corpus_in_csv_are_scored_in_full(mark: str, tmp_path: Path) -> None:
    folder = beir(tmp_path)
    long = "word " * 60_000 + "end"
    (folder / "corpus.csv").write_text(f'{mark}_id,text\nd0,"{long}"\nd1,"a, ""dog"""\n', encoding="utf-8")
    description = {
        "name": "Long", "type": "Retrieval", "splits": {"test": "qrels/test.tsv"}, "corpus": "corpus.csv",
        "queries": "queries.jsonl", "fields": {"corpus.id": "_id"},
    }  # fmt: skip
    (folder / "task.yaml").write_text(mark + yaml.safe_dump(description), encoding="utf-8")
    corpus = data_of(folder)["corpus"]
    assert corpus["text"] == [long, 'a, "dog"']
    assert long in local_texts([str(folder)])["my search"]


def test_a_file_in_utf_16_names_its_encoding(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "queries.jsonl").write_text(lines(QUERIES), encoding="utf-16")
    with pytest.raises(ValueError, match=r"queries.jsonl is in UTF-16: save it as UTF-8"):
        local_task(folder, "0" * 64)


def test_equal_texts_of_which_one_is_judged_are_reported(tmp_path: Path) -> None:
    twin = {"_id": "d7", "title": "Title 0", "text": "a  CAT"}
    notes = notes_of(local_task(beir(tmp_path, [*CORPUS, twin]), "0" * 64))
    assert notes == [
        UNJUDGED,
        "my-search, test: 1 relevant document has the same text as one that is not judged for its query: finding that one counts "
        "as a miss",
    ]


def test_queries_of_other_splits_are_not_without_judgement(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td0\t1\n")
    (folder / "qrels" / "dev.tsv").write_text("of another kind\n")
    assert notes_of(local_task(folder, "0" * 64)) == []


def test_a_description_maps_ids_titles_and_several_columns(tmp_path: Path) -> None:
    corpus = [{"nr": n, "name": f"T{n}", "abstract": "a", "body": f"text {n}"} for n in range(3)]
    folder = beir(tmp_path, corpus, "query-id\tcorpus-id\tscore\nq1\t0\t1\nq1\t8\t1\n")
    fields = {"corpus.id": "nr", "corpus.title": "name", "corpus.text": ["abstract", "body"]}
    description = {
        "name": "Mapped", "type": "Retrieval", "splits": {"test": "qrels/test.tsv"}, "corpus": "corpus.jsonl",
        "queries": "queries.jsonl", "fields": fields, "dangling": "drop",
    }  # fmt: skip
    (folder / "task.yaml").write_text(yaml.safe_dump(description))
    data = data_of(folder)
    assert data["corpus"]["text"] == ["a text 0", "a text 1", "a text 2"]
    assert data["corpus"]["title"] == ["T0", "T1", "T2"]
    assert data["relevant_docs"] == {"q1": {"0": 1}}
    assert "1 of 2 judgements point to no query" in notes_of(local_task(folder, "0" * 64))[1]


def test_a_column_that_is_named_and_not_there_is_refused(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    description = {
        "name": "Mapped", "type": "Retrieval", "splits": {"test": "qrels/test.tsv"}, "corpus": "corpus.jsonl",
        "queries": "queries.jsonl", "fields": {"corpus.title": "head"},
    }  # fmt: skip
    (folder / "task.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(ValueError, match=r"corpus.jsonl has no column head: it has _id, title, text"):
        local_task(folder, "0" * 64)


def test_long_cells_and_marks_stop_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.csv").write_text('\ufefftext,label\n"' + "word " * 60_000 + '",x\n', encoding="utf-8")
    (folder / "b.jsonl").write_text('\ufeff{"text": "hello there"}\n', encoding="utf-8")
    texts = local_texts([str(folder)])["texts"]
    assert "hello there" in texts
    assert max(map(len, texts)) > 131_072


def test_a_split_that_nobody_named_is_an_error_of_the_recipe(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
    (folder / "qrels" / "train.tsv").write_text(QRELS)
    with pytest.raises(RecipeError, match=r"evaluation.local: .*qrels has dev, train"):
        scored_folders([str(folder)])
