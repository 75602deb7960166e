"""`speed quarantine`: quarantined rows of every stage, counted and chosen.

Reads the tables of the stages, not the asset `quarantine`: where a gate stopped the run, that asset does not exist yet.
Invalid outputs of generators are included, although they stay in their tables.

Belongs here: reading and choosing rows. Not here: rejecting rows (each stage), printing (`speed_assets/cli`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from resources.store.artifacts import Artifacts, artifact_label
from resources.store.shared_store import store_of
from speed_assets.assets.quarantine import counted, with_broken
from speed_assets.recipe import Recipe, RecipeError


@dataclass(frozen=True)
class QuarantinedRows:
    """Quarantined rows, and the names of the tables that are not made yet."""

    rows: pl.DataFrame
    missing: list[str]

    def chosen(self, conditions: Mapping[str, str]) -> QuarantinedRows:
        """The rows with these values of `stage`, `reason` or `task_type`. Raises RecipeError when no row has a value."""
        rows = self.rows
        for name, value in conditions.items():
            values = rows[name].drop_nulls().unique().sort().to_list()
            if value not in values:
                raise RecipeError(f"no row has {name} {value}; there are {', '.join(values) or 'no rows at all'}")
            rows = rows.filter(pl.col(name) == value)
        return QuarantinedRows(rows, self.missing)

    def counts(self) -> list[dict[str, Any]]:
        """{stage, reason, task_type, rows}, the most first."""
        return counted(self.rows, "stage", "reason", "task_type").to_dicts()

    def by_reason(self) -> list[dict[str, Any]]:
        """{stage, reason, rows, task_types: {task type or `-`: rows}}, stages in order, the most first."""
        counts = counted(self.rows, "stage", "reason", "task_type")
        entries = counted(self.rows, "stage", "reason").sort("stage", "rows", descending=[False, True]).to_dicts()
        for entry in entries:
            of = counts.filter(stage=entry["stage"], reason=entry["reason"])
            entry["task_types"] = {name or "-": n for name, n in of.select("task_type", "rows").iter_rows()}
        return entries


def quarantined_rows(recipe: Recipe, home: Path) -> QuarantinedRows:
    """Quarantined rows of every table of a recipe that is made."""
    artifacts = Artifacts(recipe, store_of(home))
    tables = [
        (stage.name, part) for stage, part in artifacts.in_build_order() if stage.kind == "table" and not stage.gathers
    ]
    found = [artifacts.fetch(*table) for table in tables]
    missing = [artifact_label(*table) for table, artifact in zip(tables, found, strict=True) if artifact is None]
    return QuarantinedRows(with_broken(artifact for artifact in found if artifact is not None), missing)
