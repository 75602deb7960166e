"""`final_triplets.wanted`: blocks of rows until enough pass, or a ceiling is met."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.check import Subject
from checks.final_rows import wanted_rows
from resources.store.artifacts import Artifacts
from resources.store.current_block import asked_rows, at_ceiling, current_block
from resources.store.store import Artifact, Store
from speed_assets.domain.wanted_rows import rows_to_ask, share_is_kept
from speed_assets.orchestration import runs, study_arms
from speed_assets.orchestration.calls_by_numbers import calls_of, calls_of_further_blocks
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_estimates import attempts_of
from speed_assets.orchestration.plan_text import as_text
from speed_assets.orchestration.rehearse import rehearsal_of
from speed_assets.recipe import Recipe, RecipeError, load_recipe
from speed_assets.recipe.changed_fields import with_changes
from tests.support.small import small_data, write_recipe

COUNTS = st.integers(0, 10_000)
TYPES = ("classification", "retrieval", "sts", "matching_short", "matching_long")


def numbers(**given: int) -> dict[str, int]:
    return dict.fromkeys(TYPES, 0) | given


@given(asked=st.integers(1, 10_000), passed=COUNTS, wanted=COUNTS, most=COUNTS, margin=st.floats(1, 10))
def test_a_block_is_larger_only_where_rows_are_missing_below_the_ceiling(
    asked: int, passed: int, wanted: int, most: int, margin: float
) -> None:
    rows = rows_to_ask({"sts": asked}, {"sts": min(passed, asked)}, {"sts": wanted}, {"sts": most}, margin)["sts"]
    if min(passed, asked) >= wanted or asked >= most:
        assert rows == asked
    else:
        assert asked < rows <= most
        assert rows == most or rows - asked >= wanted - min(passed, asked)


def wanting(**fields: Any) -> Recipe:
    data = load_recipe("offline").model_dump(mode="json")
    data["final_triplets"]["wanted"] = {
        "rows": numbers(retrieval=100),
        "candidates_max": numbers(retrieval=10_000),
        **fields,
    }
    data["senior_data"]["rows"] = numbers(retrieval=100)
    return Recipe.model_validate(data)


def blocks(recipe: Recipe, share: float) -> list[int]:
    """Retrieval rows asked for in each block, where this share of rows passes."""
    seen: list[int] = []

    def passed(block: Recipe) -> dict[str, int]:
        seen.append(asked_rows(block)["retrieval"])
        return {"retrieval": int(seen[-1] * share)}

    last = current_block(recipe, passed)
    return list(dict.fromkeys([*seen, asked_rows(last)["retrieval"]]))


def test_blocks_end_when_enough_rows_pass() -> None:
    assert blocks(wanting(), 1.0) == [100]
    asked = blocks(wanting(), 0.5)
    assert asked[0] == 100
    assert int(asked[-1] * 0.5) >= 100
    assert len(asked) <= 3


def test_blocks_end_at_the_ceiling_and_at_their_number() -> None:
    assert blocks(wanting(candidates_max=numbers(retrieval=150)), 0.1)[-1] == 150
    assert len(blocks(wanting(blocks_max=3), 0.0)) == 3


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_recipe_of_a_block_is_its_own_current_block(share: float) -> None:
    def passed(block: Recipe) -> dict[str, int]:
        return {"retrieval": int(asked_rows(block)["retrieval"] * share)}

    last = current_block(wanting(blocks_max=4), passed)
    assert current_block(last, passed) == last


def test_wanted_rows_are_in_no_fingerprint() -> None:
    plain = wanting().model_copy(
        update={"final_triplets": wanting().final_triplets.model_copy(update={"wanted": None})}
    )
    for stage in plain.graph().values():
        for task_type in stage.task_types or (None,):
            assert plain.part(stage, task_type) == wanting().part(stage, task_type)
    assert "wanted" not in load_recipe("offline").model_dump()["final_triplets"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rows": numbers(sts=5), "candidates_max": numbers(sts=50)}, "no first block"),
        ({"rows": numbers(retrieval=5), "candidates_max": numbers(retrieval=50)}, "first block asks for"),
        ({"rows": numbers(retrieval=500), "candidates_max": numbers(retrieval=400)}, "are wanted"),
    ],
)
def test_a_ceiling_that_cannot_be_meant_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        wanting(**fields)


@pytest.mark.parametrize("given", ["embedding_model", "final_triplets"])
def test_where_no_rows_are_written_none_are_wanted(given: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": "a b", "positive": "c d", "negative": "e f"}\n')
    data = wanting().model_dump(mode="json")
    data["given"] = {given: {"file": str(rows)} if given == "final_triplets" else {"model": "org/name"}}
    with pytest.raises(ValueError, match=f"given.{given} leaves no rows to write"):
        Recipe.model_validate(data)


def test_a_study_compares_what_its_arms_ask_for() -> None:
    found = study_arms.arms(wanting(), 1)
    assert found
    assert not any(arm.final_triplets.wanted for arm in found.values())


@given(rows=COUNTS, rows_in=COUNTS, least=st.floats(0, 1))
def test_a_table_that_keeps_too_few_rows_gets_no_further_block(rows: int, rows_in: int, least: float) -> None:
    assert share_is_kept(rows, rows_in, least) == (rows > 0 and (rows / rows_in if rows_in else 1.0) >= least)


def test_grounded_rows_have_their_share_of_the_wanted_ones() -> None:
    data = load_recipe("own_corpus").model_dump(mode="json")
    data["final_triplets"]["wanted"] = {"rows": numbers(retrieval=10), "candidates_max": numbers(retrieval=1000)}
    for section, field in (("seed_data", "rows"), ("junior_data", "prompts"), ("senior_data", "rows")):
        data[section][field].pop("grounded", None)
        data[section][field]["retrieval"] = 100
    for section, field in (("preference_pairs", "prompts"), ("revision_data", "rows")):
        data[section][field].pop("grounded", None)
        data[section][field]["retrieval"] = 10
    wanted = Recipe.model_validate(data).final_triplets.wanted
    assert wanted is not None
    assert (wanted.rows.retrieval, wanted.rows.grounded, wanted.candidates_max.grounded) == (0, 10, 1000)


def test_a_rehearsal_wants_no_further_blocks() -> None:
    assert rehearsal_of(wanting()).final_triplets.wanted is None


def test_a_field_of_it_can_be_changed_for_one_run() -> None:
    changed = with_changes(wanting().model_dump(mode="json"), {"final_triplets.wanted.blocks_max": 3})
    assert changed["final_triplets"]["wanted"]["blocks_max"] == 3


def test_a_plan_says_how_many_candidates_and_calls_further_blocks_take(tmp_path: Path) -> None:
    recipe = wanting(blocks_max=4)
    planned = plan(recipe, tmp_path / "home")
    assert recipe.row_verdicts is not None
    blocks = planned.blocks
    assert blocks is not None
    assert (blocks.wanted, blocks.candidates, blocks.candidates_max) == (
        {"retrieval": 100}, {"retrieval": 100}, {"retrieval": 10_000},
    )  # fmt: skip
    verdicts = sum(getattr(recipe.row_verdicts.rows, name) for name in recipe.graph()["row_verdicts"].task_types)
    tasks = calls_of(at_ceiling(recipe))["task_list"] - calls_of(recipe)["task_list"]
    assert tasks > 0, "more rows are written about more topics"
    assert blocks.further_calls_most == 3 * calls_of(recipe)["row_verdicts"] + attempts_of(recipe, "task_list") * tasks
    assert calls_of(recipe)["row_verdicts"] >= verdicts
    lines = as_text(planned)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "100 rows are to pass (retrieval 100), of 100 candidates in this block" in text
    assert "3 further blocks may follow, up to 10,000 candidates in all (candidates_max)" in text
    assert f"and {blocks.further_calls_most:,} more teacher calls" in text
    assert planned.as_json()["blocks"]["further"] == 3


def test_a_plan_says_where_no_block_may_follow(tmp_path: Path) -> None:
    planned = plan(wanting(candidates_max=numbers(retrieval=100)), tmp_path / "home")
    assert planned.blocks is not None
    assert (planned.blocks.further, planned.blocks.further_calls_most) == (0, 0)
    assert "It is the last one" in " ".join(" ".join(as_text(planned)).split())
    assert plan(load_recipe("offline"), tmp_path / "home").blocks is None


def test_rows_of_a_teacher_alone_are_calls_up_to_the_ceiling() -> None:
    data = wanting(blocks_max=3).model_dump(mode="json")
    data["final_triplets"] |= {"source": "seed_data"}
    data["final_triplets"]["scores"]["calibration"] = None
    data |= {"row_verdicts": None, "mined_negatives": None}
    data["topics"]["alignment"] = None
    data["seed_data"]["rows"] = numbers(retrieval=100)
    data["mteb_scores"] |= {"baselines": []}
    data["checks"]["superior"]["over"] = []
    recipe = Recipe.model_validate(data)
    rows = calls_of(at_ceiling(recipe))["seed_data"] - calls_of(recipe)["seed_data"]
    assert rows == 9_900
    assert calls_of_further_blocks(recipe) >= attempts_of(recipe, "seed_data") * rows


@pytest.mark.faults
def test_further_blocks_are_written_until_enough_rows_pass(tmp_path: Path) -> None:
    """The rows of the first block stand in the last one unchanged, and only then a model is trained."""
    data = small_data()
    first = data["senior_data"]["rows"]["retrieval"]
    wanted = {"rows": numbers(retrieval=first + 4), "candidates_max": numbers(retrieval=300)}
    data["final_triplets"]["wanted"] = wanted
    data["senior_data"]["rows"] = numbers(retrieval=first)
    recipe = load_recipe(str(write_recipe(tmp_path, data)))
    home, said = tmp_path / "home", list[str]()
    report = runs.run(recipe, home, say=said.append, select="*final_triplets")
    assert report.errors == []
    assert [line for line in said if "a further block is written" in line]
    artifacts = Artifacts(recipe, Store(home))
    asked = asked_rows(artifacts.recipe)["retrieval"]
    assert asked > first
    assert artifacts.get("final_triplets").table().height >= first + 4
    before = Artifacts(recipe, Store(home), further_blocks=False).get("senior_data", "retrieval").table()
    last = artifacts.get("senior_data", "retrieval")
    assert last.table().filter(pl.col("row_id").is_in(before["row_id"].implode())).equals(before)
    assert first <= last.metadata["known_rows"] < asked, "how many blocks it takes depends on what a processor computes"
    steps = {step.name: step.action for step in plan(recipe, home).steps}
    assert {steps["senior_data/retrieval"], steps["final_triplets"]} == {"reuse"}
    assert runs.run(recipe, home, select="*final_triplets").made == {}


@pytest.mark.faults
def test_no_further_block_is_written_where_another_gate_fails(tmp_path: Path) -> None:
    data = small_data()
    wanted = {"rows": numbers(retrieval=1), "candidates_max": numbers(retrieval=1000)}
    data["final_triplets"] |= {"wanted": wanted, "scores": {"least_likely_min": -1e-9}}
    data["senior_data"]["rows"] = numbers(retrieval=8)
    said: list[str] = []
    report = runs.run(
        load_recipe(str(write_recipe(tmp_path, data))), tmp_path / "home", say=said.append, select="*embedding_model"
    )
    assert any("final_triplets is empty" in error for error in report.errors)
    assert not [line for line in said if "a further block is written" in line]
    assert "embedding_model" not in report.made
    again = runs.run(load_recipe(str(tmp_path / "tiny.yaml")), tmp_path / "home", select="*embedding_model")
    assert not any(name.startswith("senior_data") for name in again.made), "nor by the next command"


@pytest.mark.parametrize(
    ("accepted", "most", "passed", "says"),
    [
        (100, 400, True, "as many rows passed as are wanted: 100 of 100 retrieval"),
        (60, 400, False, "60 of 100 retrieval rows passed (final_triplets.wanted): run again"),
        (60, 100, True, "the ceiling is met (final_triplets.wanted.candidates_max): 60 of 100 retrieval"),
    ],
)
def test_the_gate_knows_wanted_rows_and_ceiling(accepted: int, most: int, passed: bool, says: str) -> None:
    recipe = wanting(candidates_max=numbers(retrieval=most))
    artifact = cast("Artifact", SimpleNamespace(metadata={"task_types": {"retrieval": accepted}}))
    outcome = wanted_rows(Subject(artifact, recipe, None, cast("Store", None)))
    assert outcome.passed == passed
    assert says in outcome.reason


def test_a_recipe_with_a_typo_in_it_is_refused(tmp_path: Path) -> None:
    data = small_data()
    data["final_triplets"]["wanted"] = {"row": numbers(retrieval=5)}
    with pytest.raises(RecipeError, match="wanted"):
        load_recipe(str(write_recipe(tmp_path, data)))
