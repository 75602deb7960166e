"""Intervals of means and the law of scaling, both after Student's t.

Belongs here: intervals over independent values, and score against number of rows. Not here: bootstrap draws (`comparison.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from speed_assets.domain.statistics.task_samples import Array


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds the true one with probability 1 - alpha; None where one value tells no spread."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LogLinear:
    """The law score = at_one + per_doubling * log2(rows). `per_doubling` is in score points, with its interval.

    `explained` is the share of the variance within seeds that the law accounts for; `off` the largest distance of the
    mean score at one size from it: a curve that flattens shows there, whatever the interval says.
    """

    per_doubling: float
    low: float | None
    high: float | None
    at_one: float
    explained: float
    off: float

    def at(self, rows: ArrayLike) -> Array:
        """The law's score at these numbers of rows."""
        return np.asarray(self.at_one + self.per_doubling * np.log2(np.asarray(rows, dtype=np.float64)))


def mean_interval(values: ArrayLike, alpha: float) -> Interval:
    """Student's t interval of the mean of independent values.

    >>> mean_interval([0.5], 0.05)
    Interval(mean=0.5, low=None, high=None)
    """
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if found.size < 2:
        return Interval(mean, None, None)
    half = (
        float(student_quantiles(found.size - 1, 1 - alpha / 2)) * float(np.std(found, ddof=1)) / math.sqrt(found.size)
    )
    return Interval(mean, mean - half, mean + half)


def log_linear(rows: ArrayLike, scores: ArrayLike, alpha: float) -> LogLinear:
    """Fit scores = at_one + per_doubling * log2(rows) by least squares, with an intercept for each seed.

    With several seeds the interval is Student's t over the seeds' own slopes: they are independent, while the scores of one
    seed's sizes are not. With one seed it comes from the residuals, so from how straight the line is.

    Args:
        rows: (seeds, sizes) numbers of rows.
        scores: (seeds, sizes) scores.
        alpha: The interval holds the true slope with probability 1 - alpha.

    Raises:
        ValueError: There are fewer than three sizes, or the sizes are equal.
    """
    x, y = np.log2(np.asarray(rows, dtype=np.float64)), np.asarray(scores, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or x.shape[1] < 3:
        raise ValueError(
            f"a law needs rows and scores of at least three sizes for each seed, here {x.shape}, {y.shape}"
        )
    inside, above = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread = (inside**2).sum(axis=1)
    if not (spread > 0).all():
        raise ValueError("a law needs sizes that differ")
    slopes = (inside * above).sum(axis=1) / spread
    residuals = above - slopes.mean() * inside
    total = float((above**2).sum())
    if len(slopes) > 1:
        found = mean_interval(slopes, alpha)
    else:
        freedom = x.shape[1] - 2
        error = math.sqrt(float((residuals**2).sum()) / freedom / float(spread[0]))
        half = float(student_quantiles(freedom, 1 - alpha / 2)) * error
        found = Interval(float(slopes[0]), float(slopes[0]) - half, float(slopes[0]) + half)
    return LogLinear(
        found.mean,
        found.low,
        found.high,
        float(y.mean() - found.mean * x.mean()),
        1 - float((residuals**2).sum()) / total if total else 0.0,
        float(np.abs(residuals.mean(axis=0)).max()),
    )


def student_quantiles(freedom: int, places: ArrayLike) -> Array:
    """Quantiles of Student's t at these places of 0..1."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, places))
