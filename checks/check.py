"""A check of one artifact, its subject, and its outcome.

Belongs here: these three values, and example rows for metadata. Not here: any particular check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from resources.store.store import Artifact, Store
from speed_assets.recipe import Recipe

EXAMPLES = 5
"""Example rows of a fault: enough to see it, few enough for an event log."""
TABLE = "table"
"""The entry of metadata that the UI shows as a table: a list of rows with the same plain cells."""
CELL = 200
"""Characters of one cell; the rest is cut."""


@dataclass(frozen=True)
class Subject:
    """What a check gets: the artifact, the recipe with the thresholds, and the store with earlier releases.

    `partition` is a task type or None.
    """

    artifact: Artifact
    recipe: Recipe
    partition: str | None
    store: Store


@dataclass(frozen=True)
class Outcome:
    """`reason` is one sentence with number and threshold, and with what to do when it failed.

    `metadata` holds plain JSON values: numbers, strings, lists of mappings.
    """

    passed: bool
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of one asset. A blocking check is a gate; the others warn.

    Raise `version` when the outcome for the same artifact and thresholds may change. `thresholds` are the fields of
    `recipe.checks` that it reads, and it gets no other: a changed threshold evaluates only the checks that read it. `fields` are
    `section.field` of what else it reads of the recipe apart from the artifact.
    """

    asset: str
    name: str
    blocking: bool
    description: str
    evaluate: Callable[[Subject], Outcome]
    thresholds: tuple[str, ...] = ()
    version: int = 1
    fields: tuple[str, ...] = ()


def example_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The first rows of a frame as plain JSON values, long cells cut."""
    return [{name: _cell(value) for name, value in row.items()} for row in frame.head(EXAMPLES).iter_rows(named=True)]


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"
