"""Scores of a reranker for positives and negatives, whose margins the embedding model learns (`embedding_model.distil`).

Belongs here: which pairs are scored, and the table of their scores. Not here: what is learnt from them (`trained_rows.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.inputs.base_models import is_on_hub, resolve_model
from resources.inputs.hub_revisions import cached_commit
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.trained_rows import rows_with_negatives
from speed_assets.recipe import RecipeError, RerankerScores, without_places

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def reranker_scores(run: StageRun[RerankerScores]) -> dict[str, Any]:
    """For each negative that a row of the task types named is trained with, the reranker's scores of the row's positive and of that
    negative: raw logits of query and document as they are, without prompt or instruction.

    `number` is 1 for the row's own or mined negative, and counts its further ones. Which model gave the scores, and how often it ranks a
    negative first, is in the metadata.

    Raises:
        RecipeError: no row has a negative.
    """
    section = run.section
    rows = rows_with_negatives(run).filter(pl.col("task_type").is_in(section.task_types))
    asked = negatives_of(rows)
    if asked.is_empty():
        raise RecipeError(
            f"reranker_scores: no row of {', '.join(section.task_types)} has a negative to score: add mined_negatives for these task "
            "types, or name others in reranker_scores.task_types"
        )
    scores = _scored(run, asked)
    table = scores.select("row_id", "task_type", "number", "positive_score", "negative_score")
    run.write(table)
    margins = table["positive_score"] - table["negative_score"]
    return {
        "asked": asked.height,
        "unscored": rows.filter(~pl.col("row_id").is_in(asked["row_id"].implode())).height,
        "reranker": {
            "name": without_places(section.model),
            "revision": cached_commit(section.model, section.revision) if is_on_hub(section.model) else None,
            "digest": run.externals["reranker"],
        },
        "negative_ranked_first": int((margins < 0).sum()),
        "margins": {f"{share:g}": round(margins.quantile(share) or 0.0, 4) for share in _QUANTILES},
    }


def negatives_of(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each negative, in order of rows: row_id, task_type, query, positive, negative, number.

    Args:
        rows: row_id, task_type, query, positive, negative, and further negatives in `negative_2` and so on.
    """
    named = {
        "negative": 1,
        **{name: int(name.removeprefix("negative_")) for name in rows.columns if name.startswith("negative_")},
    }
    shared = ("row_id", "task_type", "query", "positive")
    parts = [
        rows.with_row_index("place").select("place", *shared, negative=name, number=pl.lit(number, pl.Int64))
        for name, number in named.items()
    ]
    return pl.concat(parts).drop_nulls("negative").sort("place", "number").drop("place")


def _scored(run: StageRun[RerankerScores], asked: pl.DataFrame) -> pl.DataFrame:
    """`asked` with positive_score and negative_score; a pair that occurs several times is scored once."""
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    section = run.section
    folder = run.scratch / "rerank"
    folder.mkdir(parents=True, exist_ok=True)
    pairs = pl.concat([asked.select("query", document=field) for field in ("positive", "negative")])
    pairs.unique(maintain_order=True).write_parquet(folder / "pairs.parquet")
    model, revision = resolve_model(section.model, section.revision)
    run.runner.run(
        "rerank",
        jobs.Rerank(
            model=model,
            revision=revision,
            max_length=section.max_length,
            dtype=section.dtype,
            batch_size=section.batch_size,
            pairs=str(folder / "pairs.parquet"),
            out=str(folder / "scores.parquet"),
            journal=str(folder / "journal"),
        ).to_json(),
        folder,
        run.progress,
    )
    scores = pl.read_parquet(folder / "scores.parquet")
    for field in ("positive", "negative"):
        of_field = scores.rename({"document": field, "score": f"{field}_score"})
        asked = asked.join(of_field, on=["query", field], how="left", maintain_order="left")
    return asked
