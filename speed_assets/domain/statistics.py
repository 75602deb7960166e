"""Whether one model is better or no worse than another, from what their scores are made of.

A task's score is a statistic of its samples: a mean over queries, a rank correlation over pairs. Both models have
answered the same samples, so samples are drawn with replacement for both at once (paired bootstrap; Efron and
Tibshirani 1993, chapter 13; for rankings Smucker, Allan and Carterette 2007). A draw is a vector of counts, one per
sample, and every statistic here takes counts, so that two thousand draws are one matrix.

A model is a draw, too: training it again under another seed gives other scores. Where a side has several seeds,
statistics are averaged over them, and the spread between seeds (the noise floor) is added to the uncertainty.

p-values are of one side, by shifting the bootstrap distribution to the edge of the null hypothesis. Over tasks they
are adjusted after Holm (1979).

Belongs here: samples, statistics, intervals, tests, the law of scaling. Not here: thresholds (recipe), refusals
(`checks/scores.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_CELLS = 4_000_000
"""Cells of the largest matrix of counts that is held at once."""


@dataclass(frozen=True)
class Part:
    """The samples of one model in one part of a task (a split and subset), in the same order for every model.

    `score` for `mean` and `replicates`; `predicted` and `gold` for the others. `replicates` are scores that are each
    a draw of their own already, as mteb's repeated clusterings of texts drawn with replacement.
    """

    statistic: str
    names: tuple[str, ...]
    score: Array | None = None
    predicted: Array | None = None
    gold: Array | None = None


TaskSamples = Mapping[str, Part]
"""By part. The task's score is the mean over its parts."""


def samples_by_model(frame: pl.DataFrame) -> dict[str, dict[str, TaskSamples]]:
    """{model: {task: samples}} of a table `samples` (see `workers/samples.py`). Raises ValueError where a sample has no
    value.
    """
    found: dict[str, dict[str, dict[str, Part]]] = {}
    for (model, task, part), rows in frame.group_by("model", "task", "part", maintain_order=True):
        statistic = rows["statistic"][0]
        columns = ("score",) if statistic in ("mean", "replicates") else ("predicted", "gold")
        values = {column: rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy() for column in columns}
        if any(not np.isfinite(column).all() for column in values.values()):
            raise ValueError(f"{model} on {task} has samples without a value: score it again")
        kept = Part(statistic, tuple(rows["sample"]), **values)
        found.setdefault(str(model), {}).setdefault(str(task), {})[str(part)] = kept
    return {model: dict(tasks) for model, tasks in found.items()}


