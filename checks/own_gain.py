"""The gate on the user's own evaluation set: whether the embedding model is better than its base there.

Belongs here: that test, its words, its metadata. Not here: the other comparisons of one recipe (`scores.py`), statistics
(`domain/statistics`).
"""

from __future__ import annotations

from typing import Any

from checks.check import TABLE, Outcome, Subject
from checks.score_tables import MODEL, UNTRAINED, same_identity
from speed_assets.domain.evaluation_folders import OWN_SETS
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import Difference, compare, samples_by_model
from speed_assets.recipe import OwnGain


def own_gain(subject: Subject) -> Outcome:
    """Whether the model gains more over the untrained base on each of the user's sets than the recipe asks for.

    Queries are paired, and each set is tested alone and has to pass, so nothing is adjusted (see
    `statistics.non_inferiority`). The burden of proof is the model's: a gain that may be less is refused. The spread between
    training seeds is not in the intervals.
    """
    settings: OwnGain | None = subject.recipe.checks.own_evaluation
    if settings is None:
        return Outcome(True, "no gain on the user's own set is asked for (checks.own_evaluation)")
    samples = samples_by_model(subject.artifact.table("samples"))
    sets = [name for name in OWN_SETS if name in samples.get(MODEL, {})]
    if not sets:
        reason = "the user's own set has no samples: give mteb_scores the artifact own_evaluation, or set checks.own_evaluation=null"
        return Outcome(False, reason)
    if missing := [name for name in sets if name not in samples.get(UNTRAINED, {})]:
        return Outcome(False, f"the untrained base has no samples of {missing[0]}: set mteb_scores.untrained=true")
    same_identity(subject.artifact.table(), UNTRAINED)
    differences = [
        compare(
            name,
            [samples[MODEL][name]],
            [samples[UNTRAINED][name]],
            resamples=settings.resamples,
            seed=seed_for(subject.recipe.seed, "own gain", name),
        )
        for name in sets
    ]
    return _outcome(differences, settings)


def _outcome(differences: list[Difference], settings: OwnGain) -> Outcome:
    """Raises ValueError where there are too few draws for any p-value to fall under alpha."""
    if settings.resamples < 1 / settings.alpha:
        raise ValueError(f"alpha {settings.alpha:g} needs at least {1 / settings.alpha:.0f} resamples")
    lines = [_line(difference, settings) for difference in differences]
    failed = [line for line in lines if not line["passed"]]
    found = "; ".join(
        f"{line['task']} {line['difference']:+.4f} (at least {line['low']:+.4f}, p = {line['p']:.4f}, {line['samples']} queries)"
        for line in failed or lines
    )
    finding = (
        f"at alpha {settings.alpha:g} the gain over the untrained base is {'not shown to be' if failed else ''} above "
        f"{settings.gain_min:+.4f} (checks.own_evaluation.gain_min): {found}"
    ).replace("  ", " ")
    metadata: dict[str, Any] = {TABLE: lines, "verdict": finding, "resamples": settings.resamples}
    if not failed:
        return Outcome(True, finding, metadata)
    advice = "train on more or better rows, take more queries (own_evaluation), or lower gain_min"
    return Outcome(False, f"{finding}: {advice}", metadata)


def _line(difference: Difference, settings: OwnGain) -> dict[str, Any]:
    """The test on one set as a row; `low` is the lower end of the one-sided interval."""
    p = difference.p_above(settings.gain_min)
    numbers = {
        "score": difference.ours,
        "untrained": difference.theirs,
        "difference": difference.value,
        "low": difference.interval(2 * settings.alpha)[0],
        "p": p,
    }
    shown = {name: round(value, 5) for name, value in numbers.items()}
    return {"task": difference.task, "samples": difference.samples, **shown, "passed": p <= settings.alpha}
