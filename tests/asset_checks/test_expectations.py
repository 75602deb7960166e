"""Expectations on rows: each passes on a good table, and fails on a planted fault with the faulty rows shown."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from checks.check import CELL, EXAMPLES
from checks.expectations import validate
from checks.registry import CHECKS, checks_of
from checks.suites import SUITES
from resources.store.artifacts import artifact_label
from speed_assets.domain.graph import ALL_STAGES
from tests.support.good_tables import good_table
from tests.support.shelf import (
    PARTITIONED,
    Shelf,
    partition_of,
)


def test_every_asset_is_checked_by_names_that_are_its_own() -> None:
    assert {check.asset for check in CHECKS} == {stage.name for stage in ALL_STAGES} - {"release"}
    assert len({(check.asset, check.name) for check in CHECKS}) == len(CHECKS)
    assert all(any(check.blocking for check in checks_of(check.asset)) for check in CHECKS)


@pytest.mark.parametrize("asset", sorted({check.asset for check in CHECKS}))
def test_good_artifacts_pass(shelf: Shelf, asset: str) -> None:
    for task_type in ("retrieval", "matching_short") if asset in PARTITIONED else (None,):
        artifact = shelf.good(asset, task_type)
        for check in checks_of(asset):
            outcome = shelf.ask(artifact, check.name)
            assert outcome.passed, f"{artifact_label(asset, task_type)} {check.name}: {outcome.reason}"


@pytest.mark.parametrize("counts", [{}, {"STSBenchmark": 3, "NFCorpus": 0}])
def test_an_evaluation_task_of_which_nothing_was_read_is_found(shelf: Shelf, counts: dict[str, int]) -> None:
    texts = shelf.table("evaluation_texts", pl.DataFrame({"task": ["a"], "text": ["b"]}), texts_of=counts)
    outcome = shelf.ask(texts, "every_task")
    assert not outcome.passed
    assert "evaluation.unsearched" in outcome.reason


@pytest.mark.parametrize("asset", sorted(SUITES))
def test_an_empty_table_is_no_crash(asset: str) -> None:
    outcome = validate(asset, good_table(asset, partition_of(asset)).clear(), partition_of(asset))
    assert outcome.passed == (asset not in ("topics", "topic_tree", "passages", "mteb_scores")), outcome.reason


PLANTED = [2, 5]


def put(column: str, value: Any) -> pl.Expr:
    """The planted rows get another value."""
    value = value if isinstance(value, pl.Expr) else pl.lit(value)
    return pl.when(pl.int_range(pl.len()).is_in(PLANTED)).then(value).otherwise(pl.col(column)).alias(column)


FAULTS = [
    ("topics", put("topic", " \n"), "column_values_to_match_regex(topic)"),
    ("topics", put("topic_id", "same"), "column_values_to_be_unique(topic_id)"),
    ("task_list", put("task_type", "sts"), "column_values_to_be_in_set(task_type)"),
    ("seed_data", put("row_id", "same"), "column_values_to_be_unique(row_id)"),
    ("seed_data", put("row_id", ""), "column_value_lengths_to_be_between(row_id)"),
    ("seed_data", put("query", None), "column_values_to_not_be_null(query)"),
    ("seed_data", put("positive", pl.col("query")), "column_values_to_be_null(query where query == positive)"),
    ("seed_data", put("negative", None), "column_values_to_not_be_null(negative"),
    ("junior_data", put("candidate", 0), "compound_columns_to_be_unique(row_id, candidate)"),
    ("junior_data", put("query", None), "column_values_to_not_be_null(query where valid == True)"),
    ("preference_pairs", put("rejected", pl.col("chosen")), "where chosen == rejected)"),
    ("preference_pairs", put("margin", 1.5), "column_values_to_be_between(margin)"),
    ("senior_data", put("row_id", "same"), "column_values_to_be_unique(row_id)"),
    ("senior_data", put("valid", False), "column_values_to_not_be_null(problem where valid == False)"),
    ("revision_data", put("output", " "), "column_values_to_match_regex(output)"),
    ("revised_data", put("before", None), "column_values_to_not_be_null(before)"),
    ("row_scores", put("least_likely", 0.5), "column_values_to_be_between(least_likely)"),
    ("row_scores", put("margin", -1.5), "column_values_to_be_between(margin)"),
    ("row_verdicts", put("weight", 0.5), "column_values_to_be_between(weight)"),
    ("row_verdicts", put("place", 1), "column_values_to_be_unique(place)"),
    ("row_verdicts", put("faulty", None), "column_values_to_not_be_null(faulty)"),
    ("final_triplets", put("task_type", "haiku"), "column_values_to_be_in_set(task_type)"),
    ("final_triplets", put("positive", pl.col("query")), "where query == positive)"),
    ("quarantine", put("reason", None), "column_values_to_not_be_null(reason)"),
    ("quarantine", put("task_type", "haiku"), "column_values_to_be_in_set(task_type)"),
    ("mteb_scores", put("score", 1.5), "column_values_to_be_between(score"),
    ("mteb_scores", put("score", float("nan")), "column_values_to_not_be_null(score)"),
]


@pytest.mark.parametrize(("asset", "fault", "named"), FAULTS, ids=[f"{a}-{n}" for a, _, n in FAULTS])
def test_a_planted_fault_is_named_with_its_rows(asset: str, fault: pl.Expr, named: str) -> None:
    partition = partition_of(asset)
    frame = good_table(asset, partition).with_columns(fault)
    outcome = validate(asset, frame, partition)
    assert not outcome.passed
    assert named in outcome.reason
    key = "row_id" if "row_id" in frame.columns else frame.columns[0]
    shown = {row[key] for row in outcome.metadata["failing_rows"]}
    assert shown & set(frame[[row for row in PLANTED if row < frame.height]][key])
    failed = [e for e in outcome.metadata["expectations"] if not e["success"]]
    assert failed[0]["unexpected_count"] >= 1
    json.dumps(outcome.metadata, allow_nan=False)


def test_a_matching_row_has_no_negative() -> None:
    frame = good_table("seed_data", "matching_long").with_columns(put("negative", "too much"))
    assert "column_values_to_be_null(negative" in validate("seed_data", frame, "matching_long").reason


def test_columns_in_another_order_or_missing_are_a_fault() -> None:
    frame = good_table("topics", None)
    turned = validate("topics", frame.select(reversed(frame.columns)), None)
    assert not turned.passed
    assert "table_columns_to_match_ordered_list" in turned.reason
    missing = validate("topics", frame.drop("path"), None)
    assert not missing.passed
    assert "path" in missing.reason


def test_examples_are_few_and_short() -> None:
    frame = good_table("seed_data", "sts").with_columns(row_id=pl.lit("same"), output=pl.lit("<b>" * 500))
    rows = validate("seed_data", frame, "sts").metadata["failing_rows"]
    assert len(rows) == EXAMPLES
    assert max(len(str(cell)) for row in rows for cell in row.values()) == CELL


def test_a_negative_that_is_its_query_only_warns(shelf: Shelf) -> None:
    frame = good_table("final_triplets", None).with_columns(
        negative=pl.when(pl.col("negative").is_not_null()).then("query")
    )
    artifact = shelf.table("final_triplets", frame)
    assert shelf.ask(artifact, "expectations").passed
    outcome = shelf.ask(artifact, "plausible")
    assert not outcome.passed
    assert outcome.metadata["failing_rows"][0]["negative"] == "query 0"
    assert [check.blocking for check in checks_of("final_triplets") if check.name == "plausible"] == [False]


def test_a_correlation_may_be_negative_and_no_other_score() -> None:
    frame = good_table("mteb_scores", None)
    below = pl.when(pl.col("type") == "STS").then(-0.01).otherwise("score").alias("score")
    assert validate("mteb_scores", frame.with_columns(below), None).passed
    assert not validate("mteb_scores", frame.with_columns(score=pl.lit(-0.01)), None).passed
