"""Shared fixtures: the environment of tests, and data that may or may not lie beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and topic trees beside the project; tests that need them skip without them."""
    path = Path(os.environ.get("SPEED_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}: set SPEED_SHARED to the folder that has it")
    return path
