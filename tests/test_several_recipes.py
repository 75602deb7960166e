"""Several recipes in one code location: keys, names and plans of each, in one home."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pytest

from resources.store.home import prepare_home
from speed_assets.cli.running import ui
from speed_assets.definitions import defs as load
from speed_assets.orchestration import ui_server
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import RecipeError, load_recipe
from tests.support.tiny import tiny_data, write_recipe


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("SPEED_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_home(home)))
    for name in ("first", "second-one"):
        data = tiny_data() | {"name": name}
        data["topics"] |= {"limit": 20 if name == "first" else 9}
        write_recipe(tmp_path, data)
    monkeypatch.setenv("SPEED_RECIPES", f"{tmp_path / 'first.yaml'}, {tmp_path / 'second-one.yaml'}")
    return home


def test_each_recipe_has_its_own_keys_names_and_plan(home: Path, tmp_path: Path) -> None:
    defs = load()
    graph = defs.resolve_asset_graph()
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert {key.partition("/")[0] for key in keys} == {"first", "second-one"}
    assert "second-one/senior_data/sts" in keys
    above = {key.to_user_string() for key in graph.get(dg.AssetKey(["first", "task_list", "sts"])).parent_keys}
    assert above == {"first/topics"}
    repository = defs.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {"first__everything", "second_one__everything"}
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "first__remake_what_is_stale",
        "second_one__remake_what_is_stale",
    }
    assert all(sensor.description for sensor in repository.sensor_defs)
    assert {schedule.name for schedule in repository.schedule_defs} == {"first__evaluation", "second_one__evaluation"}
    groups = {graph.get(key).group_name for key in defs.resolve_all_asset_keys()}
    assert {"first/7_release", "second_one/3_senior/senior_data"} <= groups

    instance = Instance.of(home).dagster
    job = defs.resolve_job_def("second_one__everything")
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["second-one", "topics"])])
    assert result.success
    recipe = load_recipe(tmp_path / "second-one.yaml")
    after = {step.name: step.action for step in plan(recipe, home, Instance(instance, "second-one")).steps}
    assert after["topics"] == "reuse"
    assert plan(recipe, home, Instance(instance)).steps[0].action == "record", "unprefixed keys are others"
    first = plan(load_recipe(tmp_path / "first.yaml"), home, Instance(instance, "first"))
    assert first.steps[0].action == "make"


def test_two_recipes_of_one_name_are_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copy.yaml").write_text((tmp_path / "first.yaml").read_text())
    monkeypatch.setenv("SPEED_RECIPES", f"{tmp_path / 'first.yaml'},{tmp_path / 'copy.yaml'}")
    with pytest.raises(RecipeError, match="two recipes have one name"):
        load()


def test_a_recipe_that_cannot_be_used_leaves_the_others_as_they_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = {key for key in load().resolve_all_asset_keys() if key.path[0] == "second-one"}
    with (tmp_path / "first.yaml").open("a") as file:
        file.write("\nbad_field: 1\n")
    defs = load()
    broken = dg.AssetKey(["first", "recipe"])
    assert set(defs.resolve_all_asset_keys()) == sound | {broken}
    why = defs.resolve_asset_graph().get(broken).description or ""
    assert "first.yaml" in why
    assert "bad_field: unknown field" in why
    instance = Instance.of(home).dagster
    job = defs.resolve_job_def("second_one__everything")
    assert job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["second-one", "topics"])]).success
    (tmp_path / "second-one.yaml").write_text("name: [")
    with pytest.raises(RecipeError, match=r"first\.yaml"):
        load()


def test_one_recipe_keeps_its_keys(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_RECIPES", str(tmp_path / "first.yaml"))
    assert dg.AssetKey("topics") in set(load().resolve_all_asset_keys())


def test_the_ui_serves_recipes_that_are_named_in_the_working_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served: list[str] = []
    monkeypatch.setattr(ui_server, "serve", lambda _port, _say: served.append(os.environ["SPEED_RECIPES"]) or 0)
    with patch.dict(os.environ, SPEED_RECIPES="first.yaml, offline ,second-one.yaml"):
        ui(recipe="offline", topics=None, port=3000)
    assert served == [f"{tmp_path / 'first.yaml'},offline,{tmp_path / 'second-one.yaml'}"], (
        "the server runs in another folder"
    )
