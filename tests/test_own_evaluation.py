"""The user's own sets: what retrievers find is judged, the user's judged queries, and what recipes of before keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typing_extensions import override

from resources.inputs.judged_queries import judged_queries_digest, read_judged_queries
from resources.ledger.calls import TeacherRequest
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets.examples import examples
from speed_assets.assets.own_evaluation import FOLDER, TABLE, own_evaluation
from speed_assets.assets.own_queries import FOLDER as QUERIES
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.orchestration import runs
from speed_assets.orchestration.doctor import input_probes
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_estimates import answers_calls, own_evaluation_calls
from speed_assets.orchestration.rehearse import rehearsal_of
from speed_assets.recipe import Checks, OwnEvaluation, Recipe, RecipeError, load_recipe, shipped_recipes, with_changes
from tests.support.reading_teacher import reading, write_corpus
from tests.support.teacher_server import TeacherServer
from tests.test_corpus_loop import found, recipe_of
from tests.test_grounded_rows import Reader, Table, passages_of, run_of

URL = "http://127.0.0.1:1/v1"
POOLED = {"depth": 3, "untrained": False}


def with_own(recipe: Recipe, checks: dict[str, Any] | None = None, **own: Any) -> Recipe:
    data = recipe.model_dump()
    data["own_evaluation"] |= own
    data["checks"] |= checks or {}
    return Recipe.model_validate(data)


def with_changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(with_changes(recipe.model_dump(), changes))


class Biased(Reader):
    """A reader whose judgements are these words."""

    def __init__(self, said: Callable[[str], str]) -> None:
        super().__init__()
        self._relevance = said

    @override
    def _said(self, request: TeacherRequest) -> str:
        return self._relevance(request.prompt) if '"first"' in request.prompt else super()._said(request)


class Judging(Biased):
    """A reader that judges as `reading_teacher` does, without a form of the answer to tell by."""

    def __init__(self) -> None:
        super().__init__(
            lambda prompt: str(
                self._answer(
                    {
                        "messages": [{"role": "user", "content": prompt}],
                        "response_format": {
                            "type": "json_schema",
                            "json_schema": {"schema": {"properties": {"first": {}, "second": {}}}},
                        },
                    }
                )
            )
        )


def made(tmp_path: Path, engine: Any, documents: int = 60, **own: Any) -> tuple[Any, dict[str, Any], pl.DataFrame]:
    """The stage's run, what it reports, and the passages."""
    write_corpus(tmp_path / "corpus", documents)
    recipe = with_own(recipe_of(URL, tmp_path), **own)
    table = passages_of(recipe, tmp_path / "home").tables["data"]
    run = run_of(recipe, tmp_path / "home", "own_evaluation", None, {"passages": {"grounded": Table(table)}}, engine)
    told = own_evaluation(run)
    assert told["asked"] == run.tables["data"].height + run.tables["quarantine"].height
    return run, told, table


def qrels(run: Any, name: str) -> pl.DataFrame:
    return pl.read_csv(run.out / name / "qrels" / "test.tsv", separator="\t")


def test_what_retrievers_find_is_judged_in_two_orders(tmp_path: Path) -> None:
    engine = Judging()
    run, told, table = made(tmp_path, engine, pooled=POOLED)
    (about,) = told["sets"]
    (retriever,) = told["retrievers"]
    assert about["set"] == FOLDER
    assert about["queries"] == run.tables["data"].height > 2
    assert about["judged"] == retriever["passages"] == retriever["found_alone"] > about["queries"]
    assert about["orders_agree_share"] == 1.0
    assert engine.asked == told["teacher_calls"] >= 6 + 2 * about["judged"]
    judged = qrels(run, FOLDER)
    texts = dict(table.select("passage_id", "text").iter_rows())
    queries = dict(run.tables["data"].select("row_id", "query").iter_rows())
    for query, passage, grade in judged.iter_rows():
        words = {word.strip(".,").lower() for word in texts[passage].split()}
        assert bool(grade) == (set(queries[query].split()) <= words)
    assert judged.filter(score=0).height > 0
    assert set(judged["corpus-id"]) <= set(table.filter("held_out")["passage_id"])
    judgements = run.tables[TABLE]
    assert set(judgements["source"]) == {"written", "teacher"}
    assert judgements.filter(source="written").height == about["queries"]


