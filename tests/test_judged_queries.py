"""The user's judged queries as a set of their own: files, documents and texts, queries that cannot be scored."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from resources.inputs.judged_queries import judged_queries_digest, read_judged_queries
from speed_assets.assets.own_evaluation import FOLDER, own_evaluation
from speed_assets.assets.own_queries import FOLDER as QUERIES
from speed_assets.orchestration.doctor import input_probes
from speed_assets.recipe import OwnEvaluation, Recipe, RecipeError
from tests.support.reading_teacher import write_corpus
from tests.test_corpus_loop import recipe_of
from tests.test_grounded_rows import Reader, Table, passages_of, run_of
from tests.test_own_evaluation import POOLED, URL, Judging, judged_file, made, qrels, with_own


def test_judged_queries_are_searched_for_among_all_passages(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 30)
    passage = (tmp_path / "corpus" / "note004.md").read_text().split("\n\n")[2]
    file = judged_file(
        tmp_path,
        [
            {"query": "where is the ladder?", "document": "note003.md", "relevance": 2},
            {"query": "where is the ladder?", "document": "note005.md", "relevance": 0},
            {"query": "how to mend it", "passage": passage},
            {"query": "something else", "passage": "A text that no passage of the corpus holds."},
            {"query": "points nowhere", "document": "gone.md"},
        ],
    )
    run, told, table = made(tmp_path, Reader(), 30, rows=0, queries=file)
    rows = run.tables["data"]
    assert rows["query"].to_list() == ["where is the ladder?", "how to mend it", "something else"]
    assert run.tables["quarantine"].select("reason", "raw").rows() == [("not_judged", "points nowhere")]
    assert told["judgements_notes"] == ["1 of 5 judgements point to no query or document and are left out"]
    assert (told["judgements"], told["judged_texts_added"]) == (5, 1)
    assert "teacher_calls" not in told
    graded = qrels(run, QUERIES)
    of_document = dict(table.select("passage_id", "document_id").iter_rows())
    ladder = graded.filter(pl.col("query-id") == rows["row_id"][0])
    assert {of_document[one]: grade for _, one, grade in ladder.iter_rows()} == {"note003.md": 2, "note005.md": 0}
    assert ladder.height == table.filter(pl.col("document_id").is_in(["note003.md", "note005.md"])).height
    mended = graded.filter(pl.col("query-id") == rows["row_id"][1])["corpus-id"]
    assert {of_document[one] for one in mended} == {"note004.md"}
    corpus = (run.out / QUERIES / "corpus.jsonl").read_text().splitlines()
    assert len(corpus) == table.height + 1
    assert not (run.out / FOLDER).exists()


def test_queries_without_a_judgement_are_pooled_next_to_a_random_passage(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 30)
    words = [word for word in (tmp_path / "corpus" / "note004.md").read_text().split() if word.isalpha()]
    file = judged_file(tmp_path, [{"query": f"{words[3]} {words[6]}"}, {"query": "zzz yyy"}])
    run, told, _ = made(tmp_path, Judging(), 30, rows=0, queries=file, pooled={**POOLED, "depth": 5})
    (about,) = told["sets"]
    assert run.tables["data"].height == 1
    assert about["relevant"] == about["answers"] > 0
    assert run.tables["quarantine"].select("reason", "raw").rows() == [("no_answer", "zzz yyy")], (
        "nothing has its words"
    )


def test_judged_queries_that_are_trained_on_are_not_scored(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 20)
    file = judged_file(tmp_path, [{"query": q, "document": "note003.md"} for q in ("Mine  too", "a new one")])
    trained = judged_file(tmp_path, [{"query": "mine too", "positive": "some text"}], "examples.jsonl")
    data = recipe_of(URL, tmp_path).model_dump()
    data["own_evaluation"] |= {"rows": 0, "queries": file}
    data["examples"] = {"file": trained, "task_type": "grounded"}
    recipe = Recipe.model_validate(data)
    assert recipe.graph()["own_evaluation"].inputs == ("passages", "examples")
    table = passages_of(recipe, tmp_path / "home").tables["data"]
    own = pl.DataFrame({"query": ["mine too", None]})
    inputs = {"passages": {"grounded": Table(table)}, "examples": {"grounded": Table(own)}}
    run = run_of(recipe, tmp_path / "home", "own_evaluation", None, inputs)
    own_evaluation(run)
    assert run.tables["data"]["query"].to_list() == ["a new one"]
    assert run.tables["quarantine"]["reason"].to_list() == ["in_examples"]


def test_a_folder_in_beirs_layout_needs_no_corpus_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "judged"
    (folder / "qrels").mkdir(parents=True)
    judged_file(folder, [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "not judged"}], "queries.jsonl")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tnote001.md\t1\n")
    section = OwnEvaluation(rows=0, queries=str(folder))
    found = read_judged_queries(section)
    assert (found.queries, found.judgements) == ({"q1": "one"}, [("q1", "note001.md", 1.0)])
    before = judged_queries_digest(section)
    judged_file(folder, [{"_id": "d1", "title": "T", "text": "words"}], "corpus.jsonl")
    assert read_judged_queries(section).texts == {"d1": "T\nwords"}
    assert judged_queries_digest(section) != before


def test_files_of_queries_that_cannot_be_used_say_what_to_do(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 12)
    base = recipe_of(URL, tmp_path)
    for rows, message in (
        ([{"question": "a"}], r"no column query \(it has question\): name its columns"),
        ([{"query": " "}], "row 1 has no query"),
        ([{"query": "a", "document": "note001.md", "relevance": "much"}], "row 1: the relevance 'much' is no number"),
        ([{"query": "a", "document": "note001.md", "relevance": 0.5}], "1 relevance is no integer"),
        (
            [{"query": "a", "document": "gone.md"}],
            "there is no judgement of a query and a document.*'gone.md' is the first",
        ),
    ):
        recipe = with_own(base, rows=0, queries=judged_file(tmp_path, rows))
        table = passages_of(recipe, tmp_path / "home").tables["data"]
        run = run_of(recipe, tmp_path / "home", "own_evaluation", None, {"passages": {"grounded": Table(table)}})
        with pytest.raises(RecipeError, match=message):
            own_evaluation(run)
    (found,) = input_probes.judged_queries(with_own(base, rows=0, queries=judged_file(tmp_path, [{"query": "a"}])))
    assert (found.status, found.line) == ("error", "0 of 1 queries are judged")
    with pytest.raises(RecipeError, match="there is no file or folder"):
        read_judged_queries(OwnEvaluation(queries=str(tmp_path / "none.csv")))


def test_judgements_of_documents_that_are_not_there_are_found_before_a_run(tmp_path: Path) -> None:
    base = recipe_of(URL, tmp_path)
    write_corpus(tmp_path / "corpus", 20)

    def status(*documents: str) -> list[str]:
        rows = [{"query": f"query {one}", "document": one} for one in documents]
        asked = with_own(base, rows=0, queries=judged_file(tmp_path, rows))
        return [found.status for found in input_probes.judged_queries(asked)]

    assert status("note001.md", "note002.md") == ["ok"]
    assert status("note001.md", "nowhere.md") == ["ok", "warning"]
    assert status("nowhere.md") == ["ok", "error"]


def test_no_teacher_is_needed_for_judged_queries(tmp_path: Path) -> None:
    recipe = with_own(recipe_of(URL, tmp_path), rows=0, queries=str(tmp_path / "q.csv"))
    stage = recipe.graph()["own_evaluation"]
    assert not stage.asks_teacher
    assert (stage.reads, stage.externals, stage.takes, stage.gpu) == (("seed",), ("judged_queries",), None, False)
