"""Checks on the tables that models write: whether enough rows came out, and whether every row is accounted for.

Belongs here: shares and counts against the recipe's thresholds. Not here: the judge (`judgements.py`), training rows
(`final_rows.py`), rows and columns (`suites.py`).
"""

from __future__ import annotations

import polars as pl

from checks.check import Outcome, Subject, example_rows
from checks.table_counts import (
    count_in_metadata,
    outcome_with_advice,
    prompts_to_judge,
    quarantine_metadata,
    rows_asked_for,
)

LOOK_IN_QUARANTINE = "look at the quarantined rows for why, then fix the stage or the threshold"


_ADVICE = {
    "seed_data": "look at the quarantined rows for why; seed_data.attempts asks again for rows that are not valid",
    "junior_data": "invalid rows stay in this table (`speed show junior_data`) with their problem: more seed rows or epochs "
    "teach the junior the form (seed_data.rows, junior_model.epochs)",
    "senior_data": "invalid rows stay in this table (`speed show senior_data`) with their problem; senior_data.attempts asks "
    "again for rows that are not valid",
    "revision_data": "look at the quarantined rows for why: these answers of the teacher cannot be read as revisions",
    "revised_data": "look at the quarantined rows for why: they were not valid, and the revisor did not repair them",
}
"""What to do about too few valid rows, by table. junior_data and senior_data keep all rows and have no quarantine."""


def topics_refused(subject: Subject) -> Outcome:
    """Refused lines as a share of the topic lines read."""
    refused = subject.artifact.table("quarantine").height
    lines = count_in_metadata(subject, "asked")
    most = subject.recipe.checks.topics_refused_max
    share = refused / lines if lines else 1.0
    return outcome_with_advice(
        share <= most,
        f"{refused} of {lines} topic lines ({share:.1%}) were refused, "
        f"at most {most:.1%} may be (checks.topics_refused_max)",
        "mend the lines shown in the topic file",
        {"refused": refused, "lines": lines, "share": share, **quarantine_metadata(subject)},
    )


def tasks_missing(subject: Subject) -> Outcome:
    """Topics without a task as a share of the topics asked for one."""
    asked = count_in_metadata(subject, "asked")
    with_task = subject.artifact.table()["topic_id"].n_unique()
    most = subject.recipe.checks.tasks_missing_max
    share = 1 - with_task / asked if asked else 0.0
    return outcome_with_advice(
        share <= most,
        f"{asked - with_task} of {asked} topics ({share:.1%}) have no task, "
        f"at most {most:.1%} may (checks.tasks_missing_max)",
        "look at the quarantined rows for why; task_list.attempts asks again for a topic until its task passes the rules",
        {"missing": asked - with_task, "asked": asked, "share": share, **quarantine_metadata(subject)},
    )


def valid_share(subject: Subject) -> Outcome:
    """Valid rows as a share of the rows asked for. The threshold is `checks.<table>_valid_min`."""
    field = f"{subject.artifact.asset}_valid_min"
    least: float = getattr(subject.recipe.checks, field)
    asked = rows_asked_for(subject)
    table = subject.artifact.table()
    valid = int(table["valid"].sum()) if "valid" in table.columns else table.height
    share = valid / asked if asked else 1.0
    metadata = {"valid": valid, "asked": asked, "share": share, **quarantine_metadata(subject)}
    if "valid" in table.columns and valid < table.height:
        metadata["invalid_rows"] = example_rows(table.filter(~pl.col("valid")))
    return outcome_with_advice(
        share >= least,
        f"{valid} of {asked} rows asked for ({share:.1%}) are valid, at least {least:.1%} must be (checks.{field})",
        _ADVICE[subject.artifact.asset],
        metadata,
    )


def some_pairs(subject: Subject) -> Outcome:
    """A task type that asked for preference pairs has one."""
    rows, asked = subject.artifact.table().height, prompts_to_judge(subject)
    return outcome_with_advice(
        rows > 0 or not asked,
        f"{rows} preference pairs from {asked} prompts, at least 1 should come out of a task type",
        "look at the quarantined rows for why: DPO cannot align a task type without pairs",
        {"pairs": rows, "asked": asked, **quarantine_metadata(subject)},
    )


def enough_pairs(subject: Subject) -> Outcome:
    """The preference pairs that the senior was trained on, of all task types together."""
    if "given" in subject.artifact.metadata:
        return Outcome(True, "the model was given: no pair was needed")
    pairs, least = count_in_metadata(subject, "pairs"), subject.recipe.checks.pairs_min
    return outcome_with_advice(
        pairs >= least,
        f"{pairs} preference pairs of all task types, at least {least} must come out (checks.pairs_min)",
        "judge more prompts (preference_pairs.prompts), accept less agreement (preference_pairs.margin_min) or sample more "
        "varied candidates (junior_data.sampling)",
        {"pairs": pairs},
    )


def all_accounted(subject: Subject) -> Outcome:
    """Every input row is in the table or in the quarantine, and none is in both.

    The rows of task_list are its topics, of which each may have several tasks.
    """
    table, rows_in = subject.artifact.table(), rows_asked_for(subject)
    rows = table["topic_id"].n_unique() if subject.artifact.asset == "task_list" else table.height
    quarantined = subject.artifact.table("quarantine").height
    return outcome_with_advice(
        rows_in == rows + quarantined,
        f"of {rows_in} rows asked for or taken in, {rows} are in the table and {quarantined} in the quarantine, "
        f"which leaves {rows_in - rows - quarantined}, and 0 may be left",
        "find where the stage drops or doubles rows, or why it had nothing to write about",
        {"rows_in": rows_in, "rows": rows, "quarantined": quarantined},
    )
