"""Checks on scores: whether the comparison is whole, and whether the embedding model wins it.

Belongs here: gates and warnings on `mteb_scores`. Not here: statistics (`domain/statistics.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from checks.check import EXAMPLES, TABLE, Check, Outcome, Subject
from resources.releases.releases import SAMPLES, SCORES, current_release
from resources.store.store import integrity_problem
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import (
    TaskSamples,
    Verdict,
    compare,
    mean_over_tasks,
    non_inferiority,
    samples_by_model,
    superiority,
)
from speed_assets.recipe import NonInferior, Recipe

MODEL = "embedding_model"
UNTRAINED = "untrained"
BM25 = "bm25"
SAME = ("dataset_revision", "mteb", "sentence_transformers", "transformers", "instruction")
"""What two scores must share to be compared."""


def every_score(subject: Subject) -> Outcome:
    """Every model that the recipe compares has a score on every task."""
    scores = subject.artifact.table()
    tasks = sorted(scores["task"].unique())
    untrained = [UNTRAINED] * subject.recipe.mteb_scores.untrained
    wanted = [MODEL, *subject.recipe.embedding_reruns.names(), *_rivals(subject.recipe), *untrained]
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


def superior(subject: Subject) -> Outcome:
    """Paired bootstrap against every other model: the mean over tasks must be better and no task worse.

    Beating all of several models needs no correction: all of them must be beaten. Tasks without samples
    (`workers/samples.py`) are not tested. What training under another seed would change is not in the intervals.
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
        _same_identity(scores, rival)
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
        lines += [_line(rival, v) for v in (mean, *verdicts)]
        worse = [v.difference.task for v in verdicts if v.word == "worse"]
        better = sum(v.word == "better" for v in verdicts)
        words[rival] = "superior" if mean.word == "better" and not worse else "not superior"
        words[f"{rival} in words"] = (
            f"{words[rival]} to {rival}: {mean.difference.value:+.4f} [{mean.low:+.4f}, {mean.high:+.4f}] "
            f"on the mean of {len(tasks)} tasks, p = {mean.p:.4f}; better on {better}"
            + (f", worse on {', '.join(worse)}" if worse else ", worse on none")
        )
    failed = [rival for rival in blocking if words[rival] != "superior"]
    told = "; ".join(words[f"{rival} in words"] for rival in failed or rivals)
    verdict = f"at alpha {settings.alpha:g} {MODEL} is {told}"
    metadata = {TABLE: lines, "verdict": verdict, "must_beat": blocking, "resamples": settings.resamples}
    if not failed:
        return Outcome(True, verdict, metadata)
    advice = "train on more or better rows, score more samples, or name fewer models in checks.superior.over"
    return Outcome(False, f"{verdict}: {advice}", metadata)


def non_inferior(subject: Subject) -> Outcome:
    """Whether any task may have lost more than its margin since the release of this recipe that is in use.

    Each task is tested for itself, by samples in pairs and with the spread between the trainings of both sides
    (`embedding_reruns`), and each has to pass (see `statistics.non_inferiority` for why nothing is adjusted). The
    burden of proof is the new model's: what cannot be told from a loss is refused, so reruns are as many as make
    equal models pass (`benchmarks/gate.py`). What is judged is the recipe and its data, by the mean over trainings.
    Both sides' spread counts the chance of samples once more, on the side of refusing.

    Scores taken otherwise (tasks, data sets, metrics, library versions) are not compared, and not passed either.
    """
    settings = subject.recipe.checks.non_inferior
    last = current_release(subject.store, subject.recipe.name)
    if last is None:
        return Outcome(True, f"recipe {subject.recipe.name} has no release in this home that could be better")
    if last.inputs.get("mteb_scores") == subject.artifact.digest:
        return Outcome(True, f"these are the scores of release {last.short}, which is in use: nothing to compare")
    for name, reason in settings.waived.items():
        if last.fingerprint.startswith(name):
            return Outcome(True, f"not compared with release {last.short} (checks.non_inferior.waived): {reason}")
    if problem := integrity_problem(last.path):
        advice = "go back to a whole one with `speed rollback`"
        return Outcome(False, f"release {last.short} is damaged and cannot be compared with ({problem}): {advice}")
    if not last.has_table(SAMPLES):
        return Outcome(True, f"release {last.short} was made before releases held their scores: nothing to compare")
    ours, theirs = subject.artifact.table(), last.table(SCORES)
    if faults := unlike(ours, theirs):
        advice = (
            "score that release's recipe in this way and release it, or write why it is not to be compared with into "
            "checks.non_inferior.waived"
        )
        reason = f"scores and those of release {last.short} cannot be compared: {'; '.join(faults)}: {advice}"
        return Outcome(False, reason, {"unlike": faults})
    here, there = (trainings_of(samples_by_model(t)) for t in (subject.artifact.table(SAMPLES), last.table(SAMPLES)))
    metrics = dict(ours.filter(pl.col("model") == MODEL).select("task", "metric").iter_rows())
    margins = {task: settings.margins.get(metric, settings.margin) for task, metric in metrics.items()}
    if not here[0]:
        raise ValueError(f"{MODEL} has samples of no task")
    verdicts = losses(here, there, margins, settings, subject.recipe.seed)
    lines = [{**_line(f"release {last.short}", v), "margin": margins[v.difference.task], **_noise(v)} for v in verdicts]
    untested = sorted(metrics.keys() - here[0].keys())
    failed = [v for v in verdicts if v.word != "no worse"]
    closest = failed or [min(verdicts, key=lambda v: v.low + margins[v.difference.task])]
    told = ", ".join(
        f"{v.difference.task} {v.difference.value:+.4f} [{v.low:+.4f}, {v.high:+.4f}] "
        f"where {-margins[v.difference.task]:+.4f} may be lost"
        for v in closest
    )
    finding = (
        f"against release {last.short}, at alpha {settings.alpha:g} and over {len(here)} and {len(there)} "
        f"trainings, {'no task' if not failed else f'{len(failed)} of {len(verdicts)} tasks'} may have lost more than "
        f"its margin ({'closest: ' if not failed else ''}{told})"
        + (
            ""
            if verdicts[0].difference.noise is not None
            else "; what the seed does is unknown (embedding_reruns.count)"
        )
        + (f"; not tested, for want of samples: {', '.join(untested)}" if untested else "")
    )
    metadata = {
        TABLE: lines,
        "verdict": finding,
        "release": last.fingerprint,
        "trainings": len(here),
        "release_trainings": len(there),
        "not_tested": untested,
        "resamples": settings.resamples,
    }
    if not failed:
        return Outcome(True, finding, metadata)
    advice = "look at what changed (`speed diff`), or, if that is only noise, raise embedding_reruns.count"
    return Outcome(False, f"{finding}: {advice}", metadata)


