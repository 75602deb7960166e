"""Hard negatives from the positives of other rows, found in an embedding model.

Belongs here: mining them. Not here: whether a mined text is a negative in fact (`assets/negatives.py`).
"""

from __future__ import annotations

import time
from typing import Any

import polars as pl
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from speed_assets.workers.host import Report
from speed_assets.workers.jobs import MineNegatives, Params
from speed_assets.workers.reader import Reader, open_reader

RANKS = 50
"""Positives of other rows that are candidates, from `rank_min` on (ours)."""
SCHEMA = {
    "row_id": pl.String,
    "negative": pl.String,
    "positive_similarity": pl.Float64,
    "negative_similarity": pl.Float64,
}


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write negatives from the positives of other rows of the same task type to `out`, best first.

    `rows` holds row_id, task_type, task, query, positive. `out` has the columns of `SCHEMA`; a row for which nothing passes
    is not in it.

    Args:
        params: of a job of kind `MineNegatives`.
        report: gets the progress, in task types.

    Returns:
        rows, seconds, mined (negatives).
    """
    job = MineNegatives.read(params)
    started = time.monotonic()
    reader, rows = open_reader(job)
    mined = [pl.DataFrame(schema=SCHEMA)]
    kinds = rows["task_type"].unique(maintain_order=True)
    for number, kind in enumerate(kinds):
        of_kind = rows.filter(pl.col("task_type") == kind).unique(["query", "positive"], maintain_order=True)
        if of_kind["positive"].n_unique() > job.rank_min + 1:
            mined.append(_mined(reader, of_kind, job))
        report(number + 1, len(kinds), "task types")
    found = pl.concat(mined)
    found.write_parquet(job.out)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3), "mined": found.height}


def _mined(reader: Reader, rows: pl.DataFrame, job: MineNegatives) -> pl.DataFrame:
    """Negatives of rows of one task type, whose pairs of query and positive all differ."""
    shown = reader.shown(rows.with_columns(negative=pl.lit(None, pl.String)))
    bare = dict(zip(shown["positive"], rows["positive"], strict=True))
    rows = rows.with_columns(pl.Series(field, shown[field]) for field in ("query", "positive"))
    found = mine_hard_negatives(
        Dataset.from_dict({"query": rows["query"].to_list(), "positive": rows["positive"].to_list()}),
        reader.model,
        range_min=job.rank_min,
        range_max=min(job.rank_min + RANKS, rows["positive"].n_unique() - 1),
        relative_margin=job.relative_margin,
        num_negatives=job.per_row,
        sampling_strategy="top",
        output_format="triplet",
        output_scores=True,
        batch_size=job.batch_size,
        verbose=False,
    )
    table = pl.DataFrame(found.to_dict())
    if not table.height:
        return pl.DataFrame(schema=SCHEMA)
    scores = pl.col("scores") if "scores" in table.columns else pl.col("score")
    return (
        table.with_columns(
            pl.Series("negative", [bare[text] for text in table["negative"]], dtype=pl.String),
            positive_similarity=scores.list.get(0).cast(pl.Float64),
            negative_similarity=scores.list.get(1).cast(pl.Float64),
        )
        .join(rows.select("row_id", "query", "positive"), on=["query", "positive"], maintain_order="left")
        .select(*SCHEMA)
    )
