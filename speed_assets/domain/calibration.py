"""How likely each row is to be faulty, given its scores: a logistic regression on verdicts of the teacher.

A score has units of its own, which change with model, seed, language and task type: a bound that was right in one run
cost another run a third of its good rows. So the teacher judges a random sample of the rows, a logistic regression
learns from its verdicts how likely a row with such scores is to be faulty, and rows above a likelihood are
quarantined. The cost is estimated on rows that the fit did not see.

The sample is drawn by the scores alone, so the fit needs no weights (what is missing is missing at random given the
scores; Rubin 1976); shares of all rows are weighted by one over the chance of being drawn (Horvitz and Thompson 1952).

Belongs here: the sample, the fit, its cost. Not here: the teacher's verdicts (`assets/row_verdicts.py`), bounds that the
recipe sets (`scoring.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from speed_assets.domain.scoring import HIGH_IS_WORSE, SCORE_OF, SCORES

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]
_ROLE_LEAST = 1e-4
"""Smaller probabilities of a role are this one, so that its logarithm stays finite."""
_FARTHEST = 8.0
"""Spreads from the median at which a score is cut off: one extreme row must not bend the fit."""
_NEAREST = -3.0
_RIDGE_OF_ALL = 1e-6
"""Penalty on the intercept that all rows share: it only keeps it finite."""
_FOLDS = 5
"""Parts of the judged rows; the likelihood of each is that of a fit to the others."""


@dataclass(frozen=True, slots=True)
class Settings:
    """When rows are quarantined for their likelihood of being faulty: see the recipe's `Calibration`."""

    wrong_min: float
    odds_min: float
    loss_max: float
    loss_per_faulty: float
    confidence: float
    ridge: float
    ridge_by_type: float


@dataclass(frozen=True, slots=True)
class CalibratedRows:
    """The result of a calibration, rows in their order."""

    likelihood: Array
    """Of being faulty, 0..1; 0 for all rows where no score separates faulty rows from others."""
    strongest_score: list[str | None]
    """The score that adds most to a row's likelihood; None for rows that are not quarantined."""
    summary: dict[str, Any]
    """The bound, its evidence and its cost, as plain values for metadata and plots."""


def suspicion(rows: pl.DataFrame) -> Array:
    """The rank of each row among the rows by the score that finds it most suspicious.

    Args:
        rows: The scores, in any units; null where a row has none.

    Returns:
        (rows,) ranks from the bad end as shares: near 0 is suspicious, 1 is not.
    """
    found = np.ones(rows.height)
    for score in SCORES:
        values = rows[score]
        known = values.count()
        if known:
            ranks = values.rank("max", descending=score in HIGH_IS_WORSE) / known
            found = np.minimum(found, ranks.fill_null(1.0).to_numpy())
    return found


def draw_rows_to_judge(
    rows: pl.DataFrame, suspicions: Array, count: int, suspicious_share: float, seed: int
) -> pl.DataFrame:
    """Draw about `count` of the rows at random.

    Each row has a chance of `1 - suspicious_share` to be drawn evenly; the rest of the sample prefers suspicious rows, by
    one over the suspicion. Systematic sampling over a shuffled order, so the sample has its size to one row.

    Args:
        rows: All rows.
        suspicions: (rows,) by `suspicion`.
        count: Size of the sample.
        suspicious_share: Share (0..1) of the sample that prefers suspicious rows.
        seed: Of the draw.

    Returns:
        The drawn rows, with the column `weight`: how many rows each represents.
    """
    if count >= rows.height:
        return rows.with_columns(weight=pl.lit(1.0))
    preference = 1.0 / (suspicions + 0.05)
    chance = count * ((1 - suspicious_share) / rows.height + suspicious_share * preference / preference.sum())
    for _ in range(20):  # no row is drawn twice: what a certain row does not need goes to the others
        certain = chance >= 1.0
        chance = np.where(certain, 1.0, chance)
        rest = chance[~certain].sum()
        if rest == 0 or abs(chance.sum() - count) < 1e-9:
            break
        chance[~certain] *= (count - certain.sum()) / rest
    chance = np.minimum(chance, 1.0)
    generator = np.random.default_rng(seed)
    order = generator.permutation(rows.height)
    passed = np.floor(np.cumsum(chance[order]) + generator.random())
    taken = np.zeros(rows.height, dtype=bool)
    taken[order] = np.diff(passed, prepend=0.0) > 0
    return rows.with_columns(weight=pl.Series(1.0 / chance)).filter(pl.Series(taken))


