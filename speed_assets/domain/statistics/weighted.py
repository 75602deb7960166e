"""Statistics of samples in many bootstrap draws at once: a mean, a rank correlation, an average precision.

A draw is a vector of counts, one per sample: (draws, n) counts and n samples give (draws,) values of the statistic.

Belongs here: statistics over counts, and the counts. Not here: what is compared (`comparison.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from speed_assets.domain.statistics.task_samples import Array, Part

# Statistics over counts: (draws, n) counts and the samples -> (draws,)


def weighted_mean(counts: Array, score: ArrayLike) -> Array:
    """Mean of `score` (n,) in every draw."""
    return np.asarray(counts @ np.asarray(score, dtype=np.float64) / counts.sum(axis=1))


def weighted_spearman(counts: Array, first: ArrayLike, second: ArrayLike) -> Array:
    """Spearman's rank correlation in every draw, ties ranked by their mean; 0 where a side is constant."""
    a, b = _ranks(counts, np.asarray(first)), _ranks(counts, np.asarray(second))
    total = counts.sum(axis=1)
    middle = ((total + 1) / 2)[:, None]  # the mean of ranks is the same for both
    a, b = a - middle, b - middle
    products = [np.einsum("ij,ij,ij->i", counts, x, y) for x, y in ((a, b), (a, a), (b, b))]
    scale = np.sqrt(products[1] * products[2])
    return np.asarray(np.divide(products[0], scale, out=np.zeros_like(scale), where=scale > 0))


def _ranks(counts: Array, values: Array) -> Array:
    """(draws, n) rank of every sample in every draw; copies of one sample, and equal values, share their mean rank."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return np.asarray((np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2)[:, group])


def weighted_average_precision(counts: Array, predicted: ArrayLike, gold: ArrayLike) -> Array:
    """Average precision in every draw, as scikit-learn defines it (equal scores are one threshold)."""
    right = np.asarray(gold, dtype=np.float64)
    _, group = np.unique(-np.asarray(predicted), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    found = np.add.reduceat((counts * right)[:, order], starts, axis=1)
    taken = np.cumsum(np.add.reduceat(counts[:, order], starts, axis=1), axis=1)
    hits = np.cumsum(found, axis=1)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    positives = hits[:, -1]
    areas = (precision * found).sum(axis=1)
    return np.asarray(np.divide(areas, positives, out=np.zeros_like(areas), where=positives > 0))


def statistic(part: Part, counts: Array) -> Array:
    """The part's statistic in every draw, (draws,). `replicates` are means here; their draws are made elsewhere."""
    if part.score is not None:
        return weighted_mean(counts, part.score)
    assert part.predicted is not None
    assert part.gold is not None
    function = weighted_spearman if part.statistic == "spearman" else weighted_average_precision
    return function(counts, part.predicted, part.gold)


_CELLS = 4_000_000
"""Cells of the largest matrix of counts that is held at once."""


def bootstrap_counts(size: int, resamples: int, rng: np.random.Generator) -> list[tuple[slice, Array]]:
    """Counts of samples in each draw, in blocks that fit memory."""
    block = max(1, _CELLS // max(size, 1))
    found = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        picked = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        found.append((slice(start, start + rows), counts))
    return found


def bootstrap_means(score: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Bootstrap draws of a mean. Samples of one value are drawn as one: few differ where each is a share of ten."""
    values, counts = np.unique(score, return_counts=True)
    if values.size > score.size / 10:
        draws = np.empty(resamples)
        for at, drawn in bootstrap_counts(score.size, resamples, rng):
            draws[at] = weighted_mean(drawn, score)
        return draws
    return np.asarray(rng.multinomial(score.size, counts / score.size, resamples) @ values / score.size)
