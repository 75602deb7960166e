"""Hard negatives from the positives of other rows, or from passages, found in an embedding model.

Belongs here: mining them. Not here: whether a mined text is a negative in fact (`assets/negatives.py`).
"""

from __future__ import annotations

import time
from typing import Any

import polars as pl
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from speed_assets.domain.task_types import GROUNDED
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import MineNegatives, Params
from speed_assets.workers.reader import Reader, open_reader

RANKS = 50
"""Positives of other rows that are candidates, from `rank_min` on (ours)."""
SCORES_MAX = 100_000_000
"""Similarities that are in memory at once, 4 bytes each (ours; unbounded, 16,384 rows and 200,000 passages take 13 GB)."""
SCHEMA = {
    "row_id": pl.String,
    "negative": pl.String,
    "positive_similarity": pl.Float64,
    "negative_similarity": pl.Float64,
}


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write negatives from the positives of other rows of the same task type to `out`, best first; those of grounded rows from all
    passages where there is a table of them.

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
        texts = of_kind["positive"].unique()
        if kind == GROUNDED and job.passages is not None:
            texts = pl.concat([texts, pl.read_parquet(job.passages)["text"]]).unique(maintain_order=True)
        if texts.n_unique() > job.rank_min + 1:
            mined.append(_mined(reader, of_kind, texts, job))
        report(number + 1, len(kinds), "task types")
    found = pl.concat(mined)
    found.write_parquet(job.out)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3), "mined": found.height}


def _mined(reader: Reader, rows: pl.DataFrame, texts: pl.Series, job: MineNegatives) -> pl.DataFrame:
    """Negatives, out of `texts`, of rows of one task type, whose pairs of query and positive all differ."""
    rows = rows.with_columns(negative=pl.lit(None, pl.String))
    shown = reader.shown(rows)
    bare = dict(zip(shown["positive"], rows["positive"], strict=True))
    corpus = None
    if len(texts) > len(bare):  # shown as positives of such rows are
        others = texts.alias("positive").to_frame().join(rows.head(1).drop("positive"), how="cross")
        corpus = [text or "" for text in reader.shown(others)["positive"]]
        bare |= dict(zip(corpus, texts, strict=True))
    rows = rows.with_columns(pl.Series(field, shown[field]) for field in ("query", "positive"))
    found = mine_hard_negatives(
        Dataset.from_dict({"query": rows["query"].to_list(), "positive": rows["positive"].to_list()}),
        reader.model,
        corpus=corpus,
        range_min=job.rank_min,
        range_max=min(job.rank_min + RANKS, len(texts) - 1),
        relative_margin=job.relative_margin,
        num_negatives=min(job.per_row, RANKS, len(texts) - 1 - job.rank_min),
        sampling_strategy="top",
        output_format="triplet",
        output_scores=True,
        batch_size=job.batch_size,
        faiss_batch_size=max(1, min(16_384, SCORES_MAX // len(texts))),  # also where there is no FAISS
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
