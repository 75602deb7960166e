"""Processes that are killed, stall or work at the same time: everything is made once, and the next run resumes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

from resources.store.store import Store
from tests.support.faults import (
    assert_as_undisturbed,
    ended,
    start,
    wait_until,
)


def test_a_worker_that_stalls_is_ended_with_its_run_and_the_next_run_resumes(
    recipe: Path, whole: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    shutil.rmtree(home / "artifacts" / "junior_model")
    process = start(recipe, home)
    worker = 0

    def trains() -> bool:
        nonlocal worker
        for log in home.glob("work/*/scratch/**/progress.jsonl"):
            for found in Path("/proc").glob("[0-9]*"):
                try:
                    if os.readlink(found / "fd" / "1") == str(log.with_name("worker.log")) and log.read_text():
                        worker = int(found.name)
                except OSError:
                    continue
        return worker > 0

    wait_until(trains)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1)
    assert process.poll() is None, "a step may take days: nobody but the user knows that it stalls"
    process.send_signal(signal.SIGTERM)
    assert "interrupted: what is finished is kept" in ended(process, 143)
    assert not Path(f"/proc/{worker}").exists()
    ended(start(recipe, home))
    assert_as_undisturbed(recipe, home, whole)


def test_two_runs_at_once_make_everything_once(recipe: Path, whole: Path, tmp_path: Path) -> None:
    both = [start(recipe, tmp_path / "home") for _ in range(2)]
    said = [ended(process) for process in both]
    assert_as_undisturbed(recipe, tmp_path / "home", whole)
    made = [line.split()[1] for text in said for line in text.splitlines() if line.startswith("made ")]
    assert sorted(made) == sorted(set(made)), "one makes it, the other waits and takes it"


def test_a_run_that_waits_for_another_says_so(tmp_path: Path) -> None:
    store, said = Store(tmp_path).open(), threading.Event()
    done: list[bool] = []

    def other() -> None:
        with store.building("f" * 64, said.set):
            done.append(True)

    with store.building("f" * 64):
        thread = threading.Thread(target=other)
        thread.start()
        assert said.wait(20)
        assert not done
    thread.join(20)
    assert done


def test_runs_whose_process_is_gone_are_marked_by_the_next_run(recipe: Path, whole: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(recipe, home)
    wait_until(lambda: list((home / "artifacts").glob("seed_data/*")))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "STARTED" in states(home)
    ended(start(recipe, home))
    assert set(states(home)) == {"FAILURE", "SUCCESS"}
    assert len(list((home / "dagster" / "processes").iterdir())) == 1, "the last one's, which the next one removes"
    assert_as_undisturbed(recipe, home, whole)


def states(home: Path) -> list[str]:
    with sqlite3.connect(home / "dagster" / "history" / "runs.db") as connection:
        return [status for (status,) in connection.execute("SELECT status FROM runs")]