def test_a_judge_that_goes_by_the_order_marks_nothing(tmp_path: Path) -> None:
    run, told, _ = made(tmp_path, Biased(lambda _prompt: '{"first": true, "second": false}'), pooled=POOLED)
    (about,) = told["sets"]
    assert about["orders_disagree"] == about["judged"] > 0
    assert (about["orders_agree_share"], about["relevant"]) == (0.0, 0)
    assert qrels(run, FOLDER).height == run.tables["data"].height, "only what queries were written for"
    assert run.tables[TABLE]["grade"].null_count() == about["judged"]


def test_verdicts_that_cannot_be_read_are_in_the_quarantine(tmp_path: Path) -> None:
    run, told, _ = made(tmp_path, Biased(lambda _prompt: "I cannot tell."), pooled=POOLED)
    (about,) = told["sets"]
    rejected = run.tables["quarantine"].filter(reason="unreadable_judgement")
    assert rejected.height == about["unreadable"] == about["judged"] > 0
    assert rejected["detail"].unique().to_list() == ["not_json"]
    assert rejected["row_id"].n_unique() == rejected.height


def test_queries_that_their_own_passage_does_not_answer_are_rejected(tmp_path: Path) -> None:
    run, _, _ = made(tmp_path, Biased(lambda _prompt: '{"first": false, "second": false}'), pooled=POOLED)
    assert run.tables["data"].is_empty()
    assert "not_answered" in set(run.tables["quarantine"]["reason"])
    assert not (run.out / FOLDER).exists()


