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

from resources.ledger.calls import TeacherRequest
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets.examples import examples
from speed_assets.assets.own_evaluation import FOLDER, TABLE, own_evaluation
from speed_assets.assets.own_queries import FOLDER as QUERIES
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_estimates import answers_calls, own_evaluation_calls
from speed_assets.orchestration.rehearse import rehearsal_of
from speed_assets.recipe import Checks, OwnEvaluation, Recipe, load_recipe, shipped_recipes, with_changes
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
