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
from speed_assets.domain.revising import Revised, as_draft, balance, revise
from speed_assets.domain.rows import parse_outputs, quarantined, refusal_or, unless_refused
from speed_assets.recipe import Sampling


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
    """The revisor reads every row and mends it, then reads again what it has changed; its last reading only judges.

    With one reading nothing is read again. A revision that would spoil a row is not taken. `doubt` holds what the
    revisor said of a row that it left faulty in its own eyes.
    """
    readings, sampling = run.recipe.revised_data.readings, run.recipe.revised_data.sampling
    written = run.input("senior_data").table()
    drafts = [
        as_draft(run.task_type, row)
        for row in written.select("query", "positive", "negative", "output").iter_rows(named=True)
    ]
    records = list(drafts)
    said: list[str | None] = [None] * len(drafts)
    doubts: list[str | None] = [None] * len(drafts)
    told: list[dict[str, Any]] = []
    pending = list(range(len(drafts)))
    not_taken = tokens = 0
    for reading in range(readings):
        results, answers, made = _read(run, written, records, pending, sampling, reading)
        judging = reading == readings - 1 and readings > 1
        for row, result in zip(pending, results, strict=True):
            if result.refused or (judging and result.changed):
                doubts[row] = result.reason or "no reason given"
            elif result.changed:
                records[row] = result.record
            said[row] = said[row] if judging else result.reason
        not_taken += sum(result.refused for result in results)
        tokens += int(answers["output_tokens"].sum())
        told.append({"rows": len(pending), "found_fault": sum(r.changed or r.refused for r in results), **made})
        pending = [row for row, result in zip(pending, results, strict=True) if result.changed]
        if not pending:
            break
    revised = written.drop("query", "positive", "negative", "valid", "problem").with_columns(
        pl.col("output").alias("written"),
        pl.Series("before", drafts, dtype=pl.String),
        pl.Series("output", records, dtype=pl.String),
        pl.Series(
            "changed", [record != draft for record, draft in zip(records, drafts, strict=True)], dtype=pl.Boolean
        ),
        pl.Series("reason", said, dtype=pl.String),
        pl.Series("doubt", doubts, dtype=pl.String),
    )
    revised = parse_outputs(revised, run.task_type)
    good, bad = revised.filter("valid"), revised.filter(~pl.col("valid"))
    run.write(good.select(*WRITTEN, "valid", "changed", "before", "reason", "doubt"))
    run.write(
        quarantined(bad, run.stage.name, run.task_type, pl.col("problem"), pl.lit("not mended"), pl.col("written")),
        "quarantine",
    )
    return {
        "asked": written.height,
        "changed": int(good["changed"].sum()),
        "doubted": int(good["doubt"].is_not_null().sum()),
        "revisions_not_taken": not_taken,
        "output_tokens": tokens,
        "generation": told[0]["generation"],
        "readings": told,
        **truth(run, good, written.height),
    }


def _read(
    run: StageRun, written: pl.DataFrame, records: list[str], rows: list[int], sampling: Sampling, reading: int
) -> tuple[list[Revised], pl.DataFrame, dict[str, Any]]:
    """What the revisor makes of the records of some rows, its answers, and what that took."""
    prompts = prompt_set(run.recipe.prompts)
    asked = written.select("row_id", "candidate", "task")[rows]
    texts = [prompts.revise(run.task_type, task, records[row]) for row, task in zip(rows, asked["task"], strict=True)]
    requests = asked.with_columns(pl.Series("prompt", texts, dtype=pl.String))
    schema = schema_for("revise", run.task_type)
    answers, made = generated(run, "revisor_model", requests, sampling, schema, f"reading_{reading}")
    results = [revise(run.task_type, records[row], text) for row, text in zip(rows, answers["output"], strict=True)]
    return results, answers, made
