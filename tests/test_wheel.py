"""The wheel: installed into an environment that has none of the checkout, it starts a project, plans it and runs a recipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml

from speed_assets.recipe import PROJECT
from tests.support.small import small_data

SOURCES = ("speed_assets", "resources", "checks", "recipes", "setup.py", "pyproject.toml", "README.md", "LICENSE",
           "dagster.yaml", "workspace.yaml")  # fmt: skip
TRAINING = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "sentence_transformers", "tokenizers",
            "mteb", "bm25s", "sklearn", "scikit_learn", "pytrec_eval", "pytrec_eval_terrier")  # fmt: skip
"""Modules of the extras `train` and `eval`."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; what it depends on is read from the environment of this test."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(wheel, capture_output=True, text=True, env=_variables())
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    (built,) = folder.glob("*.whl")
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(built)]
    done = subprocess.run(install, capture_output=True, text=True, env=_variables())
    assert done.returncode == 0, done.stderr
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for script in ("dg", "dagster", "dagster-webserver"):
        (folder / "env" / "bin" / script).symlink_to(Path(sys.executable).with_name(script))
    return folder / "env"


def _variables(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPEED_", "PYTHON", "DAGSTER_"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


def speed(environment: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(environment / "bin" / "speed"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_variables(), timeout=400)


def test_a_project_starts_and_is_planned(environment: Path, tmp_path: Path) -> None:
    started = speed(environment, tmp_path, "init", "my_model")
    assert started.returncode == 0, started.stderr
    project = tmp_path / "my_model"
    assert (project / "topics.txt").is_file()
    planned = speed(environment, project, "plan", "--recipe", "recipe.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    assert "release" in json.loads(planned.stdout)["make"]
    assert (project / ".speed" / "ledger.sqlite").exists() or (project / ".speed" / "dagster").is_dir()


def test_shipped_recipes_are_in_it(environment: Path, tmp_path: Path) -> None:
    planned = speed(environment, tmp_path, "plan", "--recipe", "offline")
    assert planned.returncode == 0, planned.stderr
    where = "import speed_assets.recipe as r; print(r.RECIPES, len(r.shipped_recipes()))"
    python = [str(environment / "bin" / "python"), "-c", where]
    shown = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, env=_variables())
    folder, count = shown.stdout.split()
    assert str(environment) in folder
    assert int(count) == len(list((PROJECT / "recipes").glob("*.yaml")))


def test_the_core_plans_and_reports_without_what_trains(tmp_path: Path) -> None:
    program = f"""
import sys
from importlib import metadata
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAINING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
found = metadata.Distribution.from_name
def from_name(name):
    if name.replace("-", "_") in {TRAINING!r}:
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.Distribution.from_name = from_name
from speed_assets.cli import main
for arguments in (["plan"], ["plan", "--recipe", "laptop"], ["report"], ["explain", "embedding_model.batch_size"], ["releases"], ["cost"]):
    status = main(arguments)
    assert status == 0, (arguments, status)
assert main(["run"]) == 2, "nothing is asked or made that a lacking package would end"
"""
    environment = _variables(SPEED_HOME=str(tmp_path / "home"), PYTHONPATH=str(PROJECT))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "WHEEL[train,eval]" in done.stdout, "the plan names what a run lacks"
    assert "this environment lacks torch" in done.stderr, "a run ends with it"
    assert not list((tmp_path / "home").glob("artifacts/*"))


@pytest.mark.faults
def test_a_small_recipe_runs(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(small_data()))
    done = speed(environment, tmp_path, "run", "--recipe", "tiny.yaml", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(json.loads(done.stdout.splitlines()[-1])["release"]).is_relative_to(tmp_path / ".speed")
