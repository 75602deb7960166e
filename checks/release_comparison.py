"""The check that no task lost more than its margin since the release in use.

Belongs here: the comparison with the last release: its test, its words, its metadata. Not here: comparisons within one
recipe (`scores.py`), statistics (`domain/statistics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from checks.check import TABLE, Outcome, Subject
from checks.score_tables import MODEL, differences_of_scoring, verdict_row
from resources.releases.releases import SAMPLES, SCORES, Release, current_release
from resources.store.manifests import integrity_problem
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import (
    TaskSamples,
    Verdict,
    compare,
    non_inferiority,
    samples_by_model,
)
from speed_assets.recipe import NonInferior


def trainings_of(samples: Mapping[str, dict[str, TaskSamples]]) -> list[dict[str, TaskSamples]]:
    """The samples of every training of the embedding model.

    Args:
        samples: By model and task.

    Returns:
        {task: samples} of the model and then of each of its reruns.

    Raises:
        KeyError: The model has no samples.
    """
    return [samples[MODEL], *(found for name, found in samples.items() if name.startswith(f"{MODEL} rerun "))]


def task_verdicts(
    ours: Sequence[Mapping[str, TaskSamples]],
    theirs: Sequence[Mapping[str, TaskSamples]],
    margins: Mapping[str, float],
    settings: NonInferior,
    seed: int,
) -> list[Verdict]:
    """The test behind `non_inferior`.

    Args:
        ours: {task: samples} of each training of the candidate.
        theirs: The same of the release.
        margins: By task, the score points (0..1) that it may lose.
        settings: Resamples and alpha.
        seed: Of the recipe.

    Returns:
        A verdict on each task.
    """
    differences = []
    for task in ours[0]:
        here, there = ([training[task] for training in side] for side in (ours, theirs))
        draws = seed_for(seed, "non_inferior", task)
        differences.append(compare(task, here, there, resamples=settings.resamples, seed=draws))
    return non_inferiority(differences, margins, settings.alpha)


def _seed_noise(verdict: Verdict) -> dict[str, float]:
    noise = verdict.difference.noise
    return {} if noise is None else {"seed_noise": round(noise, 5)}


def non_inferior(subject: Subject) -> Outcome:
    """Whether any task may have lost more than its margin since the release of this recipe that is in use.

    Each task is tested alone, on paired samples and with the spread between the trainings of both sides
    (`embedding_reruns`), and each has to pass (see `statistics.non_inferiority` for why nothing is adjusted). The
    burden of proof is the new model's: a difference that may be a loss is refused, so there must be enough reruns for
    equal models to pass (`benchmarks/gate.py`). The check judges the recipe and its data, by the mean over trainings.
    Both sides' spread counts the chance of samples once more, which errs on the side of refusing.

    Scores taken in another way (tasks, data sets, metrics, library versions) are not compared, and do not pass either.
    """
    last = current_release(subject.store, subject.recipe.name)
    if last is None:
        return Outcome(True, f"recipe {subject.recipe.name} has no release in this home that could be better")
    return _outcome_without_test(subject, last) or _outcome_of(_tested(subject, last))


def _outcome_without_test(subject: Subject, last: Release) -> Outcome | None:
    """The outcome where there is nothing to test, or where scores cannot be compared; None where they can."""
    if last.inputs.get("mteb_scores") == subject.artifact.digest:
        return Outcome(True, f"these are the scores of release {last.short}, which is in use: nothing to compare")
    for name, reason in subject.recipe.checks.non_inferior.waived.items():
        if last.fingerprint.startswith(name):
            return Outcome(True, f"not compared with release {last.short} (checks.non_inferior.waived): {reason}")
    if problem := integrity_problem(last.path):
        advice = "go back to a valid one with `speed rollback`"
        return Outcome(False, f"release {last.short} is damaged and cannot be compared with ({problem}): {advice}")
    if not last.has_table(SAMPLES):
        return Outcome(True, f"release {last.short} was made before releases held their scores: nothing to compare")
    if faults := differences_of_scoring(subject.artifact.table(), last.table(SCORES)):
        advice = (
            "score that release's recipe in this way and release it, or write why it is not to be compared with into "
            "checks.non_inferior.waived"
        )
        reason = f"scores and those of release {last.short} cannot be compared: {'; '.join(faults)}: {advice}"
        return Outcome(False, reason, {"unlike": faults})
    return None


@dataclass(frozen=True)
class _Comparison:
    """The tested tasks of a candidate against a release."""

    release: Release
    settings: NonInferior
    verdicts: Sequence[Verdict]
    margins: Mapping[str, float]
    """Score points of 0..1 that a task may lose."""
    untested: Sequence[str]
    """Tasks without samples."""
    trainings: tuple[int, int]
    """Of the candidate and of the release."""

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.word != "no worse"]

    def margin(self, verdict: Verdict) -> float:
        return self.margins[verdict.difference.task]


def _tested(subject: Subject, last: Release) -> _Comparison:
    """Raises ValueError where the candidate has samples of no task."""
    settings = subject.recipe.checks.non_inferior
    here = trainings_of(samples_by_model(subject.artifact.table(SAMPLES)))
    there = trainings_of(samples_by_model(last.table(SAMPLES)))
    if not here[0]:
        raise ValueError(f"{MODEL} has samples of no task")
    of_model = subject.artifact.table().filter(pl.col("model") == MODEL)
    metrics = dict(of_model.select("task", "metric").iter_rows())
    margins = {task: settings.margins.get(metric, settings.margin) for task, metric in metrics.items()}
    verdicts = task_verdicts(here, there, margins, settings, subject.recipe.seed)
    untested = sorted(metrics.keys() - here[0].keys())
    return _Comparison(last, settings, verdicts, margins, untested, (len(here), len(there)))


def _outcome_of(comparison: _Comparison) -> Outcome:
    finding = _finding_of(comparison)
    if not comparison.failed:
        return Outcome(True, finding, _metadata_of(comparison, finding))
    advice = "look at what changed (`speed diff`), or, if that is only noise, raise embedding_reruns.count"
    return Outcome(False, f"{finding}: {advice}", _metadata_of(comparison, finding))


def _finding_of(comparison: _Comparison) -> str:
    """One sentence: the tasks that failed with their intervals, or the one that came closest to its margin."""
    failed, verdicts = comparison.failed, comparison.verdicts
    closest = failed or [min(verdicts, key=lambda verdict: verdict.low + comparison.margin(verdict))]
    intervals = ", ".join(
        f"{verdict.difference.task} {verdict.difference.value:+.4f} [{verdict.low:+.4f}, {verdict.high:+.4f}] "
        f"where {-comparison.margin(verdict):+.4f} may be lost"
        for verdict in closest
    )
    here, there = comparison.trainings
    finding = (
        f"against release {comparison.release.short}, at alpha {comparison.settings.alpha:g} and over {here} and {there} "
        f"trainings, {'no task' if not failed else f'{len(failed)} of {len(verdicts)} tasks'} may have lost more than "
        f"its margin ({'closest: ' if not failed else ''}{intervals})"
    )
    if verdicts[0].difference.noise is None:
        finding += "; what the seed does is unknown (embedding_reruns.count)"
    if comparison.untested:
        finding += f"; not tested, for want of samples: {', '.join(comparison.untested)}"
    return finding


def _metadata_of(comparison: _Comparison, finding: str) -> dict[str, Any]:
    rival = f"release {comparison.release.short}"
    return {
        TABLE: [
            {**verdict_row(rival, verdict), "margin": comparison.margin(verdict), **_seed_noise(verdict)}
            for verdict in comparison.verdicts
        ],
        "verdict": finding,
        "release": comparison.release.fingerprint,
        "trainings": comparison.trainings[0],
        "release_trainings": comparison.trainings[1],
        "not_tested": list(comparison.untested),
        "resamples": comparison.settings.resamples,
    }
