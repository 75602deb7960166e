"""Training rows made from the junior's candidates: each has an id of its own, and what its prompt asked for is found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from checks.expectations import validate
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets.triplets import filtered
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.candidates import prompt_row_id, with_candidate_ids
from speed_assets.domain.diversity_measures import attribute_use
from speed_assets.domain.fingerprints import seed_for, short_id
from speed_assets.domain.rows import parse_outputs
from speed_assets.domain.rules import first_broken_rules
from speed_assets.orchestration import runs
from speed_assets.recipe import RECIPES, parse_recipe
from tests.support.tiny import tiny_data, tiny_recipe
from tests.test_triplets import EVALUATION, SECTION, right


def candidates(prompts: int, each: int) -> pl.DataFrame:
    """Valid candidates, of which no two say the same."""
    numbers = [(prompt, number) for prompt in range(prompts) for number in range(each)]
    frame = pl.DataFrame(
        {
            "row_id": [short_id("junior_data", "task", prompt) for prompt, _ in numbers],
            "candidate": [number for _, number in numbers],
            "output": [json.dumps(right(100 * prompt + number)) for prompt, number in numbers],
        }
    ).with_columns(task_type=pl.lit("retrieval"), topic=pl.lit("t"), task=pl.lit("t"))
    return parse_outputs(frame, "retrieval")


def test_every_candidate_is_a_row_with_an_id_of_its_own() -> None:
    rows = with_candidate_ids(candidates(4, 3))
    assert rows["row_id"].is_unique().all()
    assert {prompt_row_id(one) for one in rows["row_id"]} == set(candidates(4, 1)["row_id"])
    first = rows.filter(candidate=0)["row_id"]
    assert first.to_list() == candidates(4, 1)["row_id"].to_list(), "the first keeps the id of the prompt"
    shuffled = with_candidate_ids(candidates(4, 3).sample(fraction=1.0, shuffle=True, seed=3))
    key = ["row_id", "query"]
    assert shuffled.sort(key).select(key).equals(rows.sort(key).select(key)), "ids do not depend on the order"


def test_the_triplets_of_candidates_meet_their_expectations() -> None:
    funnel = filtered(with_candidate_ids(candidates(4, 3)), SECTION, EVALUATION, 1)
    assert funnel.rows.height == 12
    assert validate("final_triplets", funnel.rows.select("row_id", "task_type", "topic", "task", "query", "positive", "negative"), None).passed  # fmt: skip
    shared = filtered(candidates(4, 3), SECTION, EVALUATION, 1).rows
    assert not shared["row_id"].is_unique().all(), "without ids of their own they would fail"


def test_what_a_prompt_asked_for_is_drawn_by_the_id_of_the_prompt() -> None:
    seed, prompt = 1, short_id("junior_data", "task", 0)
    drawn = draw_attributes("retrieval", seed_for(seed, "attributes", prompt))
    for row_id in (prompt, f"{prompt}.2"):
        use = attribute_use(pl.DataFrame({"row_id": [row_id], "task_type": ["retrieval"]}), seed)
        lacking = {one["attribute"]: set(one["never"]) for one in use}
        assert all(drawn[name] not in never for name, never in lacking.items() if name in drawn)
    rows = with_candidate_ids(candidates(6, 2))
    broken = first_broken_rules(rows, other_script_max=1.0, length_tolerance=0.9, seed=seed)["reason"]
    as_first = rows.with_columns(pl.Series("row_id", [prompt_row_id(one) for one in rows["row_id"]]))
    assert broken.equals(
        first_broken_rules(as_first, other_script_max=1.0, length_tolerance=0.9, seed=seed)["reason"], null_equal=True
    )


def test_only_tables_of_candidates_are_made_again() -> None:
    def version(source: str) -> int:
        changes: dict[str, Any] = {"final_triplets__source": source, "mteb_scores__baselines": []}
        return tiny_recipe(**changes).graph()["final_triplets"].version

    assert version("junior_data") == version("revised_data") + 1
    assert version("senior_data") == version("seed_data") == version("revised_data")


@pytest.mark.faults
def test_a_loop_that_ends_at_the_junior_passes_its_checks(tmp_path: Path) -> None:
    data = tiny_data()
    data["final_triplets"] = {"source": "junior_data", "rules": {"skip": ["noise", "unfinished"]}}
    data |= {"row_scores": None, "row_verdicts": None, "mined_negatives": None, "embedding_reruns": {"count": 0}}
    data["mteb_scores"] = {"baselines": []}
    recipe = parse_recipe(data, RECIPES / "junior_only.yaml")
    report = runs.run(recipe, tmp_path)
    assert not [error for error in report.errors if "expectations" in error], report.errors
    rows = Artifacts(recipe, Store(tmp_path)).get("final_triplets").table()
    assert validate("final_triplets", rows, None).passed
    assert rows["row_id"].str.contains(".", literal=True).any(), "further candidates of a prompt are there, too"
