"""CI's limit of time: a slow test that would start too late is skipped, with the reason."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.deadline import UNTIL, pytest_runtest_setup

ITEM = cast(Any, SimpleNamespace(name="test_long"))


def test_a_test_that_would_start_too_late_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNTIL, str(time.time() - 1))
    with pytest.raises(pytest.skip.Exception, match="no time is left for test_long"):
        pytest_runtest_setup(ITEM)


def test_without_a_limit_or_before_it_all_tests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UNTIL, raising=False)
    pytest_runtest_setup(ITEM)
    monkeypatch.setenv(UNTIL, str(time.time() + 3600))
    pytest_runtest_setup(ITEM)
