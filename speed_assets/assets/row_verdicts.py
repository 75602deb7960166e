"""Row verdicts: what the teacher says of a sample of the rows, by which a run calibrates its filters by score."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.inputs.external_digests import prompt_set
from speed_assets.assets.revisor import revision_limits
from speed_assets.assets.stage import StageRun
from speed_assets.domain.calibration import draw_rows_to_judge, suspicion
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.parsing import parse_revision
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.revising import draft_of_row, without_unchanged_fields
from speed_assets.domain.rows import problem_or_refusal, quarantined, refusal_or_detail
from speed_assets.domain.rules import broken_rules
from speed_assets.domain.scoring import SCORES
from speed_assets.domain.task_types import TASK_TYPES


def row_verdicts(run: StageRun) -> dict[str, Any]:
    """The teacher reads a random sample of the rows, as it reads junior output for revision_data: `faulty` tells whether it
    would mend something, `weight` for how many rows of the source the row stands, `place` which row of its task type it is.

    Rows that a score finds suspicious are drawn more often, since a bound is decided among them; the weights make up for
    it. Rows that are not whole, that the revisor doubts or that break a rule are removed whatever their scores, and are not
    drawn. An answer that cannot be read is no verdict; its row is in the quarantine.
    """
    section = run.recipe.row_verdicts
    source = run.stage.inputs[0]
    rows = run.input(source).table()
    scores = run.input("row_scores").table().filter(pl.col("task_type") == run.task_type)
    if not rows["row_id"].equals(scores["row_id"]):
        raise ValueError("row_scores are those of other rows: materialize row_scores anew")
    rows = rows.hstack(scores.select(SCORES)).with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))
    if "valid" in rows.columns:
        rows = rows.filter("valid")
    if "doubt" in rows.columns:
        rows = rows.filter(pl.col("doubt").is_null())
    if section.rules is not None:
        broken = broken_rules(rows, **section.rules.model_dump(), seed=run.recipe.seed)
        rows = rows.filter(broken["reason"].is_null())
    seed = seed_for(run.recipe.seed, run.stage.name, run.task_type)
    asked = draw_rows_to_judge(
        rows, suspicion(rows), getattr(section.rows, run.task_type), section.suspicious_share, seed
    )
    prompts = prompt_set(run.recipe.prompts)
    texts = [
        prompts.revise(run.task_type, row["task"], draft_of_row(run.task_type, row), row["prompt"])
        for row in asked.select("task", "prompt", "query", "positive", "negative").iter_rows(named=True)
    ]
    limits = revision_limits(run, section.sampling, asked["row_id"])
    answers, use = run.ask(texts, section.sampling, schema_for("revise", run.task_type), limits=limits)
    said = [
        without_unchanged_fields(
            parse_revision(run.task_type, answer.text, answer.finished), TASK_TYPES[run.task_type].record(row)
        )
        for answer, row in zip(answers, asked.iter_rows(named=True), strict=True)
    ]
    told = asked.select("row_id", "task_type", "place", "weight").with_columns(
        pl.Series("faulty", [bool(revision.changes) for revision in said], dtype=pl.Boolean),
        pl.Series("reason", [revision.reason for revision in said], dtype=pl.String),
        pl.Series("problem", [revision.problem for revision in said], dtype=pl.String),
        pl.Series("refused", [answer.error for answer in answers], dtype=pl.String),
        pl.Series("output", [answer.text for answer in answers], dtype=pl.String),
    )
    told = told.with_columns(problem=problem_or_refusal(pl.col("problem")))
    good, bad = told.filter(pl.col("problem").is_null()), told.filter(pl.col("problem").is_not_null())
    run.write(good.select("row_id", "task_type", "place", "weight", "faulty", "reason"))
    run.write(
        quarantined(
            bad,
            run.stage.name,
            run.task_type,
            pl.col("problem"),
            refusal_or_detail("the answer cannot be read as a revision"),
            pl.col("output"),
        ),
        "quarantine",
    )
    weight = float(good["weight"].sum())
    share = float(good.filter("faulty")["weight"].sum()) / weight if weight else None
    return {
        "asked": asked.height,
        "drawn_from": rows.height,
        "faulty": int(good["faulty"].sum()),
        "faulty_share": None if share is None else round(share, 4),
        **use.metadata(),
    }
