"""Fields of a recipe that are changed for one run: on the command line, and by run config as the UI sends it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.build import build_defs
from speed_assets.orchestration.recipe_of_run import CHANGED_TAG, RECIPE_TAG
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import RecipeError, changes_of, load_recipe, with_changes
from tests.support.tiny import tiny_data, write_recipe


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, tiny_data())


def launched(file: Path, home: Path, changes: dict[str, Any], asset: str = "topics") -> dg.ExecuteInProcessResult:
    """A run of one asset with run config, as the launchpad starts it."""
    defs = build_defs(load_recipe(file), home, with_fields=partial(load_recipe, file, None))
    return defs.resolve_job_def("everything").execute_in_process(
        run_config={"resources": {"recipe": {"config": {"set": changes}}}},
        asset_selection=[dg.AssetKey(asset)],
        instance=Instance.of(home).dagster,
        raise_on_error=False,
    )


def test_values_are_yaml_and_fields_are_named_once() -> None:
    assert changes_of(["topics.limit=null", "seed=3"]) == {"topics.limit": None, "seed": 3}
    for texts, words in (
        (["seed"], "FIELD=VALUE"),
        (["../x=1"], "FIELD=VALUE"),
        (["seed=1", "seed=2"], "given twice"),
        (["seed=[1"], "seed: the value is not YAML"),
    ):
        with pytest.raises(RecipeError, match=words):
            changes_of(texts)


def test_a_change_leaves_the_values_of_the_recipe_as_they_are() -> None:
    values = {"seed": 1, "topics": {"limit": 3}}
    assert with_changes(values, {"topics.limit": 4})["topics"] == {"limit": 4}
    assert values["topics"] == {"limit": 3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embedding_model.learning_rte": 0.1}, "embedding_model.learning_rte: unknown field"),
        ({"embedding_model.learning_rate": -1}, "embedding_model.learning_rate: input should be greater than 0"),
        ({"seed.x": 1}, "seed.x: seed is no section"),
        ({"name": "other"}, "name cannot be changed"),
        ({"a b": 1}, "'a b' is no field"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_made(
    file: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(file, None, changes)
    result = launched(file, tmp_path / "home", changes)
    assert not result.success
    assert not result.get_asset_materialization_events()
    failures = [event for event in result.all_events if event.event_type is dg.DagsterEventType.PIPELINE_FAILURE]
    error = failures[0].job_failure_data.error
    assert error is not None
    while error.cause is not None:
        error = error.cause
    assert words in error.message


def test_what_one_run_cannot_have_is_refused(file: Path, tmp_path: Path) -> None:
    for changes, words in (
        ({"senior_data.rows.sts": 0, "seed_data.rows.sts": 0}, "another graph of assets"),
        ({"runtime.lanes.cpu": 1}, "read when definitions are loaded"),
    ):
        result = launched(file, tmp_path / "home", changes)
        assert not result.get_asset_materialization_events()
        assert words in str([event.event_specific_data for event in result.all_events])


def test_a_changed_field_is_in_the_fingerprint_of_what_the_run_makes(file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    changed = load_recipe(file, None, {"topics.limit": 7})
    assert load_recipe(file).topics.limit == 20
    result = launched(file, home, {"topics.limit": 7})
    assert result.success
    store = Store(home)
    made = Artifacts(changed, store).fetch("topics")
    assert made is not None
    assert made.lineage["recipe"] == changed.part(changed.graph()["topics"])
    assert Artifacts(load_recipe(file), store).fetch("topics") is None, "the recipe's own is another artifact"
    run = Instance.of(home).dagster.get_run_by_id(result.run_id)
    assert run is not None
    assert (run.tags[RECIPE_TAG], run.tags[CHANGED_TAG]) == ("tiny", "topics.limit=7")
