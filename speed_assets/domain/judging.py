"""Judging in two orders: what both agree on is a preference, what they do not is an abstention.

A judge's verdict leans on the place of a candidate, most of all between close ones (arXiv 2406.07791).

Belongs here: orders and agreement. Not here: asking the judge, or reading its text (`parsing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speed_assets.domain.parsing import Verdict

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt. `margin` is the share of orders that gave this verdict (1.0: all)."""

    chosen: str
    rejected: str
    margin: float


def orders(count: int) -> tuple[Order, Order]:
    """The two orders in which `count` candidates are shown: as they came, and reversed."""
    forward = tuple(range(count))
    return forward, forward[::-1]


def in_order(candidates: Sequence[str], order: Order) -> list[str]:
    return [candidates[i] for i in order]


def agree(
    candidates: Sequence[str], verdicts: Sequence[tuple[Order, Verdict | str]]
) -> tuple[Preference | None, str | None]:
    """(preference, None), or (None, why not): unreadable_verdict, orders_disagree or same_text."""
    named = set()
    for order, verdict in verdicts:
        if isinstance(verdict, str):
            return None, "unreadable_verdict"
        named.add((candidates[order[verdict.best]], candidates[order[verdict.worst]]))
    if len(named) != 1:
        return None, "orders_disagree"
    chosen, rejected = named.pop()
    if chosen == rejected:
        return None, "same_text"
    return Preference(chosen, rejected, 1.0), None
