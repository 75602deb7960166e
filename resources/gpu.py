"""The `gpu` pool of a Dagster instance: where there is a GPU, one stage at a time uses it, and no dead run holds it.

A run that was killed keeps its slot until a daemon frees it, and `speed run` has none. So each `speed run` holds a
file lock that its runs name in a tag: a lock that can be taken belongs to a process that is gone.

Belongs here: the pool, and telling dead runs from living ones. Not here: which stages use a GPU (`domain/graph.py`).
"""

from __future__ import annotations

import os
import platform
import uuid
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache
from pathlib import Path
from typing import IO

import dagster as dg

from speed_assets.domain.fingerprints import short_id

POOL = "gpu"
LOCK_TAG = "speed/lock"
"""Tag of a run: the name of the lock that its process holds while it lives."""
HOME_TAG = "speed/home"
"""Tag of a run: the home its lock lies in. Homes may share Dagster's storage, and only their own can tell who lives."""


def visible() -> bool:
    """Whether this machine shows a GPU (NVIDIA or AMD), without loading anything to ask it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists())


def limit(instance: dg.DagsterInstance) -> None:
    """Let one stage at a time use the GPUs, unless the user has set another limit. Without a GPU, nothing waits."""
    storage = instance.event_log_storage
    if visible() and storage.supports_global_concurrency_limits and POOL not in storage.get_concurrency_keys():
        storage.set_concurrency_slots(POOL, 1)


@cache
def process_lock(home: Path) -> IO[str]:
    """A file that this process holds a lock on until it ends, however it ends."""
    folder = _locks(home)
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / uuid.uuid4().hex).open("w")
    flock(file, LOCK_EX)
    return file


def run_tags(home: Path) -> dict[str, str]:
    """Tags by which a run of this process is told from one whose process is gone."""
    return {LOCK_TAG: Path(process_lock(home).name).name, HOME_TAG: _name(home)}


def free_slots(instance: dg.DagsterInstance, home: Path) -> list[str]:
    """Free the slots of runs that have ended or whose process is gone; the ids of these runs.

    A run without a lock is a daemon's, and one of another home is that home's to look after. A run whose process is gone
    is marked as failed.
    """
    freed = []
    for run_id in sorted(instance.event_log_storage.get_concurrency_run_ids()):
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            elsewhere = run.tags.get(HOME_TAG, _name(home)) != _name(home)
            if elsewhere or LOCK_TAG not in run.tags or _alive(home, run.tags[LOCK_TAG]):
                continue
            instance.report_run_failed(run, "its process is gone")
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        freed.append(run_id)
    return freed


def _name(home: Path) -> str:
    """This home on this machine."""
    return short_id("home", platform.node(), str(home.resolve()))


def _locks(home: Path) -> Path:
    return home / "work" / "runs"


def _alive(home: Path, name: str) -> bool:
    """Whether a process holds the lock; one that nobody holds is removed."""
    file = _locks(home) / Path(name).name
    try:
        with file.open("r+") as handle:
            flock(handle, LOCK_EX | LOCK_NB)
            with suppress(FileNotFoundError):
                file.unlink()
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
