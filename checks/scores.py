"""Checks on scores: whether the comparison is complete, and whether the embedding model wins it.

Belongs here: gates and warnings on `mteb_scores` of one recipe. Not here: comparison with the last release
(`release_comparison.py`), statistics (`domain/statistics`).
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from checks.check import EXAMPLES, TABLE, Check, Outcome, Subject
from checks.own_gain import own_gain
from checks.release_comparison import non_inferior
from checks.score_tables import MODEL, UNTRAINED, same_identity, verdict_row
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import (
    compare,
    mean_over_tasks,
    samples_by_model,
    superiority,
)
from speed_assets.recipe import Recipe

BM25 = "bm25"


def every_score(subject: Subject) -> Outcome:
    """Every model that the recipe compares has a score on every task."""
    scores = subject.artifact.table()
    tasks = sorted(scores["task"].unique())
    untrained = [UNTRAINED] * subject.recipe.mteb_scores.untrained
    # A model that is given has no other trainings.
    reruns = subject.recipe.embedding_reruns.names() if "embedding_reruns" in subject.recipe.graph() else ()
    wanted = [MODEL, *reruns, *_rivals(subject.recipe), *untrained]
    there = set(scores.select("model", "task").iter_rows())
    missing = [{"model": model, "task": task} for model in wanted for task in tasks if (model, task) not in there]
    metadata: dict[str, Any] = {"models": len(wanted), "tasks": len(tasks), "missing": len(missing)}
    if not tasks:
        return Outcome(False, "0 tasks were scored, at least 1 is needed: check `evaluation` in the recipe", metadata)
    finding = f"{len(missing)} of {len(wanted) * len(tasks)} scores are missing, 0 may be"
    if not missing:
        return Outcome(True, finding, metadata)
    named = ", ".join(f"{gap['model']} on {gap['task']}" for gap in missing[:EXAMPLES])
    return Outcome(False, f"{finding}: {named}; score them again", {**metadata, "failing_rows": missing})


def sound_judgements(subject: Subject) -> Outcome:
    """Whether anything in the user's own evaluation sets lowers the scores of every model, as the scoring noted it."""
    notes: list[str] = subject.artifact.metadata.get("notes", [])
    if not notes:
        return Outcome(True, "0 notes on the judgements of evaluation sets in folders, 0 may be")
    reason = f"{len(notes)} notes on the judgements of evaluation sets, 0 may be: {'; '.join(notes[:EXAMPLES])}"
    return Outcome(False, f"{reason}; correct the sets, or read their scores with this in mind", {"notes": notes})


def beats_untrained(subject: Subject) -> Outcome:
    """Gain of the mean score over the untrained embedding base."""
    if not subject.recipe.mteb_scores.untrained:
        return Outcome(True, "the untrained base was not to be scored (mteb_scores.untrained)")
    return _gains(subject, [UNTRAINED], "gain_over_untrained_min")


def beats_baselines(subject: Subject) -> Outcome:
    """Gain of the mean score over every trained baseline and BM25."""
    rivals = _rivals(subject.recipe)
    if not rivals:
        return Outcome(True, "no baseline was to be scored (mteb_scores.baselines, mteb_scores.bm25)")
    return _gains(subject, rivals, "gain_over_baselines_min")