@dataclass(frozen=True)
class Difference:
    """What sets two models apart on one task, or on the mean over tasks.

    `value` is ours minus theirs; `draws` are bootstrap values of it, (resamples,); `noise` the standard deviation of
    `value` that comes from seeds alone, or None where one side has a single seed and it is unknown.
    """

    task: str
    ours: float
    theirs: float
    samples: int
    draws: Array
    noise: float | None

    @property
    def value(self) -> float:
        return self.ours - self.theirs

    @property
    def error(self) -> float:
        """Standard error of `value`."""
        return float(np.std(self.draws, ddof=1))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Percentile interval that holds the truth with probability 1 - alpha."""
        low, high = np.quantile(self.draws, [alpha / 2, 1 - alpha / 2])
        return float(low), float(high)

    def p_above(self, edge: float) -> float:
        """p-value of "the true difference is `edge` or less": small when it is above."""
        return float((1 + np.count_nonzero(self._null(edge) >= self.value)) / (1 + self.draws.size))

    def p_below(self, edge: float) -> float:
        """p-value of "the true difference is `edge` or more": small when it is below."""
        return float((1 + np.count_nonzero(self._null(edge) <= self.value)) / (1 + self.draws.size))

    def _null(self, edge: float) -> Array:
        return np.asarray(self.draws - np.mean(self.draws) + edge)


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


# Comparing


def compare(
    task: str,
    ours: Sequence[TaskSamples],
    theirs: Sequence[TaskSamples],
    *,
    resamples: int,
    seed: int,
    noise: bool = True,
) -> Difference:
    """Our model's seeds against theirs on one task. `seed` is a name given by `fingerprints.seed_for`. Without `noise`
    the draws are those of the samples alone, for `paired_by_seed` to go on from.

    Raises ValueError when the two sides have not answered the same samples.
    """
    _same_samples(task, [*ours, *theirs])
    rng = np.random.default_rng(seed)
    parts = list(ours[0])
    draws = np.zeros(resamples)
    scores = [np.zeros(len(side)) for side in (ours, theirs)]
    for name in parts:
        size = len(ours[0][name].names)
        once = np.ones((1, size))
        for side, models in enumerate((ours, theirs)):
            scores[side] += [float(statistic(model[name], once)[0]) / len(parts) for model in models]
        if ours[0][name].statistic == "replicates":
            draws += _replicated(ours, theirs, name, resamples, rng) / len(parts)
            continue
        if ours[0][name].statistic == "mean":
            sides = [np.mean([_scores(model[name]) for model in models], axis=0) for models in (ours, theirs)]
            draws += _mean_draws(sides[0] - sides[1], resamples, rng) / len(parts)
            continue
        for at, counts in _counts(size, resamples, rng):
            means = [np.mean([statistic(model[name], counts) for model in models], axis=0) for models in (ours, theirs)]
            draws[at] += (means[0] - means[1]) / len(parts)
    spread = seed_noise(scores) if noise else None
    if spread:
        draws = draws + spread * rng.standard_t(sum(len(s) - 1 for s in scores if len(s) > 1), resamples)
    sizes = sum(len(part.names) for part in ours[0].values())
    return Difference(task, float(scores[0].mean()), float(scores[1].mean()), sizes, draws, spread)


def score_interval(samples: TaskSamples, *, resamples: int, seed: int, alpha: float) -> tuple[float, float]:
    """Percentile interval of one model's score on one task, over the chance of its samples."""
    rng = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    for part in samples.values():
        if part.statistic == "replicates":
            scores = _scores(part)
            spread = float(np.std(scores, ddof=1)) if scores.size > 1 else 0.0
            draws += (scores.mean() + spread * rng.standard_t(max(scores.size - 1, 1), resamples)) / len(samples)
        elif part.statistic == "mean":
            draws += _mean_draws(_scores(part), resamples, rng) / len(samples)
        else:
            for at, counts in _counts(len(part.names), resamples, rng):
                draws[at] += statistic(part, counts) / len(samples)
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _same_samples(task: str, models: Sequence[TaskSamples]) -> None:
    first = models[0]
    for other in models[1:]:
        if other.keys() != first.keys() or any(other[name].names != first[name].names for name in first):
            raise ValueError(f"{task}: the two models have not answered the same samples, so they cannot be paired")


