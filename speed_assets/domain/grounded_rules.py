"""Rules of rows, where some rows are written from passages.

A passage was not written by the loop, so what a written text must not be (unfinished, a refusal, with markup) is not asked of it. Of a
grounded row the query is read as any other, and whether it is copied from its passage.

Belongs here: which texts of a row the rules read. Not here: the rules (`rules.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.domain import rules
from speed_assets.domain.parsing import words_stand_in
from speed_assets.domain.task_types import GROUNDED

COPIED = "query_in_positive"
_SOUND = "The old boiler in the cellar heats three rooms of the house."
"""Stands in for a passage: a text that breaks no rule."""


def broken_rules(
    rows: pl.DataFrame, *, query_words_min: int = 8, skip: tuple[str, ...] = (), **numbers: Any
) -> pl.DataFrame:
    """(reason, detail) of each row, as `rules.broken_rules`; of grounded rows only what their query breaks.

    Args:
        rows: row_id, task_type, topic, task, query, positive, negative.
        query_words_min: words of a query that may not stand in its positive, or in its passage.
        skip: codes that are not asked for.
        numbers: the other numbers of `rules.broken_rules`.
    """
    grounded = rows["task_type"] == GROUNDED
    if not grounded.any():
        return rules.broken_rules(rows, query_words_min=query_words_min, skip=skip, **numbers)
    of_passage = pl.col("task_type") == GROUNDED
    shown = rows.with_columns(
        positive=pl.when(of_passage).then(pl.lit(_SOUND)).otherwise("positive"),
        topic=pl.when(of_passage).then(pl.lit("")).otherwise("topic"),  # a title, whose words a query need not have
    )
    broken = rules.broken_rules(shown, query_words_min=query_words_min, skip=skip, **numbers)
    if COPIED in skip:
        return broken
    copied = [
        bool(of_this) and words_stand_in(query or "", positive or "", query_words_min)
        for of_this, query, positive in zip(grounded, rows["query"], rows["positive"], strict=True)
    ]
    found = pl.Series("copied", copied, dtype=pl.Boolean) & broken["reason"].is_null()
    return broken.with_columns(
        reason=pl.when(found).then(pl.lit(COPIED)).otherwise("reason"),
        detail=pl.when(found).then(pl.lit("query")).otherwise("detail"),
    )
