"""A few drawn inputs of each kind end as their readers document; `python -m benchmarks.fuzz` draws 20,000 of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz import HANG_S, Tally, fuzz, watched
from benchmarks.fuzz_targets import TARGETS, Target

CASES = 25


@pytest.mark.parametrize("name", TARGETS)
def test_drawn_inputs_end_as_documented(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    tally = fuzz(TARGETS[name], CASES, tmp_path / "fuzz", seed=7)
    assert tally.cases == CASES
    assert not tally.tracebacks
    assert not tally.written_outside
    assert tally.slowest_s < HANG_S


def _broken(tmp_path: Path, read: object) -> Tally:
    target = TARGETS["topics"]
    return fuzz(Target("x", target.cases, read, (ValueError,)), 5, tmp_path / "fuzz")  # type: ignore[arg-type]


def test_an_error_that_no_reader_documents_is_counted(tmp_path: Path) -> None:
    def read(_drawn: object, _folder: Path) -> None:
        raise KeyError("x")

    assert _broken(tmp_path, read).tracebacks.total() == 5


def test_a_file_outside_is_counted(tmp_path: Path) -> None:
    def read(_drawn: object, folder: Path) -> None:
        (folder / "inside").write_text("")
        (tmp_path / "outside").write_text("")
        (tmp_path / "outside").rename(tmp_path / "moved")

    assert _broken(tmp_path, read).written_outside == {str(tmp_path / "outside"), str(tmp_path / "moved")}


def test_nothing_is_watched_between_two_cases(tmp_path: Path) -> None:
    with watched(tmp_path / "inside") as watch:
        (tmp_path / "outside").write_text("")
    assert not watch.found
