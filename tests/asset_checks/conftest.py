"""A store to put artifacts into by hand, empty for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shelf import (
    Shelf,
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "home")
