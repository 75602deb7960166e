"""Rules that compare the rows of one query.

Belongs here: negatives that another row contradicts. Not here: near-duplicates (`near_duplicates.py`).
"""

from __future__ import annotations

import polars as pl

from speed_assets.domain.task_types import LABEL_TYPES


def tests_across_rows(rows: pl.DataFrame, skip: tuple[str, ...]) -> dict[str, dict[str, pl.Expr]]:
    """Tests of the negatives of one query against each other and against its positives; labels are not tested.

    Of rows with the same query and negative, and different positives, the one of the lowest row id stays. Rows that are
    equal in every field are left to `near_duplicates.py`, which keeps the better one.
    """
    negatives = pl.col("negative").is_not_null() & ~pl.col("task_type").is_in(LABEL_TYPES)
    found: dict[str, dict[str, pl.Expr]] = {}
    key = (pl.col("task_type") + "\n" + pl.col("query").str.strip_chars().str.to_lowercase()).hash()
    plain = [
        pl.col(field).str.strip_chars().str.to_lowercase().hash().alias(field) for field in ("positive", "negative")
    ]
    seen = rows.select(
        key.alias("query"), *plain, negatives.alias("asked"), pl.col("row_id"), pl.int_range(pl.len()).alias("at")
    )
    several = seen.filter(pl.col("query").is_not_null() & (pl.len().over("query") > 1))
    if "repeated_negative" not in skip:
        first = pl.col("positive").sort_by("row_id").first().over("query", "negative")
        gone = several.filter("asked").filter(pl.col("positive") != first)["at"]
        found["repeated_negative"] = {"negative": pl.lit(_marked(gone, rows.height))}
    if "negative_is_positive" not in skip:
        positives = several.select("query", pl.col("positive").alias("negative")).unique()
        gone = several.filter("asked").join(positives, on=["query", "negative"], how="semi")["at"]
        found["negative_is_positive"] = {"negative": pl.lit(_marked(gone, rows.height))}
    return found


def _marked(places: pl.Series, rows: int) -> pl.Series:
    marks = pl.repeat(False, rows, dtype=pl.Boolean, eager=True)
    return marks.scatter(places, True) if len(places) else marks
