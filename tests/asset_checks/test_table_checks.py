"""Shares, counts and contamination of tables: too little is refused with number and threshold."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest

from checks.registry import checks_of
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.recipe import Recipe
from tests.support.good_tables import ROWS, good_table, written
from tests.support.shelf import (
    DIVERSITY,
    EVALUATION,
    METADATA,
    RECIPE,
    Shelf,
    cut,
    good_with,
    recipe_with,
)

SHARES = [
    (cut("topics", 7, 3), "refused_share", r"3 of 10 topic lines \(30.0%\).*at most 20.0%.*topics_refused_max"),
    (cut("task_list", 8, 2), "missing_share", r"2 of 10 topics \(20.0%\).*at most 5.0%.*tasks_missing_max"),
    (cut("seed_data", 6, 4), "valid_share", r"6 of 10 .*\(60.0%\).*at least 70.0%.*seed_data_valid_min"),
    (cut("seed_data", 0), "valid_share", r"0 of 10"),
    (cut("junior_data", 4), "valid_share", r"4 of 10 .*at least 50.0%.*junior_data_valid_min"),
    (cut("senior_data", 6), "valid_share", r"6 of 10 .*senior_data_valid_min"),
    (cut("revision_data", 3, 2), "valid_share", r"3 of 5 .*revision_data_valid_min"),
    (cut("revised_data", 7, 3), "valid_share", r"7 of 10 .*at least 80.0%.*revised_data_valid_min"),
    (cut("preference_pairs", 0, 4), "pairs", r"0 preference pairs from 5 prompts, at least 1"),
    (
        lambda shelf: shelf.model("senior_model", metadata={"pairs": 2}),
        "pairs",
        r"2 preference pairs of all task types, at least 3.*pairs_min",
    ),
    (
        good_with(
            "preference_pairs",
            contradictions={"good": {"prompts": 9, "contradicted": 0}, "bad": {"prompts": 80, "contradicted": 34}},
        ),
        "judge_contradictions",
        r"bad called .* worst in another on 34 of 80 prompts .*42.5%.*at most 30.0%.*judge_contradictions_max",
    ),
    (
        good_with("preference_pairs", unreadable={"judge": {"verdicts": 8, "unreadable": 8}}),
        "judge_unreadable",
        r"8 of 8 verdicts of judge \(100.0%\).*at most 20.0%.*judge_unreadable_max",
    ),
    (
        good_with("revised_data", revisions_unreadable=11),
        "revisions_readable",
        r"9 of 20 revisions \(45.0%\).*at least 50.0%.*revisions_readable_min",
    ),
    (
        cut("final_triplets", 0, 10, removed={"too_short": 10}),
        "kept_share",
        r"is empty.*all 10 .*too_short 10.*quarantine",
    ),
    (cut("final_triplets", 4, 6), "kept_share", r"4 of 10 rows \(40.0%\).*at least 50.0%.*kept_min"),
    (cut("final_triplets", 9), "accounted", r"of 10 rows .* 9 are in the table and 0 in the quarantine.*leaves 1"),
    (cut("final_triplets", 10, 1), "accounted", r"leaves -1"),
    (cut("senior_data", 9), "accounted", r"of 10 rows .* 9 are in the table"),
    (cut("quarantine", 8), "accounted", r"of 10 rows .* 8 are in the table"),
    (cut("preference_pairs", 3), "accounted", r"of 4 rows .* 3 are in the table"),
]


@pytest.mark.parametrize(("plant", "check", "reason"), SHARES, ids=[f"{r}-{c}" for _, c, r in SHARES])
def test_too_little_is_refused_with_number_and_threshold(shelf: Shelf, plant: Any, check: str, reason: str) -> None:
    artifact = plant(shelf)
    outcome = shelf.ask(artifact, check)
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason
    if not (artifact.path / "quarantine.parquet").exists():
        return
    quarantine = artifact.table("quarantine")
    if quarantine.height and check != "accounted":
        assert outcome.metadata["quarantined_by_reason"] == [{"reason": "not_json", "rows": quarantine.height}]
        assert outcome.metadata["quarantined_rows"][0]["row_id"] == "q0"


@pytest.mark.parametrize(
    ("part", "found", "check", "reason"),
    [
        (
            "topics",
            {"covered": 30, "share": 0.75},
            "topic_coverage",
            r"30 of 40 topics .*\(75.0%\).*at least 90.0%.*topic_coverage_min",
        ),
        ("task_types", {"distance": 0.3}, "task_type_shares", r"30.0% of the rows .*10.0%.*task_type_distance_max"),
        (
            "vendi",
            {"score": 1.0, "per_row": 0.01},
            "vendi",
            r"100 sampled rows .* 0.0100 each.*0.0200.*vendi_per_row_min",
        ),
    ],
)
def test_little_diversity_warns_with_number_and_threshold(
    shelf: Shelf, part: str, found: dict[str, Any], check: str, reason: str
) -> None:
    poor = {**DIVERSITY, part: {**DIVERSITY[part], **found}}
    artifact = shelf.table("final_triplets", good_table("final_triplets", None), diversity=poor)
    outcome = shelf.ask(artifact, check)
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason
    assert outcome.metadata == poor[part]
    assert [c.blocking for c in checks_of("final_triplets") if c.name == check] == [False]


def test_thresholds_are_the_recipes_own(shelf: Shelf) -> None:
    artifact = cut("seed_data", 6, 4)(shelf)
    assert shelf.ask(artifact, "valid_share", recipe_with(seed_data_valid_min=0.6)).passed


def test_rows_that_are_not_whole_are_shown(shelf: Shelf) -> None:
    shown = shelf.ask(shelf.good("senior_data", "sts"), "valid_share").metadata["invalid_rows"]
    assert [row["row_id"] for row in shown] == [f"sts-row{ROWS - 1}"]


def test_nothing_asked_is_nothing_missing(shelf: Shelf) -> None:
    none = {**dict.fromkeys(TOPIC_TYPES, ROWS), "sts": 0}
    data = RECIPE.model_dump()
    for section, field in (("seed_data", "rows"), ("preference_pairs", "prompts")):
        data[section][field] = none
    recipe = Recipe.model_validate(
        {**data, "junior_data": {**data["junior_data"], "prompts": dict.fromkeys(none, ROWS)}}
    )
    seed = shelf.table("seed_data", written("sts").clear(), 0, "sts")
    pairs = shelf.table("preference_pairs", good_table("preference_pairs", "sts").clear(), 0, "sts", asked=0)
    for artifact in (seed, pairs):
        for check in checks_of(artifact.asset):
            assert shelf.ask(artifact, check.name, recipe).passed


@pytest.mark.parametrize("field", ["query", "negative"])
def test_a_row_that_repeats_an_evaluation_text_is_refused(shelf: Shelf, field: str) -> None:
    texts = EVALUATION["microworld retrieval"]
    held = next(text for text in texts if len(text.split()) > 10)
    frame = good_table("final_triplets", None)
    planted = pl.when(pl.int_range(pl.len()) == 2).then(pl.lit(held.upper() + "!")).otherwise(field).alias(field)
    outcome = shelf.ask(shelf.table("final_triplets", frame.with_columns(planted)), "contamination")
    assert not outcome.passed
    assert f"1 of {frame.height} rows repeat evaluation text (microworld retrieval 1)" in outcome.reason
    (shown,) = outcome.metadata["failing_rows"]
    assert (shown["row_id"], shown["how"]) == (frame["row_id"][2], "exact")


def test_every_evaluation_task_must_have_been_looked_for(shelf: Shelf) -> None:
    report = METADATA["final_triplets"]["contamination"]
    frame = good_table("final_triplets", None)
    one_less = shelf.ask(shelf.table("final_triplets", frame, contamination=report[1:]), "contamination")
    assert not one_less.passed
    assert f"{report[0]['task']} was not looked for by the stage" in one_less.reason
    fewer = [{**report[0], "texts": 3}, *report[1:]]
    assert not shelf.ask(shelf.table("final_triplets", frame, contamination=fewer), "contamination").passed
    data = RECIPE.model_dump()
    data["evaluation"]["tasks"] = ["STSBenchmark"]
    artifact = shelf.good("final_triplets")
    refused = shelf.ask(artifact, "contamination", Recipe.model_validate(data))
    assert "the texts of STSBenchmark were not read" in refused.reason
    data["evaluation"]["unsearched"] = ["STSBenchmark"]
    knowingly = shelf.ask(artifact, "contamination", Recipe.model_validate(data))
    assert knowingly.passed
    assert knowingly.metadata["unsearched"] == ["STSBenchmark"]


@pytest.mark.parametrize(
    ("prompts", "contradicted", "passed"), [(1, 1, True), (5, 3, True), (5, 5, False), (80, 34, False)]
)
def test_a_handful_of_prompts_refuses_no_judge_by_chance(
    shelf: Shelf, prompts: int, contradicted: int, passed: bool
) -> None:
    """At most 30 % may be so: five of five come about with a probability of .002, three of five with .16."""
    judged = good_with("preference_pairs", contradictions={"j": {"prompts": prompts, "contradicted": contradicted}})
    assert shelf.ask(judged(shelf), "judge_contradictions").passed is passed
