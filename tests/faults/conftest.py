"""Fixtures of the tests that harm processes, disks, databases and clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faults import (
    ended,
    start,
    write,
)


@pytest.fixture(autouse=True)
def _sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEED_LEDGER_URL", raising=False)
    monkeypatch.setenv("SPEED_HOME", "")  # runs in this process set both, and then they are as they were
    monkeypatch.setenv("DAGSTER_HOME", "")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="session")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which nothing has gone wrong."""
    home = tmp_path_factory.mktemp("whole")
    ended(start(recipe, home))
    return home
