"""Expectations on rows and columns, as data, one suite for each table; Great Expectations carries them out.

Belongs here: what holds of every row whatever the recipe: columns, ids, empty cells, ranges. Not here: shares
and counts with thresholds (`tables.py`). `great_expectations` is imported by the first validation only: it
takes seconds, and listing the checks must not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from checks.check import EXAMPLES, Outcome, example_rows
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.datasource.fluent.interfaces import Batch

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
_MATCHING = [name for name, task_type in TASK_TYPES.items() if not task_type.has_negative]
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


def _triplets(whole: str = "") -> tuple[Expect, ...]:
    """Rows that are whole have every field that their task type has, and no other, each saying its own."""
    also = f" and {whole}" if whole else ""
    return (
        *_text("query", "positive", where=whole or None),
        *_text("negative", where=f"task_type not in {_MATCHING}{also}"),
        Expect("expect_column_values_to_be_null", {"column": "negative"}, f"task_type in {_MATCHING}"),
        *_differ("query", "positive", whole),
        *_differ("positive", "negative", whole),
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


def validate(suite: str, frame: pl.DataFrame, partition: str | None, severity: Severity = "critical") -> Outcome:
    """Ask the expectations of one severity of a table.

    `metadata` holds `expectations`, a list of {expectation, column, where, success, unexpected_count,
    unexpected_percent (0 to 100, of the rows asked)}, and `failing_rows`, the first rows of the first fault
    that is one of rows.
    """
    expectations = [expect for expect in SUITES[suite] if expect.severity == severity]
    results = _carry_out(expectations, frame, partition)
    failed = [result for result in results if not result["success"]]
    rows: list[int] = next((result["rows"] for result in failed if result["rows"]), [])
    metadata: dict[str, Any] = {
        "rows": frame.height,
        "expectations": [{key: value for key, value in result.items() if key != "rows"} for result in results],
    }
    if rows:
        metadata["failing_rows"] = example_rows(frame[rows])
    if not failed:
        return Outcome(True, f"{frame.height} rows meet all {len(results)} expectations", metadata)
    return Outcome(
        False,
        f"{len(failed)} of {len(results)} expectations on {frame.height} rows failed, 0 may: "
        + "; ".join(_say(result) for result in failed)
        + "; look at failing_rows, then mend the stage that writes this table",
        metadata,
    )


_TURN = threading.Lock()
"""Great Expectations keeps the batch in question in its context, so one table is asked about at a time."""


def _carry_out(expectations: list[Expect], frame: pl.DataFrame, partition: str | None) -> list[dict[str, Any]]:
    """One plain result for each expectation, in their order, with the positions of its first failing rows.

    Only what failed is asked again for its rows: that is most of what an expectation costs.
    """
    with _TURN:
        batch = _batch_definition().get_batch({"dataframe": frame.to_pandas()})
        numbered = dict(enumerate(expectations))
        found = _ask(batch, numbered, partition, "BOOLEAN_ONLY")
        failed = {number: expect for number, expect in numbered.items() if not found[number].success}
        if failed:
            found |= _ask(batch, failed, partition, "COMPLETE")
    return [_plain(expect, found[number]) for number, expect in numbered.items()]


def _ask(batch: Batch, expectations: Mapping[int, Expect], partition: str | None, detail: str) -> dict[int, Any]:
    """Great Expectations' result for each numbered expectation; it returns them in an order of its own."""
    suite = suite_of("suite", expectations, partition)
    results = batch.validate(suite, result_format={"result_format": detail}).results
    return {_number(item): item for item in results}


def suite_of(name: str, expectations: Mapping[int, Expect], partition: str | None) -> ExpectationSuite:
    """Numbered expectations as a suite of Great Expectations, for the table of a partition."""
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.row_conditions import PassThroughCondition

    task_types = [partition] if partition else list(TASK_TYPE_NAMES)
    suite = gx.ExpectationSuite(name=name)
    for number, expect in expectations.items():
        kwargs = {key: task_types if value == PARTITION else value for key, value in expect.kwargs.items()}
        if expect.where:
            kwargs["row_condition"] = PassThroughCondition(pass_through_filter=expect.where)
        configuration = ExpectationConfiguration(type=expect.type, kwargs=kwargs, meta={"number": number})
        suite.add_expectation_configuration(configuration)
    return suite


def _number(item: Any) -> int:
    return int(item.expectation_config.meta["number"])


def _plain(expect: Expect, item: Any) -> dict[str, Any]:
    columns = expect.kwargs.get("column") or ", ".join(expect.kwargs.get("column_list", ()))
    return {
        "expectation": expect.type.removeprefix("expect_"),
        "column": columns,
        "where": expect.where,
        "success": bool(item.success),
        "unexpected_count": 0 if item.success else item.result.get("unexpected_count"),
        "unexpected_percent": 0.0 if item.success else item.result.get("unexpected_percent"),
        "problem": _problem(item),
        "rows": [int(row) for row in (item.result.get("unexpected_index_list") or [])[:EXAMPLES]],
    }


def _problem(item: Any) -> str | None:
    """Why an expectation failed for another reason than rows: a missing column, a wrong number of rows."""
    if item.success or item.result.get("unexpected_count"):
        return None
    if "observed_value" in item.result:
        return f"found {item.result['observed_value']}"
    for info in item.exception_info.values():
        if isinstance(info, dict) and info.get("exception_message"):
            return str(info["exception_message"])
    return str(item.exception_info.get("exception_message"))


def _say(result: Mapping[str, Any]) -> str:
    words = f"{result['expectation']}({result['column']}" + (f" where {result['where']}" if result["where"] else "")
    return f"{words}): " + (result["problem"] or f"{result['unexpected_count']} rows")


@cache
def _batch_definition() -> BatchDefinition[Any]:
    """Great Expectations' entry for a table in memory; one for the process, silent, and it calls nobody."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("whole")
