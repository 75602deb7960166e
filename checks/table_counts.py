"""Counts that the checks on tables share, and their outcome in one sentence.

Belongs here: rows asked for, rows quarantined, a finding with its advice. Not here: any check.
"""

from __future__ import annotations

from typing import Any

from checks.check import Outcome, Subject, example_rows
from speed_assets.recipe import PerTaskType


def outcome_with_advice(passed: bool, finding: str, advice: str, metadata: dict[str, Any]) -> Outcome:
    """An outcome whose reason ends with the advice if it failed.

    Args:
        passed: Whether the check passed.
        finding: What was counted, with the threshold.
        advice: What to do about a failure.
        metadata: Plain JSON values.
    """
    return Outcome(passed, finding if passed else f"{finding}: {advice}", metadata)


def count_in_metadata(subject: Subject, name: str) -> int:
    """A count that the stage put into its metadata.

    Raises:
        KeyError: It is missing or no number; the message names the stage.
    """
    try:
        return int(subject.artifact.metadata[name])
    except (KeyError, TypeError):
        raise KeyError(f"{subject.artifact.asset} has no count `{name}` in its metadata") from None


def rows_asked_for(subject: Subject) -> int:
    """Rows that the table must account for: those that the recipe asks for, else the stage's input rows.

    The recipe comes first because a stage that lost its input would count no rows itself.
    """
    recipe, asset = subject.recipe, subject.artifact.asset
    if asset == "seed_data":
        return rows_of_type(recipe.seed_data.rows, subject)
    if asset == "junior_data" and recipe.junior_data:
        return rows_of_type(recipe.junior_data.prompts, subject) * recipe.junior_data.candidates
    if asset == "senior_data" and recipe.senior_data:
        return rows_of_type(recipe.senior_data.rows, subject)
    return count_in_metadata(subject, "rows_in" if asset == "final_triplets" else "asked")


def prompts_to_judge(subject: Subject) -> int:
    """Prompts that the recipe wanted judged in this partition."""
    section = subject.recipe.preference_pairs
    return rows_of_type(section.prompts, subject) if section else 0


def rows_of_type(rows: PerTaskType, subject: Subject) -> int:
    """The number for the task type of the subject's partition."""
    return int(getattr(rows, str(subject.partition)))


def quarantine_metadata(subject: Subject) -> dict[str, Any]:
    """Metadata of an outcome: how many rows were quarantined for which reason, and the first of them."""
    rows = subject.artifact.table("quarantine")
    if not rows.height:
        return {"quarantined": 0}
    counts = rows["reason"].value_counts(sort=True, name="rows")
    return {
        "quarantined": rows.height,
        "quarantined_by_reason": counts.to_dicts(),
        "quarantined_rows": example_rows(rows),
    }
