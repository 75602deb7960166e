"""The real recipes, untouched but for tiny random models of their families and a teacher on loopback, reach a release
decision by `speed rehearse`.

Engines are `transformers` here: vLLM has an environment of its own (`tests_vllm`). Evaluation sets are this project's small
ones: the recipes' own are on a hub.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.orchestration import calls_by_numbers, rehearsal_estimates, rehearsal_report
from speed_assets.orchestration.rehearse import Rehearsed, home_of, rehearsal_of, rehearse
from speed_assets.recipe import Recipe, RecipeError, load_recipe
from tests.support import small_families
from tests.support.natural_teacher import natural
from tests.support.teacher_server import TeacherServer

GENERATORS = {"laptop": "qwen", "gpu": "qwen", "paper": "llama3"}
EMBEDDERS = {"laptop": "bert", "gpu": "qwen", "paper": "mistral", "teacher_only": "mistral"}


def with_small_models(name: str, folder: Path, endpoint: str) -> Recipe:
    """The recipe with nothing changed but where its models and its teacher are."""
    recipe = load_recipe(name)
    data = recipe.model_dump()
    data["teacher"] |= {"endpoint": endpoint, "key_variable": None}
    if recipe.generator is not None:
        base = getattr(small_families, GENERATORS[name])(folder / "generator")
        data["generator"] |= {"base": base, "revision": None, "engine": "transformers", "dtype": "float32"}
    data["embedding_model"] |= {
        "base": getattr(small_families, EMBEDDERS[name])(folder / "embedder", writes=False),
        "revision": None,
        "dtype": "float32",
    }
    return Recipe.model_validate(data)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))

    def rehearsed(name: str, rows: int = 4, cut: bool = True) -> tuple[Recipe, Rehearsed, dict[str, Any]]:
        with TeacherServer(natural(cut)) as server:
            recipe = with_small_models(name, tmp_path, server.url)
            done = rehearse(recipe, tmp_path / "home", rows=rows, skip_evaluation=True)
        return recipe, done, rehearsal_report.as_json(recipe, done, skipped=True)

    return rehearsed


@pytest.mark.parametrize("name", ["laptop", "gpu", "paper", "teacher_only"])
@pytest.mark.faults
def test_a_real_recipe_reaches_a_release_decision(name: str, run: Any, tmp_path: Path) -> None:
    recipe, done, told = run(name)
    assert told["errors"] == []
    assert told["reached_the_end"]
    stages = {line["stage"]: line for line in told["stages"]}
    assert set(stages) == {*done.recipe.graph()}
    assert {*recipe.graph()} - set(stages) <= {"evaluation_texts"}  # of the recipe's own sets, which are left out here
    assert stages["seed_data"]["valid"] > 0
    assert stages["seed_data"]["cut"] == 0  # a writer of the lengths asked for has room for them
    if recipe.generator is not None:
        # Random weights write no record: all the later stages ran on the teacher's examples, and the table says so.
        for written in ("junior_data", "senior_data"):
            assert stages[written]["stand_ins"] > 0
            assert stages[written]["valid"] + stages[written]["stand_ins"] <= stages[written]["made"]
        assert any(gate["artifact"].startswith("senior_data") for gate in told["gates_that_would_refuse"])
        stood_in_for_is_known(done)
    ahead = told["full"]
    assert ahead["calls"] >= recipe.seed_data.rows.total()
    assert ahead["teacher_tokens"]["low"] <= ahead["teacher_tokens"]["likely"] <= ahead["teacher_tokens"]["high"]
    text = rehearsal_report.as_text(told)
    assert max(map(len, text)) <= 80
    # Nothing of it touches the real home.
    assert done.home == home_of(tmp_path / "home", recipe)
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {"rehearsals", "models"}
    json.dumps(told)


def test_a_teacher_of_ones_own_that_was_not_started_is_reported_at_once(tmp_path: Path) -> None:
    recipe = load_recipe("laptop")
    nobody = recipe.teacher.model_copy(update={"endpoint": "http://127.0.0.1:1/v1"})
    with pytest.raises(RecipeError, match=r"nothing answers at http://127\.0\.0\.1:1/v1"):
        rehearse(recipe.model_copy(update={"teacher": nobody}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_rehearsal_is_the_recipe_with_fewer_rows() -> None:
    recipe = load_recipe("paper")
    small = rehearsal_of(recipe, 8)
    for section in ("teacher", "generator", "prompts", "answers"):
        assert getattr(small, section) == getattr(recipe, section)
    assert small.seed_data.sampling == recipe.seed_data.sampling
    assert small.evaluation == recipe.evaluation
    assert small.seed_data.rows.total() == 40
    assert small.rehearsal is not None
    graphs = [{name: stage.reads for name, stage in r.graph().items()} for r in (recipe, small)]
    assert graphs[0].keys() == graphs[1].keys()
    assert "rehearsal" in graphs[1]["senior_data"]
    for section in ("junior_model", "senior_model", "revisor_model", "embedding_model"):
        settings = getattr(small, section)
        assert settings.batch_size <= 10
        assert not settings.micro_batch_size or settings.batch_size % settings.micro_batch_size == 0
    with pytest.raises(RecipeError, match="at least 4 rows"):
        rehearsal_of(recipe, 2)


def test_a_recipe_with_fewer_rows_than_a_rehearsal_asks_for_keeps_them() -> None:
    recipe = load_recipe("laptop")
    data = recipe.model_dump()
    data["seed_data"]["rows"] |= {"matching_long": 0, "sts": 3}
    small = rehearsal_of(Recipe.model_validate(data), 8)
    assert (small.seed_data.rows.matching_long, small.seed_data.rows.sts, small.seed_data.rows.retrieval) == (0, 3, 8)


def stood_in_for_is_known(done: Rehearsed) -> None:
    """Fingerprints know of the examples that stand in, and those are the teacher's."""
    artifacts = Artifacts(done.recipe, Store(done.home))
    senior, seeds = (artifacts.get(name, "sts") for name in ("senior_data", "seed_data"))
    assert senior.lineage["recipe"]["rehearsal"] is not None
    assert senior.lineage["inputs"]["seed_data[sts]"] == seeds.digest
    assert senior.table()["valid"].all()
    assert set(senior.table()["query"]) <= set(seeds.table()["query"])


