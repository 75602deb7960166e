"""A candidate for a release next to the release in use: scores with intervals, rows, gates.

Belongs here: these tables, and comparing the scores of two releases. Not here: the gates (`gates.py`), their tests
(`scores.py`, `release_comparison.py`), printing (`speed_assets/cli`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import polars as pl

from checks.gates import refusals
from checks.release_comparison import trainings_of
from checks.score_tables import MODEL, differences_of_scoring
from resources.releases.releases import SAMPLES, SCORES, Release, current_release
from resources.store.artifacts import Artifacts, artifact_label
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.gate_refusals import GateRefusal, Refusal
from speed_assets.domain.statistics import (
    Verdict,
    compare,
    mean_over_tasks,
    samples_by_model,
    score_interval,
    superiority,
)
from speed_assets.recipe import Superior

Row = dict[str, Any]


class Scored(Protocol):
    """What has the tables of scores of a release."""

    def has_table(self, table: str) -> bool:
        """Whether it has a table of that name."""
        ...

    def table(self, name: str) -> pl.DataFrame:
        """A table of it."""
        ...


class Candidate:
    """What would be released under the recipe of `artifacts`, made or not."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def has_table(self, table: str) -> bool:
        """Whether the scores are made."""
        return table in (SCORES, SAMPLES) and self._artifacts.fetch("mteb_scores") is not None

    def table(self, name: str) -> pl.DataFrame:
        """The scores or their samples. Raises NotMaterialized."""
        scores = self._artifacts.get("mteb_scores")
        return scores.table("samples") if name == SAMPLES else scores.table()


def refusal_of(artifacts: Artifacts) -> Refusal | None:
    """Every reason against a release under the recipe of `artifacts`, with tables to judge the candidate by; None when there is
    no reason."""
    reasons = refusals(artifacts)
    if not reasons:
        return None
    last = current_release(artifacts.store, artifacts.recipe.name)
    made: dict[str, Callable[[], list[Row]]] = {
        "scores": lambda: score_rows(artifacts, last),
        "rows": lambda: row_counts(artifacts, last),
        "gates": lambda: [_gate_row(reason) for reason in reasons],
    }
    tables = {}
    for name, rows in made.items():
        with suppress(Exception):  # an artifact that is missing or damaged is among the reasons
            tables[name] = rows()
    return Refusal(reasons, {name: rows for name, rows in tables.items() if rows}, last.short if last else None)


def score_rows(artifacts: Artifacts, last: Release | None) -> list[Row]:
    """A line for each task of a candidate, with intervals of 1 - `checks.superior.alpha`.

    Next to a release that was scored in the same way, the interval is that of the difference; without one it is that of the
    candidate's score. Scores are points of 0..1.
    """
    candidate, settings, seed = Candidate(artifacts), artifacts.recipe.checks.superior, artifacts.recipe.seed
    if last is None:
        return _own_scores(candidate, settings, seed)
    found = compared_scores(last, candidate, settings, seed)
    if found["lines"]:
        return [
            {
                "task": line["task"],
                "release": line["old"],
                "candidate": line["new"],
                **{name: line[name] for name in ("difference", "low", "high")},
                "verdict": line["word"],
            }
            for line in found["lines"]
        ]
    before = dict(_scores_of_model(last)) if last.has_table(SCORES) else {}
    why = "; ".join(found["not_comparable"])
    return [
        {"task": task, "release": before.get(task), "candidate": round(score, 5), "not_compared": why}
        for task, score in _scores_of_model(candidate)
    ]


def row_counts(artifacts: Artifacts, last: Release | None) -> list[Row]:
    """How many rows a candidate and the release have, by task type."""
    made = "final_triplets" in artifacts.graph  # a given model has no rows
    candidate = dict(artifacts.get("final_triplets").table()["task_type"].value_counts().iter_rows()) if made else {}
    before = dict(last.json("manifest.json")["rows"]) if last else {}
    rows = []
    for name in dict.fromkeys([*before, *sorted(candidate)]):
        rows.append({"task_type": name, "release": before.get(name, 0), "candidate": candidate.get(name, 0)})
    rows.append({"task_type": "all", "release": sum(before.values()), "candidate": sum(candidate.values())})
    return [row | {"change": row["candidate"] - row["release"]} for row in rows]


def compared_scores(old: Scored, new: Scored, settings: Superior, seed: int) -> dict[str, Any]:
    """The scores of two releases, over the trainings of each.

    Args:
        old: the release that is compared with.
        new: the release or candidate that is compared.
        settings: alpha and the number of resamples.
        seed: of the bootstrap.

    Returns:
        `lines`: for the mean over tasks and for each task, new minus old with a 1 - alpha interval over samples and trainings;
        or in `not_comparable` the reasons why there are none.

    Raises:
        ValueError: the two were not scored on the same samples, or there are too few resamples for alpha.
    """
    if not all(release.has_table(table) for release in (old, new) for table in (SCORES, SAMPLES)):
        return {"lines": [], "not_comparable": ["one of the two holds no samples: it was made before releases did"]}
    if found := differences_of_scoring(new.table(SCORES), old.table(SCORES)):
        return {"lines": [], "not_comparable": found}
    ours, theirs = (trainings_of(samples_by_model(release.table(SAMPLES))) for release in (new, old))
    differences = [
        compare(
            task,
            [training[task] for training in ours],
            [training[task] for training in theirs],
            resamples=settings.resamples,
            seed=seed_for(seed, "diff", task),
        )
        for task in ours[0]
    ]
    verdicts = superiority(differences, settings.alpha)
    if differences:
        verdicts = [*superiority([mean_over_tasks(differences)], settings.alpha), *verdicts]
    return {
        "alpha": settings.alpha,
        "trainings": [len(theirs), len(ours)],
        "lines": [_line(verdict) for verdict in verdicts],
        "not_comparable": [],
    }


def _line(verdict: Verdict) -> Row:
    difference = verdict.difference
    return {
        "task": difference.task,
        "old": round(difference.theirs, 5),
        "new": round(difference.ours, 5),
        "difference": round(difference.value, 5),
        "low": round(verdict.low, 5),
        "high": round(verdict.high, 5),
        "word": verdict.word,
    }


def _own_scores(candidate: Candidate, settings: Superior, seed: int) -> list[Row]:
    samples = samples_by_model(candidate.table(SAMPLES)).get(MODEL, {})
    rows = []
    for task, score in _scores_of_model(candidate):
        row: Row = {"task": task, "candidate": round(score, 5), "low": None, "high": None}
        if task in samples:
            draws = seed_for(seed, "interval", task)
            edges = score_interval(samples[task], resamples=settings.resamples, seed=draws, alpha=settings.alpha)
            row["low"], row["high"] = (round(edge, 5) for edge in edges)
        rows.append(row)
    return rows


def _scores_of_model(scored: Scored) -> Sequence[tuple[str, float]]:
    scores: Sequence[tuple[Any, ...]] = (
        scored.table(SCORES).filter(pl.col("model") == MODEL).select("task", "score").sort("task").rows()
    )
    return [(str(task), float(score)) for task, score in scores]


def _gate_row(reason: GateRefusal) -> Row:
    artifact = artifact_label(reason.stage, reason.partition)
    return {"gate": reason.check or "made", "artifact": artifact, "reason": reason.sentence}
