"""Tables of scores, for the checks that compare models.

Belongs here: which scores may be compared, and a verdict as a row of a table. Not here: any check.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.domain.statistics import (
    Verdict,
)

MODEL = "embedding_model"


SAME = ("dataset_revision", "mteb", "sentence_transformers", "transformers", "instruction")
"""What two scores must share to be compared."""


UNTRAINED = "untrained"


def same_identity(scores: pl.DataFrame, rival: str) -> None:
    """Raises ValueError where the scores of the model and of a rival were not taken in the same way."""
    ours, theirs = (scores.filter(pl.col("model") == model) for model in (MODEL, rival))
    both = ours.join(theirs, on="task", suffix="_rival")
    for column in SAME:
        other = both.filter(pl.col(column) != pl.col(f"{column}_rival"))
        if other.height:
            raise ValueError(
                f"{MODEL} and {rival} differ in {column} on {other['task'][0]}, so they cannot be compared"
            )


def differences_of_scoring(ours: pl.DataFrame, theirs: pl.DataFrame) -> list[str]:
    """How the scoring of two tables differs, one phrase each; empty if they may be compared."""
    ours, theirs = (_with_instruction(table.filter(pl.col("model") == MODEL)) for table in (ours, theirs))
    here, there = set(ours["task"]), set(theirs["task"])
    found = [f"{task} is missing" for task in sorted(there - here)]
    found += [f"{task} is new" for task in sorted(here - there)]
    both = ours.join(theirs, on="task", suffix="_last")
    for column in ("metric", *SAME):
        other = both.filter(pl.col(column) != pl.col(f"{column}_last"))
        for task, now, before in other.select("task", column, f"{column}_last").head(1).iter_rows():
            found.append(f"{column} is {now} and was {before} on {task} and {other.height - 1} other tasks")
    return found


def _with_instruction(scores: pl.DataFrame) -> pl.DataFrame:
    """Scores with their instruction; releases from before that column get `none`, like models without one."""
    return scores if "instruction" in scores.columns else scores.with_columns(instruction=pl.lit("none"))


def verdict_row(rival: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a row of the table that people see; numbers are rounded to five digits."""
    difference = verdict.difference
    numbers = {
        "score": difference.ours,
        "rival_score": difference.theirs,
        "difference": difference.value,
        "low": verdict.low,
        "high": verdict.high,
        "p": verdict.p,
        "p_adjusted": verdict.adjusted,
    }
    shown = {name: round(value, 5) for name, value in numbers.items()}
    return {"rival": rival, "task": difference.task, "samples": difference.samples, **shown, "verdict": verdict.word}
