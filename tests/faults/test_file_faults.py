"""Topics, recipes and homes that change, move or go in the middle of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.disk_full import harm
from resources.store.store import StoreError
from speed_assets import build
from speed_assets.orchestration import runs
from speed_assets.recipe import RecipeError
from tests.support.faults import (
    assert_as_undisturbed,
    ended,
    start,
    wait_until,
    write,
)
from tests.support.tiny import tiny_recipe


def test_a_topic_file_changed_in_the_middle_of_a_run(tmp_path: Path) -> None:
    topics = tmp_path / "topics.txt"
    lines = Path(tiny_recipe().topics.file).read_text().splitlines()[:20]
    topics.write_text("\n".join(lines))
    recipe = tiny_recipe(topics__file=str(topics), topics__alignment=None, topics__limit=None)

    def change(line: str) -> None:
        if line.startswith("made") and "task_list/retrieval" in line:
            topics.write_text("\n".join(lines[:-1]))

    report = runs.run(recipe, tmp_path / "home", select="key:topics or key:task_list", say=change)
    assert "an input of topics changed during the run" in report.errors[-1]
    assert "run again" in report.errors[-1]
    again = runs.run(recipe, tmp_path / "home", select="key:topics or key:task_list")
    assert again.errors == []
    assert "topics" in again.made
    assert again.metadata["topics"]["rows"] == report.metadata["topics"]["rows"] - 1
    topics.unlink()
    with pytest.raises(ValueError, match=r"there is no file .*topics\.txt; give one with --topics"):
        runs.run(recipe, tmp_path / "home", select="topics")


def test_a_topic_file_changed_while_it_is_read_makes_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    topics = tmp_path / "topics.txt"
    lines = Path(tiny_recipe().topics.file).read_text().splitlines()[:20]
    topics.write_text("\n".join(lines))
    recipe = tiny_recipe(topics__file=str(topics), topics__alignment=None, topics__limit=None)
    real = build.FUNCTIONS["topics"]

    def slow(run: Any) -> dict[str, Any]:
        topics.write_text("\n".join(lines[:-1]))
        return real(run)

    monkeypatch.setitem(build.FUNCTIONS, "topics", slow)
    with pytest.raises(RecipeError, match="topics: topic_file changed while it was made from it: run again"):
        runs.run(recipe, tmp_path / "home", select="topics")  # the plan reads it first
    assert not list((tmp_path / "home" / "artifacts").rglob("artifact.json")), "new content under the old name"


def test_a_recipe_that_is_changed_or_gone_in_the_middle_of_a_run_is_the_one_it_began_with(
    whole: Path, tmp_path: Path
) -> None:
    recipe, home = write(tmp_path), tmp_path / "home"
    shutil.copytree(whole, home)
    shutil.rmtree(home / "artifacts" / "junior_data")
    process = start(recipe, home)
    wait_until(lambda: list((home / "artifacts").glob("junior_data/*")))
    recipe.write_text("name: [")
    ended(process)
    recipe.unlink()
    assert f"no recipe at {recipe}" in ended(start(recipe, home), 2)
    assert_as_undisturbed(write(tmp_path), home, whole)


def test_a_home_that_has_moved_to_a_path_with_spaces(whole: Path, tmp_path: Path) -> None:
    home = tmp_path / "another place, with # and é"
    shutil.copytree(whole, home)
    assert "nothing was stale" in ended(start(write(tmp_path), home))
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", junior_model={"learning_rate": 0.002})
    said = ended(start(other, home))
    assert "made   junior_model" in said
    assert "task_list" not in said, "nothing above it is made again"
    assert harm(home) == []


@pytest.mark.parametrize("name", ["what?", "100%25"])
def test_a_home_whose_path_dagster_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    said = ended(start(write(tmp_path), tmp_path / name), 2)
    assert "has a ? or % in its path" in said
    assert not (tmp_path / name / "dagster").exists()


def test_the_words_for_storage_name_folder_and_remedy(tmp_path: Path) -> None:
    from resources.store.storage_errors import explain_storage_errors, storage_problem

    full = storage_problem("OSError: [Errno 28] No space left on device: 'x'", tmp_path)
    assert full is not None
    assert "make room there, then run again" in full
    assert storage_problem("ValueError: 28 rows", tmp_path) is None
    with pytest.raises(StoreError, match="read-only file system: make it writable"), explain_storage_errors(tmp_path):
        raise OSError(30, "Read-only file system")
    with pytest.raises(ValueError, match=r"^other$"), explain_storage_errors(tmp_path):
        raise ValueError("other")