def test_an_interval_holds_the_mean_and_grows_with_the_spread() -> None:
    narrow = rehearsal_estimates.mean_interval([10.0, 10.0, 11.0, 9.0], "a")
    wide = rehearsal_estimates.mean_interval([1.0, 19.0, 2.0, 18.0], "a")
    assert narrow.low <= narrow.likely == 10.0 <= narrow.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_calls_of_the_full_recipe_are_those_that_it_asks_for() -> None:
    recipe = load_recipe("paper")
    calls = calls_by_numbers.calls_of(recipe)
    assert calls["seed_data"] == 25_000
    assert calls["preference_pairs"] == 2 * 5_000
    assert calls["revision_data"] == 10_000
    assert calls["task_list"] == 240_000 - 2 * 60_000 + sum(
        min(60_000, recipe.senior_data.rows.model_dump()[name] + 445) for name in ("matching_short", "matching_long")
    )
    assert calls["topic_tree"] < calls["task_list"]
    assert set(calls_by_numbers.calls_of(load_recipe("teacher_only"))) == {"topic_tree", "task_list", "seed_data"}


@pytest.mark.parametrize("name", ["offline", "laptop", "gpu", "own_corpus"])
def test_no_stage_that_asks_the_teacher_is_left_out_of_the_calls_of_the_full_recipe(name: str) -> None:
    recipe = load_recipe(name)
    asking = {stage.name for stage in recipe.graph().values() if stage.asks_teacher}
    assert asking <= set(calls_by_numbers.calls_of(recipe))
