"""Rows of the loop: which tasks are asked for, and what became of the answers.

Belongs here: choosing rows and turning raw outputs into typed rows, on Polars frames. Not here: how one
text is parsed (`parsing.py`) or asked for (`prompts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import digest, seed_for, short_id
from speed_assets.domain.parsing import parse_record
from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS

QUARANTINE_SCHEMA = {
    "row_id": pl.String,
    "stage": pl.String,
    "task_type": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "raw": pl.String,
}
TEACHER_REFUSED = "teacher_refused"
"""Reason of a row whose request the teacher's server refused for good."""
_RAW_KEPT = 20_000  # characters of a quarantined raw text: enough to see what happened, bounded on disk


def draw_tasks(task_ids: Sequence[str], rows: int, seed: int, stage: str) -> list[tuple[str, int]]:
    """(task id, draw) of each row asked for: tasks in the order of a hash named by stage, round after round.

    The order of one task does not depend on which others there are, so an added topic shifts few rows.
    """
    ranked = sorted(task_ids, key=lambda task_id: digest([seed, stage, task_id]))
    return [(ranked[i % len(ranked)], i // len(ranked)) for i in range(rows)] if ranked else []


def synthesis_rows(
    tasks: pl.DataFrame, task_type: str, rows: int, seed: int, stage: str, prompts: PromptSet
) -> pl.DataFrame:
    """Rows to be written: row_id, task_id, task_type, topic, task, prompt, with attributes drawn per row."""
    by_id = {row["task_id"]: row for row in tasks.iter_rows(named=True)}
    asked = []
    for task_id, draw in draw_tasks(list(by_id), rows, seed, stage):
        row_id = short_id(stage, task_id, draw)
        attributes = draw_attributes(task_type, seed_for(seed, "attributes", row_id))
        task = by_id[task_id]
        asked.append(
            {
                "row_id": row_id,
                "task_id": task_id,
                "task_type": task_type,
                "topic": task["topic"],
                "task": task["task"],
                "prompt": prompts.synthesis(task_type, task["task"], attributes),
            }
        )
    columns = ("row_id", "task_id", "task_type", "topic", "task", "prompt")
    return pl.DataFrame(asked, schema=dict.fromkeys(columns, pl.String))


def parse_outputs(frame: pl.DataFrame, task_type: str) -> pl.DataFrame:
    """Adds query, positive, negative, valid and problem to rows with a raw `output`. No row is dropped."""
    kind = TASK_TYPES[task_type]
    parsed = [parse_record(task_type, raw) for raw in frame["output"]]
    triplets = [kind.triplet(p.record) for p in parsed]
    return frame.with_columns(
        *(pl.Series(field, [t[field] for t in triplets], dtype=pl.String) for field in TRIPLET_FIELDS),
        pl.Series("valid", [p.problem is None for p in parsed], dtype=pl.Boolean),
        pl.Series("problem", [p.problem for p in parsed], dtype=pl.String),
    )


def quarantined(
    frame: pl.DataFrame, stage: str, task_type: str | None, reason: str | pl.Expr, detail: pl.Expr, raw: pl.Expr
) -> pl.DataFrame:
    """Rows set aside, in the one format of every quarantine. `task_type` None takes the frame's own column."""
    return frame.select(
        pl.col("row_id"),
        pl.lit(stage).alias("stage"),
        (pl.col("task_type") if task_type is None else pl.lit(task_type)).alias("task_type"),
        (pl.lit(reason) if isinstance(reason, str) else reason).alias("reason"),
        detail.cast(pl.String).str.slice(0, _RAW_KEPT).alias("detail"),
        raw.cast(pl.String).str.slice(0, _RAW_KEPT).alias("raw"),
    )


def unless_refused(problem: pl.Expr) -> pl.Expr:
    """`problem`, but `teacher_refused` where the column `refused` holds the server's words."""
    return pl.when(pl.col("refused").is_null()).then(problem).otherwise(pl.lit(TEACHER_REFUSED))


def refusal_or(detail: str) -> pl.Expr:
    """The server's words in the column `refused`, else `detail`."""
    return pl.coalesce("refused", pl.lit(detail))


def no_quarantine() -> pl.DataFrame:
    """An empty quarantine."""
    return pl.DataFrame(schema=QUARANTINE_SCHEMA)
