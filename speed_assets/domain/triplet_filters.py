"""Filters of training triplets: each finds the rows to reject, with the reason and the detail.

A filter is a `Finder`: from rows to (reason, detail) of each, in their order; a null reason lets the row pass.

Belongs here: filters that compare rows with each other or with evaluation texts. Not here: rules of one row (`rules.py`),
bounds on scores (`scoring.py`), the order of the filters (`speed_assets/assets/triplets.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.funnel import Finder
from speed_assets.domain.near_duplicates import Similarity, near_duplicates, repeats_by_pairs
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, LABEL_TYPES, TRIPLET_FIELDS

_FOUND = {"reason": pl.String, "detail": pl.String}


def invalid_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Finds rows (valid, problem) that are no complete record; tables without `valid` hold none."""
    if "valid" not in rows.columns:
        return pl.DataFrame({"reason": [None] * rows.height, "detail": [None] * rows.height}, schema=_FOUND)
    detail = pl.col("problem") if "problem" in rows.columns else pl.lit(None, dtype=pl.String)
    return rows.select(
        pl.when(~pl.col("valid")).then(pl.lit("not_whole")).alias("reason"),
        pl.when(~pl.col("valid")).then(detail).alias("detail"),
    )


def near_duplicates_in(reason: str, text: pl.Expr, similarity: Similarity, *, queries_alike: bool = False) -> Finder:
    """Finds rows whose text repeats that of a better row; the detail is the id of that row.

    Args:
        reason: the reason that such rows get.
        text: what is compared; a null is compared with nothing.
        similarity: from which on two texts are one.
        queries_alike: whether the queries of two rows have to be alike, too, except of classification and of given texts.
    """
    apart = pl.col("task_type").is_in((*LABEL_TYPES, *GIVEN_TEXT_TYPES))  # their texts say what is compared
    part = pl.when(~apart & queries_alike).then("query")

    def find(rows: pl.DataFrame) -> pl.DataFrame:
        compared = rows.select(_row_key(rows), text.alias("text"), _quality(rows), part.alias("part"))
        repeats = near_duplicates(
            compared["row_id"], compared["text"], similarity, compared["quality"], compared["part"]
        )
        return _repeating(compared, repeats, reason)

    return find


def alike_in_meaning(pairs: pl.DataFrame, similarity: float) -> Finder:
    """Finds rows (place) that an embedding model finds alike to a better row; the detail is the id of that row.

    Args:
        pairs: a, b (places of rows) and their cosine similarity.
        similarity: the cosine similarity from which on two rows are one.
    """

    def find(rows: pl.DataFrame) -> pl.DataFrame:
        compared = rows.select(_row_key(rows), "place", _quality(rows))
        repeats = repeats_by_pairs(compared, pairs.filter(pl.col("similarity") >= similarity))
        return _repeating(compared, repeats, "near_duplicate_semantic")

    return find


def copies_of_evaluation_texts(evaluation: Mapping[str, Iterable[str]], limits: Limits) -> Finder:
    """Finds rows that hold a text of an evaluation set; the detail is the name of the set.

    Args:
        evaluation: texts by the name of their set.
        limits: from which on a text counts as held.
    """

    def find(rows: pl.DataFrame) -> pl.DataFrame:
        return (
            EvaluationIndex(evaluation, limits)
            .copies_in(rows, TRIPLET_FIELDS)
            .select((pl.lit("contamination_") + pl.col("how")).alias("reason"), pl.col("evaluation").alias("detail"))
        )

    return find


def alike_to_evaluation_texts(similarity: float) -> Finder:
    """Finds rows (evaluation_similarity, evaluation) that say what an evaluation text says; the detail names the set.

    Args:
        similarity: the cosine similarity from which on a row says the same.
    """
    same = pl.col("evaluation_similarity") >= similarity

    def find(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(
            pl.when(same).then(pl.lit("contamination_similar")).alias("reason"),
            pl.when(same).then("evaluation").alias("detail"),
        )

    return find


def _quality(rows: pl.DataFrame) -> pl.Expr:
    """Of rows that repeat each other the one of the highest quality stays: without scores the longest."""
    longest = pl.sum_horizontal(pl.col(field).str.len_chars() for field in TRIPLET_FIELDS)
    return (pl.col("quality") if "quality" in rows.columns else longest).cast(pl.Float64).alias("quality")


def _repeating(compared: pl.DataFrame, repeats: pl.DataFrame, reason: str) -> pl.DataFrame:
    """(reason, detail) of rows (row_id) from which row repeats which (row_id, repeats)."""
    found = compared.select("row_id").join(repeats, on="row_id", how="left", maintain_order="left")
    return found.select(
        pl.when(pl.col("repeats").is_not_null()).then(pl.lit(reason)).alias("reason"), pl.col("repeats").alias("detail")
    )


def _row_key(rows: pl.DataFrame) -> pl.Expr:
    """A name of each row: its id, with a number where several candidates share it."""
    if rows["row_id"].is_unique().all():
        return pl.col("row_id")
    return pl.format("{}/{}", "row_id", pl.int_range(pl.len()).over("row_id")).alias("row_id")
