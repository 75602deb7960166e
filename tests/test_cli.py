"""The `speed` command with bad input: one clear message, a non-zero status, no traceback, nothing harmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_data, write_recipe

from resources.store import Store
from speed_assets.recipe import PROJECT


def speed(home: Path | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", *arguments],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_clear_failure(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode not in (0, -9)
    assert "Traceback" not in result.stderr + result.stdout
    for word in words:
        assert word in result.stderr
    assert result.stderr.count("error:") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [("name: [", "not valid YAML"), ("name: x\nfoo: 1\n", "foo: unknown field"), ("", "mapping")],
)
def test_broken_recipe(tmp_path: Path, text: str, word: str) -> None:
    recipe = tmp_path / "broken.yaml"
    recipe.write_text(text)
    assert_clear_failure(speed(tmp_path / "home", "run", "--recipe", str(recipe)), str(recipe), word)


def test_negative_number(tmp_path: Path) -> None:
    data = tiny_data()
    data["junior_model"]["learning_rate"] = -1
    recipe = write_recipe(tmp_path, data)
    assert_clear_failure(
        speed(tmp_path / "home", "run", "--recipe", str(recipe)), "junior_model.learning_rate", "-1", "greater than 0"
    )


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "there is no file"),
        (b"\x7fELF\x02\x01\x00\x00\x00\x00\xff\xfe" * 50, "binary"),
        (b"Arts/Music\n", "at_least"),
        (b"", "empty"),
    ],
)
def test_bad_topic_file(tmp_path: Path, content: bytes | None, word: str) -> None:
    topics = tmp_path / "topics.txt"
    if content is not None:
        topics.write_bytes(content)
    home = tmp_path / "home"
    result = speed(home, "run", "--topics", str(topics))
    assert_clear_failure(result, str(topics), word)
    assert not list((home / "artifacts").rglob("artifact.json"))


def test_unwritable_home(tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    assert_clear_failure(speed(blocked / "home", "run"), "SPEED_HOME", "cannot be written")


def test_unknown_asset_and_selection(tmp_path: Path) -> None:
    assert_clear_failure(speed(tmp_path, "show", "nonsense"), "nonsense")
    assert_clear_failure(speed(tmp_path, "run", "--select", "nonsense"), "nonsense")


def test_show_tells_what_is_missing(tmp_path: Path) -> None:
    result = speed(tmp_path, "show")
    assert result.returncode == 0, result.stderr
    assert "not made yet" in result.stdout
    assert "revised_data[sts]" in result.stdout


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    result = speed(tmp_path, "run", "--recipe", "teacher_only", "--select", "topics")
    assert result.returncode == 0, result.stderr
    result = speed(tmp_path, "run", "--recipe", "teacher_only", "--select", "task_list", OPENAI_API_KEY="")
    assert_clear_failure(result, "teacher.key_variable", "OPENAI_API_KEY")


def test_a_release_verifies_itself_elsewhere_and_is_listed(tmp_path: Path) -> None:
    store = Store(tmp_path / "home").open()
    with store.building("f" * 64) as work:
        (work / "model").mkdir()
        (work / "model" / "README.md").write_text("# card\n")
        metadata = {"rows_released": 1200, "scores": {"STS": 0.5, "Retrieval": 0.7}}
        made = store.complete("release", "f" * 64, work, partition=None, metadata=metadata, lineage={})
    listed = speed(tmp_path / "home", "releases")
    assert listed.returncode == 0
    assert "1,200 rows  0.6 on 2 tasks" in listed.stdout
    assert str(made.path) in listed.stdout
    (entry,) = json.loads(speed(tmp_path / "home", "releases", "--json").stdout)
    assert entry["digest"] == made.digest

    moved = tmp_path / "elsewhere"
    shutil.move(made.path, moved)
    whole = speed(tmp_path / "none", "verify", str(moved))
    assert whole.returncode == 0, whole.stderr
    assert made.digest in whole.stdout
    (moved / "model" / "README.md").write_text("# cord\n")
    broken = speed(tmp_path / "none", "verify", str(moved))
    assert broken.returncode == 1
    assert broken.stderr == "damaged: model/README.md has changed since it was written\n"
    assert_clear_failure(speed(tmp_path / "none", "verify", str(tmp_path)), "is no release")
    assert not (tmp_path / "none").exists()


def test_a_recipe_without_the_loop_is_not_studied(tmp_path: Path) -> None:
    result = speed(tmp_path / "home", "study", "--recipe", "teacher_only")
    assert_clear_failure(result, "leaves out a part of the loop", "final_triplets.source=revised_data")
    assert result.returncode == 2
