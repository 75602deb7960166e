"""Runs whose process is gone: told by a lock, and marked as failed.

A process that runs steps holds a file lock until it ends, however it ends, and its runs name that lock in a tag. So a run
that is under way while its lock can be taken belongs to a process that is gone. Dagster's own launcher cannot see that: such
a run would be shown as running for ever, hold its place among the runs that may run at once, its slot of the GPU, and
keep automation from its assets. Its daemon asks `Launcher` once in two minutes; `speed run` has no daemon and asks itself.

The locks lie in the instance's own folder: runs belong to an instance, whatever home it is used for.

Belongs here: telling dead runs from living ones. Not here: slots (`gpu.py`), and what a ledger holds (`processes.py`).
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

from resources.file_locks import hold

LOCK_TAG = ".dagster/speed_lock"
"""Tag of a run: the name of the lock that its process holds while it lives. Dagster's UI hides tags that begin so."""
_OLD_LOCK_TAG = "speed/lock"
"""The same of runs that earlier versions have started."""
UNDER_WAY = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
GONE = "its process is gone; what it had finished is kept, and a new run goes on from there"


def run_tags(instance: dg.DagsterInstance) -> dict[str, str]:
    """Tags by which a run of this process is told from one whose process is gone."""
    folder = _locks(instance)
    if folder not in _HELD:
        _tidy(instance)
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        _HELD[folder] = name, hold(folder / name)
    return {LOCK_TAG: _HELD[folder][0]}


def is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of a run is gone for certain. A run without a lock, or with one of another place, is not judged."""
    name = run.tags.get(LOCK_TAG) or run.tags.get(_OLD_LOCK_TAG)
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
    _tidy(instance)
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


_HELD: dict[Path, tuple[str, IO[str]]] = {}
"""The lock of this process in each folder, by name. It stays when the process ends: a run whose end could not be written down
(the disk was full, the database away) is told by it."""


def _tidy(instance: dg.DagsterInstance) -> None:
    """Remove the locks of processes that are gone and have left no run under way."""
    needed = {run.tags.get(LOCK_TAG) for run in instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))}
    for path in _locks(instance).glob("*"):
        if path.name in needed or path.suffix:
            continue
        with suppress(OSError), path.open("r+") as file:
            flock(file, LOCK_EX | LOCK_NB)
            path.unlink()


def _locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "processes"
