"""A run that ends in the middle of four lanes, by Ctrl-C, by *Terminate* in the UI or by kill -9: nothing is lost, nothing doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.execution.stats import StepEventStatus

from benchmarks.staleness_in_ui import webserver
from resources.ledger.ledger import Ledger
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.faults import ended, start, wait_until, write
from tests.support.homes import digests
from tests.support.teacher_server import Faults, read_log, serving
from tests.support.tiny import ROWS

LANES = 4
STAGES = ("topics", "task_list", "seed_data")
SELECT = " or ".join(f"key:{name}" for name in STAGES)
CALLS = 2
"""Requests in flight of each stage."""
IN_FLIGHT = LANES * CALLS
"""Calls under way at the end of a run: the server may answer them when nobody listens any more."""
SLOW_S = 600
"""Seconds for what takes a few on idle cores."""


@dataclass(frozen=True)
class Asked:
    """A recipe whose teacher answers slowly, the log of its server, and a home in which nothing has gone wrong."""

    recipe: Path
    log: Path
    whole: Path

    def answered(self) -> list[str]:
        return [entry.key for entry in read_log(self.log) if entry.status == 200 and entry.key]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("lanes")
    with serving(folder / "log", faults=Faults(latency_s=0.3)) as url:
        recipe = write(
            folder,
            teacher={"engine": "openai", "endpoint": url},
            calls={"concurrency_start": CALLS, "concurrency_max": CALLS},
            runtime={"lanes": {"teacher": LANES}},
            seed_data={"rows": dict.fromkeys(ROWS, 20)},
        )
        ended(start(recipe, folder / "whole", SELECT))
        yield Asked(recipe, folder / "log", folder / "whole")


def _at_work(instance: dg.DagsterInstance) -> int:
    """How many steps of the newest run have begun and not ended."""
    newest = instance.get_runs(limit=1)
    stats = instance.get_run_step_stats(newest[0].run_id) if newest else []
    return sum(step.status is StepEventStatus.IN_PROGRESS for step in stats)


def _ctrl_c(asked: Asked, home: Path, busy: Callable[[], bool]) -> None:
    process = start(asked.recipe, home, SELECT)
    wait_until(busy, SLOW_S)
    os.killpg(process.pid, signal.SIGINT)
    said = ended(process, 130)
    assert said.splitlines()[-1] == "interrupted: what is finished is kept, the next run resumes from here"


def _kill_9(asked: Asked, home: Path, busy: Callable[[], bool]) -> None:
    process = start(asked.recipe, home, SELECT)
    wait_until(busy, SLOW_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(1)  # the server finishes what it has begun


@contextmanager
def _daemon(asked: Asked, home: Path) -> Iterator[None]:
    """What takes runs from the queue."""
    environment = {"SPEED_HOME": str(home), "SPEED_RECIPE": str(asked.recipe), "DAGSTER_HOME": str(home / "dagster")}
    program = str(Path(sys.executable).with_name("dagster-daemon"))
    with (home.parent / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [program, "run", "-w", str(PROJECT / "workspace.yaml")],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        daemon.terminate()
        daemon.wait(60)


def _terminate(asked: Asked, home: Path, busy: Callable[[], bool]) -> None:
    """As a click on *Terminate* does it."""
    keys = [["topics"], *([stage, name] for stage in STAGES[1:] for name in ROWS)]
    selection = ", ".join(f"{{path: {json.dumps(key)}}}" for key in keys)
    launch = (
        'mutation { launchRun(executionParams: {selector: {repositoryLocationName: "speed_assets", repositoryName: '
        f'"__repository__", jobName: "__ASSET_JOB", assetSelection: [{selection}]}}, runConfigData: {{}}}}) '
        "{ ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
    )
    terminate = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    status = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
    project = cast(Any, SimpleNamespace(home=home, file=asked.recipe))
    with webserver(project) as ask, _daemon(asked, home):
        run = {"id": ask(launch, {})["launchRun"]["run"]["runId"]}
        try:
            wait_until(busy, SLOW_S)
        finally:
            answer = ask(terminate, run)["terminateRun"]["__typename"]
        assert answer == "TerminateRunSuccess"
        wait_until(lambda: ask(status, run)["runOrError"]["status"] == "CANCELED", SLOW_S)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("end", [_ctrl_c, _terminate, _kill_9])
def test_nothing_is_lost_or_doubled(
    asked: Asked, tmp_path: Path, end: Callable[[Asked, Path, Callable[[], bool]], None]
) -> None:
    home = tmp_path / "home"
    instance = Instance.of(home).dagster
    before = len(asked.answered())
    end(asked, home, lambda: _at_work(instance) >= LANES and len(asked.answered()) > before + LANES)
    kept = Ledger.at(home).count()
    sent = asked.answered()[before:]
    assert 0 < kept < Ledger.at(asked.whole).count(), "it ended in the middle"
    most = IN_FLIGHT * (2 if end is _kill_9 else 1)  # answers wait for a transaction, and a kill loses those, too
    assert len(sent) - kept <= most, "what has come is kept"
    ended(start(asked.recipe, home, SELECT))
    times = Counter(asked.answered()[before:])
    assert sum(times.values()) - len(times) <= most, "only what was under way may be sent twice"
    assert Ledger.at(home).count() == Ledger.at(asked.whole).count() == len(times)
    recipe = load_recipe(asked.recipe)
    assert digests(recipe, home) == digests(recipe, asked.whole)
