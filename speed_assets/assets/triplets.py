"""Training triplets: what is left when repeated, contaminated and broken rows are set aside."""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.assets.stage import StageRun
from speed_assets.assets.writing import truth
from speed_assets.domain.contamination import EvaluationIndex
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.near_duplicates import near_duplicates
from speed_assets.domain.rows import no_quarantine, quarantined
from speed_assets.microworld.evaluation import evaluation_sets

TRIPLETS = ("row_id", "task_type", "topic", "task", "query", "positive", "negative")


def final_triplets(run: StageRun) -> dict[str, Any]:
    """Filters in turn, each on what the one before has left; every removed row keeps its reason."""
    section = run.recipe.final_triplets
    source = run.stage.inputs[0]
    written = run.input_rows(source)
    removed = []

    rows = written
    if "valid" in rows.columns:
        invalid = rows.filter(~pl.col("valid"))
        removed.append(_set_aside(invalid, "not_whole", pl.col("problem") if "problem" in rows.columns else pl.lit("")))
        rows = rows.filter("valid")
    run.progress(1, 3, "near-duplicates")
    near = section.near_duplicates
    repeats = near_duplicates(_texts(rows), shingle=near.shingle, permutations=near.permutations, jaccard=near.jaccard)
    ids = rows["row_id"].to_list()
    rows = rows.with_columns(pl.Series("repeats", [None if r is None else ids[r] for r in repeats], dtype=pl.String))
    removed.append(_set_aside(rows.filter(pl.col("repeats").is_not_null()), "near_duplicate", pl.col("repeats")))
    rows = rows.filter(pl.col("repeats").is_null())

    run.progress(2, 3, "contamination")
    rows = rows.with_columns(pl.Series("evaluation", _contaminated(run, rows), dtype=pl.String))
    removed.append(_set_aside(rows.filter(pl.col("evaluation").is_not_null()), "contamination", pl.col("evaluation")))
    rows = rows.filter(pl.col("evaluation").is_null())

    run.write(rows.select(TRIPLETS))
    quarantine = pl.concat([no_quarantine(), *removed])
    run.write(quarantine, "quarantine")
    asked = sum(artifact.metadata["asked"] for artifact in run.inputs[source].values())
    return {
        "asked": asked,
        "rows_in": written.height,
        "removed": dict(quarantine["reason"].value_counts(sort=True).iter_rows()),
        "task_types": dict(rows["task_type"].value_counts(sort=True).iter_rows()),
        **truth(run, rows, asked),
    }


def _texts(rows: pl.DataFrame) -> list[str]:
    fields = [pl.col("task_type"), pl.col("query"), pl.col("positive")]
    return rows.select(pl.concat_str(fields, separator=" | ")).to_series().to_list()


def _contaminated(run: StageRun, rows: pl.DataFrame) -> list[str | None]:
    world = run.recipe.evaluation.microworld
    if world is None:
        return [None] * rows.height
    limits = run.recipe.final_triplets.contamination
    sets = evaluation_sets(world.topics, world.rows, seed_for(run.recipe.seed, "evaluation"))
    index = EvaluationIndex(sets.all_texts(), limits.ngram)
    found = []
    for row in rows.select("query", "positive", "negative").iter_rows():
        hits = (index.found_in(text, limits.containment) for text in row if text)
        found.append(next((hit for hit in hits if hit), None))
    return found


def _set_aside(rows: pl.DataFrame, reason: str, detail: pl.Expr) -> pl.DataFrame:
    raw = pl.struct("query", "positive", "negative").struct.json_encode()
    return quarantined(rows, "final_triplets", None, reason, detail, raw)
