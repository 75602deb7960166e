"""The house rules that a tool can enforce."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors import safe_open

from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.recipe import PROJECT


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [PROJECT / line for line in listed.stdout.splitlines() if (PROJECT / line).is_file()]


def test_definitions_load_without_heavy_libraries(tmp_path: Path) -> None:
    code = (
        "import sys, speed_assets.definitions; "
        "heavy = {'torch', 'transformers', 'trl', 'sentence_transformers', 'mteb', 'datasets', 'great_expectations'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "SPEED_HOME": str(tmp_path)},
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_lock_is_closed() -> None:
    """Every dependency of the project, and every dependency of those, is pinned: an install resolves nothing."""
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    locked = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needed = [Requirement(line) for line in metadata.requires(name) or ()]
            waiting += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    names = {name for name, _ in seen}
    assert names <= locked, f"not in requirements.lock: {sorted(names - locked)}"


def test_lock_is_pinned_and_names_no_host() -> None:
    for line in (PROJECT / "requirements.lock").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!]+", line), line


def test_no_registry_host_is_named() -> None:
    hosts = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.org"]))
    for path in tracked_files():
        if path.suffix in {".py", ".toml", ".md", ".yaml", ".yml", ".lock", ".txt", ""}:
            assert not hosts.search(path.read_text(errors="ignore")), path


def test_base_model_is_small_safe_and_has_a_card() -> None:
    files = {path.name for path in MICROWORLD_BASE.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md"} <= files
    assert sum(path.stat().st_size for path in MICROWORLD_BASE.iterdir()) < 8_000_000
    with safe_open(MICROWORLD_BASE / "model.safetensors", "numpy") as weights:
        assert weights.keys()


def test_every_python_file_says_what_belongs_in_it() -> None:
    for path in tracked_files():
        if path.suffix == ".py" and path.stat().st_size:
            assert path.read_text().startswith('"""'), path


def test_every_test_that_the_docs_name_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (PROJECT / "docs" / "reliability.md").read_text())
    assert len(named) > 40
    for file, name in named:
        assert f"def {name}(" in (PROJECT / "tests" / file).read_text(), f"{file}::{name}"
