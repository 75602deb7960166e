"""Row ids of candidates: several answers to one prompt are several rows, each with an id of its own.

A table of candidates names its rows by `row_id` and `candidate` together, where `row_id` names the prompt. A table of training rows has
one name a row: the first candidate keeps the id of the prompt, the others add their number to it.

Belongs here: from (row_id, candidate) to an id, and back to the id of the prompt. Not here: choosing among candidates (`judging.py`).
"""

from __future__ import annotations

import polars as pl

_BEFORE_NUMBER = "."
"""Stands between the id of a prompt and the number of a candidate; no id of a prompt has it, as those are hexadecimal."""


def with_candidate_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in which every candidate has a row id of its own: it depends on the prompt and the candidate's number alone.

    Args:
        rows: row_id, and `candidate` where several rows may answer one prompt; rows without that column stay as they are.

    >>> with_candidate_ids(pl.DataFrame({"row_id": ["a", "a"], "candidate": [0, 1]}))["row_id"].to_list()
    ['a', 'a.1']
    """
    if "candidate" not in rows.columns:
        return rows
    numbered = pl.format(f"{{}}{_BEFORE_NUMBER}{{}}", "row_id", "candidate")
    return rows.with_columns(row_id=pl.when(pl.col("candidate") > 0).then(numbered).otherwise("row_id"))


def prompt_row_id(row_id: str) -> str:
    """The id by which the prompt of a row was drawn: its attributes, its languages and its query's kind.

    >>> prompt_row_id("a.1"), prompt_row_id("a")
    ('a', 'a')
    """
    return row_id.partition(_BEFORE_NUMBER)[0]