def judged_file(folder: Path, rows: list[dict[str, Any]], name: str = "judged.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


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


def test_sections_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    base = recipe_of(URL, tmp_path)
    for own, checks, message in (
        ({"rows": 0}, {}, "rows=0 and no `queries`"),
        ({"pooled": {"bm25": False, "untrained": False}}, {}, "no retriever is left"),
        ({"pooled": {"models": [{"model": "a"}, {"model": "a"}]}}, {}, "a retriever is named twice"),
        ({"sampling": {"temperature": 1.0}}, {"own_evaluation": {"gain_min": 2}}, "less than or equal to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            with_own(base, checks, **own)
    data = with_own(base, queries=str(tmp_path / "q.csv"), pooled={}).model_dump()
    data["teacher"]["endpoint"] = "https://api.example.com/v1"
    with pytest.raises(ValueError, match=r"would send own_evaluation.queries to a hosted teacher"):
        Recipe.model_validate(data)
    data["own_evaluation"]["hosted_teachers"] = True
    assert Recipe.model_validate(data).own_evaluation
    without = base.model_dump() | {"own_evaluation": None}
    without["checks"] = without["checks"] | {"own_evaluation": {}}
    with pytest.raises(ValueError, match=r"`own_evaluation` is missing: checks.own_evaluation asks for a gain"):
        Recipe.model_validate(without)


def test_no_teacher_is_needed_for_judged_queries(tmp_path: Path) -> None:
    recipe = with_own(recipe_of(URL, tmp_path), rows=0, queries=str(tmp_path / "q.csv"))
    stage = recipe.graph()["own_evaluation"]
    assert not stage.asks_teacher
    assert (stage.reads, stage.externals, stage.takes, stage.gpu) == (("seed",), ("judged_queries",), None, False)


def test_the_plan_counts_pools_and_a_rehearsal_makes_them_small(tmp_path: Path) -> None:
    file = judged_file(tmp_path, [{"query": f"query {n}"} for n in range(30)])
    recipe = with_own(recipe_of(URL, tmp_path), rows=40, queries=file, pooled={"depth": 4})
    assert own_evaluation_calls(recipe) == 40 + (40 + 30) * 2 * 4 * 2
    small = rehearsal_of(recipe, 8).own_evaluation
    assert small is not None
    assert (small.rows, small.queries_max) == (8, 8)


def test_what_recipes_of_before_say_is_what_they_said() -> None:
    """No name of what is new is in what fingerprints are made of, and the stage is as it was."""
    stage = next(stage for stage in ALL_STAGES if stage.name == "own_evaluation")
    assert set(OwnEvaluation().model_dump()) == {"rows", "sampling", "attempts", "copied_words_min"}
    assert "own_evaluation" not in Checks().model_dump()
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert "own_evaluation" not in recipe.model_dump()["checks"]
        if recipe.own_evaluation:
            assert recipe.graph()["own_evaluation"] == stage


BEFORE = {
    "own_evaluation": "8af7d0c6659e24fc2344ee35e80705ac6e51ad14493c8c633f80d811e1fb5df1",
    "checks": "8f78c87a8c7020b268da207e2410d458398c71322d92e7febf29a78d0fb0da02",
}
"""Digests of the two sections as version 3f7c173 wrote them."""


def test_sections_of_before_have_the_digests_of_before() -> None:
    own = OwnEvaluation.model_validate({"rows": 60, "attempts": 4, "sampling": {"temperature": 0.7, "top_p": 0.95}})
    assert digest(own.model_dump(mode="json")) == BEFORE["own_evaluation"]
    assert digest(Checks().model_dump(mode="json")) == BEFORE["checks"]


@pytest.mark.faults
def test_pools_judged_queries_and_the_gate_from_documents_to_a_release(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 24)
    file = judged_file(tmp_path, [{"query": f"{one} note", "document": f"note00{one}.md"} for one in range(8)])
    with TeacherServer(reading()) as server:
        base = recipe_of(server.url, tmp_path)
        recipe = with_own(base, {"own_evaluation": {"gain_min": 0.99}}, queries=file, pooled={"depth": 2})
        words = [word for word in (tmp_path / "corpus" / "note004.md").read_text().split() if word.isalpha()]
        real = judged_file(tmp_path, [{"query": f"{words[3]} {words[6]}"}], "real.jsonl")
        answered = {"file": real, "task_type": "grounded", "answers": {"depth": 4}}
        recipe = Recipe.model_validate(recipe.model_dump() | {"examples": answered})
        home = tmp_path / "home"
        planned = plan(recipe, home).as_json()
        report = runs.run(recipe, home)
        assert any("own_gain" in error for error in report.errors), report.errors
        assert "is not shown to be above +0.9900" in " ".join(report.errors)
        served = len(server.served)
        assert 24 < served <= planned["calls_most"]
        seed = found(recipe, home, "seed_data", "grounded").table().filter(topic="own examples")
        assert seed["query"].to_list() == [f"{words[3]} {words[6]}"], "its passage was found"
        own = found(recipe, home, "own_evaluation")
        assert {one["set"] for one in own.metadata["sets"]} == {FOLDER, QUERIES}
        assert [one["retriever"] for one in own.metadata["retrievers"]] == ["bm25", "untrained"]
        searched = found(recipe, home, "final_triplets").metadata["contamination"]
        assert QUERIES in {line["task"] for line in searched}, "no row may repeat a judged query"
        scores = found(recipe, home, "mteb_scores").metadata["scores"]
        assert {FOLDER, QUERIES} < set(scores["embedding_model"]) == set(scores["untrained"])
        waived = with_own(recipe, {"own_evaluation": {"gain_min": -1.0}})
        longer = with_changed(waived, {"embedding_model.learning_rate": 0.01})
        graph = Artifacts(longer, Store(home))
        assert graph.fingerprint("own_evaluation") == own.fingerprint, (
            "how the base is trained says nothing of its pool"
        )
        assert runs.run(waived, home).errors == []
        assert len(server.served) == served
        release = found(waived, home, "release")
        assert (release.path / "manifest.json").is_file()
    changed = plan(with_changed(waived, {"embedding_model.max_length": 77}), home).as_json()
    assert "own_evaluation" in changed["make"]


def test_real_queries_get_their_passages_found_and_become_rows(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    words = [word for word in (tmp_path / "corpus" / "note004.md").read_text().split() if word.isalpha()]
    asked = [f"{words[3]} {words[6]}", "zzz yyy"]
    rows = [{"query": query} for query in asked] + [{"query": "a full row", "positive": "It has its answer already."}]
    data = recipe_of(URL, tmp_path).model_dump()
    data["examples"] = {"file": judged_file(tmp_path, rows), "task_type": "grounded", "answers": {**POOLED, "depth": 6}}
    recipe = Recipe.model_validate(data)
    stage = recipe.graph()["examples"]
    assert (stage.inputs, stage.gpu, stage.asks_teacher) == (("passages",), True, True)
    assert answers_calls(recipe) == 2 * 6 * 2
    table = passages_of(recipe, tmp_path / "home").tables["data"]
    inputs = {"passages": {"grounded": Table(table)}}
    run = run_of(recipe, tmp_path / "home", "examples", "grounded", inputs, Judging())
    told = examples(run)
    made_of = run.tables["data"]
    (about,) = told["answers"]
    assert (about["queries"], about["answered"], told["complete"]) == (2, 1, 2)
    first = made_of.row(0, named=True)
    assert first["query"] == asked[0]
    searched = dict(table.filter(~pl.col("held_out")).select("text", "passage_id").iter_rows())
    assert first["positive"] in searched
    assert made_of["positive"].to_list()[1] is None
    assert told["teacher_calls"] == 2 * about["judged"]
    unread = run_of(recipe, tmp_path / "other", "examples", "grounded", inputs, Biased(lambda _prompt: "?"))
    told = examples(unread)
    rejected = unread.tables["quarantine"]
    assert set(rejected["reason"]) == {"unreadable_judgement"}
    assert told["asked"] == unread.tables["data"].height + rejected.height
    for change, message in (
        ({"corpus": None, "own_evaluation": None}, "`corpus` is missing"),
        (
            {"teacher": data["teacher"] | {"endpoint": "https://api.example.com/v1"}},
            r"examples.answers would send queries",
        ),
        (
            {"teacher": {"engine": "none", "model": "none", "endpoint": None}},
            r"examples asks the teacher.*answers=null",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate(data | change)
    plain = Recipe.model_validate(data | {"examples": {"file": data["examples"]["file"], "task_type": "grounded"}})
    assert "answers" not in (plain.model_dump()["examples"] or {})
    before = next(one for one in ALL_STAGES if one.name == "examples")
    assert plain.graph()["examples"] == replace(before, task_types=("grounded",))


def test_more_documents_ask_about_what_is_new_in_a_pool(tmp_path: Path) -> None:
    run, _, _ = made(tmp_path, Judging(), 80, pooled={**POOLED, "depth": 5})
    pairs = run.tables[TABLE].drop_nulls("rank").select("row_id", "passage_id")
    queries = set(run.tables["data"]["row_id"])
    again = Judging()
    run, told, _ = made(tmp_path, again, 160, pooled={**POOLED, "depth": 5})
    later = run.tables[TABLE].drop_nulls("rank").select("row_id", "passage_id")
    new = later.join(pairs, on=["row_id", "passage_id"], how="anti").height
    assert 0 < new < later.height
    written = len(set(run.tables["data"]["row_id"]) - queries)
    assert written <= again.asked - 2 * new <= 2 * (written + run.tables["quarantine"].height)
    assert again.asked == told["teacher_calls"]
