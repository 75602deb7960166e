"""What starts by itself: the sensor for what is stale and the schedule; both stopped at first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from checks.registry import check_key, checks_of
from resources.inputs import external_digests
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.build import build_defs
from speed_assets.orchestration import runs
from speed_assets.orchestration.automation import evaluation_schedule, stale_sensor
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_text import in_words
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import Recipe
from tests.support.tiny import tiny_recipe


class World:
    """A home in which topics and tasks are made, and its sensor, which is asked as Dagster's daemon asks it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.topics = folder / "home", folder / "topics.txt"
        self.topics.write_text("".join(f"Arts/Music/Choir_{n}\n" for n in range(20)))
        assert runs.run(self.recipe, self.home, select="*task_list").errors == []
        self.instance = Instance.of(self.home).dagster
        self.cursor: str | None = None

    @property
    def recipe(self) -> Recipe:
        return tiny_recipe(topics__file=str(self.topics), topics__alignment=None, topics__limit=None)

    def look(self) -> set[str] | str:
        """The assets of the run that is requested after a change has stayed as it is, or why none is."""
        found = self.evaluate()
        return self.evaluate() if isinstance(found, str) and found.startswith("a change") else found

    def evaluate(self) -> set[str] | str:
        """The assets of the run that one evaluation requests, or why it requests none."""
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            said = stale_sensor(self.recipe)(context)
        if isinstance(said, dg.SkipReason):
            return str(said.skip_message)
        assert isinstance(said, dg.SensorResult)
        self.cursor = said.cursor or self.cursor
        if not said.run_requests:
            return str(said.skip_reason.skip_message if said.skip_reason else "")
        (request,) = said.run_requests
        return {key.to_user_string() for key in request.asset_selection or ()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("automation")
        patch.setenv("SPEED_HOME", str(folder / "home"))
        patch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))
        yield World(folder)


def test_turning_it_on_starts_nothing_and_a_change_starts_one_run_with_all_that_is_stale(world: World) -> None:
    assert "turned on" in str(world.look()), "what is missing from before may cost calls: the next change starts it"
    assert world.look() == "nothing has changed"
    with world.topics.open("a") as topics:
        topics.write("Arts/Dance\n")
    launched = world.look()
    assert {"topics", "task_list/sts", "seed_data/retrieval", "junior_model", "release"} <= set(launched)
    assert world.look() == "nothing has changed", "asked for once"
    world.topics.write_text("".join(world.topics.read_text().splitlines(keepends=True)[:-1]))
    assert "seed_data/sts" in world.look(), "a file that goes back to what it was is read again"


def test_a_change_that_goes_on_changing_starts_a_run_when_it_is_complete(world: World) -> None:
    text = world.topics.read_text()
    world.topics.write_text(text + "Arts/Film\n")
    assert "a change" in str(world.evaluate())
    world.topics.write_text(text + "Arts/Film\nArts/Film/Sound\n")
    assert "a change" in str(world.evaluate()), "a second file saved: still no run"
    assert "topics" in world.evaluate()
    assert world.evaluate() == "nothing has changed"
    world.topics.write_text(text)
    assert "topics" not in world.look(), "taken back"


def test_a_failed_gate_holds_up_what_is_below_it(world: World) -> None:
    artifacts = Artifacts(world.recipe, Store(world.home))
    artifact = artifacts.get("task_list", "sts")
    gate = next(check for check in checks_of("task_list") if check.blocking)
    key = check_key(gate, world.recipe)
    before = artifacts.load_outcome(artifact, gate.name, key)
    assert before is not None
    artifacts.save_outcome(artifact, gate.name, key, {**before, "passed": False})
    launched = world.look()
    planned = plan(world.recipe, world.home)
    lines: list[str] = []
    report = runs.run(world.recipe, world.home, select="key:seed_data/sts", say=lines.append)
    from_ui = (
        build_defs(world.recipe, world.home)
        .resolve_job_def("everything")
        .execute_in_process(instance=world.instance, asset_selection=[dg.AssetKey(["seed_data", "sts"])])
    )
    artifacts.save_outcome(artifact, gate.name, key, before)

    name = f"{gate.name} of task_list/sts"
    (warning,) = [line for line in planned.warnings if name in line]
    assert warning.startswith(f"gate {name} failed; ")
    below = {step.name: step for step in planned.steps if step.failed_above}
    assert {"seed_data/sts", "junior_model", "release"} <= set(below)
    assert "seed_data/retrieval" not in below
    assert in_words(below["seed_data/sts"], None).endswith(f"Failed upstream: {name}; a run stops there.")

    assert report.errors == []
    words = f"this run builds on task_list/sts, whose gate {gate.name} failed"
    (said,) = [place for place, line in enumerate(lines) if words in line]
    made = next(place for place, line in enumerate(lines) if line.startswith("made"))
    assert said < made, "before anything is asked"
    logged = [entry.user_message for entry in world.instance.all_logs(from_ui.run_id)]
    assert any(words in message for message in logged)
    assert {"seed_data/retrieval", "seed_data/classification"} <= set(launched)
    assert not {"task_list/sts", "seed_data/sts", "junior_model", "release"} & set(launched)


def test_it_waits_for_a_run_that_is_under_way(world: World) -> None:
    world.topics.write_text(world.topics.read_text() + "Arts/Opera\n")
    job = build_defs(world.recipe, world.home).resolve_job_def("everything")
    run = world.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert "in progress" in str(world.look())
    world.instance.report_run_failed(run)
    assert "topics" in world.look()


def test_what_cannot_be_planned_is_reported_and_skipped(world: World) -> None:
    text = world.topics.read_text()
    world.topics.unlink()
    said = world.look()
    world.topics.write_text(text)
    assert "the plan failed" in str(said)
    assert "there is no file" in str(said)


def test_both_are_stopped_at_first(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    assert stale_sensor(recipe).default_status is dg.DefaultSensorStatus.STOPPED
    assert evaluation_schedule(recipe.graph()).default_status is dg.DefaultScheduleStatus.STOPPED


def test_the_schedule_scores_what_is_held_against_evaluation_texts_first(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    definitions = build_defs(recipe, tmp_path, schedules=[evaluation_schedule(recipe.graph())])
    (schedule,) = definitions.get_repository_def().schedule_defs
    chosen = schedule.job.selection.resolve(definitions.resolve_asset_graph())
    names = {key.path[0] for key in chosen}
    assert names == {
        "row_scores",
        "row_verdicts",
        "final_triplets",
        "embedding_model",
        "embedding_reruns",
        "mteb_scores",
    }


def test_other_libraries_make_scores_stale_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = Artifacts(tiny_recipe(), Store(Path("nowhere")))

    def versions() -> dict[str, str]:
        return {
            f"{stage.name}/{part}": artifacts.code_version(stage.name, part)
            for stage, part in artifacts.in_build_order()
        }

    before = versions()
    monkeypatch.setattr(external_digests, "version", lambda library: "99")
    assert {name for name, now in versions().items() if now != before[name]} == {"mteb_scores/None", "release/None"}


def test_a_plan_is_the_same_however_often_it_is_made(world: World) -> None:
    world.cursor = None
    world.look()
    assert world.cursor
    assert json.dumps(world.cursor)
    assert world.look() == "nothing has changed"
