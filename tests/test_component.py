"""`speed_assets.SpeedLoop`: recipes as components of any Dagster project, loaded by Dagster and scaffolded by `dg`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

import speed_assets
from resources.store.home import prepare_home
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import PROJECT, RecipeError, load_recipe
from tests.support.tiny import tiny_data, write_recipe

pytestmark = pytest.mark.faults  # processes of their own, each of which imports what trains

NAME = "tiny_dagster_project"
PYPROJECT = f"""
[project]
name = "tiny"
version = "0"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{NAME}"
"""
OTHER = """
import dagster as dg

@dg.asset
def another() -> None: ...
"""
"""An asset of the project's own."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster project with one asset of its own and no component; returns its folder of definitions."""
    home = tmp_path / "home"
    monkeypatch.setenv("SPEED_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_home(home)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(PROJECT)]))
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    folder = tmp_path / NAME / "defs"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").write_text("")
    (folder.parent / "definitions.py").write_text(
        "from pathlib import Path\nimport dagster as dg\n\n"
        "@dg.definitions\ndef defs():\n    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (folder / "another.py").write_text(OTHER)
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def add(folder: Path, name: str, **attributes: object) -> None:
    """A component whose recipe is in its own folder."""
    (folder / name).mkdir()
    write_recipe(folder / name, tiny_data() | {"name": "same"})
    text = {"type": "speed_assets.SpeedLoop", "attributes": {"recipe": "same.yaml", **attributes}}
    (folder / name / "defs.yaml").write_text(yaml.safe_dump(text))


def load(folder: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=folder)


def test_two_components_in_a_project_with_assets_of_its_own(project: Path) -> None:
    add(project, "loop_a")
    add(project, "second", key_prefix="loop-b")
    defs = load(project)
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert {key.partition("/")[0] for key in keys} == {"another", "loop_a", "loop-b"}
    assert {"loop_a/senior_data/sts", "loop-b/release"} <= keys
    repository = defs.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {"loop_a__everything", "loop_b__everything"}
    assert {one.name for one in repository.sensor_defs} == {
        "loop_a__remake_what_is_stale",
        "loop_b__remake_what_is_stale",
    }
    job = defs.resolve_job_def("loop_b__everything")
    assert job.executor_def.name == "lanes"
    assert defs.executor is None, "the project's own assets run as before"

    instance = Instance.of(Path(os.environ["SPEED_HOME"])).dagster
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["loop-b", "topics"])])
    assert result.success
    recipe = load_recipe(project / "second" / "same.yaml")
    planned = {
        prefix: plan(recipe, Path(os.environ["SPEED_HOME"]), Instance(instance, prefix))
        for prefix in ("loop-b", "loop_a")
    }
    actions = {prefix: {step.name: step.action for step in found.steps}["topics"] for prefix, found in planned.items()}
    assert actions == {"loop-b": "reuse", "loop_a": "record"}, (
        "one home: the artifact is made once, and recorded for each"
    )


def test_one_component_may_bring_the_executor(project: Path) -> None:
    add(project, "loop_a", everywhere=True)
    add(project, "loop_b")
    assert load(project).executor.name == "lanes"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [({"key_prefix": "a/b"}, "set key_prefix to letters"), ({"recipe": "other.yaml"}, "no recipe at")],
)
def test_a_wrong_attribute_is_named(project: Path, attributes: dict[str, str], message: str) -> None:
    add(project, "loop_a", **attributes)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - Dagster puts its own errors around it
        load(project).resolve_all_asset_keys()
    causes: list[BaseException] = [raised.value]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    assert any(isinstance(cause, RecipeError) and message in str(cause) for cause in causes)


def test_a_shipped_recipe_is_named_without_a_file(project: Path) -> None:
    add(project, "loop_a", recipe="offline")
    assert dg.AssetKey(["loop_a", "release"]) in load(project).resolve_all_asset_keys()


def test_dg_scaffolds_and_checks_a_component(project: Path) -> None:
    command = str(Path(sys.executable).with_name("dg"))
    for arguments in (["scaffold", "defs", "speed_assets.SpeedLoop", "loop_a"], ["check", "defs"]):
        done = subprocess.run(
            [command, *arguments], cwd=project.parents[1], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    recipe = load_recipe(project / "loop_a" / "recipe.yaml")
    assert recipe.name == "loop_a"
    assert recipe.topics.file == str(project / "loop_a" / "topics.txt")
    assert (project / "loop_a" / "recipe.schema.json").is_file()
    assert speed_assets.SpeedLoop.__name__ == "SpeedLoop"
