"""Runs whose process is gone: recognised by a lock, and marked as failed.

A process that runs steps holds a file lock until it ends, however it ends, and its runs name that lock in a tag. So a run
that is under way while its lock is free belongs to a dead process. Dagster's own launcher cannot see that: such a run would
stay "running", keep its place in the run queue and its slot of the GPU, and keep automation from its assets. Dagster's
daemon calls `Launcher` every two minutes; `speed run` has no daemon and calls `mark_dead_runs_failed` itself.

The locks are in the instance's own folder, since runs belong to an instance.

Hidden state of the process: the lock that it holds for each instance, in `_HELD`.

Belongs here: telling dead runs from live ones. Not here: slots of the GPU (`gpu_pool.py`), and processes that hold something
of a ledger (`resources/ledger/holders.py`).
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

import dagster as dg
from typing_extensions import override

from resources.dagster_internals import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from resources.file_locks import create_locked_file

LOCK_TAG = ".dagster/speed_lock"
"""Tag of a run: the name of the lock that its process holds. Dagster's UI hides tags that begin so."""
_OLD_LOCK_TAG = "speed/lock"
"""The same of runs that earlier versions have started."""
UNDER_WAY = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
PROCESS_GONE = "its process is gone; what it had finished is kept, and a new run resumes from it"


def liveness_tags(instance: dg.DagsterInstance) -> dict[str, str]:
    """Tags for the runs of this process, by which others see whether it is alive; takes the lock at the first call."""
    folder = _locks(instance)
    if folder not in _HELD:
        _tidy(instance)
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        _HELD[folder] = name, create_locked_file(folder / name)
    return {LOCK_TAG: _HELD[folder][0]}


def is_process_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of a run is certainly gone; False for a run without a lock or with one of another machine."""
    name = _lock_name(run)
    if name is None:
        return False
    try:
        with (_locks(instance) / Path(name).name).open("r+") as file:
            flock(file, LOCK_EX | LOCK_NB)
    except OSError:  # held, or not there
        return False
    return True


def mark_dead_runs_failed(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs whose process is gone as failed; returns their ids."""
    gone = [r for r in instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY))) if is_process_gone(instance, r)]
    for run in gone:
        instance.report_run_failed(run, PROCESS_GONE)
    _tidy(instance)
    return [run.run_id for run in gone]


class Launcher(DefaultRunLauncher):
    """Dagster's own launcher, with a health check. Homes name this class in their `dagster.yaml`."""

    @property
    @override
    def supports_check_run_worker_health(self) -> bool:
        """True: Dagster's daemon then calls `check_run_worker_health`."""
        return True

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Failed if the run's process is gone, else running."""
        if is_process_gone(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.FAILED, PROCESS_GONE)
        return CheckRunHealthResult(WorkerStatus.RUNNING)


_HELD: dict[Path, tuple[str, IO[str]]] = {}
"""The lock of this process in each folder: (name, open file). The file stays when the process ends, so that a run whose end
could not be recorded (full disk, no database) is recognised by it."""


def _tidy(instance: dg.DagsterInstance) -> None:
    """Remove the locks of processes that are gone and have left no run under way."""
    needed = {_lock_name(run) for run in instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))}
    for path in _locks(instance).glob("*"):
        if path.name in needed or path.suffix:
            continue
        with suppress(OSError), path.open("r+") as file:
            flock(file, LOCK_EX | LOCK_NB)
            path.unlink()


def _locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "processes"


def _lock_name(run: dg.DagsterRun) -> str | None:
    return run.tags.get(LOCK_TAG) or run.tags.get(_OLD_LOCK_TAG)
