"""The difference of two models on one task: paired bootstrap over samples, and the chance of the training's seed.

Both models have answered the same samples, so samples are drawn with replacement for both at once (paired bootstrap;
Efron and Tibshirani 1993, chapter 13; for rankings Smucker, Allan and Carterette 2007).

A model is a draw, too: training it again under another seed gives other scores. Where a side has several seeds,
statistics are averaged over them, and the spread between seeds (the noise floor) is added to the uncertainty.

Belongs here: differences, their draws and intervals. Not here: tests and their words (`verdicts.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from speed_assets.domain.statistics.scaling import student_quantiles
from speed_assets.domain.statistics.task_samples import Array, Part, TaskSamples
from speed_assets.domain.statistics.weighted import bootstrap_counts, bootstrap_means, statistic


@dataclass(frozen=True)
class Difference:
    """The difference of two models on one task, or on the mean over tasks.

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
        """Ours minus theirs, score points of 0..1."""
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
    """The difference of our model's trainings and theirs on one task.

    Args:
        task: Its name.
        ours: Samples of each of our trainings (seeds).
        theirs: Samples of each of theirs.
        resamples: Bootstrap draws.
        seed: Of the draws, by `fingerprints.seed_for`.
        noise: Add the spread between seeds; without it the draws are of samples alone, as `paired_by_seed` needs them.

    Raises:
        ValueError: The two sides have not answered the same samples.
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
            draws += bootstrap_means(sides[0] - sides[1], resamples, rng) / len(parts)
            continue
        for at, counts in bootstrap_counts(size, resamples, rng):
            means = [np.mean([statistic(model[name], counts) for model in models], axis=0) for models in (ours, theirs)]
            draws[at] += (means[0] - means[1]) / len(parts)
    spread = seed_noise(scores) if noise else None
    if spread:
        draws = draws + spread * rng.standard_t(sum(len(s) - 1 for s in scores if len(s) > 1), resamples)
    sizes = sum(len(part.names) for part in ours[0].values())
    return Difference(task, float(scores[0].mean()), float(scores[1].mean()), sizes, draws, spread)


def score_interval(samples: TaskSamples, *, resamples: int, seed: int, alpha: float) -> tuple[float, float]:
    """Percentile interval of one model's score on one task, over the chance of its samples.

    Args:
        samples: Of the model on the task.
        resamples: Bootstrap draws.
        seed: Of the draws, by `fingerprints.seed_for`.
        alpha: The interval holds the true score with probability 1 - alpha.
    """
    rng = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    for part in samples.values():
        if part.statistic == "replicates":
            scores = _scores(part)
            spread = float(np.std(scores, ddof=1)) if scores.size > 1 else 0.0
            draws += (scores.mean() + spread * rng.standard_t(max(scores.size - 1, 1), resamples)) / len(samples)
        elif part.statistic == "mean":
            draws += bootstrap_means(_scores(part), resamples, rng) / len(samples)
        else:
            for at, counts in bootstrap_counts(len(part.names), resamples, rng):
                draws[at] += statistic(part, counts) / len(samples)
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _same_samples(task: str, models: Sequence[TaskSamples]) -> None:
    first = models[0]
    for other in models[1:]:
        if other.keys() != first.keys() or any(other[name].names != first[name].names for name in first):
            raise ValueError(f"{task}: the two models have not answered the same samples, so they cannot be paired")


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

    Raises:
        ValueError: There is no task.
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
    """Add the chance of seeds to a difference between two ways of training with the same seeds.

    The effect of a seed on both sides is no noise, so the differences' own spread is added, as Student's t with one degree of
    freedom less than there are seeds. Where every seed has samples of its own, that spread already contains their chance,
    and the interval is wider than necessary.

    Args:
        difference: Of samples alone (`compare` without `noise`).
        by_seed: (seeds,) differences under each seed.
        seed: Of the order of the quantiles that are added.

    Returns:
        The wider difference; with one seed the same one.
    """
    values = np.asarray(by_seed, dtype=np.float64)
    if values.size < 2:
        return difference
    noise = float(np.std(values, ddof=1) / math.sqrt(values.size))
    # Quantiles in random order instead of draws: of two seeds these would be Cauchy's, which have no mean.
    places = (np.random.default_rng(seed).permutation(difference.draws.size) + 0.5) / difference.draws.size
    return replace(difference, draws=difference.draws + noise * student_quantiles(values.size - 1, places), noise=noise)
