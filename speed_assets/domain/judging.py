"""Preferences from verdicts in several orders of the candidates; verdicts that contradict each other give none.

A judge prefers candidates by their position too, above all among similar ones (arXiv 2406.07791).

Belongs here: orders, agreement, and biases of a judge. Not here: calls of the judge, reading its text (`parsing.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from speed_assets.domain.parsing import Verdict

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt. `margin` is the share of the readable verdicts' votes, for best and for worst, that these
    two have (1.0: every verdict named both)."""

    chosen: str
    rejected: str
    margin: float


def presentation_orders(count: int, wanted: int = 2) -> tuple[Order, ...]:
    """At most `wanted` orders in which to show `count` candidates: as they came, reversed, then the rotations of both.

    Over all of them every candidate has every place equally often.

    >>> presentation_orders(3, 3)
    ((0, 1, 2), (2, 1, 0), (1, 2, 0))
    """
    forward = tuple(range(count))
    found: dict[Order, None] = {}
    for turn in range(count):
        for order in (forward, forward[::-1]):
            found[order[turn:] + order[:turn]] = None
    return tuple(found)[:wanted]


def candidates_in_order(candidates: Sequence[str], order: Order) -> list[str]:
    """The candidates, in one order in which a judge sees them."""
    return [candidates[i] for i in order]


def agreed_preference(
    candidates: Sequence[str], verdicts: Sequence[tuple[Order, Verdict | str]], margin_min: float = 0.5
) -> tuple[Preference | None, str | None]:
    """(preference, None) where the verdicts support one, or (None, why not): unreadable_verdict, orders_disagree,
    low_margin or same_text.

    Best and worst are counted apart. A text may be chosen that some verdict calls best and none calls worst, and one may
    be rejected that some verdict calls worst and none calls best; of those the ones with the most votes, and where votes
    are equal, two that one verdict named together. At least two verdicts have to be readable: one alone is no agreement.
    `orders_disagree` says that each best, or each worst, is contradicted.
    """
    named = [
        (candidates[order[verdict.best]], candidates[order[verdict.worst]])
        for order, verdict in verdicts
        if not isinstance(verdict, str)
    ]
    if len(named) < min(2, len(verdicts)):
        return None, "unreadable_verdict"
    best, worst = Counter(pair[0] for pair in named), Counter(pair[1] for pair in named)
    pairs = [
        (best[chosen] + worst[rejected], (chosen, rejected) in named, chosen, rejected)
        for chosen in best
        if chosen not in worst
        for rejected in worst
        if rejected not in best
    ]
    if not pairs:
        return None, "same_text" if all(chosen == rejected for chosen, rejected in named) else "orders_disagree"
    votes, _, chosen, rejected = max(pairs, key=lambda pair: pair[:2])  # the first of equals
    margin = votes / (2 * len(named))
    if margin < margin_min:
        return None, "low_margin"
    return Preference(chosen, rejected, round(margin, 4)), None


def judge_contradicts_itself(candidates: Sequence[str], verdicts: Sequence[tuple[Order, Verdict | str]]) -> bool | None:
    """Whether some text is best in one verdict and worst in another; None where fewer than two can be read."""
    named = [
        (candidates[order[verdict.best]], candidates[order[verdict.worst]])
        for order, verdict in verdicts
        if not isinstance(verdict, str)
    ]
    if len(named) < 2:
        return None
    return bool({best for best, _ in named} & {worst for _, worst in named})


def at_least_by_chance(found: int, count: int, chance: float) -> float:
    """The probability of `found` or more of `count` where each has this chance: the upper tail of the binomial distribution."""
    return math.fsum(math.comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(found, count + 1))


def explained_by_length(
    decided: Sequence[tuple[Sequence[str], Preference]], share_max: float, alpha: float = 0.05
) -> list[bool]:
    """Which of the (candidates, preference) may have been decided by length alone: in order, True for each of them.

    A preference looks so when the longest candidate was chosen and the shortest rejected, or the other way about. Such
    preferences are blamed only where more than `share_max` of all look the same way, and so many would not come about
    by chance (binomial, one-sided, at `alpha`): then the judge may have read nothing but the length.
    """
    looks: list[str | None] = []
    chance = 0.0
    for candidates, preference in decided:
        lengths = sorted(map(len, candidates))
        ends = (len(preference.rejected), len(preference.chosen))
        longest = ends == (lengths[0], lengths[-1]) and ends[0] < ends[1]
        shortest = ends[::-1] == (lengths[0], lengths[-1]) and ends[0] > ends[1]
        looks.append("longest" if longest else "shortest" if shortest else None)
        chance += 1 / (len(candidates) * (len(candidates) - 1)) / len(decided)
    blamed = set()
    for way in ("longest", "shortest"):
        like, count = looks.count(way), len(looks)
        if like > share_max * count and at_least_by_chance(like, count, chance) < alpha:
            blamed.add(way)
    return [way in blamed for way in looks]


def judge_biases(verdicts: Sequence[tuple[Sequence[str], Order, Verdict | str]]) -> dict[str, float | None]:
    """What a judge leans to besides quality, over (candidates, order shown, verdict); unreadable verdicts count for ties only.

    tie_share: verdicts that named one candidate best and worst, among all.
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
        lengths = [len(text) for text in candidates_in_order(candidates, order)]
        most = max(lengths)
        if lengths.count(most) == 1:
            comparable += 1
            longest += lengths[verdict.best] == most
    return {
        "tie_share": _share(sum(verdict == "same_best_worst" for _, _, verdict in verdicts), len(verdicts)),
        "first_share": _share(first, read),
        "last_share": _share(last, read),
        "longest_share": _share(longest, comparable),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
