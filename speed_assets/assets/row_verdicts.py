"""Row verdicts: the teacher's verdicts on a sample of the rows, to which a run calibrates its filters by score."""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.assets.revisor import ask_for_revisions
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.calibration import draw_rows_to_judge, suspicion
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.grounded_rules import first_broken_rules_by_source
from speed_assets.domain.rows import problem_or_refusal, refusal_or_detail
from speed_assets.domain.scoring import SCORES
from speed_assets.recipe import RowVerdicts


def row_verdicts(run: StageRun[RowVerdicts]) -> dict[str, Any]:
    """The teacher reads a random sample of the rows, as it reads junior output for revision_data.

    `faulty` says whether it would change something, `weight` how many rows of the source a row represents, `place` which row
    of its task type it is.

    Rows that a score finds suspicious are drawn more often, since a bound is decided among them; the weights make up for
    it. Rows that are invalid, that the revisor doubts or that break a rule are rejected whatever their scores, and are not
    drawn. An answer that cannot be read is no verdict; its row is in the quarantine.
    """
    section = run.section
    rows = _acceptable_rows(run)
    seed = seed_for(run.recipe.seed, run.stage.name, run.task_type)
    asked = draw_rows_to_judge(
        rows, suspicion(rows), getattr(section.rows, run.task_type), section.suspicious_share, seed
    )
    _, answers, revisions, use = ask_for_revisions(run, asked, section.sampling)
    verdicts = asked.select("row_id", "task_type", "place", "weight").with_columns(
        pl.Series("faulty", [bool(revision.changes) for revision in revisions], dtype=pl.Boolean),
        pl.Series("reason", [revision.reason for revision in revisions], dtype=pl.String),
        pl.Series("problem", [revision.problem for revision in revisions], dtype=pl.String),
        pl.Series("refused", [answer.error for answer in answers], dtype=pl.String),
        pl.Series("output", [answer.text for answer in answers], dtype=pl.String),
    )
    verdicts = verdicts.with_columns(problem=problem_or_refusal(pl.col("problem")))
    good, bad = verdicts.filter(pl.col("problem").is_null()), verdicts.filter(pl.col("problem").is_not_null())
    run.write(good.select("row_id", "task_type", "place", "weight", "faulty", "reason"))
    run.quarantine(
        bad, pl.col("problem"), refusal_or_detail("the answer cannot be read as a revision"), pl.col("output")
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


def _acceptable_rows(run: StageRun[RowVerdicts]) -> pl.DataFrame:
    """Rows of the source with their scores and their `place` in the task type, without those rejected whatever they score.

    Raises:
        ValueError: `row_scores` has other rows than the source.
    """
    rows = run.input(run.stage.inputs[0]).table()
    scores = run.input("row_scores").table().filter(pl.col("task_type") == run.task_type)
    if not rows["row_id"].equals(scores["row_id"]):
        raise ValueError("row_scores are those of other rows: materialize row_scores again")
    rows = rows.hstack(scores.select(SCORES)).with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))
    if "valid" in rows.columns:
        rows = rows.filter("valid")
    if "doubt" in rows.columns:
        rows = rows.filter(pl.col("doubt").is_null())
    if run.section.rules is not None:
        broken = first_broken_rules_by_source(rows, **run.section.rules.model_dump(), seed=run.recipe.seed)
        rows = rows.filter(broken["reason"].is_null())
    return rows
