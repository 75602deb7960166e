"""How many rows to ask for in all, so that as many as are wanted pass the filters.

Belongs here: the arithmetic of blocks. Not here: when a block is asked for (`resources/store/current_block.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

YIELD_MIN = 0.05
"""Least share of rows accepted that a block is sized by: where nothing was accepted yet, a block asks for twenty times the rows
that are missing, up to the ceiling (ours)."""


def rows_to_ask(
    asked: Mapping[str, int],
    accepted: Mapping[str, int],
    wanted: Mapping[str, int],
    most: Mapping[str, int],
    margin: float,
) -> dict[str, int]:
    """Rows to ask for in all, by task type: those of before, and one block more where accepted rows are missing.

    >>> rows_to_ask({"sts": 100}, {"sts": 80}, {"sts": 100}, {"sts": 1000}, 1.0)
    {'sts': 125}
    >>> rows_to_ask({"sts": 100}, {"sts": 80}, {"sts": 100}, {"sts": 110}, 1.0)
    {'sts': 110}

    Args:
        asked: rows asked for so far.
        accepted: rows of these that passed the filters; 0 of a task type that is not named.
        wanted: rows that are to pass; 0 of a task type that is not named.
        most: the ceiling of rows asked for.
        margin: the missing rows are multiplied by it, since a further row repeats earlier ones more often.

    Returns:
        The new numbers; those of before where enough were accepted, or the ceiling is met.
    """
    return {
        name: _rows(count, accepted.get(name, 0), wanted.get(name, 0), most.get(name, 0), margin)
        for name, count in asked.items()
    }


def share_is_kept(rows: int, rows_in: int, least: float) -> bool:
    """Whether enough of the rows passed (`checks.kept_min`): of a table that fails this no further block is written."""
    return rows > 0 and rows >= least * rows_in


def _rows(asked: int, accepted: int, wanted: int, most: int, margin: float) -> int:
    missing = wanted - accepted
    if missing <= 0 or asked >= most:
        return asked
    share = max(accepted / asked if asked else 0.0, YIELD_MIN)
    return min(most, asked + ceil(missing * margin / share))
