"""A run begins with the doctor, however it is launched: what is found is in its log, and an error ends it before a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from resources.store.asset_keys import key_of
from speed_assets.build import build_defs
from speed_assets.orchestration import doctor, plan, runs
from speed_assets.orchestration.doctor import beginning, teacher_probes
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import Recipe, RecipeError
from tests.support import doctor_cases as plants
from tests.support.doctor_cases import Case, Teacher, planted
from tests.support.tiny import tiny_recipe
from tests.support.zoo import SPECIES, Zoo, by_words

TASKS = ("topics", "task_list/retrieval")


class Writer(Teacher):
    """Answers the doctor as `Teacher` does, and every other request as the microworld's teacher."""

    def __init__(self, species: str = "vllm") -> None:
        super().__init__(species)
        self.others = Zoo(by_words(), SPECIES[species])

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body.get("max_tokens", body.get("max_completion_tokens")) == 1:
            return super()._chat(body)
        return self.others._chat(body)


def _writes(species: str = "vllm") -> Callable[[Case], None]:
    def plant(case: Case) -> None:
        case.teacher = lambda: Writer(species)

    return plant


def launched(recipe: Recipe, home: Path, assets: Sequence[str] | None = None) -> tuple[dg.DagsterRun, Sequence[Any]]:
    """A run as Dagster launches one from the UI, of these assets or of all, and the entries of its log."""
    instance = Instance.of(home).dagster
    defs = build_defs(recipe, home, before_steps=partial(doctor.before_run, recipe))
    job = defs.resolve_job_def("everything")
    keys = [key_of((name.partition("/")[0], name.partition("/")[2] or None)) for name in assets or ()]
    subset = job.get_subset(asset_selection=set(keys)) if keys else job
    run = instance.create_run_for_job(subset, asset_selection=frozenset(keys) if keys else None)
    for _ in execute_run_iterator(InMemoryJob(job), run, instance):
        pass
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    return ended, instance.all_logs(run.run_id)


def lines_of(log: Sequence[Any]) -> list[tuple[int, str]]:
    """(level, text) of the doctor's lines."""
    return [(entry.level, entry.user_message) for entry in log if entry.user_message.startswith("doctor: ")]


def test_the_log_of_a_run_from_the_ui_begins_with_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with planted(tmp_path, monkeypatch, _writes("anthropic")) as (case, server):
        recipe = case.recipe(server.url)
        run, log = launched(recipe, case.home, TASKS)
        lines = lines_of(log)
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert server.asked == 1, "one paid call, however many steps the run has"
        names = [text.split(": ")[2] for _, text in lines]
        assert {"topics", "prompts", "home", "disk", "server", "answer", "structured output"} <= set(names)
        assert len(set(texts := [text for _, text in lines])) == len(texts), "each once"
        assert [text for level, text in lines if level == 30] == [t for t in texts if t.startswith("doctor: warning")]
        assert any("not enforced" in text for text in texts)
        steps = [
            place for place, entry in enumerate(log) if entry.is_dagster_event and entry.dagster_event.is_step_start
        ]
        spoken = [place for place, entry in enumerate(log) if entry.user_message.startswith("doctor: ")]
        assert max(spoken) < min(steps)
        launched(recipe, case.home, TASKS)
        assert server.asked == 1
        costs = {entry["asset"]: entry["calls"] for entry in accounts.cost_report(Ledger.at(case.home))["by"]["asset"]}
        assert costs[teacher_probes.STAGE] == 1


def test_an_error_ends_a_run_from_the_ui_before_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(tmp_path, monkeypatch, lambda case: case.teacher_fields.update(key_variable="PLANTED")) as (
        case,
        server,
    ):
        run, log = launched(case.recipe(server.url), case.home)
        assert run.status is dg.DagsterRunStatus.FAILURE
        assert not server.bodies
        assert not [entry for entry in log if entry.is_dagster_event and entry.dagster_event.is_step_start]
        assert any(level == 40 and "key: " in text and "PLANTED" in text for level, text in lines_of(log))
        failure = next(e.dagster_event for e in log if e.is_dagster_event and e.dagster_event.is_job_failure)
        assert "SPEED_DOCTOR=off" in str(failure.event_specific_data.error)


def test_a_run_whose_answers_are_there_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(tmp_path, monkeypatch, _writes()) as (case, server):
        recipe = case.recipe(server.url)
        monkeypatch.setenv(beginning.VARIABLE, "off")
        assert runs.run(recipe, case.home, select="*task_list", check_first=True).errors == []
        monkeypatch.delenv(beginning.VARIABLE)
        sent = len(server.bodies)
        run, log = launched(recipe, case.home, TASKS)
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert (len(server.bodies), server.asked) == (sent, 0)
        assert lines_of(log)
        assert not [text for _, text in lines_of(log) if text.split(": ")[2] in ("key", "answer", "server", "gpu")]


def test_a_run_of_a_command_writes_the_same_log_and_plans_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[str] = []
    real = plan.plan

    def counted(*arguments: Any, **named: Any) -> plan.Plan:
        planned.append("plan")
        return real(*arguments, **named)

    monkeypatch.setattr(beginning, "plan", counted)
    monkeypatch.setattr(runs, "plan", counted)
    said: list[str] = []
    with planted(tmp_path, monkeypatch, _writes("anthropic")) as (case, server):
        recipe = case.recipe(server.url)
        report = runs.run(recipe, case.home, select="*task_list", say=said.append, check_first=True)
        assert report.errors == []
        assert (planned, server.asked) == (["plan"], 1)
        assert [line for line in said if "not enforced" in line]
        instance = Instance.of(case.home).dagster
        lines = lines_of(instance.all_logs(instance.get_runs(limit=1)[0].run_id))
        assert any("not enforced" in text for _, text in lines)
        assert any(text.startswith("doctor: ok: answer") for _, text in lines)


def test_begin_says_warnings_and_raises_every_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with planted(tmp_path, monkeypatch, lambda case: setattr(case, "teacher", lambda: Teacher("anthropic"))) as (
        case,
        server,
    ):
        doctor.begin(case.recipe(server.url), case.home, lines.append)
        assert [line for line in lines if "not enforced" in line]
        assert server.asked == 1
    gone = case.recipe("http://127.0.0.1:9/v1")
    with pytest.raises(RecipeError, match=r"endpoint: .*does not answer.*(\n.*)*SPEED_DOCTOR=off"):
        doctor.begin(gone, case.home, lines.append)
    monkeypatch.setenv(beginning.VARIABLE, "off")
    assert doctor.begin(gone, case.home, lines.append).findings == ()


def test_a_selection_is_checked_for_what_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with planted(tmp_path, monkeypatch, lambda case: case.teacher_fields.update(key_variable="PLANTED")) as (
        case,
        server,
    ):
        recipe = case.recipe(server.url)
        doctor.begin(recipe, case.home, lines.append, steps=[("topics", None)])
        with pytest.raises(RecipeError, match="PLANTED"):
            doctor.begin(recipe, case.home, lines.append, steps=[("topics", None), ("task_list", "retrieval")])
        plants.with_disk(case, 100_000)
        doctor.begin(recipe, case.home, lines.append, steps=[("topics", None)])
        assert [line for line in lines if "make room" in line], "no model is made: a warning"
        assert not server.bodies


def test_the_microworld_is_asked_nothing(tmp_path: Path) -> None:
    found = doctor.begin(tiny_recipe(), tmp_path, print)
    assert found.plan is None
    assert [finding.status for finding in found.findings if finding.status == "error"] == []
