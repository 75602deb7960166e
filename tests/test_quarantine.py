"""The quarantine as a whole: gathered, counted and shown, and nothing of it reaches a terminal as more than text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from resources.store.artifacts import Artifacts
from resources.store.store import Artifact, Store
from speed_assets.assets.quarantine import counted, gathered, plot_counts
from speed_assets.domain.rows import QUARANTINE_SCHEMA
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.recipe import PROJECT
from tests.support.tiny import tiny_data, tiny_recipe, write_recipe

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \r\n\x08\x7f\x9b31m \u202eok ü <b> \u2028 end"
"""Clears a screen, names a window, overwrites, deletes, colours, turns text around."""


def aside(stage: str, task_type: str | None, *rows: tuple[str, str, str]) -> pl.DataFrame:
    """Quarantined rows of (row_id, reason, raw)."""
    return pl.DataFrame(
        [(row_id, stage, task_type, reason, f"why {reason}", raw) for row_id, reason, raw in rows],
        schema=QUARANTINE_SCHEMA,
        orient="row",
    )


def put(artifacts: Artifacts, asset: str, partition: str | None, quarantine: pl.DataFrame | None) -> Artifact:
    fingerprint = artifacts.fingerprint(asset, partition)
    with artifacts.store.building(fingerprint) as work:
        pl.DataFrame({"row": [asset]}).write_parquet(work / "data.parquet")
        if quarantine is not None:
            quarantine.write_parquet(work / "quarantine.parquet")
        parts = {"synthesis": "s", "alignment": "a"}
        return artifacts.store.seal(
            asset, fingerprint, work, partition=partition, metadata={"parts": parts}, lineage={"inputs": {}}
        )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with topics and tasks made, and some of both quarantined."""
    artifacts = Artifacts(tiny_recipe(), Store(tmp_path).open())
    put(artifacts, "topics", None, aside("topics", None, ("3", "refused_line", HOSTILE)))
    for task_type in TOPIC_TYPES:
        rows = [(f"{task_type}{i}", "no_task", f"text {i} " + "x" * 2000) for i in range(30)]
        put(artifacts, "task_list", task_type, aside("task_list", task_type, *rows) if task_type != "sts" else None)
    return tmp_path


def speed(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    recipe = home / "tiny.yaml"
    if not recipe.exists():
        write_recipe(home, tiny_data())
    return subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", "quarantine", "--recipe", str(recipe), *arguments],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_tables_without_a_quarantine_add_nothing(home: Path) -> None:
    artifacts = Artifacts(tiny_recipe(), Store(home))
    rows = gathered(
        [artifacts.get("task_list", "sts"), artifacts.get("topics"), artifacts.get("task_list", "retrieval")]
    )
    assert dict(rows.schema) == QUARANTINE_SCHEMA
    assert rows["stage"].to_list() == ["topics"] + ["task_list"] * 30
    assert dict(gathered([]).schema) == QUARANTINE_SCHEMA


def test_counts_are_of_rows_most_first(tmp_path: Path) -> None:
    rows = pl.concat([aside("a", None, ("1", "x", "")), aside("b", "sts", *[(str(i), "y", "") for i in range(3)])])
    assert counted(rows, "stage", "reason", "task_type").rows() == [("b", "y", "sts", 3), ("a", "x", None, 1)]
    plot_counts(counted(rows, "stage", "reason", "task_type"), tmp_path / "some.png")
    many = pl.concat([aside("stage", "sts", *[(str(i), f"reason {i}", "") for i in range(300)]), rows])
    for name, frame in (("many", many), ("none", rows.clear())):
        plot_counts(counted(frame, "stage", "reason", "task_type"), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size < 60_000, "larger plots are not shown"


def test_counts_are_reported_of_what_is_made_although_the_rest_is_not(home: Path) -> None:
    told = speed(home)
    assert told.returncode == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["topics", "refused_line", "1", "-", "1"] in lines
    assert ["task_list", "no_task", "120"] in [line[:3] for line in lines]
    assert "121 rows quarantined" in told.stdout
    assert "final_triplets" in told.stderr
    counts = json.loads(speed(home, "--json").stdout)
    assert (counts["rows"], sum(entry["rows"] for entry in counts["counts"])) == (121, 121)


def test_rows_are_chosen_by_reason_and_task_type(home: Path) -> None:
    told = speed(home, "--reason", "no_task", "--task-type", "retrieval", "--limit", "2")
    assert told.returncode == 0, told.stderr
    assert "2 of 30 rows" in told.stdout
    assert "retrieval0  task_list retrieval  no_task: why no_task" in told.stdout
    assert max(map(len, told.stdout.splitlines())) < 600, "long texts are cut"
    whole = [json.loads(line) for line in speed(home, "--reason", "no_task", "--json").stdout.splitlines()]
    assert len(whole) == 20
    assert len(whole[0]["raw"]) > 2000


@pytest.mark.parametrize("arguments", [("--reason", "refused_line"), ("--stage", "topics", "--json")])
def test_no_control_character_reaches_the_terminal(home: Path, arguments: tuple[str, ...]) -> None:
    told = speed(home, *arguments)
    assert told.returncode == 0, told.stderr
    assert "\\x1b[2J" in told.stdout or "\\u001b[2J" in told.stdout, "it is shown, escaped"
    assert all(letter.isprintable() for letter in told.stdout.replace("\n", ""))
    assert len(told.stdout.splitlines()) <= 4, "no line break of the text is one on the terminal"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--reason", "nonsense"), "no row has reason nonsense; there are no_task, refused_line"),
        (("--stage", "seed_data"), "no row has stage seed_data; there are task_list, topics"),
        (("--reason", "refused_line", "--task-type", "sts"), "no row has task_type sts"),
        (("--limit", "-1"), "no number of rows"),
        (("--task-type", "haiku"), "'haiku' is not one of"),
    ],
)
def test_a_choice_of_nothing_is_refused_with_what_there_is(home: Path, arguments: tuple[str, ...], words: str) -> None:
    told = speed(home, *arguments)
    assert told.returncode == 2
    assert words in told.stderr
    assert "Traceback" not in told.stderr


def test_a_home_in_which_nothing_is_made_has_no_rows(tmp_path: Path) -> None:
    told = speed(tmp_path)
    assert told.returncode == 0
    assert "0 rows quarantined" in told.stdout
    assert "topics" in told.stderr
