"""The report of a rehearsal, as JSON and as text for a terminal of 80 columns.

Belongs here: putting the report together, and its text. Not here: measuring (`rehearsal_measures.py`), extrapolating
(`rehearsal_estimates.py`), running (`rehearse.py`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.orchestration.home_environment import home_environment
from speed_assets.orchestration.rehearsal_estimates import full_recipe
from speed_assets.orchestration.rehearsal_measures import failed_gates, stage_measures
from speed_assets.orchestration.rehearse import Rehearsed
from speed_assets.recipe import Recipe


def as_json(recipe: Recipe, rehearsed: Rehearsed, skipped: bool) -> dict[str, Any]:
    """The report of a rehearsal as plain values.

    Args:
        recipe: the full recipe.
        rehearsed: its rehearsal.
        skipped: whether the recipe's own evaluation was left out.
    """
    with home_environment(rehearsed.home, shared=False):
        measures = stage_measures(rehearsed)
        release = Artifacts(rehearsed.recipe, Store(rehearsed.home)).peek("release")
        refused = failed_gates(recipe, rehearsed)
        full = full_recipe(recipe, rehearsed, measures, skipped) if measures else None
    report = rehearsed.report
    return {
        "recipe": recipe.name,
        "home": str(rehearsed.home),
        "wall_s": round(report.wall_s, 1),
        "stages": [asdict(stage) for stage in measures],
        "gates_that_would_refuse": refused,
        "reached_the_end": release is not None,
        "release": ("would be refused" if refused else "would be made") if release is not None else "not reached",
        "errors": report.errors,
        "full": full,
    }


def as_text(report: Mapping[str, Any]) -> list[str]:
    """Lines of at most 80 columns for the values of `as_json`."""
    lines = ["", f"{'stage':<17}{'rows':>7}{'valid':>7}{'cut':>5}{'s':>8}{'calls':>7}{'tokens':>10}{'money':>10}"]
    for stage in report["stages"]:
        cells = [_cell(stage[name]) for name in ("made", "valid", "cut")]
        money = "-" if stage["money"] is None else f"{stage['money']:.4f}"
        marked = "*" if stage["stand_ins"] else ""
        lines.append(
            f"{stage['stage'] + marked:<17}{cells[0]:>7}{cells[1]:>7}{cells[2]:>5}{stage['seconds']:>8.1f}"
            f"{_cell(stage['calls'] or None):>7}{_cell(stage['tokens']):>10}{money:>10}"
        )
    if stand_ins := sum(stage["stand_ins"] for stage in report["stages"]):
        lines += ["* invalid rows were replaced by examples of the teacher:", f"  {stand_ins} rows in all; they do not count as valid"]  # fmt: skip
    refused = report["gates_that_would_refuse"]
    lines += ["", f"gates that would have failed (a rehearsal does not stop at them): {len(refused)}"]
    for gate in refused:
        lines += textwrap.wrap(
            f"{gate['artifact']} {gate['check']}: {gate['reason']}", 78, initial_indent="  ", subsequent_indent="    "
        )
    lines += ["", f"release: {report['release']}"]
    return [*lines, *_estimates(report["full"])] if report["full"] else lines


def _estimates(full: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "estimates for the full recipe             low      likely        high",
        f"{'teacher calls':<34}{'':>10}{full['calls']:>12,}",
        _span("teacher tokens", full["teacher_tokens"], "{:,.0f}"),
        _span(f"money {full['currency'] or ''}", full["money"], "{:,.2f}")
        if full["money"]
        else f"{'money':<34}{'':>10}{'unknown':>12}",
        _span("hours of models (GPU or CPU)", full["model_hours"], "{:,.2f}"),
        _span("disk, GB", full["disk_gb"], "{:,.2f}"),
    ]
    if full["evaluation"] != "measured":
        lines.append("these hours do not include the evaluation, which was left out")
    return lines


def _cell(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _span(name: str, span: Mapping[str, float], shape: str) -> str:
    low, likely, high = (shape.format(span[part]) for part in ("low", "likely", "high"))
    return f"{name:<34}{low:>10}{likely:>12}{high:>12}"
