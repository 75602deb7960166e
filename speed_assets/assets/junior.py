"""The junior generator: seed data from the teacher, a model tuned on it, and its candidates."""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.assets.stage import StageRun
from speed_assets.assets.training import train
from speed_assets.assets.writing import WRITTEN, asked_rows, problem_counts, read_as, truth, write_with
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.rows import parse_outputs, quarantined, refusal_or, unless_refused


def seed_data(run: StageRun) -> dict[str, Any]:
    """The teacher's examples; answers that are no whole record go to the quarantine."""
    section = run.recipe.seed_data
    asked = getattr(section.rows, run.task_type)
    rows = asked_rows(run, section.rows)
    answers, use = run.ask(rows["prompt"], section.sampling, schema_for("synthesis", run.task_type))
    rows = rows.with_columns(
        pl.Series("output", [a.text for a in answers], dtype=pl.String),
        pl.Series("refused", [a.error for a in answers], dtype=pl.String),
    )
    rows = parse_outputs(rows, run.task_type).with_columns(problem=unless_refused(pl.col("problem")))
    good, bad = rows.filter("valid"), rows.filter(~pl.col("valid"))
    run.write(good.select(WRITTEN))
    run.write(
        quarantined(
            bad, run.stage.name, run.task_type, pl.col("problem"), refusal_or("no whole record"), pl.col("output")
        ),
        "quarantine",
    )
    return {
        "asked": asked,
        "problems": problem_counts(bad),
        "read_as": read_as(rows),
        **use.metadata(),
        **truth(run, good, asked),
    }


def junior_model(run: StageRun) -> dict[str, Any]:
    """Supervised fine-tuning of the base on the teacher's examples of all task types."""
    rows = run.input_rows("seed_data").select("prompt", pl.col("output").alias("completion"))
    return train(run, "sft", rows, run.recipe.junior_model)


def junior_data(run: StageRun) -> dict[str, Any]:
    """Several candidates for each prompt; flawed ones stay, they are what judge and revisor learn from."""
    section = run.recipe.junior_data
    return write_with(run, "junior_model", section.prompts, section.candidates, section.sampling)
