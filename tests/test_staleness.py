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

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.staleness_in_ui import STATUSES, SmallProject, name_of, shown, webserver
from speed_assets.orchestration.staleness import code_version_for_staleness
from speed_assets.recipe import PROJECT

VERSIONS = st.sampled_from(["a", "a.2", "b"])


@given(VERSIONS, st.none() | VERSIONS)
def test_an_asset_looks_fresh_or_stale_as_it_is(own: str, recorded: str | None) -> None:
    assert code_version_for_staleness(own, recorded, stale=True) != recorded
    assert code_version_for_staleness(own, recorded, stale=False) == (recorded or own)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A small recipe of which all is made."""
    made = SmallProject(tmp_path_factory.mktemp("project"))
    made.run()
    return made


@pytest.mark.faults
def test_a_webserver_shows_as_stale_what_the_plan_would_make(project: SmallProject) -> None:
    first, rng = dict(project.data), random.Random(5)
    with webserver(project) as ask:
        assert project.planned() == shown(ask) == set()
        project.topics.append("Arts/Glass/Studio_Work/Goblets")
        project.write()
        planned = project.planned()
        assert {"topics", "task_list/retrieval", "embedding_model", "release"} <= planned
        assert not {"junior_model", "senior_model", "revisor_model"} & planned
        assert shown(ask) == planned
        project.run(select="*task_list")
        assert shown(ask) == project.planned() != set()
        project.topics.pop(rng.randrange(20))
        project.data = first | {"revised_data": {**first["revised_data"], "readings": 2}}
        project.write()
        assert shown(ask) == project.planned()
        project.run()
        assert shown(ask) == project.planned() == set()


LAUNCH = """mutation($path: [String!]!) { launchRun(executionParams: {
  selector: {repositoryLocationName: "speed_assets", repositoryName: "__repository__", jobName: "__ASSET_JOB",
             assetSelection: [{path: $path}]}, runConfigData: {}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def launch(ask: Callable[[str, dict[str, Any]], Any], asset: str) -> str:
    """How a run that is launched as from the UI ends."""
    run = ask(LAUNCH, {"path": asset.split("/")})["launchRun"]["run"]["runId"]
    end = time.monotonic() + 240
    while True:
        status = ask("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", {"id": run})["runOrError"][
            "status"
        ]
        if status in ("SUCCESS", "FAILURE") or time.monotonic() > end:
            return str(status)
        time.sleep(0.5)


@pytest.mark.faults
def test_what_is_launched_from_the_ui_is_fresh_there_at_once_and_after_loading_again(project: SmallProject) -> None:
    project.topics.append("Arts/Glass/Studio_Work/Vases")
    project.write()
    environment = {
        **os.environ,
        "SPEED_HOME": str(project.home),
        "SPEED_RECIPE": str(project.file),
        "DAGSTER_HOME": str(project.home / "dagster"),
    }
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(PROJECT / "workspace.yaml")]
    with webserver(project) as ask, (project.file.parent / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
        try:
            before = shown(ask)
            assert before == project.planned()
            assert launch(ask, "topics") == "SUCCESS"
            assert launch(ask, "task_list/sts") == "SUCCESS"
            states = {name_of(node): node["staleStatus"] for node in ask(STATUSES, {})["assetNodes"]}
            fresh = ("topics", "task_list/sts")
            assert {states[name] for name in fresh} == {"FRESH"}
            assert {states[name] for name in ("release", "task_list/retrieval")} == {"STALE"}
            assert before - shown(ask) == {"topics", "task_list/sts"}
        finally:
            daemon.terminate()
            daemon.wait(60)
