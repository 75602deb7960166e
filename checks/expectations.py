"""Great Expectations tests the expectations of a table.

`great_expectations` is imported by the first validation only: it takes seconds, and listing the checks must not.

Belongs here: running a suite, and its results as plain values. Not here: what is expected (`suites.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from checks.check import EXAMPLES, Outcome, example_rows
from speed_assets.domain.task_types import TASK_TYPE_NAMES

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.datasource.fluent.interfaces import Batch
from checks.suites import PARTITION, Expect, Severity, suite_for


def validate(
    suite: str,
    frame: pl.DataFrame,
    partition: str | None,
    severity: Severity = "critical",
    languages: Collection[str] = (),
) -> Outcome:
    """Test the expectations of one severity on a table.

    Args:
        suite: The name of the table's asset.
        frame: The table.
        partition: Its task type, or None.
        severity: Of the expectations.
        languages: That the recipe draws; none where it draws none.

    Returns:
        An outcome. `metadata` holds `expectations`, a list of {expectation, column, where, success, unexpected_count,
        unexpected_percent (0 to 100, of the rows tested)}, and `failing_rows`, the first rows of the first fault that is one
        of rows.
    """
    expectations = [expect for expect in suite_for(suite, languages) if expect.severity == severity]
    results = _results_of(expectations, frame, partition)
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
        + "; ".join(_failure_text(result) for result in failed)
        + "; look at failing_rows, then fix the stage that writes this table",
        metadata,
    )


_ONE_BATCH_AT_A_TIME = threading.Lock()
"""Great Expectations keeps the current batch in its context, so one table is tested at a time."""


def _results_of(expectations: list[Expect], frame: pl.DataFrame, partition: str | None) -> list[dict[str, Any]]:
    """One plain result for each expectation, in their order, with the positions of its first failing rows.

    Only expectations that failed are tested again for their rows, which is the most expensive part.
    """
    with _ONE_BATCH_AT_A_TIME:
        batch = _batch_definition().get_batch({"dataframe": frame.to_pandas()})
        numbered = dict(enumerate(expectations))
        found = _validated(batch, numbered, partition, "BOOLEAN_ONLY")
        failed = {number: expect for number, expect in numbered.items() if not found[number].success}
        if failed:
            found |= _validated(batch, failed, partition, "COMPLETE")
    return [_plain_result(expect, found[number]) for number, expect in numbered.items()]


def _validated(batch: Batch, expectations: Mapping[int, Expect], partition: str | None, detail: str) -> dict[int, Any]:
    """Great Expectations' result for each numbered expectation; it returns them in an order of its own."""
    suite = suite_of("suite", expectations, partition)
    results = batch.validate(suite, result_format={"result_format": detail}).results
    return {_number_of(item): item for item in results}


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


def _number_of(item: Any) -> int:
    return int(item.expectation_config.meta["number"])


def _plain_result(expect: Expect, item: Any) -> dict[str, Any]:
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


def _failure_text(result: Mapping[str, Any]) -> str:
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
