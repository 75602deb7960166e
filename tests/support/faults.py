"""Runs of a small recipe as processes that a test may harm, and what has to hold of their homes afterwards.

Belongs here: what several files of `tests/faults` use. Not here: fixtures (`tests/faults/conftest.py`), and the faults themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.disk_full import harm
from resources.ledger import accounts
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.homes import digests
from tests.support.tiny import ROWS, tiny_data, write_recipe

SELECT = "key:topics or key:task_list or key:seed_data or key:junior_model or key:junior_data"
"""A teacher that is asked, a model that is trained with a checkpoint after every step, and rows that it writes."""
BASE = TeacherRequest("prompt", "model", "1", None, {"temperature": 1.0, "max_new_tokens": 10})
CONTEXT = CallContext("run-1", "seed_data", "sts")
TARIFF = Tariff("2024-10-18", "USD", Decimal(150), Decimal(600))
DAY = 86_400.0


def asked(*numbers: int) -> list[TeacherRequest]:
    return [replace(BASE, prompt=str(number)) for number in numbers]


def answered(*numbers: int) -> list[tuple[TeacherRequest, TeacherAnswer]]:
    return [(request, TeacherAnswer(f"answer to {request.prompt}", 10, 1)) for request in asked(*numbers)]


def write(folder: Path, **changes: Any) -> Path:
    """The tiny recipe with fewer rows as a file, and a checkpoint after every step; `changes` are sections."""
    data = tiny_data()
    data["runtime"] = {"checkpoint_minutes": 0.0}
    data["topics"] |= {"limit": 8}
    few = dict.fromkeys(ROWS, 6)
    data["seed_data"]["rows"] = data["preference_pairs"]["prompts"] = data["revision_data"]["rows"] = few
    data["junior_data"] |= {"prompts": few, "candidates": 2}
    data["junior_model"] |= {"epochs": 2, "batch_size": 8}
    for section, fields in changes.items():
        data[section] = {**data.get(section, {}), **fields}
    return write_recipe(folder, data)


def start(recipe: Path, home: Path, select: str = SELECT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(recipe), "--select", select],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a run said on standard error."""
    said = process.communicate(timeout=300)[1]
    assert process.returncode == status, said
    assert "Traceback" not in said
    return said


def assert_as_undisturbed(recipe: Path, home: Path, whole: Path) -> None:
    """The same artifacts, and every call answered, kept and paid once."""
    parsed = load_recipe(recipe)
    assert harm(home) == []
    assert digests(parsed, home) == digests(parsed, whole)
    ledger, undisturbed = Ledger.at(home), Ledger.at(whole)
    assert ledger.count() == undisturbed.count()
    assert accounts.cost_report(ledger)["calls"] == undisturbed.count()
