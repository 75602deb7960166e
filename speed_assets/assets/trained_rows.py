"""The rows that an embedding model is trained on: triplets, mined negatives, and margins that another model gives them.

Belongs here: putting these together. Not here: training (`embedding.py`), mining (`negatives.py`), scoring (`reranking.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.store.store import Artifact
from speed_assets.assets.negatives import MORE
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.graph import RERANKER_SCORES

TRAINED_ON = ("row_id", "query", "positive", "negative", "task", "task_type")
_MINED = "mined_negatives"


def trained_rows(run: StageRun[Any]) -> pl.DataFrame:
    """The columns of `TRAINED_ON`, further negatives (`negative_2` and so on), and where the recipe distils, the margins of the negatives in
    cosine, as far as they are known (`margin`, `margin_2` and so on)."""
    rows = rows_with_negatives(run)
    settings = run.recipe.embedding_model
    if settings.distil is None:
        return rows
    if RERANKER_SCORES in run.inputs:
        margins = _margins_of_reranker(run.input(RERANKER_SCORES).table(), settings.margin_scale())
    elif _MINED in run.inputs:
        margins = _margins_of_embedder(run)
    else:
        return rows
    further = [name for name in rows.columns if name not in TRAINED_ON]
    names = [name for name in margins.columns if name != "row_id"]
    return rows.join(margins, on="row_id", how="left", maintain_order="left").select(*TRAINED_ON, *names, *further)


def rows_with_negatives(run: StageRun[Any]) -> pl.DataFrame:
    """The rows of final_triplets, with the mined negatives where the recipe has that stage."""
    final = run.input("final_triplets")
    rows = final.table()
    mines = _MINED in run.inputs
    wide, further = _further(final, *([run.input(_MINED)] if mines else []))
    if further:
        rows = rows.join(wide, on="row_id", how="left", maintain_order="left")
    if not mines:
        return rows.select(*TRAINED_ON, *further)
    mined = run.input(_MINED).table().select("row_id", pl.col("negative").alias("mined"))
    rows = rows.join(mined, on="row_id", how="left", maintain_order="left")
    return rows.with_columns(negative=pl.coalesce("negative", "mined")).select(*TRAINED_ON, *further)


def _further(*artifacts: Artifact) -> tuple[pl.DataFrame, list[str]]:
    """(row_id, and a column for each further negative), and the names of those columns: the user's own, and mined ones of rows
    without."""
    tables = [more for artifact in artifacts if not (more := artifact.table(MORE)).is_empty()]
    if not tables:
        return pl.DataFrame(), []
    more = pl.concat([table.select("row_id", "negative", pl.col("number").cast(pl.Int64)) for table in tables])
    further = [f"negative_{number}" for number in sorted(set(more["number"]))]
    numbered = more.with_columns(name=pl.lit("negative_") + pl.col("number").cast(pl.String))
    return numbered.pivot("name", index="row_id", values="negative").select("row_id", *further), further


def _margins_of_embedder(run: StageRun[Any]) -> pl.DataFrame:
    """(row_id, margin) of the mined negatives; of rows with another negative nobody knows the margin."""
    without = run.input("final_triplets").table().filter(pl.col("negative").is_null()).select("row_id")
    margin = pl.col("positive_similarity") - pl.col("negative_similarity")
    return run.input(_MINED).table().select("row_id", margin=margin).join(without, on="row_id", how="semi")


def _margins_of_reranker(scores: pl.DataFrame, cosine_of_logit: float) -> pl.DataFrame:
    """(row_id, and the margin of each negative in cosine)."""
    numbered = scores.select(
        "row_id",
        name=pl.when(pl.col("number") == 1).then(pl.lit("margin")).otherwise(pl.format("margin_{}", "number")),
        margin=(pl.col("positive_score") - pl.col("negative_score")) * cosine_of_logit,
    )
    names = [f"margin_{number}" for number in sorted(set(scores["number"]) - {1})]
    wide = numbered.pivot("name", index="row_id", values="margin")
    return wide.select("row_id", *(pl.col(name) for name in ("margin", *names) if name in wide.columns))


def margin_figures(rows: pl.DataFrame) -> dict[str, Any]:
    """{"margins": how many are known, and how many no two cosines can have}; {} where none is learnt."""
    names = [name for name in rows.columns if name == "margin" or name.startswith("margin_")]
    if not names:
        return {}
    known = pl.concat([rows[name] for name in names]).drop_nulls()
    return {"margins": {"known": len(known), "unreachable": int((known.abs() > 2).sum())}}
