"""What Dagster shows as stale is what a run would make: code versions that say so, and a real webserver that is asked."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speed_assets.domain.versions import told
from tiny import tiny_recipe

from benchmarks.staleness import PARTED, WHOLE, World, name_of, shown, webserver
from resources.artifacts import Artifacts
from resources.store import Store
from speed_assets import runs
from speed_assets.build import build_defs
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.plan import plan
from speed_assets.recipe import PROJECT

VERSIONS = st.sampled_from([None, "a", "a.2", "b"])


@given(st.dictionaries(st.integers(0, 4), VERSIONS, min_size=1), st.data())
def test_what_is_told_shows_every_needed_partition_and_names_the_others(
    recorded: dict[int, str | None], data: st.DataObject
) -> None:
    needed = data.draw(st.sets(st.sampled_from(sorted(recorded))))
    version, beside = told("a", recorded, needed)
    stale = {partition for partition, seen in recorded.items() if seen != version}
    assert stale == needed | beside
    assert not needed & beside


@given(st.dictionaries(st.integers(0, 4), st.just("b"), min_size=1))
def test_nothing_is_shown_where_nothing_is_needed_and_all_was_recorded_alike(recorded: dict[int, str | None]) -> None:
    assert told("a", recorded, set()) == ("b", set())


def test_partitions_that_were_told_different_versions_are_made_even_by_a_run(tmp_path: Path) -> None:
    """As where somebody launches one of them in the UI, or a run ends between two of them."""
    recipe = tiny_recipe()
    assert runs.run(recipe, tmp_path, select="*task_list").errors == []
    assert plan(recipe, tmp_path).as_json()["show"] == []
    own = Artifacts(recipe, Store(tmp_path)).code_version("task_list")
    job = build_defs(recipe, tmp_path, code_versions={"task_list": f"{own}.2"}).resolve_job_def("everything")
    instance = runs.Instance.of(tmp_path).dagster
    job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("task_list")], partition_key="retrieval")
    shown = plan(recipe, tmp_path).as_json()["show"]
    assert set(shown) == {f"task_list[{name}]" for name in TASK_TYPE_NAMES}
    report = runs.run(recipe, tmp_path, select="*task_list")
    assert not any(report.metadata[name].get("teacher_calls") for name in report.made)
    assert plan(recipe, tmp_path).as_json()["show"] == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small recipe of which all is made."""
    made = World(tmp_path_factory.mktemp("world"))
    made.run()
    return made


def test_a_webserver_shows_as_stale_what_the_plan_would_make(world: World) -> None:
    first, rng = dict(world.data), random.Random(5)
    with webserver(world) as ask:
        assert world.planned() == shown(ask) == set()
        world.topics.append("Arts/Glass/Studio_Work/Goblets")
        world.write()
        planned = world.planned()
        assert {"topics", "task_list[retrieval]", "embedding_model", "release"} <= planned
        assert not {"junior_model", "senior_model", "revisor_model"} & planned
        assert shown(ask) == planned
        world.run(select="*task_list")
        assert shown(ask) == world.planned() != set()
        world.topics.pop(rng.randrange(20))
        world.data = first | {"revised_data": {**first["revised_data"], "readings": 2}}
        world.write()
        assert shown(ask) == world.planned()
        world.run()
        assert shown(ask) == world.planned() == set()


LAUNCH = """mutation($asset: String!, $tags: [ExecutionTag!]) { launchRun(executionParams: {
  selector: {repositoryLocationName: "speed_assets", repositoryName: "__repository__", jobName: "__ASSET_JOB",
             assetSelection: [{path: [$asset]}]}, runConfigData: {}, executionMetadata: {tags: $tags}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def launch(ask: Callable[[str, dict[str, Any]], Any], asset: str, partition: str | None = None) -> str:
    """How a run that is launched as from the UI ends."""
    tags = [{"key": "dagster/partition", "value": partition}] if partition else []
    run = ask(LAUNCH, {"asset": asset, "tags": tags})["launchRun"]["run"]["runId"]
    end = time.monotonic() + 240
    while True:
        status = ask("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", {"id": run})["runOrError"][
            "status"
        ]
        if status in ("SUCCESS", "FAILURE") or time.monotonic() > end:
            return str(status)
        time.sleep(0.5)


def test_what_is_launched_from_the_ui_is_fresh_there_at_once_and_after_loading_anew(world: World) -> None:
    world.topics.append("Arts/Glass/Studio_Work/Vases")
    world.write()
    environment = {
        **os.environ,
        "SPEED_HOME": str(world.home),
        "SPEED_RECIPE": str(world.file),
        "DAGSTER_HOME": str(world.home / "dagster"),
    }
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(PROJECT / "workspace.yaml")]
    with webserver(world) as ask, (world.file.parent / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
        try:
            before = shown(ask)
            assert before == world.planned()
            assert launch(ask, "topics") == "SUCCESS"
            assert launch(ask, "task_list", "sts") == "SUCCESS"
            states = {name_of(node): node["staleStatus"] for node in ask(WHOLE, {})["assetNodes"]}
            assert (states["topics"], states["release"]) == ("FRESH", "STALE")
            variables = {"keys": [{"path": ["task_list"]}], "partitions": list(TASK_TYPE_NAMES)}
            (node,) = ask(PARTED, variables)["assetNodes"]
            found = dict(zip(TASK_TYPE_NAMES, node["staleStatusByPartition"], strict=True))
            assert {name for name, state in found.items() if state == "FRESH"} == {"sts"}
            assert before - shown(ask) == {"topics", "task_list[sts]"}
        finally:
            daemon.terminate()
            daemon.wait(60)
