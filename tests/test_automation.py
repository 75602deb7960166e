"""What starts by itself: the condition of every asset, the sensor on the topic file, the schedule; all stopped at first."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from tiny import tiny_recipe

from checks.registry import checks_of
from resources import externals
from resources.artifacts import Artifacts
from resources.store import Store
from speed_assets.build import build_defs
from speed_assets.domain.task_types import TASK_TYPES


class World:
    """Definitions of the tiny recipe and an instance in which things are said to have happened."""

    def __init__(self, home: Path) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.defs = build_defs(tiny_recipe(), home)
        self.cursor = None

    def tick(self) -> set[tuple[str, str | None]]:
        """(asset, partition) of everything that is asked for now."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        asked = set()
        graph = self.defs.resolve_asset_graph()
        for key in graph.get_all_asset_keys():
            if graph.get(key).is_partitioned:
                asked |= {(key.to_user_string(), partition) for partition in result.get_requested_partitions(key)}
            elif result.get_num_requested(key):
                asked.add((key.to_user_string(), None))
        return asked

    def make(self, asset: str, version: str, *, partition: str | None = None, passed: bool | None = True) -> None:
        """An asset made with this content, and its gates asked unless `passed` is None."""
        key = dg.AssetKey(asset)
        code = self.defs.resolve_asset_graph().get(key).code_version
        tags = {"dagster/data_version": version, "dagster/code_version": str(code)}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, tags=tags))
        event = self.instance.fetch_materializations(key, limit=1).records[0]
        for check in checks_of(asset) if passed is not None else ():
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key,
                    check_name=check.name,
                    passed=bool(passed) or not check.blocking,
                    blocking=check.blocking,
                    metadata={},
                    partition=partition,
                    target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                        storage_id=event.storage_id, run_id=event.run_id, timestamp=event.timestamp
                    ),
                )
            )


TASK_LISTS = {("task_list", name) for name in TASK_TYPES}


def test_turning_it_on_starts_nothing_and_new_data_is_followed_down_the_graph(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.tick() == set(), "what is missing from before may cost calls: somebody starts it"
    world.make("topics", "one")
    assert world.tick() == TASK_LISTS
    assert world.tick() == set(), "asked for once"


def test_a_failed_gate_stops_what_is_below_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tick()
    world.make("topics", "one", passed=False)
    assert world.tick() == set()
    world.make("topics", "two")
    assert world.tick() == TASK_LISTS


def test_the_same_content_starts_nothing_and_another_does(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tick()
    world.make("topics", "one")
    world.tick()
    for _, name in TASK_LISTS:
        world.make("task_list", f"tasks of {name}", partition=name)
    below = {("seed_data", name) for name in TASK_TYPES}
    assert world.tick() == below
    world.make("topics", "one")
    assert world.tick() == set(), "made again, with the same content"
    world.make("topics", "another")
    assert world.tick() == TASK_LISTS


def test_other_code_is_followed_down_the_graph_one_step_at_a_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make("topics", "one")
    for _, name in TASK_LISTS:
        world.make("task_list", f"tasks of {name}", partition=name)
    assert world.tick() == set()
    told = {"topics": "changed", "task_list": "changed", "seed_data": "changed"}
    world.defs = build_defs(tiny_recipe(), tmp_path, code_versions=told)
    assert world.tick() == {("topics", None)}
    assert world.tick() == set(), "task_list waits for it"
    world.make("topics", "one")
    assert world.tick() == TASK_LISTS


def test_what_a_failed_gate_holds_up_holds_up_what_is_made_from_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make("topics", "one")
    for _, name in TASK_LISTS:
        world.make("task_list", f"tasks of {name}", partition=name, passed=None)
        world.make("seed_data", f"rows of {name}", partition=name, passed=name != "sts" or None)
    assert world.tick() == set()
    for _, name in TASK_LISTS:
        world.make("task_list", f"other tasks of {name}", partition=name, passed=name == "sts")
    assert world.tick() == {("seed_data", "sts")}
    world.make("seed_data", "other rows of sts", partition="sts")
    assert ("junior_model", None) not in world.tick(), "four of its five tables are to be made first"


def test_everything_is_stopped_at_first(tmp_path: Path) -> None:
    repository = build_defs(tiny_recipe(), tmp_path).get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {"remake_what_is_stale", "topic_file"}
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.STOPPED}
    assert [schedule.default_status for schedule in repository.schedule_defs] == [dg.DefaultScheduleStatus.STOPPED]


def test_the_topic_file_is_looked_at_by_content(tmp_path: Path) -> None:
    topics = tmp_path / "topics.txt"
    topics.write_text("Arts/Music\n")
    recipe = tiny_recipe(topics__file=str(topics), topics__alignment=None)
    (sensor,) = (s for s in build_defs(recipe, tmp_path).get_repository_def().sensor_defs if s.name == "topic_file")

    def look(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        with dg.build_sensor_context(cursor=cursor) as context:
            seen = sensor(context)
        assert isinstance(seen, dg.SensorResult | dg.SkipReason)
        return seen

    first = look(None)
    assert isinstance(first, dg.SensorResult)
    assert not first.run_requests, "what is there at first is what is compared with"
    assert isinstance(look(first.cursor), dg.SkipReason)
    topics.write_text("Arts/Music\nArts/Dance\n")
    changed = look(first.cursor)
    assert isinstance(changed, dg.SensorResult)
    (request,) = changed.run_requests or []
    assert request.run_key is None, "a file that goes back to what it was is read again"
    topics.unlink()
    gone = look(changed.cursor)
    assert isinstance(gone, dg.SkipReason)
    assert "there is no file" in str(gone.skip_message)


def test_the_schedule_scores_what_is_held_against_evaluation_texts_first(tmp_path: Path) -> None:
    definitions = build_defs(tiny_recipe(), tmp_path)
    graph = definitions.resolve_asset_graph()
    (schedule,) = definitions.get_repository_def().schedule_defs
    chosen = schedule.job.selection.resolve(graph)
    names = {key.to_user_string() for key in chosen}
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
    before = {name: artifacts.code_version(name) for name in artifacts.graph}
    monkeypatch.setattr(externals, "version", lambda library: "99")
    assert {name for name in artifacts.graph if artifacts.code_version(name) != before[name]} == {"mteb_scores"}


@pytest.mark.parametrize("asset", ["release", "embedding_model", "senior_data"])
def test_every_asset_has_the_condition(asset: str, tmp_path: Path) -> None:
    graph = build_defs(tiny_recipe(), tmp_path).resolve_asset_graph()
    assert graph.get(dg.AssetKey(asset)).automation_condition is not None
