"""The teacher's stages against a server that fails: the same artifacts, nothing asked twice, and no key anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import PROJECT, Recipe, load_recipe
from tests.support.homes import digests
from tests.support.teacher_server import Faults, TeacherServer, microworld
from tests.support.tiny import ROWS, tiny_data, tiny_recipe, write_recipe

pytestmark = pytest.mark.faults

ASKING = "key:topics or key:task_list or key:seed_data"
KEY = "sk-planted-5f0c1e"  # of no server but this test's
CALLS: dict[str, Any] = {
    "concurrency_start": 8,
    "backoff_s": 0.01,
    "backoff_max_s": 0.05,
    "timeout_s": 2.0,
    "breaker_s": 60,
}


@pytest.fixture(scope="module")
def server() -> Iterator[TeacherServer]:
    with TeacherServer(microworld({"write": 0.15})) as server:
        yield server


def recipe_for(server: TeacherServer, **changes: Any) -> Recipe:
    teacher = {**tiny_data()["teacher"], "engine": "openai", "endpoint": server.url}
    return tiny_recipe(**{"teacher": teacher, "calls": CALLS, **changes})


@pytest.fixture(scope="module")
def undisturbed(server: TeacherServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("undisturbed")
    server.faults = Faults()
    recipe = recipe_for(server)
    assert plan(recipe, home).as_json()["calls"] > sum(ROWS.values())
    assert runs.run(recipe, home, select=ASKING).errors == []
    return digests(recipe, home)


def test_faults_leave_no_trace_in_the_artifacts(
    server: TeacherServer, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    server.faults = Faults(
        seed=3, status_429=0.3, status_500=0.1, broken=0.05, truncated=0.05, not_json=0.02, slow=0.1, slow_s=0.05
    )
    before = len(server.served)
    report = runs.run(recipe_for(server), tmp_path, select=ASKING)
    assert report.errors == []
    assert digests(recipe_for(server), tmp_path) == undisturbed
    assert sum(entry.status != 200 for entry in server.served[before:]) > 100, "there were faults"


def test_batches_give_the_same_artifacts_and_share_the_ledger(
    server: TeacherServer, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    server.faults = Faults()
    in_batches = recipe_for(server, calls={**CALLS, "mode": "batch", "batch_poll_s": 0.05})
    assert runs.run(in_batches, tmp_path, select=ASKING).errors == []
    assert digests(in_batches, tmp_path) == undisturbed
    asked = Ledger.at(tmp_path).count()
    online = recipe_for(server, seed_data__rows={**ROWS, "sts": ROWS["sts"] + 3})
    before = len(server.served)
    assert runs.run(online, tmp_path, select=ASKING).errors == []
    assert Ledger.at(tmp_path).count() == asked + 3
    assert len(server.served) == before + 3, "what came in a batch is not asked online"


def speed(home: Path, recipe: Path, key: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", "run", "--json", "--recipe", str(recipe), "--select", ASKING],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), "SPEED_TEST_TEACHER": key, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_after_a_kill_the_plan_counts_what_the_next_run_asks(server: TeacherServer, tmp_path: Path) -> None:
    data = tiny_data()
    data["teacher"] |= {"engine": "openai", "endpoint": server.url}
    data["calls"] = CALLS
    file = write_recipe(tmp_path, data)
    recipe, home = load_recipe(file), tmp_path / "home"
    server.faults = Faults(latency_s=0.02)
    whole = plan(recipe, tmp_path / "empty").as_json()
    process = subprocess.Popen(
        [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(file), "--select", ASKING],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), "SPEED_DOCTOR": "off"},  # its call is none of the plan's
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    came, deadline = len(server.served), time.monotonic() + 120
    while len(server.served) < came + 100:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = Ledger.at(home).count()
    assert 0 < kept < 246, "what `ASKING` asks for"
    left = plan(recipe, home).as_json()
    assert left["calls"] == whole["calls"] - kept
    below = {step["asset"]: 0 for step in left["steps"]}
    for step in left["steps"]:
        below[step["asset"]] += step["calls"]
    report = runs.run(recipe, home, select=ASKING)
    assert report.errors == []
    made = sum(int(report.metadata[name].get("teacher_calls") or 0) for name in report.made)
    assert made == below["task_list"] + below["seed_data"]


def test_when_nothing_is_answered_the_breaker_ends_the_run(server: TeacherServer, tmp_path: Path) -> None:
    data = tiny_data()
    data["teacher"] |= {"engine": "openai", "endpoint": server.url}
    data["calls"] = {**CALLS, "breaker_s": 2.0}
    server.faults = Faults(status_500=1.0)
    recipe = write_recipe(tmp_path, data)
    refused = speed(tmp_path / "home", recipe, "")
    assert refused.returncode == 2, "the doctor's call is not answered"
    ended = speed(tmp_path / "home", recipe, "", SPEED_DOCTOR="off")
    assert ended.returncode == 1
    assert "500" in ended.stderr
    assert "Traceback" not in ended.stderr


def assert_nowhere(secret: str, home: Path, *texts: str) -> None:
    for text in texts:
        assert secret not in text
    for file in home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    for call in accounts.read_calls(Ledger.at(home)):
        assert secret not in str(call)


def test_a_key_is_used_and_shows_up_nowhere(server: TeacherServer, tmp_path: Path) -> None:
    data = tiny_data()
    data["teacher"] |= {"engine": "openai", "endpoint": server.url, "key_variable": "SPEED_TEST_TEACHER"}
    data["calls"] = CALLS
    recipe = write_recipe(tmp_path, data)
    server.faults = replace(Faults(), key=KEY)
    wrong = speed(tmp_path / "home", recipe, "sk-of-somebody-else")
    assert wrong.returncode == 2, "the doctor's call is refused"
    assert "SPEED_TEST_TEACHER" in wrong.stderr
    assert_nowhere("sk-of-somebody-else", tmp_path / "home", wrong.stdout, wrong.stderr)
    right = speed(tmp_path / "home", recipe, KEY)
    assert right.returncode == 0, right.stderr
    assert_nowhere(KEY, tmp_path / "home", right.stdout, right.stderr)
    missing = speed(tmp_path / "other", recipe, "")
    assert missing.returncode != 0
    assert "set it to the key" in missing.stderr
