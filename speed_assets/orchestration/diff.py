"""`speed diff`: what differs between two releases: recipe, inputs, rows, scores with intervals, figures.

Belongs here: comparing what two releases hold. Not here: printing (`speed_assets/cli`), judging (`checks/scores.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import polars as pl

from checks.candidate import Candidate, Scored, compared_scores
from resources.releases.releases import Release
from resources.store.artifacts import Artifacts
from resources.store.store import StoreError
from speed_assets.assets.release import manifest_of
from speed_assets.recipe import Superior

_FIGURES = (
    "teacher",
    "removed",
    "contamination",
    "libraries",
    "models",
    "given",
    "licences",
    "trainings",
    "sd_between_seeds",
)
"""Entries of the manifest that the cards state, next to rows and scores."""


class Comparable(Scored, Protocol):
    """What can be compared: a release, or what would be released now."""

    @property
    def fingerprint(self) -> str:
        """64 hex digits, or a word for what has none yet."""
        ...

    def json(self, name: str) -> Any:
        """`manifest.json` or `recipe.json`."""
        ...


class Now(Candidate):
    """What would be released now under a recipe, whether gates refuse it or not."""

    fingerprint = "now"

    def __init__(self, artifacts: Artifacts) -> None:
        super().__init__(artifacts)
        self._of = artifacts

    @cached_property
    def _files(self) -> dict[str, Any]:
        return {"manifest.json": manifest_of(self._of), "recipe.json": self._of.lineage("release")["recipe"]}

    def json(self, name: str) -> Any:
        """As the release would have it. Raises NotMaterialized, for the first artifact that is missing."""
        return self._files[name]


def diff(old: Comparable, new: Comparable) -> dict[str, Any]:
    """What differs between two releases, or between a release and what would be released now (`Now`).

    Args:
        old: the release to compare with.
        new: what is compared; alpha and resamples are its `checks.superior`.

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
    by_type = [manifest.get("rows") for manifest in manifests]
    rows = [
        {**(counts or {}), "all": _released(of) if counts is None else sum(counts.values())}
        for counts, of in zip(by_type, (old, new), strict=True)
    ]
    return {
        "old": old.fingerprint,
        "new": new.fingerprint,
        "recipe": changed_values(*map(flat_values, recipes)),
        "made_of": changed_values(*made_of),
        "rows": changed_values(*rows),
        "scores": _compared(old, new, recipes[1]),
        "figures": changed_values(
            *(flat_values({name: manifest.get(name) for name in _FIGURES}) for manifest in manifests)
        ),
    }


def _compared(old: Comparable, new: Comparable, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Scores under the settings of the new release. Raises StoreError where settings or tables are not those of a release."""
    try:
        settings = Superior.model_validate((recipe.get("checks") or {}).get("superior") or {})
        return compared_scores(old, new, settings, recipe.get("seed") or 0)
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        words = " ".join(str(error).split())[:200]
        raise StoreError(
            f"scores of {old.fingerprint[:12]} and {new.fingerprint[:12]} cannot be compared: {words}"
        ) from None


def _released(release: Comparable) -> Any:
    return release.manifest["metadata"].get("rows_released") if isinstance(release, Release) else None


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
