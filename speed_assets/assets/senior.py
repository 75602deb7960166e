"""The senior generator: preferences of the teacher, a model aligned with them, and its output at scale."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.externals import prompt_set
from speed_assets.assets.stage import StageRun
from speed_assets.assets.training import train
from speed_assets.assets.writing import write_with
from speed_assets.domain.judging import agree, in_order, leanings, orders
from speed_assets.domain.parsing import parse_verdict
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.rows import quarantined, refusal_or, unless_refused


def preference_pairs(run: StageRun) -> dict[str, Any]:
    """Best and worst candidate of each prompt, asked in two orders; what disagrees is an abstention."""
    section = run.recipe.preference_pairs
    prompts = prompt_set(run.recipe.prompts)
    limit = getattr(section.prompts, run.task_type)
    groups = (
        run.input("junior_data")
        .table()
        .group_by("row_id", maintain_order=True)
        .agg(pl.first("task_type", "task", "prompt"), pl.col("output").alias("candidates"))
        .head(limit)
    )
    shown = [
        prompts.judge(run.task_type, row["task"], in_order(row["candidates"], order))
        for row in groups.iter_rows(named=True)
        for order in orders(len(row["candidates"]))
    ]
    answers, use = run.ask(shown, section.sampling, schema_for("judge", run.task_type))
    waiting = iter(answers)
    pairs, abstained, verdicts = [], [], []
    for row in groups.iter_rows(named=True):
        count = len(row["candidates"])
        judged = [(order, next(waiting)) for order in orders(count)]
        refused = next((answer.error for _, answer in judged if answer.error is not None), None)
        read = [(order, parse_verdict(answer.text, count)) for order, answer in judged]
        verdicts += [(row["candidates"], order, verdict) for order, verdict in read]
        preference, why = agree(row["candidates"], read)
        if preference is None:
            abstained.append({"row_id": row["row_id"], "reason": why, "raw": row["prompt"], "refused": refused})
        else:
            pairs.append(
                {
                    "row_id": row["row_id"],
                    "task_type": run.task_type,
                    "prompt": row["prompt"],
                    "chosen": preference.chosen,
                    "rejected": preference.rejected,
                    "margin": preference.margin,
                    "judge_model": run.recipe.teacher.model,
                }
            )
    names = ("row_id", "task_type", "prompt", "chosen", "rejected", "margin", "judge_model")
    run.write(pl.DataFrame(pairs, schema={n: pl.Float64 if n == "margin" else pl.String for n in names}))
    aside = pl.DataFrame(abstained, schema=dict.fromkeys(("row_id", "reason", "raw", "refused"), pl.String))
    aside = aside.with_columns(reason=unless_refused(pl.col("reason")))
    run.write(
        quarantined(
            aside,
            run.stage.name,
            run.task_type,
            pl.col("reason"),
            refusal_or("no pair from this prompt"),
            pl.col("raw"),
        ),
        "quarantine",
    )
    abstentions = dict(aside["reason"].value_counts(sort=True).iter_rows())
    return {
        "asked": groups.height,
        "consistent_share": round(1 - abstentions.get("orders_disagree", 0) / max(groups.height, 1), 4),
        "abstentions": abstentions,
        "judge_leanings": leanings(verdicts),
        **use.metadata(),
    }


def senior_model(run: StageRun) -> dict[str, Any]:
    """DPO from the junior, with the frozen junior as reference."""
    rows = run.input_rows("preference_pairs").select("prompt", "chosen", "rejected")
    return train(run, "dpo", rows, run.recipe.senior_model, start=run.input("junior_model"))


def senior_data(run: StageRun) -> dict[str, Any]:
    """One output of the senior for each row asked for."""
    section = run.recipe.senior_data
    return write_with(run, "senior_model", section.rows, 1, section.sampling)
