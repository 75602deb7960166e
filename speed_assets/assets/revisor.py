"""The data revisor: the teacher's revisions, a model tuned on them, and the senior's rows after it."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.externals import prompt_set
from speed_assets.assets.stage import StageRun
from speed_assets.assets.training import train
from speed_assets.assets.writing import WRITTEN, generated, truth
from speed_assets.domain.parsing import parse_revision
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.revising import Revised, as_draft, balance, read_through, revise
from speed_assets.domain.rows import parse_outputs, quarantined, refusal_or, unless_refused


def revision_data(run: StageRun) -> dict[str, Any]:
    """What the teacher says of the junior's first candidates: a patch, or nothing to mend."""
    section = run.recipe.revision_data
    prompts = prompt_set(run.recipe.prompts)
    drafts = (
        run.input("junior_data").table().filter(pl.col("candidate") == 0).head(getattr(section.rows, run.task_type))
    )
    texts = [
        prompts.revise(run.task_type, row["task"], as_draft(run.task_type, row))
        for row in drafts.select("task", "query", "positive", "negative", "output").iter_rows(named=True)
    ]
    answers, use = run.ask(texts, section.sampling, schema_for("revise", run.task_type))
    revisions = [parse_revision(run.task_type, answer.text) for answer in answers]
    rows = drafts.select("row_id", "task_type").with_columns(
        pl.Series("prompt", texts, dtype=pl.String),
        pl.Series("output", [a.text for a in answers], dtype=pl.String),
        pl.Series("mended", [bool(r.changes) for r in revisions], dtype=pl.Boolean),
        pl.Series("problem", [r.problem for r in revisions], dtype=pl.String),
        pl.Series("refused", [a.error for a in answers], dtype=pl.String),
    )
    rows = rows.with_columns(problem=unless_refused(pl.col("problem")))
    good, bad = rows.filter(pl.col("problem").is_null()), rows.filter(pl.col("problem").is_not_null())
    run.write(good.drop("problem", "refused"))
    run.write(
        quarantined(bad, run.stage.name, run.task_type, pl.col("problem"), refusal_or("no revision"), pl.col("output")),
        "quarantine",
    )
    return {"asked": drafts.height, "mended": int(good["mended"].sum()), **use.metadata()}


def revisor_model(run: StageRun) -> dict[str, Any]:
    """Supervised fine-tuning of the unaligned base on the teacher's revisions, mending and leaving alone in balance."""
    section = run.recipe.revisor_model
    rows = balance(run.input_rows("revision_data"), section.mended_share)
    return train(run, "sft", rows.select("prompt", pl.col("output").alias("completion")), section)


def revised_data(run: StageRun) -> dict[str, Any]:
    """The revisor reads every row and mends it, as often as the recipe says; `doubt` holds what it still finds wrong.

    A revision that would spoil a row is not taken.
    """
    section, prompts = run.recipe.revised_data, prompt_set(run.recipe.prompts)
    written = run.input("senior_data").table()
    drafts = [
        as_draft(run.task_type, row)
        for row in written.select("query", "positive", "negative", "output").iter_rows(named=True)
    ]
    told: list[dict[str, Any]] = []

    def read(reading: int, rows: list[int], records: list[str]) -> list[Revised]:
        asked = written.select("row_id", "candidate", "task")[rows]
        texts = [prompts.revise(run.task_type, *asks) for asks in zip(asked["task"], records, strict=True)]
        requests = asked.with_columns(pl.Series("prompt", texts, dtype=pl.String))
        schema = schema_for("revise", run.task_type)
        answers, made = generated(run, "revisor_model", requests, section.sampling, schema, f"reading_{reading}")
        told.append({**made, "output_tokens": int(answers["output_tokens"].sum())})
        return [revise(run.task_type, *answer) for answer in zip(records, answers["output"], strict=True)]

    mended = read_through(drafts, section.readings, read)
    revised = written.drop("query", "positive", "negative", "valid", "problem").with_columns(
        pl.col("output").alias("written"),
        pl.Series("before", drafts, dtype=pl.String),
        pl.Series("output", mended.records, dtype=pl.String),
        pl.Series("changed", [a != b for a, b in zip(mended.records, drafts, strict=True)], dtype=pl.Boolean),
        pl.Series("reason", mended.reasons, dtype=pl.String),
        pl.Series("doubt", mended.doubts, dtype=pl.String),
    )
    revised = parse_outputs(revised, run.task_type)
    good, bad = revised.filter("valid"), revised.filter(~pl.col("valid"))
    run.write(good.select(*WRITTEN, "valid", "changed", "before", "reason", "doubt"))
    run.write(
        quarantined(bad, run.stage.name, run.task_type, pl.col("problem"), pl.lit("not mended"), pl.col("written")),
        "quarantine",
    )
    counted = ("generated_rows", "known_rows", "output_tokens")
    return {
        "asked": written.height,
        "changed": int(good["changed"].sum()),
        "doubted": int(good["doubt"].is_not_null().sum()),
        "revisions_not_taken": sum(reading["not_taken"] for reading in mended.readings),
        "readings": mended.readings,
        "generation": told[0]["generation"],
        **{name: sum(made[name] for made in told) for name in counted},
        **truth(run, good, written.height),
    }