def trainings_of(samples: Mapping[str, dict[str, TaskSamples]]) -> list[dict[str, TaskSamples]]:
    """{task: samples} of the embedding model and then of each of its reruns. Raises KeyError without the model."""
    return [samples[MODEL], *(found for name, found in samples.items() if name.startswith(f"{MODEL} rerun "))]


def losses(
    ours: Sequence[Mapping[str, TaskSamples]],
    theirs: Sequence[Mapping[str, TaskSamples]],
    margins: Mapping[str, float],
    settings: NonInferior,
    seed: int,
) -> list[Verdict]:
    """The test behind `non_inferior`, a verdict on each task: `ours` and `theirs` are {task: samples}, one for each
    training.
    """
    differences = []
    for task in ours[0]:
        here, there = ([training[task] for training in side] for side in (ours, theirs))
        draws = seed_for(seed, "non_inferior", task)
        differences.append(compare(task, here, there, resamples=settings.resamples, seed=draws))
    return non_inferiority(differences, margins, settings.alpha)


def _noise(verdict: Verdict) -> dict[str, float]:
    noise = verdict.difference.noise
    return {} if noise is None else {"seed_noise": round(noise, 5)}


def unlike(ours: pl.DataFrame, theirs: pl.DataFrame) -> list[str]:
    """In which ways two tables of scores were taken otherwise, in words; empty when they may be compared."""
    ours, theirs = (_asked(table.filter(pl.col("model") == MODEL)) for table in (ours, theirs))
    here, there = set(ours["task"]), set(theirs["task"])
    found = [f"{task} is missing" for task in sorted(there - here)]
    found += [f"{task} is new" for task in sorted(here - there)]
    both = ours.join(theirs, on="task", suffix="_last")
    for column in ("metric", *SAME):
        other = both.filter(pl.col(column) != pl.col(f"{column}_last"))
        for task, now, before in other.select("task", column, f"{column}_last").head(1).iter_rows():
            found.append(f"{column} is {now} and was {before} on {task} and {other.height - 1} other tasks")
    return found


def _asked(scores: pl.DataFrame) -> pl.DataFrame:
    """Scores with their instruction; releases from before that column say `none`, as models without one do."""
    return scores if "instruction" in scores.columns else scores.with_columns(instruction=pl.lit("none"))


def _line(rival: str, verdict: Verdict) -> dict[str, Any]:
    difference = verdict.difference
    numbers = {
        "score": difference.ours,
        "rival_score": difference.theirs,
        "difference": difference.value,
        "low": verdict.low,
        "high": verdict.high,
        "p": verdict.p,
        "p_adjusted": verdict.adjusted,
    }
    shown = {name: round(value, 5) for name, value in numbers.items()}
    return {"rival": rival, "task": difference.task, "samples": difference.samples, **shown, "verdict": verdict.word}


def _same_identity(scores: pl.DataFrame, rival: str) -> None:
    """Raises ValueError where two scores were not taken in the same way."""
    ours, theirs = (scores.filter(pl.col("model") == model) for model in (MODEL, rival))
    both = ours.join(theirs, on="task", suffix="_rival")
    for column in SAME:
        other = both.filter(pl.col(column) != pl.col(f"{column}_rival"))
        if other.height:
            raise ValueError(
                f"{MODEL} and {rival} differ in {column} on {other['task'][0]}, so they cannot be compared"
            )


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
    Check(
        "mteb_scores",
        "beats_untrained",
        True,
        "Training made the embedding model better.",
        beats_untrained,
        ("gain_over_untrained_min",),
    ),
    Check(
        "mteb_scores",
        "beats_baselines",
        False,
        "The whole loop is worth more than parts of it, and than BM25.",
        beats_baselines,
        ("gain_over_baselines_min",),
    ),
    Check(
        "mteb_scores",
        "superior",
        True,
        "The embedding model is better than what it is compared with, beyond the chance of samples.",
        superior,
        ("superior",),
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
