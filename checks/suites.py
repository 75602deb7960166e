"""Expectations on rows and columns, as data, one suite for each table.

Belongs here: what holds of every row whatever the recipe: columns, ids, empty cells, ranges. Not here: shares and counts
with thresholds (`tables.py`), Great Expectations, which tests them (`expectations.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from speed_assets.domain.row_languages import LANGUAGE_COLUMNS
from speed_assets.domain.task_types import TASK_TYPES

Severity = Literal["critical", "warning"]


PARTITION = "{partition}"
"""Stands for the task type of the partition; where there is none, for all of them."""


@dataclass(frozen=True)
class Expect:
    """One expectation: its name in Great Expectations, its arguments, and the rows it is about.

    `where` is a pandas query; None is every row.
    """

    type: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    where: str | None = None
    severity: Severity = "critical"


def _columns(*names: str) -> tuple[Expect, ...]:
    return (Expect("expect_table_columns_to_match_ordered_list", {"column_list": list(names)}),)


def _filled(*names: str, where: str | None = None) -> tuple[Expect, ...]:
    return tuple(Expect("expect_column_values_to_not_be_null", {"column": name}, where) for name in names)


def _text(*names: str, where: str | None = None) -> tuple[Expect, ...]:
    """Neither null nor blank."""
    return _filled(*names, where=where) + tuple(
        Expect("expect_column_values_to_match_regex", {"column": name, "regex": r"\S"}, where) for name in names
    )


def _id(*names: str) -> tuple[Expect, ...]:
    """Filled, of an id's length, and unique together."""
    lengths = [
        Expect("expect_column_value_lengths_to_be_between", {"column": name, "min_value": 1, "max_value": 64})
        for name in names[:1]
    ]
    if len(names) == 1:
        unique = Expect("expect_column_values_to_be_unique", {"column": names[0]})
    else:
        unique = Expect("expect_compound_columns_to_be_unique", {"column_list": list(names)})
    return (*_filled(*names), *lengths, unique)


def _between(name: str, low: float | None, high: float | None = None, where: str | None = None) -> tuple[Expect, ...]:
    kwargs = {"column": name, "min_value": low, "max_value": high}
    return (Expect("expect_column_values_to_be_between", kwargs, where),)


def _differ(one: str, other: str, where: str = "", severity: Severity = "critical") -> tuple[Expect, ...]:
    """No row holds the same text in both columns. Said by way of nulls because the expectation made for it
    walks through the rows in Python, 70 s for a million."""
    rows = f"{one} == {other}" + (f" and {where}" if where else "")
    return (Expect("expect_column_values_to_be_null", {"column": one}, rows, severity),)


_TASK_TYPE = (
    *_filled("task_type"),
    Expect("expect_column_values_to_be_in_set", {"column": "task_type", "value_set": PARTITION}),
)


_MAY_LACK_NEGATIVE = [name for name, task_type in TASK_TYPES.items() if not task_type.has_negative]
_NO_NEGATIVE = [name for name, task_type in TASK_TYPES.items() if not task_type.takes_negative]


_SIGNED = ["STS", "Summarization", "InstructionReranking"]
"""mteb task types whose scores are correlations or changes, and may fall below 0."""


_IDENTITY = (
    "model_digest",
    "dataset_revision",
    "mteb",
    "sentence_transformers",
    "transformers",
    "dtype",
    "instruction",
)


_ROW = ("row_id", "task_id", "task_type", "topic", "task", "prompt", "output", "query", "positive", "negative")


_NEARNESS = ("positive_similarity", "negative_similarity", "evaluation_similarity", "evaluation")


_GENERATED = (*_ROW, "candidate", "prompt_tokens", "output_tokens", "valid", "problem")


def _triplets(valid: str = "") -> tuple[Expect, ...]:
    """Valid rows have every field of their task type, no other, and no two equal ones."""
    also = f" and {valid}" if valid else ""
    return (
        *_text("query", "positive", where=valid or None),
        *_text("negative", where=f"task_type not in {_MAY_LACK_NEGATIVE}{also}"),
        Expect("expect_column_values_to_be_null", {"column": "negative"}, f"task_type in {_NO_NEGATIVE}"),
        *_differ("query", "positive", valid),
        *_differ("positive", "negative", valid),
    )


def _generated(*key: str) -> tuple[Expect, ...]:
    return (
        *_columns(*_GENERATED),
        *_id(*key),
        *_TASK_TYPE,
        *_text("prompt"),
        *_filled("output", "valid"),
        *_triplets("valid == True"),
        *_filled("problem", where="valid == False"),
        *_between("candidate", 0),
        *_between("prompt_tokens", 1),
        *_between("output_tokens", 0),
    )


