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
from speed_assets.domain.revising import as_draft, balance, revise
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
    """One pass of the revisor over every row; a revision that spoils a row is not taken."""
    prompts = prompt_set(run.recipe.prompts)
    written = run.input("senior_data").table()
    drafts = [
        as_draft(run.task_type, row)
        for row in written.select("query", "positive", "negative", "output").iter_rows(named=True)
    ]
    requests = written.select("row_id", "candidate", "task").with_columns(
        pl.Series(
            "prompt",
            [prompts.revise(run.task_type, task, draft) for task, draft in zip(written["task"], drafts, strict=True)],
            dtype=pl.String,
        )
    )
    sampling = run.recipe.revised_data.sampling
    answers, made = generated(run, "revisor_model", requests, sampling, schema_for("revise", run.task_type))
    results = [revise(run.task_type, draft, answer) for draft, answer in zip(drafts, answers["output"], strict=True)]
    revised = written.drop("query", "positive", "negative", "valid", "problem").with_columns(
        pl.col("output").alias("written"),
        pl.Series("before", drafts, dtype=pl.String),
        pl.Series("output", [r.record for r in results], dtype=pl.String),
        pl.Series("changed", [r.changed for r in results], dtype=pl.Boolean),
        pl.Series("reason", [r.reason for r in results], dtype=pl.String),
    )
    revised = parse_outputs(revised, run.task_type)
    good, bad = revised.filter("valid"), revised.filter(~pl.col("valid"))
    run.write(good.select(*WRITTEN, "valid", "changed", "before", "reason"))
    run.write(
        quarantined(bad, run.stage.name, run.task_type, pl.col("problem"), pl.lit("not mended"), pl.col("written")),
        "quarantine",
    )
    return {
        "asked": written.height,
        "changed": int(good["changed"].sum()),
        "revisions_not_taken": sum(r.refused for r in results),
        "output_tokens": int(answers["output_tokens"].sum()),
        **made,
        **truth(run, good, written.height),
    }
