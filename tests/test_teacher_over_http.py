"""Teacher, ledger, budget and engines together against a server on loopback: kill -9, caps, modes, keys."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from resources.ledger.accounts import read_calls
from resources.ledger.calls import CallContext, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.teacher.teacher import Teacher
from speed_assets.recipe import PROJECT, Recipe, load_recipe
from tests.support.teacher_server import Faults, read_log, serving
from tests.support.tiny import tiny_data, write_recipe

KEY = "sk-planted-0123456789"
RUN = (
    "import sys; from pathlib import Path; from tests.test_teacher_over_http import asked; "
    "from resources.ledger.ledger import Ledger; "
    "asked(Path(sys.argv[1]), Ledger.at(Path(sys.argv[2])), int(sys.argv[3]), sys.argv[4])"
)


def recipe_at(folder: Path, url: str, money: dict[str, Any] | None = None, **settings: Any) -> Path:
    data = tiny_data()
    data["name"] = f"http_{len(list(folder.glob('*.yaml')))}"
    data["teacher"] = {"engine": "openai", "model": "m", "endpoint": url, "key_variable": "PLANTED"}
    data["calls"] = {
        "concurrency_start": 8,
        "backoff_s": 0.01,
        "backoff_max_s": 0.05,
        "breaker_s": 20,
        "timeout_s": 5,
        "batch_poll_s": 0.02,
    } | settings
    data["money"] = money or {}
    return write_recipe(folder, data)


def asked(file: Path, ledger: Ledger, count: int, run: str = "run") -> list[str]:
    recipe: Recipe = load_recipe(file)
    teacher = Teacher(recipe, ledger)
    sampling = recipe.seed_data.sampling
    prompts = [f"brainstorm retrieval: Arts/Music\ntasks: {i + 1}" for i in range(count)]
    requests: list[TeacherRequest] = teacher.requests(prompts, sampling)
    answers, _ = teacher.ask(CallContext(run, "task_list"), requests)
    return [answer.text for answer in answers]


def start(file: Path, home: Path, count: int, run: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, str(file), str(home), str(count), run]
    path = os.pathsep.join(map(str, (PROJECT, PROJECT / "tests")))
    return subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", KEY)


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_kill_9_repeats_no_acknowledged_call_and_changes_no_answer(tmp_path: Path, mode: str) -> None:
    rng = random.Random(3)
    homes = [tmp_path / name for name in ("killed", "whole")]
    for home in homes:
        home.mkdir()
    faults = Faults(key=KEY, latency_s=0.02, status_429=0.1, truncated=0.05, batch_polls=3)
    with serving(tmp_path / "log", faults=faults) as url:
        # In a batch, what was reserved before a kill is settled after it: a cap of just these calls suffices, and of those
        # that were out alone at a kill, to find out how the server wants to be asked.
        money = {"run": {"calls": 150 + 2}} if mode == "batch" else {}
        file = recipe_at(tmp_path, url, money, mode=mode, concurrency_max=8, batch_rows=20)
        ledger, log, kills, repeated = Ledger.at(homes[0]), tmp_path / "log", 0, 0
        for _ in range(2):
            seen = len(read_log(log))
            process = start(file, homes[0], 150, "run")
            while process.poll() is None and len(read_log(log)) < seen + 2:  # the first call goes out alone
                time.sleep(0.002)
            time.sleep(rng.random() * 0.3)
            kills += process.poll() is None
            process.kill()
            process.communicate()
            acknowledged, lines = {call["key"] for call in read_calls(ledger)}, len(read_log(log))
            asked(file, ledger, 10 * (kills + 1))
            repeated += sum(entry.key in acknowledged for entry in read_log(log)[lines:])
        killed = asked(file, ledger, 150)
        answered = Counter(entry.key for entry in read_log(log) if entry.status == 200)
        whole = asked(file, Ledger.at(homes[1]), 150)
    assert repeated == 0
    assert kills >= 1
    assert killed == whole
    # Sent twice can only be what was under way at a kill, and in batches the one call before them: what is in flight, at most the
    # concurrency, and what waits for its transaction on a slow disk, at most twice that.
    assert sum(answered.values()) - len(answered) <= (3 * 8 * kills if mode == "online" else kills)


def test_a_cap_holds_for_two_processes_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "log", faults=Faults(latency_s=0.01)) as url:
        file = recipe_at(tmp_path, url, {"day": {"calls": 100}}, concurrency_start=64)
        Ledger.at(tmp_path)
        processes = [start(file, tmp_path, 400, f"run {i}") for i in range(2)]
        errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert all(process.returncode for process in processes)
    assert all("CapReached" in error for error in errors), errors
    assert len(read_log(tmp_path / "log")) == 100