def superior(subject: Subject) -> Outcome:
    """Paired bootstrap against every other model: the mean over tasks must be better and no task worse.

    Beating all of several models needs no correction: all of them must be beaten. Tasks without samples
    (`workers/samples.py`) are not tested. The spread between training seeds is not in the intervals.

    Raises:
        ValueError: The model and another have samples of no common task.
    """
    settings = subject.recipe.checks.superior
    must = {BM25: BM25, UNTRAINED: UNTRAINED, **{table: f"{table} only" for table in ("seed_data", "junior_data")}}
    blocking = [must[name] for name in settings.over]
    untrained = [UNTRAINED] * subject.recipe.mteb_scores.untrained
    rivals = [*untrained, *_rivals(subject.recipe)]
    if not rivals:
        return Outcome(True, "no other model was to be scored (mteb_scores)")
    scores = subject.artifact.table()
    samples = samples_by_model(subject.artifact.table("samples"))
    lines: list[dict[str, Any]] = []
    words: dict[str, str] = {}
    for rival in rivals:
        same_identity(scores, rival)
        tasks = [task for task in samples[MODEL] if task in samples.get(rival, {})]
        if not tasks:
            raise ValueError(f"{MODEL} and {rival} have samples of no common task")
        differences = []
        for task in tasks:
            seed = seed_for(subject.recipe.seed, "superior", task)
            pair = [samples[MODEL][task]], [samples[rival][task]]
            differences.append(compare(task, *pair, resamples=settings.resamples, seed=seed))
        verdicts = superiority(differences, settings.alpha)
        (mean,) = superiority([mean_over_tasks(differences)], settings.alpha)
        lines += [verdict_row(rival, v) for v in (mean, *verdicts)]
        worse = [v.difference.task for v in verdicts if v.word == "worse"]
        better = sum(v.word == "better" for v in verdicts)
        words[rival] = "superior" if mean.word == "better" and not worse else "not superior"
        words[f"{rival} in words"] = (
            f"{words[rival]} to {rival}: {mean.difference.value:+.4f} [{mean.low:+.4f}, {mean.high:+.4f}] "
            f"on the mean of {len(tasks)} tasks, p = {mean.p:.4f}; better on {better}"
            + (f", worse on {', '.join(worse)}" if worse else ", worse on none")
        )
    failed = [rival for rival in blocking if words[rival] != "superior"]
    findings = "; ".join(words[f"{rival} in words"] for rival in failed or rivals)
    verdict = f"at alpha {settings.alpha:g} {MODEL} is {findings}"
    metadata = {TABLE: lines, "verdict": verdict, "must_beat": blocking, "resamples": settings.resamples}
    if not failed:
        return Outcome(True, verdict, metadata)
    advice = "train on more or better rows, score more samples, or name fewer models in checks.superior.over"
    return Outcome(False, f"{verdict}: {advice}", metadata)


def _rivals(recipe: Recipe) -> list[str]:
    """Names of the models to beat, as `mteb_scores` spells them."""
    return [f"{table} only" for table in recipe.mteb_scores.baselines] + [BM25] * recipe.mteb_scores.bm25


def _gains(subject: Subject, rivals: list[str], field: str) -> Outcome:
    """Whether the mean score beats each rival's by the threshold, over the tasks that both were scored on."""
    least: float = getattr(subject.recipe.checks, field)
    gains = [_gain(subject.artifact.table(), rival) for rival in rivals]
    worst = min(gains, key=lambda gain: -math.inf if math.isnan(gain["gain"]) else gain["gain"])
    finding = (
        f"{MODEL} scores {worst['score']:.4f} and {worst['rival']} {worst['rival_score']:.4f} "
        f"on {worst['tasks']} tasks, a gain of {worst['gain']:+.4f}, "
        f"at least {least:+.4f} is required (checks.{field})"
    )
    advice = "look at final_triplets for rows that are wrong, at the training, and at the scores of each task"
    passed = worst["gain"] >= least
    return Outcome(passed, finding if passed else f"{finding}: {advice}", {"gains": gains})


def _gain(scores: pl.DataFrame, rival: str) -> dict[str, Any]:
    """Mean scores over common tasks. Raises ValueError when there is none."""
    ours = scores.filter(pl.col("model") == MODEL)
    theirs = scores.filter(pl.col("model") == rival)
    both = ours.join(theirs, on="task", suffix="_rival")
    if both.is_empty():
        raise ValueError(f"{MODEL} and {rival} were scored on no common task")
    score, rival_score = both.select(pl.col("score", "score_rival").mean()).row(0)
    return {
        "rival": rival,
        "tasks": both.height,
        "score": score,
        "rival_score": rival_score,
        "gain": score - rival_score,
    }


CHECKS: tuple[Check, ...] = (
    Check("mteb_scores", "every_score", True, "Every model has a score on every task.", every_score),
    Check(
        "mteb_scores",
        "sound_judgements",
        False,
        "Nothing in the user's own evaluation sets lowers the scores of every model.",
        sound_judgements,
    ),
    Check(
        "mteb_scores",
        "beats_untrained",
        True,
        "The trained model beats the untrained base.",
        beats_untrained,
        ("gain_over_untrained_min",),
    ),
    Check(
        "mteb_scores",
        "beats_baselines",
        False,
        "The model of the complete loop beats models of parts of it, and BM25.",
        beats_baselines,
        ("gain_over_baselines_min",),
    ),
    Check(
        "mteb_scores",
        "superior",
        True,
        "The embedding model is significantly better than the models named in checks.superior.over.",
        superior,
        ("superior",),
    ),
    Check(
        "mteb_scores",
        "own_gain",
        True,
        "The model is better than its base on the user's own set, by the bound of checks.own_evaluation where there is one.",
        own_gain,
        ("own_evaluation",),
    ),
    Check(
        "mteb_scores",
        "non_inferior",
        True,
        "No task may have lost more than its margin since the release in use.",
        non_inferior,
        ("non_inferior",),
    ),
)
