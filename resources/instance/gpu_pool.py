"""The `gpu` pool of a Dagster instance: where there is a GPU, one stage at a time uses it, and no dead run holds it.

A run that was killed keeps its slot until a daemon frees it, and `speed run` has none, so it frees them itself.

Belongs here: the pool. Not here: telling dead runs from living ones (`living.py`), or which stages use a GPU
(`domain/graph/stages.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

POOL = "gpu"


def visible() -> bool:
    """Whether this machine shows a GPU (NVIDIA or AMD), without loading anything to ask it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists())


def limit(instance: dg.DagsterInstance) -> None:
    """Let one stage at a time use the GPUs, unless the user has set another limit. Without a GPU, nothing waits."""
    storage = instance.event_log_storage
    if visible() and storage.supports_global_concurrency_limits and POOL not in storage.get_concurrency_keys():
        storage.set_concurrency_slots(POOL, 1)


def free_slots(instance: dg.DagsterInstance) -> list[str]:
    """Free the slots of runs that have ended; the ids of these runs. A run whose process is gone has to be buried before."""
    freed = []
    for run_id in sorted(instance.event_log_storage.get_concurrency_run_ids()):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
            freed.append(run_id)
    return freed
