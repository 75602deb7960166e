"""A full or read-only disk in the middle of a run: nothing is lost, and the next run resumes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.disk_full import disk, fill_and_resume
from resources.store.store import Store
from speed_assets.cli import main
from speed_assets.recipe import PROJECT
from speed_assets.workers.fine_tuning import newest_checkpoint
from tests.support.faults import (
    SELECT,
    ended,
    start,
)


def test_a_disk_that_is_full_again_and_again(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """Three moments here; `python -m benchmarks.disk_full` takes twenty of the whole graph."""
    try:
        found = fill_and_resume(tmp_path, recipe, whole, 3, seed=4, select=SELECT)
    except OSError as error:
        pytest.skip(str(error))
    assert found["wrong"] == []
    assert found["identical"]
    assert found["calls"] == found["calls_paid"] == found["calls_undisturbed"]
    assert found["full"] >= 2, found


def test_a_home_on_a_read_only_disk(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    try:
        with disk(tmp_path / "disk", 1 << 24) as made:
            home = made.folder / "home"
            monkeypatch.setenv("SPEED_HOME", str(home))
            ended(start(recipe, home, "topics"))
            subprocess.run(["mount", "-o", "remount,ro", made.folder], check=True)
            for command in (["run"], ["show"], ["cost"]):
                assert main(command) == 2
                said = capsys.readouterr().err
                assert said.count("error:") == 1
                assert str(home) in said
                assert "Read-only file system" in said
            assert main(["releases"]) == 0
    except OSError as error:
        pytest.skip(str(error))


def test_the_beginning_of_a_checkpoint_is_none_and_leaves_no_litter(tmp_path: Path) -> None:
    for step, state in ((1, '{"global_step": 1}'), (2, '{"global_'), (3, ""), (4, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_what_cannot_be_sealed_keeps_its_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the end of hours of training must not cost the training."""
    store = Store(tmp_path).open()

    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with store.building("f" * 64) as work:
        (work / "scratch" / "checkpoint").write_text("hours")
        (work / "model").write_text("weights")
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(Path, "write_bytes", full)
            store.seal("topics", "f" * 64, work, partition=None, metadata={}, lineage={})
        assert (work / "scratch" / "checkpoint").read_text() == "hours"
        made = store.seal("topics", "f" * 64, work, partition=None, metadata={}, lineage={})
    assert set(made.files) == {"model"}
    assert not (made.path / "scratch").exists()


def test_a_settings_file_cut_short_by_a_full_disk_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.store.home import prepare_home

    def full(_self: Path, _text: str) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        Store(tmp_path).open()
        patch.setattr(Store, "open", lambda self: self)
        patch.setattr(Path, "write_text", full)
        prepare_home(tmp_path)
    assert (prepare_home(tmp_path) / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()
