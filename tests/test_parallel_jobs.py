"""Jobs of one stage that run at the same time: their order, their progress, a failure, an interrupt, and how many."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_runner import _own_workers as _own_workers
from test_runner import job as job
from test_runner import model as model
from test_runner import pytestmark as pytestmark
from test_runner import wait_until

from resources.compute.parallel_jobs import WorkerJob, jobs_at_once, run_each
from resources.compute.runner import Runner, WorkerFailed
from speed_assets.recipe import Lanes, Runtime


@pytest.fixture(scope="module")
def two_at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("home"), threads=1, at_once=2)
    yield runner
    runner.close()


def test_jobs_of_one_stage_run_at_the_same_time_and_keep_their_order(
    two_at_once: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    folders = [tmp_path / f"work_{name}" for name in "abc"]
    seen: list[tuple[int, int]] = []
    both_alive: list[bool] = []

    def watch(done: int, total: int, _note: str) -> None:
        seen.append((done, total))
        both_alive.append(all((folder / "progress.jsonl").exists() for folder in folders[:2]))

    jobs = [WorkerJob("generate", job(folder.name, seed=seed), folder) for seed, folder in enumerate(folders)]
    found = run_each(two_at_once, jobs, watch)
    assert [one["rows"] for one in found] == [40, 40, 40]
    assert max(total for _, total in seen) == 120, "progress is the sum over the jobs"
    assert any(both_alive)
    alone = two_at_once.run("generate", job("alone", seed=1), tmp_path / "work_alone")
    assert alone["rows"] == 40
    written = [pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("work_b", "alone")]
    assert written[0].equals(written[1])


def test_a_job_that_fails_lets_the_others_of_its_stage_finish(
    two_at_once: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    broken = WorkerJob("generate", job("broken", model=str(tmp_path / "nothing")), tmp_path / "work_broken")
    right = WorkerJob("generate", job("right"), tmp_path / "work_right")
    with pytest.raises(WorkerFailed):
        run_each(two_at_once, [broken, right])
    assert pl.read_parquet(tmp_path / "right.parquet").height == 40


def test_an_interrupt_ends_all_jobs_of_a_stage(
    two_at_once: Runner, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    folders = [tmp_path / "work_a", tmp_path / "work_b"]
    jobs = [WorkerJob("generate", job(folder.name, max_new_tokens=900, batch_rows=1), folder) for folder in folders]
    waiting = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: all((folder / "progress.jsonl").exists() for folder in folders))
        error = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiting), error)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_each(two_at_once, jobs)
    thread.join()
    assert not any(pid for folder in folders for pid in _workers_in(folder)), "no worker is left"


def _workers_in(folder: Path) -> list[int]:
    """Processes that have a file of the folder open."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            opened = [os.readlink(f"/proc/{process}/fd/{one}") for one in os.listdir(f"/proc/{process}/fd")]
            if int(process) != os.getpid() and any(path.startswith(str(folder)) for path in opened):
                found.append(int(process))
    return found


@pytest.mark.parametrize(
    ("threads", "lanes", "expected"),
    [(None, None, 1), (1, None, 4), (1, 2, 2), (2, None, 2), (3, None, 1), (8, None, 1)],
)
def test_a_stage_runs_as_many_jobs_as_cores_are_left(
    threads: int | None, lanes: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2, 3})
    monkeypatch.setattr("resources.instance.gpu_pool.gpu_visible", lambda: False)
    assert jobs_at_once(Runtime(threads=threads, lanes=Lanes(cpu=lanes))) == expected
    monkeypatch.setattr("resources.instance.gpu_pool.gpu_visible", lambda: True)
    assert jobs_at_once(Runtime(threads=threads, lanes=Lanes(cpu=lanes))) == 1
