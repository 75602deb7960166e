"""The funnel of final_triplets: every row is in the table or in the quarantine, with its text and one reason."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import polars as pl

from benchmarks.hostile import mutated, words
from speed_assets.assets.diversity import plot_diversity
from speed_assets.assets.triplets import contamination_report, filtered, plot_funnel
from speed_assets.domain.funnel import Funnel
from speed_assets.domain.rows import QUARANTINE_SCHEMA, parse_outputs
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import FinalTriplets, Rules, load_recipe

SECTION = FinalTriplets(
    rules=Rules(length_tolerance=None), **load_recipe("paper").final_triplets.model_dump(exclude={"rules"})
)
EVALUATION = {"set": ["what a keeper of bees does in the months in which no flower is open"], "other": ["a b c"]}


def accounted(rows: pl.DataFrame, funnel: Funnel) -> None:
    ids = [*funnel.rows["row_id"], *funnel.quarantine["row_id"]]
    assert sorted(ids) == sorted(rows["row_id"])
    assert funnel.steps[0].rows_in == rows.height
    for before, after in zip(funnel.steps, funnel.steps[1:], strict=False):
        assert before.rows_out == after.rows_in
    for step in funnel.steps:
        assert step.rows_in == step.rows_out + step.removed
    quarantine = funnel.quarantine
    assert dict(quarantine.schema) == QUARANTINE_SCHEMA
    assert quarantine["reason"].null_count() == 0
    assert quarantine["raw"].null_count() == 0


def outputs(*records: dict[str, str] | str, task_type: str = "retrieval") -> pl.DataFrame:
    raws = [record if isinstance(record, str) else json.dumps(record) for record in records]
    frame = pl.DataFrame({"row_id": [f"r{i}" for i in range(len(raws))], "output": raws})
    return parse_outputs(
        frame.with_columns(task_type=pl.lit(task_type), topic=pl.lit("t"), task=pl.lit("t")), task_type
    )


def right(seed: int, **changes: str) -> dict[str, str]:
    rng = random.Random(seed)
    record = {
        "user_query": words(rng, 6),
        "positive_document": words(rng, 60),
        "hard_negative_document": words(rng, 60),
    }
    return {key: f"{text} of the" for key, text in record.items()} | changes


def test_each_step_takes_out_its_rows(tmp_path: Path) -> None:
    edited = right(0)["positive_document"].replace(" ", " and ", 2) + " with one more clause at the end"
    rows = outputs(
        right(0),
        "no json at all",
        right(1, positive_document="I'm sorry, but I cannot help with that."),
        right(0, positive_document=edited),
        right(2, hard_negative_document=EVALUATION["set"][0].upper()),
        right(3),
    )
    funnel = filtered(rows, SECTION, EVALUATION, 1)
    accounted(rows, funnel)
    quarantine = {row["row_id"]: row for row in funnel.quarantine.iter_rows(named=True)}
    assert {row_id: (row["reason"], row["detail"]) for row_id, row in quarantine.items()} == {
        "r1": ("not_whole", "not_json"),
        "r2": ("refusal", "positive"),
        "r0": ("near_duplicate", "r3"),
        "r4": ("contamination_exact", "set"),
    }
    assert quarantine["r1"]["raw"] == "no json at all"
    assert "I cannot help" in quarantine["r2"]["raw"]
    assert contamination_report(funnel.quarantine, EVALUATION) == [
        {"task": "set", "texts": 1, "removed": 1, "exact": 1},
        {"task": "other", "texts": 1, "removed": 0},
    ]
    plot_funnel(funnel, tmp_path / "funnel.png")
    assert 1_000 < (tmp_path / "funnel.png").stat().st_size < 60_000, "larger plots are not shown"


def test_queries_and_positives_are_compared_by_themselves() -> None:
    texts = [words(random.Random(i), 60) + " of the" for i in range(4)]
    pairs = [(0, 1), (2, 1), (0, 3)]
    records = [{"input": texts[a], "positive_document": texts[b]} for a, b in pairs]
    funnel = filtered(outputs(*records, task_type="matching_long"), SECTION, EVALUATION, 1)
    assert sorted(funnel.quarantine["reason"]) in (
        ["near_duplicate_positive", "near_duplicate_query"],
        ["near_duplicate_query"],
    )
    near = SECTION.near_duplicates.model_copy(update={"query_jaccard": None})
    funnel = filtered(
        outputs(*records, task_type="matching_long"), SECTION.model_copy(update={"near_duplicates": near}), {}, 1
    )
    assert funnel.quarantine["reason"].to_list() == ["near_duplicate_positive"]


def test_the_quality_of_a_row_decides_who_stays() -> None:
    rows = outputs(right(0), right(0), right(0)).with_columns(quality=pl.Series([0.1, 0.9, 0.5]))
    assert filtered(rows, SECTION, {}, 1).rows["row_id"].to_list() == ["r1"]
    assert filtered(rows.reverse(), SECTION, {}, 1).rows["row_id"].to_list() == ["r1"]


def test_candidates_that_share_an_id_are_all_accounted_for() -> None:
    rows = outputs(right(0), right(0), right(1)).with_columns(row_id=pl.lit("same"))
    funnel = filtered(rows, SECTION, {}, 1)
    assert (funnel.rows.height, funnel.quarantine.height) == (2, 1)


def test_no_rows_at_all() -> None:
    funnel = filtered(outputs(right(0)).clear(), SECTION, EVALUATION, 1)
    assert funnel.rows.is_empty()
    assert funnel.quarantine.is_empty()


def test_hostile_outputs_are_all_accounted_for_in_bounded_time() -> None:
    rng = random.Random(11)
    frames = []
    for number, task_type in enumerate(sorted(TASK_TYPES) * 2):
        raws = [mutated(task_type, rng, longest=300_000).encode("utf-8", "replace").decode() for _ in range(500)]
        frame = pl.DataFrame({"row_id": [f"{number}-{i}" for i in range(500)], "output": raws})
        frame = frame.with_columns(task_type=pl.lit(task_type), topic=pl.lit("t"), task=pl.lit("t"))
        started = time.process_time()
        frames.append(parse_outputs(frame, task_type))
        assert time.process_time() - started < 15
    rows = pl.concat(frames)
    started = time.process_time()
    funnel = filtered(rows, SECTION, EVALUATION, 1)
    assert time.process_time() - started < 30
    accounted(rows, funnel)
    assert 0.1 < funnel.rows.height / rows.height < 0.9
    assert funnel.quarantine["raw"].str.len_chars().max() <= 20_000  # type: ignore[operator]


def test_the_plot_of_diversity_is_small_and_needs_no_attributes(tmp_path: Path) -> None:
    shares = dict.fromkeys(TASK_TYPES, 0.2)
    found = {
        "task_types": {"intended": shares, "kept": shares},
        "topics": {"by_task_type": shares},
        "attributes": [{"task_type": "sts", "attribute": "unit", "entropy": 0.3, "entropy_asked": 0.4}],
    }
    plot_diversity(found, tmp_path / "diversity.png")
    assert 1_000 < (tmp_path / "diversity.png").stat().st_size < 60_000, "larger plots are not shown"
    plot_diversity({**found, "attributes": [], "topics": {"by_task_type": {}}}, tmp_path / "diversity.png")