SUITES: dict[str, tuple[Expect, ...]] = {
    "topics": (
        *_columns("topic_id", "path", "topic", "line", "synthesis", "alignment"),
        *_filled("synthesis", "alignment"),
        *_id("topic_id"),
        *_text("path", "topic"),
        *_between("line", 1),
        Expect("expect_table_row_count_to_be_between", {"min_value": 1}),
    ),
    "passages": (
        *_columns(
            *("passage_id", "document_id", "file", "title", "date", "piece", "text", "tokens"),
            *("held_out", "synthesis", "alignment"),
        ),
        *_id("passage_id"),
        *_text("document_id", "file", "text"),
        *_filled("piece", "tokens", "held_out", "synthesis", "alignment"),
        *_between("piece", 0),
        *_between("tokens", 1),
        Expect("expect_table_row_count_to_be_between", {"min_value": 1}),
    ),
    "examples": (
        *_columns("row_id", "task_type", "query", "positive", "negative", "task", "complete"),
        *_id("row_id"),
        *_TASK_TYPE,
        *_filled("complete"),
    ),
    "topic_tree": (
        *_columns("topic_id", "path", "topic", "line", "synthesis", "alignment"),
        *_filled("synthesis", "alignment"),
        *_id("topic_id"),
        *_text("path", "topic"),
        Expect("expect_table_row_count_to_be_between", {"min_value": 1}),
    ),
    "task_list": (
        *_columns("task_id", "topic_id", "topic", "task_type", "task", "synthesis", "alignment"),
        *_id("task_id"),
        *_filled("topic_id"),
        *_TASK_TYPE,
        *_text("topic", "task"),
    ),
    "seed_data": (
        *_columns(*_ROW),
        *_id("row_id"),
        *_TASK_TYPE,
        *_text("task", "prompt", "output"),
        *_triplets(),
    ),
    "junior_data": _generated("row_id", "candidate"),
    "preference_pairs": (
        *_columns("row_id", "task_type", "prompt", "chosen", "rejected", "margin", "verdicts", "judge_model"),
        *_id("row_id"),
        *_TASK_TYPE,
        *_text("prompt", "chosen", "judge_model"),
        *_filled("rejected", "margin"),
        *_between("margin", 0, 1),
        *_between("verdicts", 2),
        *_differ("chosen", "rejected"),
    ),
    "senior_data": _generated("row_id"),
    "revision_data": (
        *_columns("row_id", "task_type", "prompt", "output", "mended"),
        *_id("row_id"),
        *_TASK_TYPE,
        *_text("prompt", "output"),
        *_filled("mended"),
    ),
    "revised_data": (
        *_columns(*_ROW, "valid", "changed", "before", "reason", "doubt"),
        *_id("row_id"),
        *_TASK_TYPE,
        *_text("prompt", "output"),
        *_filled("valid", "changed", "before"),
        *_triplets("valid == True"),
    ),
    "row_scores": (
        *_columns("row_id", "task_type", "least_likely", "swapped", "role", "margin", *_NEARNESS),
        *_filled("row_id"),
        *_TASK_TYPE,
        *_between("least_likely", None, 0),
        *_between("swapped", None, 0),
        *_between("role", 0, 1),
        *_between("margin", -1, 1),
        *(expect for name in _NEARNESS[:3] for expect in _between(name, -1.01, 1.01)),
    ),
    "row_verdicts": (
        *_columns("row_id", "task_type", "place", "weight", "faulty", "reason"),
        *_filled("row_id", "place", "weight", "faulty"),
        *_between("place", 0),
        Expect("expect_column_values_to_be_unique", {"column": "place"}),
        *_TASK_TYPE,
        *_between("weight", 1),
    ),
    "mined_negatives": (
        *_columns("row_id", "task_type", "negative", "positive_similarity", "negative_similarity", "verdict"),
        *_id("row_id"),
        *_TASK_TYPE,
        *_text("negative"),
        *_filled("positive_similarity", "negative_similarity"),
        Expect("expect_column_values_to_be_in_set", {"column": "verdict", "value_set": ["margin", "teacher"]}),
    ),
    "reranker_scores": (
        *_columns("row_id", "task_type", "number", "positive_score", "negative_score"),
        *_id("row_id", "number"),
        *_TASK_TYPE,
        *_filled("positive_score", "negative_score"),
        *_between("number", 1),
    ),
    "final_triplets": (
        *_columns("row_id", "task_type", "topic", "task", "query", "positive", "negative"),
        *_id("row_id"),
        *_TASK_TYPE,
        *_text("topic", "task"),
        *_triplets(),
        *_differ("query", "negative", severity="warning"),
    ),
    "quarantine": (
        *_columns("row_id", "stage", "task_type", "reason", "detail", "raw"),
        *_text("row_id", "reason"),
        *_filled("stage"),
        Expect("expect_column_values_to_be_in_set", {"column": "task_type", "value_set": PARTITION}),
    ),
    "own_evaluation": (
        *_columns("row_id", "passage_id", "task", "query", "positive"),
        *_id("row_id"),
        *_text("passage_id", "task", "query", "positive"),
        *_differ("query", "positive"),
    ),
    "mteb_scores": (
        *_columns("model", "task", "type", "metric", "score", "samples", *_IDENTITY),
        *_id("model", "task"),
        *_text("type", "metric", *_IDENTITY),
        *_filled("score"),
        *_between("score", 0, 1, where=f"type not in {_SIGNED}"),
        *_between("score", -1, 1, where=f"type in {_SIGNED}"),
        Expect("expect_table_row_count_to_be_between", {"min_value": 1}),
    ),
}


_WITH_LANGUAGES = ("seed_data", "junior_data", "senior_data", "revised_data", "final_triplets", "own_evaluation")
"""Tables that carry the languages drawn for their rows, in recipes that draw some."""


def suite_for(asset: str, languages: Collection[str] = ()) -> tuple[Expect, ...]:
    """The expectations of a table.

    Args:
        asset: its asset.
        languages: ISO 639-1 codes that the recipe draws, which the table's last columns then carry; none elsewhere.
    """
    suite = SUITES[asset]
    if not languages or asset not in _WITH_LANGUAGES:
        return suite
    columns, *rest = suite
    named = (*columns.kwargs["column_list"], *LANGUAGE_COLUMNS)
    drawn = (
        Expect("expect_column_values_to_be_in_set", {"column": name, "value_set": sorted(languages)})
        for name in LANGUAGE_COLUMNS
    )
    return (*_columns(*named), *rest, *drawn)
