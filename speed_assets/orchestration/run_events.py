"""What the events of a Dagster run mean for its report: what was made, which checks failed, and why a step failed.

Belongs here: reading Dagster's events. Not here: launching (`runs.py`), the report itself (`run_report.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg

from resources.dagster_internals import DagsterExecutionInterruptedError, SerializableErrorInfo
from speed_assets.assets.stage import REFUSED, Interrupted
from speed_assets.orchestration.run_report import RunReport

Say = Callable[[str], None]
_ERRORS_OF_TEACHER = ("CapReached", "TeacherUnavailable", "LedgerError")


def collect(event: dg.DagsterEvent, report: RunReport, say: Say) -> None:
    """Add a materialization or a check outcome to the report, and print it."""
    if event.is_step_materialization:
        materialization = event.step_materialization_data.materialization
        name = materialization.asset_key.to_user_string()
        metadata: dict[str, Any] = {key: value.value for key, value in materialization.metadata.items()}
        seconds = float(metadata["step_seconds"])
        reused = bool(metadata["reused"])
        (report.reused if reused else report.made)[name] = seconds
        report.metadata[name] = metadata
        rows = f", {metadata['rows']:,} rows" if metadata.get("rows") is not None else ""
        say(f"{'reused' if reused else 'made  '} {name:<34}{seconds:7.1f} s{rows}")
    elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        evaluation = event.asset_check_evaluation_data
        name = evaluation.asset_key.to_user_string()
        if evaluation.passed or name == "release":  # the refusal lists them
            return
        gate = evaluation.severity is dg.AssetCheckSeverity.ERROR
        say(f"{'FAILED' if gate else 'warning'}: check {evaluation.check_name} of {name}: {evaluation.description}")
        if evaluation.blocking:
            report.errors.append(f"check {evaluation.check_name} of {name} failed: {evaluation.description}")


def error_of(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    """Why a step failed, or why the run failed before any step: its resources could not be opened."""
    return event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error


def is_interrupt(error: SerializableErrorInfo | None) -> bool:
    """Whether Ctrl-C or SIGTERM is among the causes of an error."""
    while error is not None:
        if error.cls_name in (DagsterExecutionInterruptedError.__name__, Interrupted.__name__):
            return True
        error = error.cause
    return False


def explain_failure(event: dg.DagsterEvent, report: RunReport, failures: list[SerializableErrorInfo]) -> None:
    """Add a failure to the report, in words that name what failed; a refused release lists its reasons."""
    error = error_of(event)
    if error is not None:
        failures.append(error)
    if not event.is_step_failure:
        return
    data = event.step_failure_data
    if data.user_failure_data is not None:
        refused = data.user_failure_data.metadata.get(REFUSED)
        if refused is not None and isinstance(refused.value, list):
            report.refused += [refusal["sentence"] for refusal in refused.value]
        report.errors.append(data.user_failure_data.description or "failed")
    elif data.error is not None:
        first = root_cause(data.error)
        if "AssetCheckFailed" not in (first.cls_name or ""):
            name, message = str(event.step_key).replace("__", "/"), without_class_name(first.message)
            # What keeps one stage from the teacher keeps all of them: it is reported once.
            head = message.split(": ")[0] if first.cls_name in _ERRORS_OF_TEACHER else message
            if not any(head in error for error in report.errors):
                report.errors.append(f"{name}: {message}")


def root_cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The error at the beginning of a chain of causes."""
    while error.cause is not None:
        error = error.cause
    return error


def without_class_name(message: str) -> str:
    """The message of an exception, without the name of its class."""
    head, _, rest = message.strip().partition(": ")
    return rest if rest and " " not in head else message.strip()
