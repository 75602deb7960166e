"""Checks on scores: whether the comparison is whole, and whether the embedding model wins it.

Belongs here: gates and warnings on `mteb_scores`. Not here: statistics of scores (`speed_assets/domain`).
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from checks.check import EXAMPLES, Check, Outcome, Subject
from speed_assets.recipe import Recipe

MODEL = "embedding_model"
UNTRAINED = "untrained"
BM25 = "bm25"


def every_score(subject: Subject) -> Outcome:
    """Every model that the recipe compares has a score on every task."""
    scores = subject.artifact.table()
    tasks = sorted(scores["task"].unique())
    wanted = [MODEL, *_rivals(subject.recipe), *([UNTRAINED] if subject.recipe.mteb_scores.untrained else [])]
    there = set(scores.select("model", "task").iter_rows())
    missing = [{"model": model, "task": task} for model in wanted for task in tasks if (model, task) not in there]
    metadata: dict[str, Any] = {"models": len(wanted), "tasks": len(tasks), "missing": len(missing)}
    if not tasks:
        return Outcome(False, "0 tasks were scored, at least 1 is needed: look at `evaluation` in the recipe", metadata)
    finding = f"{len(missing)} of {len(wanted) * len(tasks)} scores are missing, 0 may be"
    if not missing:
        return Outcome(True, finding, metadata)
    named = ", ".join(f"{gap['model']} on {gap['task']}" for gap in missing[:EXAMPLES])
    return Outcome(False, f"{finding}: {named}; score them again", {**metadata, "failing_rows": missing})


def beats_untrained(subject: Subject) -> Outcome:
    """Gain of the mean score over the embedding base as it was before training."""
    if not subject.recipe.mteb_scores.untrained:
        return Outcome(True, "the untrained base was not to be scored (mteb_scores.untrained)")
    return _gains(subject, [UNTRAINED], "gain_over_untrained_min")


def beats_baselines(subject: Subject) -> Outcome:
    """The same over every trained baseline and over BM25."""
    rivals = _rivals(subject.recipe)
    if not rivals:
        return Outcome(True, "no baseline was to be scored (mteb_scores.baselines, mteb_scores.bm25)")
    return _gains(subject, rivals, "gain_over_baselines_min")


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
        f"at least {least:+.4f} is asked for (checks.{field})"
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
    Check("mteb_scores", "beats_untrained", True, "Training made the embedding model better.", beats_untrained),
    Check(
        "mteb_scores",
        "beats_baselines",
        False,
        "The whole loop is worth more than parts of it, and than BM25.",
        beats_baselines,
    ),
)
