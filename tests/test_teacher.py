"""The teacher as the stages use it: nothing is asked twice, nothing is lost in silence, everything is paid for once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.check import Subject
from checks.tables import CHECKS
from resources.ledger import accounts
from resources.ledger.calls import Allowance, AnswerSink, CallContext, TeacherAnswer, TeacherRequest, TeacherUnavailable
from resources.ledger.ledger import Ledger
from resources.store.artifacts import Artifacts
from resources.store.asset_keys import Step, key_of
from resources.store.store import Artifact, Store
from resources.teacher.engines import MicroworldEngine
from resources.teacher.teacher import Teacher
from speed_assets.assets.revisor import revision_data
from speed_assets.assets.senior import preference_pairs
from speed_assets.assets.stage import RUN_TAG, run_of
from speed_assets.assets.stage_run import StageFunction, StageRun
from speed_assets.build import build_defs
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.domain.rows import QUARANTINE_SCHEMA, parse_outputs
from speed_assets.orchestration import runs
from speed_assets.recipe import RecipeError
from tests.support.tiny import tiny_recipe

CONTEXT = CallContext("run-1", "seed_data", "sts")
BASE = TeacherRequest("prompt", "model", "1", None, {"temperature": 1.0})


class Counting:
    """An engine that counts, and dies after `limit` answers."""

    def __init__(self, limit: int | None = None) -> None:
        self.asked: list[str] = []
        self.limit = limit

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        waiting = list(requests)
        while waiting:
            if self.limit is not None and len(self.asked) >= self.limit:
                raise ConnectionError("gone")
            block = waiting[: allowance.reserve(waiting[:2])]
            self.asked += [request.prompt for request in block]
            sink([(request, TeacherAnswer(f"answer to {request.prompt}", 3, None)) for request in block])
            waiting = waiting[len(block) :]


def teacher_with(home: Path, engine: Counting, batch: int = 2) -> Teacher:
    return Teacher(tiny_recipe(runtime={"teacher_batch": batch}), Ledger.at(home), engine)


def test_same_request_is_asked_once_and_answered_in_order(tmp_path: Path) -> None:
    engine = Counting()
    teacher = teacher_with(tmp_path, engine)
    sampling = tiny_recipe().seed_data.sampling
    a, b, c = teacher.requests(["a", "b", "c"], sampling)
    requests = [a, b, a, c]
    answers, use = teacher.ask(CONTEXT, requests)
    assert [a.text[-1] for a in answers] == ["a", "b", "a", "c"]
    assert (use.calls, use.reused) == (3, 0)
    _, again = teacher_with(tmp_path, engine).ask(CONTEXT, requests)
    assert (again.calls, again.reused) == (0, 3)
    assert engine.asked == ["a", "b", "c"]


def test_equal_prompts_are_samples_of_their_own_whatever_is_asked_next_to_them(tmp_path: Path) -> None:
    teacher = teacher_with(tmp_path, Counting())
    sampling = tiny_recipe().seed_data.sampling
    first, second = teacher.requests(["a", "a"], sampling)
    assert first.key != second.key
    assert [r.key for r in teacher.requests(["b", "a", "c", "a"], sampling) if r.prompt == "a"] == [
        first.key,
        second.key,
    ]


def test_answers_before_a_failure_are_kept(tmp_path: Path) -> None:
    engine = Counting(limit=4)
    teacher = teacher_with(tmp_path, engine)
    requests = teacher.requests(map(str, range(10)), tiny_recipe().seed_data.sampling)
    with pytest.raises(ConnectionError):
        teacher.ask(CONTEXT, requests)
    healthy = Counting()
    _, use = teacher_with(tmp_path, healthy).ask(CONTEXT, requests)
    assert (use.calls, use.reused) == (6, 4)
    assert not set(healthy.asked) & set(engine.asked)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, prompt="other"),
        replace(BASE, model="other"),
        replace(BASE, revision="2"),
        replace(BASE, endpoint="http://127.0.0.1:1"),
        replace(BASE, parameters={"temperature": 0.5}),
        replace(BASE, schema={"type": "object"}),
        replace(BASE, sample=1),
    ],
)
def test_everything_that_shapes_an_answer_is_in_its_name(other: TeacherRequest) -> None:
    assert other.key != BASE.key


@given(st.text(), st.text())
def test_different_prompts_have_different_names(a: str, b: str) -> None:
    a, b = (text.encode("utf-8", "replace").decode() for text in (a, b))
    assert (replace(BASE, prompt=a).key == replace(BASE, prompt=b).key) == (a == b)


def test_usage_and_cost_survive_a_resume(tmp_path: Path) -> None:
    """What the killed run paid is still reported, once, and the resumed one reports the sum next to its own part."""
    prices = {
        "version": "v1",
        "models": {tiny_recipe().teacher.model: {"input_per_million": 1, "output_per_million": 0}},
    }
    recipe = tiny_recipe(money={"prices": prices})

    class Told(Counting):
        def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
            def counted(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
                sink([(request, replace(answer, output_tokens=2)) for request, answer in answered])

            super().answer(requests, counted, allowance)

    teacher = Teacher(recipe, Ledger.at(tmp_path), Told(limit=4))
    requests = teacher.requests(map(str, range(10)), recipe.seed_data.sampling)
    with pytest.raises(ConnectionError):
        teacher.ask(CONTEXT, requests)
    ledger = Ledger.at(tmp_path)
    for run, calls in (("run-2", 6), ("run-3", 0)):
        _, use = Teacher(recipe, ledger, Told()).ask(replace(CONTEXT, run=run), requests)
        told = use.metadata()
        assert (told["teacher_calls"], told["teacher_prompt_tokens"]) == (calls, 3 * calls)
        assert told["teacher_cost"] == pytest.approx(3e-6 * calls)
        assert (told["teacher_prompt_tokens_total"], told["teacher_output_tokens_total"]) == (30, 20)
        assert told["teacher_cost_total"] == pytest.approx(30e-6)
        assert told["currency"] == "USD"
    costs = accounts.cost_report(ledger)
    assert (costs["calls"], costs["money"]) == (10, pytest.approx(30e-6))
    assert {row["run"]: row["calls"] for row in costs["by"]["run"]} == {"run-1": 4, "run-2": 6}
    assert ledger.count() == 10, "success removes nothing"


def test_an_unknown_price_is_reported_as_unknown(tmp_path: Path) -> None:
    teacher = teacher_with(tmp_path, Counting())
    _, use = teacher.ask(CONTEXT, teacher.requests(["a"], tiny_recipe().seed_data.sampling))
    told = use.metadata()
    assert (told["teacher_prompt_tokens"], told["teacher_output_tokens"]) == (3, None)
    assert (told["teacher_cost"], told["teacher_cost_total"], told["currency"]) == (None, None, None)


def test_an_engine_that_forgets_calls_is_reported(tmp_path: Path) -> None:
    class Forgetful(Counting):
        def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
            super().answer(requests[:-1], sink, allowance)

    teacher = teacher_with(tmp_path, Forgetful())
    with pytest.raises(TeacherUnavailable, match="1 calls without an answer"):
        teacher.ask(CONTEXT, teacher.requests("ab", tiny_recipe().seed_data.sampling))


def test_a_key_that_is_not_set_is_named_once_something_is_to_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    recipe = tiny_recipe(
        teacher={"engine": "openai", "model": "m", "endpoint": "http://127.0.0.1:1/v1", "key_variable": "A_KEY"}
    )
    asking = Teacher(recipe, Ledger.at(tmp_path), Counting())
    (request,) = asking.requests(["a"], recipe.seed_data.sampling)
    asking.ask(CONTEXT, [request])
    teacher = Teacher(recipe, Ledger.at(tmp_path))
    assert teacher.ask(CONTEXT, [request])[0][0].text == "answer to a"
    with pytest.raises(RecipeError, match="A_KEY"):
        teacher.ask(CONTEXT, teacher.requests(["b"], recipe.seed_data.sampling))


# Refused requests, stage by stage

WORDS = "400: content policy\x1b[0m"


class Refusing(MicroworldEngine):
    """The microworld's teacher behind a server that refuses every fifth request."""

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        def refuse(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            sink([(r, TeacherAnswer("", error=WORDS) if int(r.key[:4], 16) % 5 == 0 else a) for r, a in answered])

        super().answer(requests, refuse, allowance)


@pytest.fixture(scope="module")
def refused_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which tasks and seed data of two task types were asked of a refusing server, in one run."""
    home = tmp_path_factory.mktemp("refused")
    recipe = tiny_recipe()
    instance = runs.Instance.of(home).dagster
    job = build_defs(recipe, home, teacher_engine=Refusing(recipe)).resolve_job_def("everything")
    steps: list[Step] = [("topics", None)]
    steps += [(name, task_type) for task_type in ("sts", "retrieval") for name in ("task_list", "seed_data")]
    result = job.execute_in_process(
        instance=instance, asset_selection=[key_of(step) for step in steps], tags={RUN_TAG: "run-7"}
    )
    assert result.success
    return home


@pytest.mark.parametrize("name", ["task_list", "seed_data"])
def test_refused_rows_are_in_the_quarantine_with_the_words_of_the_server(refused_home: Path, name: str) -> None:
    recipe = tiny_recipe()
    artifact = Artifacts(recipe, Store(refused_home)).get(name, "retrieval")
    quarantine = artifact.table("quarantine")
    refused = quarantine.filter(pl.col("reason") == "teacher_refused")
    assert refused.height == artifact.metadata["refused_calls"] > 0
    assert set(refused["detail"]) == {WORDS}
    assert dict(quarantine.schema) == QUARANTINE_SCHEMA
    (accounted,) = (check for check in CHECKS if (check.asset, check.name) == (name, "accounted"))
    assert accounted.evaluate(Subject(artifact, recipe, "retrieval", Store(refused_home))).passed
    short = SimpleNamespace(
        asset=name, metadata=artifact.metadata, table=lambda part="data": artifact.table(part).head(0)
    )
    assert not accounted.evaluate(Subject(cast(Artifact, short), recipe, "retrieval", Store(refused_home))).passed


def test_calls_are_paid_in_the_name_of_run_stage_and_partition(refused_home: Path) -> None:
    by = accounts.cost_report(Ledger.at(refused_home))["by"]
    assert [row["run"] for row in by["run"]] == ["run-7"]
    assert [row["asset"] for row in by["asset"]] == ["seed_data", "task_list"]
    assert [row["partition"] for row in by["partition"]] == ["retrieval", "sts"]
    (task_list,) = (row for row in by["asset"] if row["asset"] == "task_list")
    artifact = Artifacts(tiny_recipe(), Store(refused_home)).get("task_list", "retrieval")
    assert task_list["calls"] == artifact.metadata["teacher_calls"] - artifact.metadata["refused_calls"]


def stage_run(home: Path, out: Path, name: str, junior: pl.DataFrame, **changes: Any) -> StageRun[Any]:
    recipe = tiny_recipe(preference_pairs__prompts__retrieval=16, **changes)
    (stage,) = (stage for stage in ALL_STAGES if stage.name == name)
    answers = junior.drop("query", "positive", "negative", "valid", "problem", strict=False)
    source = cast(Any, SimpleNamespace(table=lambda: parse_outputs(answers, "retrieval")))
    out.mkdir()
    return StageRun.of(
        recipe,
        stage,
        "retrieval",
        inputs={"junior_data": {"retrieval": source}},
        out=out,
        store=Store(home),
        runner=cast(Any, None),
        teacher=Teacher(recipe, Ledger.at(home), Refusing(recipe)),
        context=CallContext("run-8", name, "retrieval"),
        progress=lambda *_: None,
    )


@pytest.mark.parametrize(
    ("name", "function"), [("preference_pairs", preference_pairs), ("revision_data", revision_data)]
)
def test_a_refused_verdict_or_revision_is_accounted_for(
    refused_home: Path, tmp_path: Path, name: str, function: StageFunction
) -> None:
    seed = Artifacts(tiny_recipe(), Store(refused_home)).get("seed_data", "retrieval").table()
    second = seed.with_columns(pl.col("output").shift(1, fill_value=seed["output"][-1]), candidate=pl.lit(1))
    junior = pl.concat([seed.with_columns(candidate=pl.lit(0)), second])
    run = stage_run(refused_home, tmp_path / "out", name, junior)
    metadata = function(run)
    data, quarantine = run.tables["data"], run.tables["quarantine"]
    assert data.height + quarantine.height == metadata["asked"] == seed.height
    refused = quarantine.filter(pl.col("reason") == "teacher_refused")
    assert 0 < refused.height < seed.height
    assert set(refused["detail"]) == {WORDS}
    assert metadata["refused_calls"] >= refused.height
    assert data.height > 0
    assert "refused" not in data.columns


def test_what_two_orders_disagree_on_is_asked_again_and_paid_once(refused_home: Path, tmp_path: Path) -> None:
    seed = Artifacts(tiny_recipe(), Store(refused_home)).get("seed_data", "retrieval").table()
    # Equally right, so that the place decides.
    junior = pl.concat(
        [
            seed.with_columns(pl.col("output").str.replace(r'"\}\s*$', f'{"!" * i}"}}'), candidate=pl.lit(i))
            for i in range(3)
        ]
    )
    twice = preference_pairs(stage_run(refused_home, tmp_path / "two", "preference_pairs", junior))
    changes = {"preference_pairs__orders_max": 6, "preference_pairs__margin_min": 0.6}
    run = stage_run(refused_home, tmp_path / "six", "preference_pairs", junior, **changes)
    more = preference_pairs(run)
    assert twice["asked_again"] == 0
    assert 0 < more["asked_again"] <= twice["abstentions"]["orders_disagree"]
    assert more["reused_calls"] + more["refused_calls"] >= 2 * seed.height - twice["refused_calls"]
    assert run.tables["data"].is_empty(), "a judge of nothing but the place makes no pair, however often it is asked"
    assert run.tables["quarantine"].height == seed.height


def test_a_panel_is_asked_next_to_the_teacher_and_each_judge_is_distinguished(
    refused_home: Path, tmp_path: Path
) -> None:
    seed = Artifacts(tiny_recipe(), Store(refused_home)).get("seed_data", "retrieval").table()
    second = seed.with_columns(pl.col("output").shift(1, fill_value=seed["output"][-1]), candidate=pl.lit(1))
    junior = pl.concat([seed.with_columns(candidate=pl.lit(0)), second])
    changes = {"preference_pairs__panel": ["another-judge"], "preference_pairs__margin_min": 0.8}
    run = stage_run(refused_home, tmp_path / "panel", "preference_pairs", junior, **changes)
    metadata = preference_pairs(run)
    ours = tiny_recipe().teacher.model
    assert set(metadata["judge_leanings"]) == set(metadata["contradictions"]) == {ours, "another-judge"}
    assert metadata["asked_again"] == 0
    data = run.tables["data"]
    assert set(data["verdicts"]) == {4}
    assert set(data["judge_model"]) == {f"{ours}, another-judge"}
    assert set(data["margin"]) <= {0.875, 1.0}
    by_model = {row["model"]: row["calls"] for row in accounts.cost_report(Ledger.at(refused_home))["by"]["model"]}
    assert by_model["another-judge"] > 0, "paid under its own name"


def test_a_run_is_named_by_speed_then_by_itself() -> None:
    run = dg.DagsterRun("job", run_id="11111111-1111-1111-1111-111111111111")
    assert run_of(run) == run.run_id
    assert run_of(run.with_tags({RUN_TAG: "r"})) == "r"


def test_a_cap_ends_a_run_with_the_reason_and_the_next_resumes(tmp_path: Path) -> None:
    """20 topics, four task types that brainstorm: 80 calls over several Dagster runs, which share one run id."""
    capped = tiny_recipe(money={"run": {"calls": 50}}, runtime={"warm_start": False}, topics__alignment=None)
    first = runs.run(capped, tmp_path, select="+task_list")
    (error,) = first.errors
    assert "money.run.calls=50 is reached" in error
    second = runs.run(capped, tmp_path, select="+task_list")
    assert second.errors == []
    told = {row["run"]: row["calls"] for row in accounts.cost_report(Ledger.at(tmp_path))["by"]["run"]}
    assert told == {first.run: 50, second.run: 30}
