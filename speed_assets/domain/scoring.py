"""Scores of rows by models, and the filters that read them.

Belongs here: the places of a record's values, the order of reading, and which rows a bound quarantines. Not here: the models that
read (`workers/likelihood.py`, `workers/consistency.py`), how a run finds a bound of its own (`calibration.py`).
"""

from __future__ import annotations

import re

import polars as pl

from speed_assets.domain.funnel import Finder

SCORES = ("least_likely", "swapped", "role", "margin")
"""Columns of scores; more is better, but for `swapped`."""
HIGH_IS_WORSE = ("swapped",)
SCORE_OF = {
    "unlikely": "least_likely",
    "negative_answers": "swapped",
    "wrong_role": "role",
    "negative_fits": "margin",
}
"""The score behind each reason for which a row is quarantined."""
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def value_spans(record: str) -> list[tuple[int, int]]:
    """(begin, end) of the text of each value in a JSON object of strings in one line.

    >>> record = '{"a": "one", "b": "two"}'
    >>> [record[begin:end] for begin, end in value_spans(record)]
    ['one', 'two']
    """
    return [match.span(1) for number, match in enumerate(_STRING.finditer(record)) if number % 2]


def find_by_score(score: str, reason: str, least: float | None = None, most: float | None = None) -> Finder:
    """A filter that finds rows by one score.

    Args:
        score: Its column; rows where it is null pass.
        reason: Code for the rows that are found; the detail is the score.
        least: Rows below it are found; None sets no bound.
        most: Rows above it are found; None sets no bound.
    """
    out = pl.lit(False)
    if least is not None:
        out = out | (pl.col(score) < least)
    if most is not None:
        out = out | (pl.col(score) > most)

    def find(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(
            pl.when(out).then(pl.lit(reason)).alias("reason"),
            pl.when(out).then(pl.col(score).round(4).cast(pl.String)).alias("detail"),
        )

    return find


def find_doubted(rows: pl.DataFrame) -> pl.DataFrame:
    """Finds rows in which the revisor still found a fault when it last read them; the detail is its reason."""
    return rows.select(
        pl.when(pl.col("doubt").is_not_null()).then(pl.lit("doubted")).alias("reason"),
        pl.col("doubt").alias("detail"),
    )


def in_reading_order(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows (prompt, record) as likelihoods are read, texts of like length together, with their `position` in the table."""
    length = pl.col("prompt").str.len_bytes() + pl.col("record").str.len_bytes()
    return rows.with_row_index("position").sort(length, "position")
