"""`speed diff`: what differs between two releases: recipe, inputs, rows, scores with intervals, figures.

Belongs here: comparing what two releases hold. Not here: printing (`speed_assets/cli`), judging (`checks/scores.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checks.release_comparison import trainings_of
from checks.score_tables import differences_of_scoring
from resources.releases.releases import SAMPLES, SCORES, Release
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import compare, mean_over_tasks, samples_by_model, superiority
from speed_assets.recipe import Superior

_FIGURES = ("teacher", "removed", "contamination", "libraries", "models", "licences", "trainings", "sd_between_seeds")
"""Entries of the manifest that the cards state, next to rows and scores."""


def diff(old: Release, new: Release) -> dict[str, Any]:
    """What differs between two releases.

    Args:
        old: the release to compare with.
        new: the release that is compared; alpha and resamples are its `checks.superior`.

    Returns:
        {"recipe", "made_of", "rows", "figures"}: differences as {name: [old, new]}, null where one has no such entry.
        `scores` has a line for each task and for their mean: new minus old with a 1 - alpha interval over samples and
        trainings, or in `not_comparable` the reasons why there are none.

    Raises:
        StoreError: for a release that lacks a file that is compared.
    """
    manifests = [release.json("manifest.json") for release in (old, new)]
    recipes = [release.json("recipe.json") for release in (old, new)]
    made_of = [{name: a["digest"] for name, a in manifest["artifacts"].items()} for manifest in manifests]
    released = [release.manifest["metadata"].get("rows_released") for release in (old, new)]
    rows = [{**manifest.get("rows", {}), "all": count} for manifest, count in zip(manifests, released, strict=True)]
    return {
        "old": old.fingerprint,
        "new": new.fingerprint,
        "recipe": changed_values(*map(flat_values, recipes)),
        "made_of": changed_values(*made_of),
        "rows": changed_values(*rows),
        "scores": _scores(old, new, Superior.model_validate(recipes[1]["checks"]["superior"]), recipes[1]["seed"]),
        "figures": changed_values(
            *(flat_values({name: manifest.get(name) for name in _FIGURES}) for manifest in manifests)
        ),
    }


def _scores(old: Release, new: Release, settings: Superior, seed: int) -> dict[str, Any]:
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
        "lines": [
            {
                "task": v.difference.task,
                "old": round(v.difference.theirs, 5),
                "new": round(v.difference.ours, 5),
                "difference": round(v.difference.value, 5),
                "low": round(v.low, 5),
                "high": round(v.high, 5),
                "word": v.word,
            }
            for v in verdicts
        ],
        "not_comparable": [],
    }


def changed_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{name: [old, new]} of values that differ, null where one has no such name."""
    names = dict.fromkeys([*old, *new])
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def flat_values(value: Any, path: str = "") -> dict[str, Any]:
    """{dotted path: value} of nested mappings; in a list of mappings, the first field of each is its name."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = {str(next(iter(item.values()), at)): item for at, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= flat_values(item, f"{path}.{name}" if path else str(name))
    return found