def calibrate(rows: pl.DataFrame, settings: Settings, seed: int) -> CalibratedRows:
    """Estimate how likely each row is to be faulty, and the bound from which on rows are quarantined.

    The bound is the least likelihood at which all of this holds: it is at least `wrong_min`; the odds of the rows from it on are at
    least `odds_min` times those of all rows; it loses at most `loss_max` of the good rows, or `loss_per_faulty` times
    the share of faulty rows where that is more, by the judged rows, each of them with its likelihood from a fit to other
    judged rows. A score that does not separate faulty rows from others, or does so
    in the wrong direction, is left out and named. No row is quarantined where no score is left, or where the rows
    above the bound are not more often faulty than the rest.

    Args:
        rows: task_type, the scores, `faulty` (the teacher's verdict; null where there is none) and `weight` (the number of
            rows that a judged one represents).
        settings: Those numbers; `confidence` (0..1) is that of the tests and of every interval.
        seed: Deals judged rows to the folds.

    Returns:
        Likelihoods and strongest scores in the order of `rows`, and the summary.
    """
    judged = rows["faulty"].is_not_null().to_numpy()
    faulty = rows["faulty"].fill_null(False).to_numpy()[judged]
    weight = rows["weight"].fill_null(0.0).to_numpy()[judged]
    summary: dict[str, Any] = {
        "rows": rows.height,
        "judged": int(judged.sum()),
        "judged_faulty": int(faulty.sum()),
        "scores": {},
        "off": {},
        "bound": None,
    }
    nothing = CalibratedRows(np.zeros(rows.height), [None] * rows.height, summary)
    if not judged.any():
        return _switched_off(nothing, "the teacher has judged none of these rows")
    if not faulty.any() or faulty.all():
        return _switched_off(nothing, f"the teacher found {'every' if faulty.any() else 'no'} row faulty")
    summary["faulty_share"] = _share(weight, faulty, settings.confidence)
    features = distances_from_median(rows)
    names = rows["task_type"].unique(maintain_order=True)
    task_types = rows["task_type"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    fit = _Fit(features[judged], task_types[judged], len(names), faulty, settings)
    summary |= _scores_in_use(fit, features)
    if not fit.on:
        return _switched_off(nothing, "no score tells faulty rows from others")
    unseen = fit.unseen(seed)
    bound = _bound(unseen, faulty, weight, settings)
    above = unseen >= bound
    summary |= {"bound": round(bound, 4), **_cost_of_bound(above, faulty, weight, settings.confidence)}
    if not above.any() or summary["wrong_among_rejected"]["interval"][0] <= summary["faulty_share"]["share"]:
        return _switched_off(nothing, "rows that the scores find are not more often faulty than others")
    likelihood = fit.likelihood(features, task_types)
    found = np.flatnonzero(likelihood >= bound)
    strongest: list[str | None] = [None] * rows.height
    for row, place in zip(found, fit.parts(features[found], task_types[found]).argmax(axis=1), strict=True):
        strongest[row] = SCORES[place]
    summary["rejected"] = len(found)
    return CalibratedRows(likelihood, strongest, summary)


def _scores_in_use(fit: _Fit, features: Array) -> dict[str, Any]:
    """The shared slope of each score in use, and why each other one is off."""
    silent = [score for place, score in enumerate(SCORES) if not np.ptp(features[:, place])]
    off = dict.fromkeys(silent, "says nothing of these rows")
    off |= {score: "does not tell faulty rows from others" for score in SCORES if score not in {*fit.on, *silent}}
    return {"scores": {score: round(fit.slope(score), 3) for score in fit.on}, "off": off}


def _cost_of_bound(above: Mask, faulty: Mask, weight: Array, confidence: float) -> dict[str, Any]:
    """Weighted shares with intervals, over the judged rows; `above` are those from the bound on."""
    return {
        "wrong_among_rejected": _share(weight[above], faulty[above], confidence),
        "good_lost": _share(weight[~faulty], above[~faulty], confidence),
        "wrong_found": _share(weight[faulty], above[faulty], confidence),
        "wrong_left": _share(weight[~above], faulty[~above], confidence),
    }


class LikelyFaulty:
    """A filter of a funnel that finds rows that are likely faulty.

    The reason names the score that adds most to the row's likelihood, the detail states the likelihood. After the call
    `found` has the calibration and `faulty` the verdicts that it was fitted to.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self.found: CalibratedRows | None = None
        self.faulty: pl.Series | None = None

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        self.found, self.faulty = calibrate(rows, self._settings, self._seed), rows["faulty"]
        reasons = {score: reason for reason, score in SCORE_OF.items()}
        detail = [
            None if reader is None else f"{likelihood:.2f} likely faulty"
            for reader, likelihood in zip(self.found.strongest_score, self.found.likelihood.tolist(), strict=True)
        ]
        return pl.DataFrame(
            {"reason": [reader and reasons[reader] for reader in self.found.strongest_score], "detail": detail},
            schema={"reason": pl.String, "detail": pl.String},
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The calibration's summary, or why there is none."""
        return self.found.summary if self.found else {"bound": None, "switched_off": "no row came so far"}


def _switched_off(nothing: CalibratedRows, why: str) -> CalibratedRows:
    nothing.summary.update(bound=None, rejected=0, switched_off=why)
    return nothing


def distances_from_median(rows: pl.DataFrame) -> Array:
    """(rows, scores): how far each score is from the median of its task type towards the bad end, in spreads.

    A spread is what a sixth of the rows exceed at the good end: rows are mostly good, and there the faulty do not widen
    it. Scores that are null, and scores that are alike for nearly all rows of a task type, are 0.
    """
    found = np.zeros((rows.height, len(SCORES)))
    types = rows["task_type"].to_numpy()
    for place, score in enumerate(SCORES):
        values = rows[score].cast(pl.Float64).to_numpy().astype(float)
        badness = values if score in HIGH_IS_WORSE else -values
        if score == "role":  # a probability near 1 for nearly all: its logarithm tells rows apart
            badness = -np.log(np.maximum(values, _ROLE_LEAST))
        for task_type in rows["task_type"].unique(maintain_order=True):
            of_type = (types == task_type) & ~np.isnan(badness)
            if not of_type.any():
                continue
            good_end, median = np.quantile(badness[of_type], [0.16, 0.5])
            if median > good_end:
                distance = (badness[of_type] - median) / (median - good_end)
                found[of_type, place] = np.clip(distance, _NEAREST, _FARTHEST)
    return found


class _Fit:
    """Log-odds of being faulty: one intercept, what it is more or less for a task type, one slope for each score, and what
    it is more or less for a task type. The differences of task types are held near 0, so that a type of which few rows
    were judged, or none, goes by the others."""

    def __init__(self, features: Array, task_types: Places, types: int, faulty: Mask, settings: Settings) -> None:
        """Of judged rows: their scores as `distances_from_median` tells them, the number of their task type of so many, the verdict."""
        self.types, self.features, self.faulty = types, features, faulty.astype(float)
        member = np.eye(types)[task_types]
        by_type = (member[:, :, None] * features[:, None, :]).reshape(len(features), -1)
        self.design = np.hstack([np.ones((len(features), 1)), member, features, by_type])
        self.first = 1 + types  # column of the first slope
        self.penalty = np.concatenate(
            [
                [_RIDGE_OF_ALL],
                np.full(types + len(SCORES), settings.ridge),
                np.full(types * len(SCORES), settings.ridge_by_type),
            ]
        )
        self.on = self._telling(NormalDist().inv_cdf(settings.confidence))
        self.kept = self._columns(self.on)
        self.found = self._slopes(np.ones(len(faulty), dtype=bool))

    def _columns(self, scores: list[str], by_type: bool = True) -> Mask:
        """Which columns of the design these scores have, with the intercepts."""
        wanted = np.array([score in scores for score in SCORES])
        return np.concatenate([np.ones(self.first, dtype=bool), wanted, np.tile(wanted & by_type, self.types)])

    def _telling(self, threshold: float) -> list[str]:
        """Scores that tell: by slopes that all task types share, the one that tells least is left out until the slope of
        each that is left is so many standard errors above 0."""
        on = [score for place, score in enumerate(SCORES) if np.ptp(self.features[:, place])]
        while on:
            kept = self._columns(on, by_type=False)
            found, covariance = _logistic(self.design[:, kept], self.faulty, self.penalty[kept])
            certainty = (found / np.sqrt(np.diag(covariance)))[self.first :]
            if certainty.min() >= threshold:
                break
            on.pop(int(certainty.argmin()))
        return on

    def _slopes(self, judged: Mask) -> Array:
        """Coefficients by some of the judged rows. No slope of a task type is below 0: a worse score never speaks for a
        row."""
        found = np.zeros(len(self.kept))
        found[self.kept], _ = _logistic(self.design[judged][:, self.kept], self.faulty[judged], self.penalty[self.kept])
        shared, own = np.split(found[self.first :], [len(SCORES)])
        found[self.first + len(SCORES) :] = np.maximum(own, -np.tile(shared, self.types))
        return found

    def slope(self, score: str) -> float:
        """The slope that task types share."""
        return float(self.found[self.first + SCORES.index(score)])

    def parts(self, features: Array, task_types: Places) -> Array:
        """(rows, scores): what each score adds to the log-odds of each of these rows."""
        shared, own = np.split(self.found[self.first :], [len(SCORES)])
        return features * (shared + own.reshape(self.types, -1)[task_types])

    def likelihood(self, features: Array, task_types: Places) -> Array:
        """Of each of these rows."""
        return _sigmoid(self.found[0] + self.found[1 + task_types] + self.parts(features, task_types).sum(axis=1))

    def unseen(self, seed: int) -> Array:
        """The likelihood of each judged row by a fit to other judged rows."""
        fold = np.random.default_rng(seed).permutation(len(self.design)) % _FOLDS
        found = np.zeros(len(self.design))
        for part in range(_FOLDS):
            found[fold == part] = _sigmoid(self.design[fold == part] @ self._slopes(fold != part))
        return found


def _bound(unseen: Array, faulty: Mask, weight: Array, settings: Settings) -> float:
    """The least likelihood from which on rows are quarantined; above 1 where no bound satisfies the settings."""
    order = np.argsort(-unseen, kind="stable")
    likelihood = unseen[order]
    bad, good = np.cumsum((weight * faulty)[order]), np.cumsum((weight * ~faulty)[order])
    odds = bad[-1] / good[-1]
    loss_max = max(settings.loss_max, settings.loss_per_faulty * bad[-1] / (bad[-1] + good[-1]))
    satisfied = (good <= loss_max * good[-1]) & (bad >= settings.odds_min * odds * good)
    satisfied &= np.append(likelihood[1:] != likelihood[:-1], True)  # rows that are alike are above a bound together
    last = np.flatnonzero(satisfied & (likelihood >= settings.wrong_min))
    if not len(last):
        return float(np.nextafter(1.0, 2.0))
    next_row = likelihood[last[-1] + 1] if last[-1] + 1 < len(likelihood) else 0.0
    return max(settings.wrong_min, float(np.nextafter(next_row, 1.0)))


def _logistic(design: Array, outcome: Array, penalty: Array) -> tuple[Array, Array]:
    """(coefficients, their covariance) of a logistic regression with a penalty of half `penalty` times their squares, by
    Newton's method with steps of at most 2."""
    found = np.zeros(design.shape[1])
    for _ in range(100):
        likely = _sigmoid(design @ found)
        slope = design.T @ (likely - outcome) + penalty * found
        curve = (design.T * (likely * (1 - likely))) @ design + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        largest = float(np.abs(step).max())
        found -= step * min(1.0, 2.0 / largest) if largest else step
        if largest < 1e-8:
            break
    return found, np.linalg.inv(curve).astype(np.float64)


def _sigmoid(log_odds: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-np.clip(log_odds, -30.0, 30.0)))


def _share(weight: Array, which: Mask, confidence: float) -> dict[str, Any]:
    """The share of the weight that `which` has, with Wilson's two-sided interval at Kish's effective number of rows."""
    total = float(weight.sum())
    if not total:
        return {"share": None, "interval": [0.0, 1.0], "rows": 0}
    share = float(weight[which].sum()) / total
    rows = total**2 / float((weight**2).sum())
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    interval = [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]
    return {"share": round(share, 4), "interval": interval, "rows": len(weight)}
