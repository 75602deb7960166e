"""The parts of a report that read tables: revisions, quarantine, scores with intervals, changes since a release.

Belongs here: choosing a few rows, and comparing. Not here: sums over artifacts (`contents.py`), HTML (`page.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from resources.releases.releases import SAMPLES
from resources.store.store import Artifact, StoreError
from speed_assets.assets.quarantine import counted, gathered
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import samples_by_model, score_interval
from speed_assets.orchestration.diff import changed_values, diff, flat_values
from speed_assets.orchestration.report.subject import Subject
from speed_assets.recipe import Superior

REVISIONS = 6
"""Rows before and after the revisor, as many of each task type as possible (ours: a screen of them)."""
REASONS = 8
"""Reasons of the quarantine with examples, the most frequent first."""
EXAMPLES = 2
"""Examples for each reason."""
CHARACTERS = 600
"""Of a text of a row; the table of the artifact has all of it."""
CHANGES = 40
"""Changed values that are listed, of the recipe and of figures each."""


def revisions(subject: Subject) -> dict[str, Any] | None:
    """Rows that the revisor changed: each changed field before and after; None without a table of revised rows.

    Returns:
        At most `REVISIONS` of the changed rows, task types in turns, and how many rows were changed and read.
    """
    tables = [artifact.table() for artifact in subject.tables("revised_data")]
    tables = [table for table in tables if {"before", "output", "changed"} <= {*table.columns}]
    if not tables:
        return None
    changed = [table.filter(pl.col("changed").fill_null(False)) for table in tables]
    rows: list[dict[str, Any]] = []
    for place in range(REVISIONS):  # one of each task type, round after round
        for table in changed:
            if place < table.height and len(rows) < REVISIONS:
                rows.append(_revision(table.row(place, named=True)))
    return {
        "rows": rows,
        "changed": sum(table.height for table in changed),
        "read": sum(table.height for table in tables),
    }


def _revision(row: Mapping[str, Any]) -> dict[str, Any]:
    before, after = _fields(row["before"]), _fields(row["output"])
    names = dict.fromkeys([*before, *after])
    return {
        "row_id": row["row_id"],
        "task_type": row["task_type"],
        "topic": row["topic"],
        "reason": row.get("reason") or "",
        "fields": [
            {"name": name, "before": _cut(before.get(name, "")), "after": _cut(after.get(name, ""))}
            for name in names
            if before.get(name) != after.get(name)
        ],
    }


def _fields(text: str | None) -> dict[str, str]:
    """The fields of a record that a model wrote; all of it under one name where it is no mapping."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return {"output": text or ""}
    return {str(name): item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"


def quarantined(subject: Subject) -> dict[str, Any]:
    """Counts of quarantined rows by stage and reason, and examples of the most frequent reasons."""
    artifacts = [
        artifact
        for name, kind in subject.kinds.items()
        if kind == "table" and name != "quarantine"
        for artifact in subject.tables(name)
    ]
    rows = gathered(artifacts)
    counts = counted(rows, "stage", "reason").to_dicts()
    most = max((entry["rows"] for entry in counts), default=0) or 1
    examples = []
    for entry in counts[:REASONS]:
        some = rows.filter(stage=entry["stage"], reason=entry["reason"]).head(EXAMPLES)
        examples.append(
            {
                **entry,
                "examples": [
                    {
                        "row_id": row["row_id"],
                        "task_type": row["task_type"],
                        "detail": _cut(row["detail"] or ""),
                        "raw": _cut(row["raw"] or ""),
                    }
                    for row in some.iter_rows(named=True)
                ],
            }
        )
    return {
        "rows": rows.height,
        "counts": [{**entry, "share": entry["rows"] / most} for entry in counts],
        "examples": examples,
    }


def scores(subject: Subject) -> dict[str, Any] | None:
    """Scores of every model with intervals, the released one first, and its paired differences from the others.

    Returns:
        {tasks, models: [{name, mean, scores: {task: {score, low, high}}}], alpha, differences, trainings}; None where nothing
        is scored. `differences` are those of the check `superior`, in pairs by sample and after Holm.
    """
    found = next(iter(subject.of("mteb_scores")), None)
    if found is None:
        return None
    by_model: Mapping[str, Mapping[str, float]] = found.metadata["scores"]
    settings = Superior.model_validate((subject.published.get("checks") or {}).get("superior") or {})
    intervals = _intervals(subject, settings)
    tasks = list(next(iter(by_model.values())))
    models = [
        {
            "name": model,
            "mean": sum(of.values()) / len(of),
            "scores": {
                task: dict(zip(("score", "low", "high"), (of[task], *edges), strict=True))
                for task in tasks
                for edges in [intervals.get(model, {}).get(task, (None, None))]
            },
        }
        for model, of in by_model.items()
        if " rerun " not in model
    ]
    models.sort(key=lambda model: model["name"] != "embedding_model")
    superior = subject.outcomes.get(("mteb_scores", None), {}).get("superior", {})
    return {
        "tasks": tasks,
        "models": models,
        "alpha": settings.alpha,
        "differences": (superior.get("metadata") or {}).get("table") or [],
        "sentence": superior.get("reason", ""),
        "trainings": found.metadata.get("trainings"),
        "sd": found.metadata.get("sd_between_seeds"),
    }


def _intervals(subject: Subject, settings: Superior) -> dict[str, dict[str, tuple[float, float]]]:
    """1 - alpha bootstrap intervals over samples, drawn as those of a release's card."""
    artifact: Artifact | None = next(subject.tables("mteb_scores"), None)
    if artifact is None or not (frame := artifact.table(SAMPLES)).width:
        return {}
    seed = int(subject.published.get("seed") or 0)
    return {
        model: {
            task: score_interval(
                samples, resamples=settings.resamples, seed=seed_for(seed, "interval", task), alpha=settings.alpha
            )
            for task, samples in by_task.items()
        }
        for model, by_task in samples_by_model(frame).items()
        if " rerun " not in model
    }


def changes(subject: Subject) -> dict[str, Any] | None:
    """What differs from the release before, or from the current one where there is no new release; None without one."""
    old = subject.previous
    if old is None:
        return None
    try:
        if subject.release is not None:
            found = diff(old, subject.release)
            return {
                "old": old.short,
                "recipe": _listed(found["recipe"]),
                "rows": _listed(found["rows"]),
                "scores": found["scores"]["lines"],
                "not_comparable": found["scores"]["not_comparable"],
                "made_of": sorted({name.partition("/")[0] for name in found["made_of"]}),
            }
        before, after = flat_values(old.json("recipe.json")), flat_values(dict(subject.published))
    except StoreError as error:
        return {"old": old.short, "recipe": [], "rows": [], "scores": [], "not_comparable": [str(error)], "made_of": []}
    return {
        "old": old.short,
        "recipe": _listed(changed_values(before, after)) if subject.published else [],
        "rows": [],
        "scores": [],
        "not_comparable": ["there is no new release: a comparison in pairs needs one"],
        "made_of": [],
    }


def _listed(changed: Mapping[str, list[Any]]) -> list[dict[str, str]]:
    shown = [{"name": name, "old": _short(before), "new": _short(after)} for name, (before, after) in changed.items()]
    return shown[:CHANGES]


def _short(value: Any) -> str:
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
