"""The quarantine: every row that any stage rejected, in one table.

Belongs here: gathering, counting and plotting rejected rows. Not here: rejecting rows (each stage), or readmitting them
(`final_triplets.readmit`, `domain/funnel.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from resources.store.store import Artifact
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.rows import QUARANTINE_SCHEMA, empty_quarantine, quarantined

_BARS = 24
"""Reasons in the plot; what is rarer is in the metadata."""


def quarantine(run: StageRun[None]) -> dict[str, Any]:
    """The quarantine tables of all stages, concatenated in the order of the graph."""
    artifacts = [artifact for group in run.inputs.values() for artifact in group.values()]
    rows = gathered(artifacts)
    run.write(rows)
    counts = counted(rows, "stage", "reason", "task_type")
    plot_counts(counts, run.unhashed / "quarantine_counts.png")
    return {
        "asked": sum(int(artifact.metadata.get("quarantined", 0)) for artifact in artifacts),
        "counts": counts.to_dicts(),
    }


def gathered(artifacts: Iterable[Artifact]) -> pl.DataFrame:
    """The quarantine tables of these artifacts, concatenated."""
    tables = [artifact.table("quarantine") for artifact in artifacts]
    return pl.concat([empty_quarantine(), *(table.select(*QUARANTINE_SCHEMA) for table in tables if table.width)])


def with_broken(artifacts: Iterable[Artifact]) -> pl.DataFrame:
    """The quarantine tables of these artifacts, and the invalid rows of tables that keep those.

    A generator's table holds every output, since judge and revisor learn from flawed ones. So when a gate stops a run
    there, the invalid outputs explain it and no quarantine does.
    """
    kept = list(artifacts)
    broken = [
        quarantined(
            rows.filter(~pl.col("valid")),
            artifact.asset,
            None,
            pl.col("problem").fill_null("not_whole"),
            pl.format("candidate {}, kept in the table", "candidate"),
            pl.col("output"),
        )
        for artifact in kept
        if {"valid", "candidate", "problem", "output"} <= {*(rows := artifact.table()).columns}
    ]
    return pl.concat([gathered(kept), *broken])


def counted(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """How many rows share these columns, most first: the columns and `rows`."""
    return rows.group_by(columns).len("rows").sort("rows", *columns, descending=[True, *(False for _ in columns)])


def plot_counts(counts: pl.DataFrame, path: Path) -> None:
    """The most frequent reasons of each stage, as bars of rows by task type."""
    from matplotlib.figure import Figure

    named = counts.with_columns(
        name=pl.format("{}: {}", "stage", "reason"), task_type=pl.col("task_type").fill_null("-")
    )
    totals = named.group_by("name").agg(pl.col("rows").sum()).sort("rows", "name", descending=[True, False])
    names = totals["name"].head(_BARS).to_list()
    figure = Figure(figsize=(7, 0.22 * len(names) + 1), dpi=110, layout="constrained")
    axes = figure.subplots()
    left = dict.fromkeys(names, 0)
    for task_type in named["task_type"].unique().sort():
        rows = dict(named.filter(pl.col("task_type") == task_type).select("name", "rows").iter_rows())
        axes.barh(names, [rows.get(name, 0) for name in names], left=list(left.values()), label=task_type)
        left = {name: before + rows.get(name, 0) for name, before in left.items()}
    axes.invert_yaxis()
    axes.tick_params(labelsize=7)
    axes.set_xlabel("rows")
    if names:
        axes.legend(fontsize=7)
    figure.savefig(path)
