"""Runs whose process is gone: told by a lock, and marked as failed.

A process that runs steps holds a file lock until it ends, however it ends, and its runs name that lock in a tag. So a run
that is under way while its lock can be taken belongs to a process that is gone. Dagster's own launcher cannot see that: such
a run would be shown as running for ever, hold its place among the runs that may run at once, its slot of the GPU, and
keep automation from its assets. Its daemon asks `Launcher` once in two minutes; `speed run` has no daemon and asks itself.

The locks lie in the instance's own folder: runs belong to an instance, whatever home it is used for.

Belongs here: telling dead runs from living ones. Not here: slots (`gpu.py`), and what a ledger holds (`processes.py`).
"""

from __future__ import annotations

import atexit
import uuid
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache
from pathlib import Path
from typing import IO

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

LOCK_TAG = "speed/lock"
"""Tag of a run: the name of the lock that its process holds while it lives."""
UNDER_WAY = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
GONE = "its process is gone; what it had finished is kept, and a new run goes on from there"


def run_tags(instance: dg.DagsterInstance) -> dict[str, str]:
    """Tags by which a run of this process is told from one whose process is gone."""
    return {LOCK_TAG: Path(_process_lock(_locks(instance)).name).name}


def is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of a run is gone for certain. A run without a lock, or with one of another place, is not judged."""
    name = run.tags.get(LOCK_TAG)
    if name is None:
        return False
    try:
        with (_locks(instance) / Path(name).name).open("r+") as file:
            flock(file, LOCK_EX | LOCK_NB)
    except OSError:  # held, or not there
        return False
    return True


def bury(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs whose process is gone as failed; returns their ids."""
    gone = [r for r in instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY))) if is_gone(instance, r)]
    for run in gone:
        instance.report_run_failed(run, GONE)
    for name in {run.tags[LOCK_TAG] for run in gone}:
        (_locks(instance) / Path(name).name).unlink(missing_ok=True)
    return [run.run_id for run in gone]


class Launcher(DefaultRunLauncher):
    """Dagster's own launcher, which can also tell whether the process of a run still lives."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if is_gone(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.FAILED, GONE)
        return CheckRunHealthResult(WorkerStatus.RUNNING)


@cache
def _process_lock(folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / uuid.uuid4().hex
    file = path.open("w")
    flock(file, LOCK_EX)
    atexit.register(_forget, path)
    return file


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "processes"
