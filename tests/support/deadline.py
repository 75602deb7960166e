"""A moment after which no further slow test starts: SPEED_TESTS_UNTIL, in seconds since 1970.

CI has a limit of time, and machines differ by more than a factor of two. What a slow one has no time for is skipped, with the reason.

Belongs here: that hook, which the `conftest.py` of each folder of slow tests imports.
"""

from __future__ import annotations

import os
import time

import pytest

UNTIL = "SPEED_TESTS_UNTIL"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that would start too late."""
    if (until := os.environ.get(UNTIL)) and time.time() > float(until):
        pytest.skip(f"no time is left for {item.name}: {UNTIL} has passed; the same command without it runs all")
