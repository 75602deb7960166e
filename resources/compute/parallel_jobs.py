"""Jobs of one stage that do not need each other, as many at a time as there are cores for.

Belongs here: how many, their threads, their progress as one, and their end. Not here: running a job (`runner.py`), or stages that
run at the same time (`speed_assets/orchestration/lanes.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.compute.runner import POLL_SECONDS, Runner
from resources.instance import gpu_pool
from resources.progress import Progress
from speed_assets.recipe import Runtime
from speed_assets.workers import host


@dataclass(frozen=True)
class WorkerJob:
    """A job: its kind, its parameters, and the folder for its files and log."""

    kind: str
    params: Mapping[str, Any]
    folder: Path


class _Stopped(Exception):
    """The caller was interrupted: its jobs end."""


def jobs_at_once(runtime: Runtime) -> int:
    """Jobs of one stage that run at the same time: as many as have cores, which is one where a worker takes all of them.

    Args:
        runtime: the recipe's. `lanes.cpu` is the most; a GPU has room for one.
    """
    if gpu_pool.gpu_visible():
        return 1
    cores = host.cores()
    return max(1, min(runtime.lanes.cpu or cores, cores // (runtime.threads or cores)))


def runner_of(home: Path, runtime: Runtime) -> Runner:
    """The runner that a recipe asks for, with its logs in a home."""
    return Runner(home, runtime.threads, runtime.warm_start, jobs_at_once(runtime))


def run_each(runner: Runner, jobs: Sequence[WorkerJob], progress: Progress | None = None) -> list[dict[str, Any]]:
    """Run jobs, `runner.at_once` of them at a time.

    Args:
        runner: runs each.
        jobs: Each with a folder of its own. Those that take longest come first.
        progress: Shows the sum of what the jobs report.

    Returns:
        The result of each, in their order.

    Raises:
        WorkerFailed: One ended without a result. Those that run at the same time are finished first: what they made is kept.
    """
    if runner.at_once == 1 or len(jobs) == 1:
        return [runner.run(job.kind, job.params, job.folder, progress) for job in jobs]
    stop = threading.Event()
    total = _Sum(progress, len(jobs))

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    def run(place: int) -> dict[str, Any]:
        job = jobs[place]
        while not runner.slots.acquire(timeout=POLL_SECONDS):  # of all stages together
            check()
        try:
            return runner.run(job.kind, job.params, job.folder, total.part(place), check=check)
        finally:
            runner.slots.release()

    running: list[Future[dict[str, Any]]] = []
    with ThreadPoolExecutor(min(runner.at_once, len(jobs)), "job") as threads:
        try:
            for place in range(len(jobs)):
                running.append(threads.submit(run, place))
            while not all(one.done() for one in running):
                time.sleep(POLL_SECONDS)  # an interrupt comes between two lines of Python, so no wait may be long
        except BaseException:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return [one.result() for one in running]


class _Sum:
    """Progress of several jobs as one: the sums of what is done and of all there is, of the jobs that have said so."""

    def __init__(self, progress: Progress | None, jobs: int) -> None:
        self._progress = progress
        self._known = [(0, 0)] * jobs
        self._turn = threading.Lock()

    def part(self, place: int) -> Progress | None:
        """The progress of one job."""
        progress = self._progress
        if progress is None:
            return None

        def report(done: int, total: int, note: str) -> None:
            with self._turn:
                self._known[place] = done, total
                progress(sum(done for done, _ in self._known), sum(total for _, total in self._known), note)

        return report
