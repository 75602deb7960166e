"""Tests over several tasks: on which a model is better, worse, or no worse than another.

p-values are of one side, by shifting the bootstrap distribution to the edge of the null hypothesis. Where several tasks
are tested, they are adjusted after Holm (1979).

Belongs here: tests and their words. Not here: thresholds (recipe), refusals (`checks/scores.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speed_assets.domain.statistics.comparison import Difference

# Several tasks


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given; those at most alpha are significant together (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    adjusted = [0.0] * count
    highest = 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True)
class Verdict:
    """The result of a test on one task.

    `p` is unadjusted; `adjusted` is adjusted for the number of tasks where the test needs it; `word` is the verdict at level
    alpha. `low` and `high` are score points of 0..1.
    """

    difference: Difference
    low: float
    high: float
    p: float
    adjusted: float
    word: str


def superiority(differences: Sequence[Difference], alpha: float) -> list[Verdict]:
    """Test on which tasks our model is `better` or `worse`, two-sided; other tasks are `undecided`.

    The probability of any wrong word is at most alpha.

    Args:
        differences: One for each task.
        alpha: Level of the test (0..1); intervals hold the true difference with probability 1 - alpha.

    Returns:
        A verdict for each difference, in their order.

    Raises:
        ValueError: There are too few draws for any p-value to fall under alpha.
    """
    found = [min(1.0, 2 * min(d.p_above(0), d.p_below(0))) for d in differences]
    _enough_draws(differences, len(differences) * 2 / alpha)
    return [
        Verdict(d, *d.interval(alpha), p, adjusted, _better_or_worse(d) if adjusted <= alpha else "undecided")
        for d, p, adjusted in zip(differences, found, holm(found), strict=True)
    ]


def non_inferiority(differences: Sequence[Difference], margins: Mapping[str, float], alpha: float) -> list[Verdict]:
    """Test on which tasks our model is `no worse` than theirs by more than the task's margin.

    Tests are one-sided, each at alpha, for a claim about all tasks together: a model that is worse by
    the margin on any one task gets through with probability alpha at most, so nothing is adjusted
    (intersection-union; Berger 1982). Intervals are those of the test, 1 - 2 alpha: a task is `no worse` where its
    interval is above minus the margin.

    Args:
        differences: One for each task.
        margins: By task, the score points (0..1) that it may lose.
        alpha: Level of each test (0..1).

    Returns:
        A verdict for each difference, in their order.

    Raises:
        ValueError: There are too few draws for any p-value to fall under alpha.

    """
    _enough_draws(differences, 1 / alpha)
    found = [d.p_above(-margins[d.task]) for d in differences]
    return [
        Verdict(d, *d.interval(2 * alpha), p, p, "no worse" if p <= alpha else "undecided")
        for d, p in zip(differences, found, strict=True)
    ]


def _better_or_worse(difference: Difference) -> str:
    return "better" if difference.value > 0 else "worse"


def _enough_draws(differences: Sequence[Difference], draws: float) -> None:
    needed = math.ceil(draws)
    if any(d.draws.size < needed for d in differences):
        raise ValueError(f"{len(differences)} tasks at this alpha need at least {needed} resamples")
