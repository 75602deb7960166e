"""The funnel of final_triplets: every row is in the table or in the quarantine, with its text and one reason."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from speed_assets.assets.diversity import plot_diversity
from speed_assets.assets.triplets import contamination_report, filtered, plot_funnel
from speed_assets.domain.funnel import Funnel
from speed_assets.domain.rows import QUARANTINE_SCHEMA, parse_outputs
from speed_assets.domain.rules import RULE_CODES
from speed_assets.domain.scoring import SCORES
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.recipe import READMITTABLE, FinalTriplets, RecipeError, Rules, load_recipe
from tests.support.hostile import mutated
from tests.support.tiny import tiny_recipe

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


def sayable(rng: random.Random, count: int) -> str:
    """Words that no language has, yet a reader could say: no noise."""
    return " ".join(
        "".join(rng.choice("bdfglmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))) for _ in range(count)
    )


def right(seed: int, **changes: str) -> dict[str, str]:
    rng = random.Random(seed)
    record = {
        "user_query": sayable(rng, 6),
        "positive_document": sayable(rng, 60),
        "hard_negative_document": sayable(rng, 60),
    }
    return {key: f"{text} of the land." for key, text in record.items()} | changes


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
    texts = [sayable(random.Random(i), 60) + " of the land." for i in range(4)]
    pairs = [(0, 1), (2, 1), (0, 3)]
    rows = outputs(*({"input": texts[a], "positive_document": texts[b]} for a, b in pairs), task_type="matching_long")

    def reasons(**bounds: float | None) -> list[str]:
        near = SECTION.near_duplicates.model_copy(update=bounds)
        found = filtered(rows, SECTION.model_copy(update={"near_duplicates": near}), EVALUATION, 1)
        accounted(rows, found)
        return sorted(found.quarantine["reason"])

    # Of two rows with one query the longer stays, so which of the three is left depends on which field is asked first.
    both = reasons(query_jaccard=0.9, positive_jaccard=0.9)
    assert both in (["near_duplicate_positive", "near_duplicate_query"], ["near_duplicate_query"])
    assert reasons(query_jaccard=0.9, positive_jaccard=None) == ["near_duplicate_query"]
    assert reasons(query_jaccard=None, positive_jaccard=0.9) == ["near_duplicate_positive"]
    assert reasons(query_jaccard=None, positive_jaccard=None) == [], "other questions on one document are other rows"


def test_the_quality_of_a_row_decides_who_stays() -> None:
    rows = outputs(right(0), right(0), right(0)).with_columns(quality=pl.Series([0.1, 0.9, 0.5]))
    assert filtered(rows, SECTION, {}, 1).rows["row_id"].to_list() == ["r1"]
    assert filtered(rows.reverse(), SECTION, {}, 1).rows["row_id"].to_list() == ["r1"]


def test_candidates_that_share_an_id_are_all_accounted_for() -> None:
    rows = outputs(right(0), right(0), right(1)).with_columns(row_id=pl.lit("same"))
    funnel = filtered(rows, SECTION, {}, 1)
    assert (funnel.rows.height, funnel.quarantine.height) == (2, 1)


def readmitting(*rules: dict[str, Any], **changes: Any) -> FinalTriplets:
    return FinalTriplets.model_validate({**SECTION.model_dump(), "readmit": rules, **changes})


REFUSED = "I'm sorry, but I cannot help with that."


def test_a_rule_readmits_its_rows_and_no_other() -> None:
    records = [right(i, positive_document=REFUSED + f" {sayable(random.Random(i), 60)}.") for i in range(4)]
    rows = outputs(*records).with_columns(task_type=pl.Series(["retrieval", "retrieval", "sts", "sts"]))

    def kept(*rules: dict[str, Any]) -> list[str]:
        funnel = filtered(rows, readmitting(*rules), EVALUATION, 1)
        accounted(rows, funnel)
        assert sum(step.readmitted for step in funnel.steps) == funnel.rows.height
        return funnel.rows["row_id"].to_list()

    assert kept() == []
    assert kept({"reason": "refusal"}) == ["r0", "r1", "r2", "r3"]
    assert kept({"reason": "refusal", "task_type": "sts"}) == ["r2", "r3"]
    assert kept({"reason": "refusal", "row_ids": ["r1", "r2"]}) == ["r1", "r2"]
    assert kept({"reason": "refusal", "row_ids": ["r1", "r2"], "task_type": "sts"}) == ["r2"]
    assert kept({"reason": "refusal", "row_ids": ["r1"]}, {"reason": "refusal", "row_ids": ["r3"]}) == ["r1", "r3"]
    assert kept({"reason": "as_an_ai"}) == []


def test_passing_one_filter_is_not_passing_the_others() -> None:
    rows = outputs(
        right(0, positive_document=REFUSED, hard_negative_document=right(0)["user_query"] + " and more"),
        right(1, positive_document=REFUSED, hard_negative_document=EVALUATION["set"][0]),
        right(2, positive_document=REFUSED),
    )
    funnel = filtered(rows, readmitting({"reason": "refusal"}), EVALUATION, 1)
    accounted(rows, funnel)
    assert funnel.rows["row_id"].to_list() == ["r2"]
    reasons = dict(funnel.quarantine.select("row_id", "reason").iter_rows())
    assert reasons == {"r0": "query_in_negative", "r1": "contamination_exact"}
    steps = {step.step: step for step in funnel.steps}
    assert (steps["refusal"].readmitted, steps["refusal"].removed, steps["rules"].readmitted) == (2, 0, 0)


def test_a_readmitted_copy_stays_next_to_the_row_that_it_repeats() -> None:
    rows = outputs(right(0), right(0), right(1))
    removed = filtered(rows, SECTION, {}, 1).quarantine["row_id"].to_list()
    reasons = ("near_duplicate", "near_duplicate_query", "near_duplicate_positive")
    section = readmitting(*({"reason": reason, "row_ids": removed} for reason in reasons))
    assert filtered(rows, section, {}, 1).quarantine.is_empty()


def test_a_rule_that_is_not_applied_is_not_applied_by_readmitting_for_it() -> None:
    rows = outputs(right(0, positive_document=REFUSED))
    section = readmitting({"reason": "refusal", "row_ids": ["other"]}, rules={"skip": ["refusal"]})
    assert filtered(rows, section, {}, 1).quarantine.is_empty()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"reason": "not_whole"}, "reason=not_whole cannot be readmitted: such rows lack a text; remove this rule"),
        (
            {"reason": "contamination_exact"},
            "contamination_exact cannot be readmitted: such rows hold text that the model",
        ),
        ({"reason": "refusl"}, "reason=refusl is no reason of final_triplets; give one of refusal, as_an_ai"),
        ({"reason": "refusal", "row_ids": []}, "final_triplets.readmit.0.row_ids"),
        ({"reason": "refusal", "task_type": "haiku"}, "final_triplets.readmit.0.task_type"),
        ({}, "final_triplets.readmit.0.reason: missing"),
    ],
)
def test_a_rule_that_readmits_nothing_is_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as error:
        tiny_recipe(final_triplets__readmit=[rule])
    assert words in str(error.value)


def test_every_filter_can_be_readmitted_for_or_never() -> None:
    scores = dict.fromkeys(SCORES, 0.5)
    rows = outputs(right(0)).with_columns(
        doubt=pl.lit(None, pl.String), place=pl.lit(0), **{n: pl.lit(s) for n, s in scores.items()}
    )
    section = FinalTriplets.model_validate(
        {
            **SECTION.model_dump(),
            "scores": {"least_likely_min": -1.0, "swapped_max": -1.0, "role_min": 0.1, "margin_min": 0.0},
            "near_duplicates": {"query_jaccard": 0.9, "positive_jaccard": 0.9, "semantic": 0.9},
        }
    )
    twins = pl.DataFrame(schema={"a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64})
    steps = {step.step for step in filtered(rows, section, EVALUATION, 1, twins=twins).steps} - {
        "not_whole",
        "rules",
        "contamination",
    }
    assert {*READMITTABLE} == steps | {*RULE_CODES}


def test_no_rows_at_all() -> None:
    funnel = filtered(outputs(right(0)).clear(), SECTION, EVALUATION, 1)
    assert funnel.rows.is_empty()
    assert funnel.quarantine.is_empty()


def test_hostile_outputs_are_all_accounted_for_in_bounded_time() -> None:
    rng = random.Random(11)
    frames = []
    for number, task_type in enumerate(sorted(TOPIC_TYPES) * 2):
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
    shares = dict.fromkeys(TOPIC_TYPES, 0.2)
    found = {
        "task_types": {"intended": shares, "kept": shares},
        "topics": {"by_task_type": shares},
        "attributes": [{"task_type": "sts", "attribute": "unit", "entropy": 0.3, "entropy_asked": 0.4}],
    }
    plot_diversity(found, tmp_path / "diversity.png")
    assert 1_000 < (tmp_path / "diversity.png").stat().st_size < 60_000, "larger plots are not shown"
    plot_diversity({**found, "attributes": [], "topics": {"by_task_type": {}}}, tmp_path / "diversity.png")