def _counts(size: int, resamples: int, rng: np.random.Generator) -> list[tuple[slice, Array]]:
    """Counts of samples in each draw, in blocks that fit memory."""
    block = max(1, _CELLS // max(size, 1))
    found = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        picked = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        found.append((slice(start, start + rows), counts))
    return found


def _mean_draws(score: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Bootstrap draws of a mean. Samples of one value are drawn as one: few differ where each is a share of ten."""
    values, counts = np.unique(score, return_counts=True)
    if values.size > score.size / 10:
        draws = np.empty(resamples)
        for at, drawn in _counts(score.size, resamples, rng):
            draws[at] = weighted_mean(drawn, score)
        return draws
    return np.asarray(rng.multinomial(score.size, counts / score.size, resamples) @ values / score.size)


def _replicated(
    ours: Sequence[TaskSamples], theirs: Sequence[TaskSamples], name: str, resamples: int, rng: np.random.Generator
) -> Array:
    """Draws of a difference whose samples are draws already, paired since both models saw the same ones.

    There are few of them, so their spread is taken and Student's t with as many degrees of freedom stands for the
    rest.
    """
    sides = [np.mean([_scores(model[name]) for model in models], axis=0) for models in (ours, theirs)]
    pairs = np.asarray(sides[0] - sides[1], dtype=np.float64)
    if pairs.size < 2:
        return np.full(resamples, float(pairs.mean()))
    return np.asarray(pairs.mean() + np.std(pairs, ddof=1) * rng.standard_t(pairs.size - 1, resamples))


def _scores(part: Part) -> Array:
    assert part.score is not None
    return part.score


def seed_noise(scores: Sequence[ArrayLike]) -> float | None:
    """Standard deviation of the difference of two means over seeds, from seeds alone; None with too few seeds.

    The spread is taken within sides and pooled: two sides that differ are no noise.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in scores]
    freedom = sum(side.size - 1 for side in sides)
    if freedom < 1:
        return None
    squares = sum(float(((side - side.mean()) ** 2).sum()) for side in sides)
    return math.sqrt(squares / freedom * sum(1 / side.size for side in sides))


def mean_over_tasks(differences: Sequence[Difference]) -> Difference:
    """The difference of mean scores; tasks have samples of their own and are independent, seeds are not.

    A seed that is good for one task is often good for another, so noise is added up as if it were one (an upper bound).
    """
    count = len(differences)
    if not count:
        raise ValueError("there is no task to take a mean over")
    noises = [d.noise for d in differences if d.noise is not None]
    return Difference(
        "mean over tasks",
        sum(d.ours for d in differences) / count,
        sum(d.theirs for d in differences) / count,
        sum(d.samples for d in differences),
        np.asarray(sum(d.draws for d in differences) / count),
        sum(noises) / count if noises else None,
    )


# Several seeds


def paired_by_seed(difference: Difference, by_seed: ArrayLike, seed: int) -> Difference:
    """The difference (of samples alone) between two ways of training whose seeds are the same ones, with the chance of seeds.

    `by_seed` are the differences under each seed. What a seed does to both sides is no noise, so their own spread is
    added, as Student's t with as many degrees of freedom as there are seeds, less one. Where every seed has samples of
    its own, that spread holds their chance already, and the interval is wider than it need be. Of one seed nothing is
    known, and the difference stays as it is.
    """
    values = np.asarray(by_seed, dtype=np.float64)
    if values.size < 2:
        return difference
    noise = float(np.std(values, ddof=1) / math.sqrt(values.size))
    # Quantiles in random order instead of draws: of two seeds these would be Cauchy's, which have no mean.
    places = (np.random.default_rng(seed).permutation(difference.draws.size) + 0.5) / difference.draws.size
    return replace(difference, draws=difference.draws + noise * _student(values.size - 1, places), noise=noise)


def mean_interval(values: ArrayLike, alpha: float) -> Interval:
    """Student's t interval of the mean of independent values.

    >>> mean_interval([0.5], 0.05)
    Interval(mean=0.5, low=None, high=None)
    """
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if found.size < 2:
        return Interval(mean, None, None)
    half = float(_student(found.size - 1, 1 - alpha / 2)) * float(np.std(found, ddof=1)) / math.sqrt(found.size)
    return Interval(mean, mean - half, mean + half)


def log_linear(rows: ArrayLike, scores: ArrayLike, alpha: float) -> LogLinear:
    """Least squares of scores on log2(rows), both (seeds, sizes), with an intercept for each seed.

    With several seeds the interval is Student's t over the seeds' own slopes: they are what is independent, while the
    scores of one seed's sizes are not. With one seed it comes from the residuals, so from how straight the line is.
    Raises ValueError for fewer than three sizes, or sizes that are all the same.
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
        half = float(_student(freedom, 1 - alpha / 2)) * error
        found = Interval(float(slopes[0]), float(slopes[0]) - half, float(slopes[0]) + half)
    return LogLinear(
        found.mean,
        found.low,
        found.high,
        float(y.mean() - found.mean * x.mean()),
        1 - float((residuals**2).sum()) / total if total else 0.0,
        float(np.abs(residuals.mean(axis=0)).max()),
    )


def _student(freedom: int, places: ArrayLike) -> Array:
    """Quantiles of Student's t at these places of 0..1."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, places))


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
    """What a test says of one task: `p` as it is, `adjusted` for the number of tasks where that is called for, `word` at
    level alpha."""

    difference: Difference
    low: float
    high: float
    p: float
    adjusted: float
    word: str


def superiority(differences: Sequence[Difference], alpha: float) -> list[Verdict]:
    """On which tasks our model is `better` or `worse`, or whether that is `undecided`; of two sides, with 1 - alpha
    intervals. The probability of any wrong word is at most alpha.

    Raises ValueError when there are too few draws for any p-value to fall under alpha.
    """
    found = [min(1.0, 2 * min(d.p_above(0), d.p_below(0))) for d in differences]
    _enough_draws(differences, len(differences) * 2 / alpha)
    return [
        Verdict(d, *d.interval(alpha), p, adjusted, _better_or_worse(d) if adjusted <= alpha else "undecided")
        for d, p, adjusted in zip(differences, found, holm(found), strict=True)
    ]


def non_inferiority(differences: Sequence[Difference], margins: Mapping[str, float], alpha: float) -> list[Verdict]:
    """On which tasks our model is `no worse` than theirs by more than the task's margin (score points of 0..1).

    Tests are of one side, each at alpha, for a claim that is made of all tasks or of none: a model that is worse by
    the margin on any one task gets through with probability alpha at most, so nothing is to be adjusted
    (intersection-union; Berger 1982). Intervals are those of the test, 1 - 2 alpha: a task is `no worse` where its
    interval lies above minus the margin.

    Raises ValueError as `superiority`.
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
