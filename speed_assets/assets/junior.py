"""The junior generator: seed data from the teacher, a model tuned on it, and its candidates."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.examples import seed_rows, shown_to_teacher
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.train_stage import train
from speed_assets.assets.writing import (
    WRITTEN,
    asked_again,
    asked_rows,
    keeping_rules,
    plot_reading,
    problem_counts,
    read_as,
    truth,
    write_with,
)
from speed_assets.domain.graph import EXAMPLES
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.records import canonical_record
from speed_assets.domain.row_languages import language_columns
from speed_assets.domain.rows import (
    ask_until_valid,
    cut_off_attempts,
    parse_outputs,
    problem_or_refusal,
    refusal_or_detail,
)
from speed_assets.recipe import JuniorData, SeedData, Training


def seed_data(run: StageRun[SeedData]) -> dict[str, Any]:
    """The teacher's examples; invalid answers, and those that break a rule, go to the quarantine."""
    section = run.section
    asked = getattr(section.rows, run.task_type)
    own = seed_rows(run, asked) if EXAMPLES in run.inputs else None
    rows = asked_rows(run, section.rows)
    rows = rows if own is None else rows.head(asked - own.height)
    uses: list[TeacherUse] = []

    def ask(attempt: int, pending: pl.DataFrame) -> pl.DataFrame:
        texts = asked_again(run, pending, attempt)
        if own is not None:
            texts = shown_to_teacher(run, texts, pending["row_id"])
        limits = run.limits(section.sampling, pending["words"], cut_off_attempts(pending, attempt))
        schema = schema_for("synthesis", run.task_type)
        answers, use = run.ask(texts, section.sampling, schema, sample=attempt, limits=limits)
        uses.append(use)
        answered = pending.select(rows.columns).with_columns(
            pl.Series("output", [a.text for a in answers], dtype=pl.String),
            pl.Series("finished", [a.finished for a in answers], dtype=pl.Boolean),
            pl.Series("refused", [a.error for a in answers], dtype=pl.String),
        )
        parsed = parse_outputs(answered, run.task_type).with_columns(problem=problem_or_refusal(pl.col("problem")))
        return keeping_rules(parsed, section.rules, run.recipe.seed)

    rows, again = ask_until_valid(rows, section.attempts, ask)
    plot_reading(run, rows)
    good, bad = rows.filter("valid"), rows.filter(~pl.col("valid"))
    good = good.select(*WRITTEN, *language_columns(rows))
    good = good if own is None else pl.concat([own, good])
    run.write(good)
    run.quarantine(bad, pl.col("problem"), refusal_or_detail("no whole record"), pl.col("output"))
    return {
        "asked": asked,
        **({} if own is None else {"own_examples": own.height}),
        "problems": problem_counts(bad),
        "read_as": read_as(rows),
        "asked_again": again,
        **sum(uses[1:], start=uses[0]).metadata(),
        **truth(run, good, asked),
    }


def junior_model(run: StageRun[Training]) -> dict[str, Any]:
    """Supervised fine-tuning of the base on the teacher's examples of all task types, each written as one line of JSON."""
    seeds = run.input_rows("seed_data")
    records = [canonical_record(row["task_type"], row) for row in seeds.iter_rows(named=True)]
    rows = seeds.select("prompt", pl.Series("completion", records, dtype=pl.String))
    tokens = run.most_answer_tokens("synthesis")
    return train(run, "sft", rows, run.section, answer_tokens=tokens)


def junior_data(run: StageRun[JuniorData]) -> dict[str, Any]:
    """Several candidates for each prompt; flawed ones stay, they are what judge and revisor learn from."""
    section = run.section
    return write_with(run, "junior_model", section.prompts, section.candidates, section.sampling)
