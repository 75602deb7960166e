"""The programs in `examples/`, run as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from resources.store.home import prepare_home
from speed_assets.recipe import PROJECT
from tests.support.released_table import TEXTS, released
from tests.support.static_embedder import write_embedder
from tests.support.tiny import tiny_data, write_recipe

pytestmark = pytest.mark.faults  # processes of their own, each of which imports what trains

EXAMPLES = PROJECT / "examples"
RIVER = "which river flows through the old town of the city before it meets the sea in the west"


def run(script: str, *arguments: str, seconds: int = 200) -> str:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_and_listed() -> None:
    tests = Path(__file__).read_text()
    listed = (EXAMPLES / "README.md").read_text()
    for script in EXAMPLES.glob("*.py"):
        assert f'"{script.name}"' in tests, f"no test runs {script.name}"
        assert f"[{script.name}]({script.name})" in listed


def test_rows_are_cleaned(tmp_path: Path) -> None:
    rows = {"query": [RIVER, RIVER.upper(), "a ladder stands in the attic", "where does the ladder stand in our attic"]}
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    (tmp_path / "quiz.txt").write_text("Where does the ladder stand in our attic?\n")
    printed = run("clean_rows.py", str(tmp_path / "rows.csv"), "query", str(tmp_path / "quiz.txt"))
    assert printed.splitlines() == ["4 rows, 1 repeat another, 1 contain a test question", "2 rows kept"]
    assert pl.read_csv(tmp_path / "rows.clean.csv")["query"].to_list() == [rows["query"][0], rows["query"][2]]


def test_two_models_are_compared(tmp_path: Path) -> None:
    old = [n % 2 for n in range(400)]
    for name, scores in (("old", old), ("new", [min(1, score + (n % 10 == 0)) for n, score in enumerate(old)])):
        pl.DataFrame({"score": scores}).write_csv(tmp_path / f"{name}.csv")
    new, before = (str(tmp_path / f"{name}.csv") for name in ("new", "old"))
    assert run("compare_models.py", new, before).endswith(": better\n")
    assert run("compare_models.py", before, before).endswith("undecided: take more queries\n")


def test_a_recipe_has_a_price() -> None:
    head, *lines = run("price_of_a_recipe.py", "offline").splitlines()
    assert head.split()[:2] == ["rows", "asked"]
    assert len(lines) == 3
    first, _, last = (int(line.split()[2]) for line in lines)
    assert last < first, "the teacher writes a fixed part: more rows need fewer calls each"


def test_a_release_is_used_anywhere(tmp_path: Path) -> None:
    made = released(tmp_path / "home", write_embedder(tmp_path / "base"))
    moved = tmp_path / "elsewhere"
    shutil.move(made.path, moved)
    printed = run("use_release.py", str(moved))
    assert "release cccccccccccc of recipe tiny" in printed
    assert "retrieval: 2 rows, such as 'kettle'" in printed
    assert any(text in printed for text in TEXTS)


@pytest.mark.faults
def test_the_whole_loop_runs(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_data())
    printed = run("whole_loop.py", str(recipe), str(tmp_path / "home"), seconds=500)
    assert "artifacts to make" in printed
    assert printed.splitlines()[-1].startswith("release ")


def test_the_dagster_project_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_home(tmp_path / "home")))
    shutil.copytree(EXAMPLES / "dagster_project", tmp_path / "project")
    monkeypatch.syspath_prepend(tmp_path / "project")
    defs = dg.load_from_defs_folder(path_within_project=tmp_path / "project" / "my_project" / "defs")
    keys = defs.resolve_all_asset_keys()
    assert {dg.AssetKey("exported"), dg.AssetKey(["loop_a", "release"]), dg.AssetKey(["loop_b", "release"])} <= set(
        keys
    )
    graph = defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey("exported")).parent_keys == {dg.AssetKey(["loop_a", "release"])}
