"""Judging in two orders: what both agree on is a preference, what they do not is an abstention.

A judge's verdict leans on the place of a candidate, most of all between close ones (arXiv 2406.07791).

Belongs here: orders, agreement, and what a judge leans to. Not here: asking the judge, or reading its text (`parsing.py`).
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


def leanings(verdicts: Sequence[tuple[Sequence[str], Order, Verdict | str]]) -> dict[str, float | None]:
    """What a judge leans to besides quality, over (candidates, order shown, verdict); unreadable verdicts are left out.

    first_share: verdicts whose best was shown first; last_share: shown last. A judge without a leaning comes to 1 / candidates.
    longest_share: verdicts whose best is the longest text, among those where one text is; null without any.
    """
    first = last = read = longest = comparable = 0
    for candidates, order, verdict in verdicts:
        if isinstance(verdict, str):
            continue
        read += 1
        first += verdict.best == 0
        last += verdict.best == len(order) - 1
        lengths = [len(text) for text in in_order(candidates, order)]
        most = max(lengths)
        if lengths.count(most) == 1:
            comparable += 1
            longest += lengths[verdict.best] == most
    return {
        "first_share": _share(first, read),
        "last_share": _share(last, read),
        "longest_share": _share(longest, comparable),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
