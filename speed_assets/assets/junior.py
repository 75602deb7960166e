"""The junior generator: seed data from the teacher, a model tuned on it, and its candidates."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.externals import prompt_set
from resources.teacher import TeacherUse
from speed_assets.assets.stage import StageRun
from speed_assets.assets.training import train
from speed_assets.assets.writing import WRITTEN, asked_rows, plot_reading, problem_counts, read_as, truth, write_with
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.rows import parse_outputs, quarantined, refusal_or, unless_refused, until_whole


def seed_data(run: StageRun) -> dict[str, Any]:
    """The teacher's examples; answers that are no whole record go to the quarantine."""
    section, prompts = run.recipe.seed_data, prompt_set(run.recipe.prompts)
    asked = getattr(section.rows, run.task_type)
    rows = asked_rows(run, section.rows)
    told: list[TeacherUse] = []

    def ask(attempt: int, pending: pl.DataFrame) -> pl.DataFrame:
        texts = pending["prompt"].to_list()
        if attempt:
            texts = [prompts.ask_again(*why) for why in zip(texts, pending["problem"], strict=True)]
        answers, use = run.ask(texts, section.sampling, schema_for("synthesis", run.task_type), sample=attempt)
        told.append(use)
        answered = pending.select(rows.columns).with_columns(
            pl.Series("output", [a.text for a in answers], dtype=pl.String),
            pl.Series("refused", [a.error for a in answers], dtype=pl.String),
        )
        return parse_outputs(answered, run.task_type).with_columns(problem=unless_refused(pl.col("problem")))

    rows, again = until_whole(rows, section.attempts, ask)
    plot_reading(run, rows)
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
        "asked_again": again,
        **sum(told[1:], start=told[0]).metadata(),
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
