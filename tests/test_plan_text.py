"""A plan on a terminal: 80 columns, whole names, and what a run takes at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from speed_assets.orchestration.plan import Plan, Step, plan
from speed_assets.orchestration.plan_text import as_text
from speed_assets.recipe import load_recipe
from tests.support.scripted import full_recipe
from tests.support.tiny import tiny_recipe


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
    written = (tasks.output_tokens or 0) * (1 + growth + growth**2)
    read = 3 * (tasks.prompt_tokens or 0) + 2 * 100 * tasks.calls
    assert tasks.money_most == pytest.approx((read + 2 * written) / 10**6, rel=1e-6)
    text = " ".join(as_text(planned))
    assert f"{planned.as_json()['calls_most']:,} at most with every further attempt" in text
    assert "money at most" in text


def test_without_prices_money_is_unknown(tmp_path: Path) -> None:
    planned = plan(full_recipe(tmp_path), tmp_path / "home")
    assert planned.as_json()["money_most"] is None
    assert any("names no price" in line for line in as_text(planned))


def test_a_plan_of_the_microworld_costs_nothing(tmp_path: Path) -> None:
    assert max(map(len, as_text(plan(tiny_recipe(), tmp_path)))) <= 80
