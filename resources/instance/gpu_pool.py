"""The pool `gpu` of a Dagster instance: where there is a GPU, one stage at a time uses it.

A killed run keeps its slot until a daemon frees it; `speed run` has no daemon, so it frees such slots itself.

Belongs here: the pool. Not here: telling dead runs from live ones (`run_liveness.py`), or which stages use a GPU
(`domain/graph/stages.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # asking whether there is a GPU loads no Dagster
    import dagster as dg

GPU_POOL = "gpu"


def gpu_visible() -> bool:
    """Whether this process can see a GPU (NVIDIA or AMD); loads no library."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists())


def limit_gpu_pool(instance: dg.DagsterInstance) -> None:
    """Let one stage at a time use the GPUs, unless the user has set another limit; does nothing without a GPU."""
    storage = instance.event_log_storage
    if gpu_visible() and storage.supports_global_concurrency_limits and GPU_POOL not in storage.get_concurrency_keys():
        storage.set_concurrency_slots(GPU_POOL, 1)


def free_slots_of_ended_runs(instance: dg.DagsterInstance) -> list[str]:
    """Free the slots of runs that have ended or were deleted. Call `mark_dead_runs_failed` before, so that dead runs have ended.

    Returns:
        The ids of these runs.
    """
    freed = []
    for run_id in sorted(instance.event_log_storage.get_concurrency_run_ids()):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
            freed.append(run_id)
    return freed
