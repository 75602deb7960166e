"""A plan on a terminal: 80 columns, whole names, and what a run takes at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from speed_assets.domain.dialect_presets import PRESETS, preset_for
from speed_assets.orchestration.plan import Plan, Step, plan
from speed_assets.orchestration.plan_text import as_text
from speed_assets.recipe import RECIPES, Recipe, load_recipe
from tests.support.scripted import full_recipe
from tests.support.tiny import tiny_data, tiny_recipe


@pytest.mark.parametrize("name", ["offline", "laptop"])
def test_a_plan_fits_80_columns_with_whole_names(name: str, tmp_path: Path) -> None:
    planned = plan(load_recipe(name), tmp_path)
    lines = as_text(planned)
    assert max(map(len, lines)) <= 80
    assert {step.name for step in planned.steps} <= {line.split(" ")[0] for line in lines}


def test_thousands_are_parted_and_long_reasons_are_wrapped() -> None:
    why = "recipe.seed_data.rows.classification 1 -> 2; " * 4
    step = Step("preference_pairs", "classification", "make", why, 1_234_567, 0, 1, 1, 12.5, 1_000_000, 86_400.0)
    lines = as_text(
        Plan("r", [step], "USD", {}, {}, warnings=["a warning of more words than a line of eighty columns holds, " * 2])
    )
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("preference_pairs/classification  make  1,234,567")
    assert "1,000,000  86,400   1" in lines[1]
    assert any(line.startswith("why 1: recipe.seed_data") for line in lines)


def test_further_attempts_are_counted_in_the_bound(tmp_path: Path) -> None:
    price = {"input_per_million": 1.0, "output_per_million": 2.0}
    money = {"prices": {"version": "v", "models": {"m": price}}}
    recipe = full_recipe(tmp_path, task_list__attempts=3, seed_data__attempts=2, money=money)
    planned = plan(recipe, tmp_path / "home")
    steps = {step.name: step for step in planned.steps}
    tasks, seeds = steps["task_list/retrieval"], steps["seed_data/retrieval"]
    assert (tasks.calls_most, seeds.calls_most) == (3 * tasks.calls, 2 * seeds.calls)
    growth = recipe.answers.cut_growth
    limit = sum(recipe.task_list.sampling.max_new_tokens or 0 for _ in range(tasks.calls))
    assert tasks.output_tokens_most == pytest.approx(limit * (1 + growth + growth**2), abs=1)
    assert tasks.money_most == pytest.approx(
        (tasks.prompt_tokens_most + 2 * tasks.output_tokens_most) / 10**6, rel=1e-6
    )
    for step in planned.steps:
        if step.calls:
            assert None not in (step.money_least, step.money, step.money_most), step.name
            assert 0 < (step.money_least or 0) <= (step.money or 0) <= (step.money_most or 0), step.name
            assert step.prompt_tokens_least <= (step.prompt_tokens or 0) <= step.prompt_tokens_most
    text = " ".join(" ".join(as_text(planned)).split())
    assert f"{planned.as_json()['calls_most']:,} at most with every further attempt" in text
    assert "money at most" in text


def test_without_prices_money_is_unknown(tmp_path: Path) -> None:
    planned = plan(full_recipe(tmp_path), tmp_path / "home")
    assert planned.as_json()["money_most"] is None
    assert any("names no price" in line for line in as_text(planned))


def test_a_plan_of_the_microworld_costs_nothing(tmp_path: Path) -> None:
    assert max(map(len, as_text(plan(tiny_recipe(), tmp_path)))) <= 80


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_a_plan_says_what_batch_files_save(mode: str, tmp_path: Path) -> None:
    price = {"input_per_million": 1.0, "output_per_million": 2.0, "batch_factor": 0.5}
    money = {"prices": {"version": "v", "models": {"m": price}}}
    planned = plan(full_recipe(tmp_path, money=money, calls={"mode": mode}), tmp_path / "home")
    told = planned.as_json()
    online = told["money"] * (2 if mode == "batch" else 1)
    assert told["batch_saves"] == pytest.approx(online / 2, abs=1e-5)
    words = " ".join(" ".join(as_text(planned)).split())
    assert ("batch files save" if mode == "batch" else "calls.mode=batch would save") in words


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_shipped_recipes_ask_in_batches_where_their_teacher_has_them(name: str) -> None:
    recipe = load_recipe(name)
    preset = preset_for(recipe.teacher.endpoint, recipe.teacher.model)
    has = preset is not None and PRESETS[preset].batches
    assert recipe.calls.mode == ("batch" if has else "online")


def test_judges_of_a_panel_are_priced_each(tmp_path: Path) -> None:
    def priced(**models: float) -> Recipe:
        table = {name: {"input_per_million": price, "output_per_million": price} for name, price in models.items()}
        data = tiny_data()["preference_pairs"] | {"panel": ["other"]}
        return full_recipe(tmp_path, preference_pairs=data, money={"prices": {"version": "v", "models": table}})

    cheap, dear = (plan(priced(m=1.0, other=price), tmp_path / "home") for price in (1.0, 3.0))
    costs = [
        {step.name: step.money for step in planned.steps}["preference_pairs/sts"] or 0 for planned in (cheap, dear)
    ]
    assert costs[1] == pytest.approx(2 * costs[0], rel=0.01)
    unknown = {step.name: step.money for step in plan(priced(m=1.0), tmp_path / "home").steps}
    assert unknown["preference_pairs/sts"] is None
    assert unknown["seed_data/sts"] is not None
