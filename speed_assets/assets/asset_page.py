"""The page of an asset in Dagster: results and plots first, then rows, figures, provenance.

Belongs here: how metadata of an artifact are shown. Not here: making an artifact (`stage.py`).
"""

from __future__ import annotations

import base64
import inspect
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from resources.store.artifacts import artifact_label
from resources.store.store import UNHASHED_DIR, Artifact
from speed_assets.domain.columns import COLUMNS

CELL_CHARACTERS = 300
"""Characters of a cell that metadata keep (ours)."""
_PLOT_BYTES = 60_000
"""Larger plots stay on disk: metadata are stored in Dagster's event log (ours)."""


def describe(
    artifact: Artifact, reused: bool, seconds: float, made_of: Mapping[tuple[str, str | None], str]
) -> dict[str, Any]:
    """Dagster metadata of an artifact, in the order in which a person reads: results, plots, rows, figures, provenance.

    Model text is shown as cells of tables and as JSON only, never as markup. `made_of` is `Artifacts.made_of` of it.
    """
    metadata = dict(artifact.metadata)
    columns, sample = metadata.pop("columns", {}), metadata.pop("sample", [])
    nested_last = sorted(metadata, key=lambda name: isinstance(metadata[name], dict | list))
    figures = {name: _shown(metadata[name]) for name in nested_last}
    if artifact.asset == "release":
        figures |= _release_figures(artifact)
    shown: dict[str, Any] = {name: figures[name] for name in _FIRST if name in figures} | _plots(artifact)
    if sample:
        rows = [dg.TableRecord({name: _in_table(value) for name, value in row.items()}) for row in sample]
        shown["sample"] = dg.MetadataValue.table(rows, schema=_schema(columns))
    shown |= figures
    if columns:
        shown["dagster/column_schema"] = dg.MetadataValue.table_schema(_schema(columns))
    if "rows" in metadata:
        shown["dagster/row_count"] = metadata["rows"]
    return {
        **shown,
        "dagster/uri": dg.MetadataValue.path(str(artifact.path)),
        "reused": reused,
        "step_seconds": round(seconds, 2),
        "made_of": dg.MetadataValue.json({artifact_label(*source): content for source, content in made_of.items()}),
        "fingerprint": artifact.fingerprint,
        "digest": artifact.digest,
    }


_FIRST = (
    "number",
    "scores",
    "mean",
    "rows_released",
    "rows",
    "asked",
    "quarantined",
    "truth",
    "kept",
    "removed",
    "warning",
    "loss_first",
    "loss_last",
    "model_card",
)
"""What of an artifact's figures is looked for first."""


def source_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Metadata by which the page links to the code of a stage, as it is on this machine."""
    code = inspect.unwrap(function).__code__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(
            file_path=code.co_filename, line_number=code.co_firstlineno, label=function.__name__
        )
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def table_of(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue[Any]:
    """Rows with the same plain cells as a table; text is shown as it is, never as markup."""
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows])


def _shown(value: Any) -> Any:
    """A figure as it is shown: four significant digits of fractions, rows as a table, JSON of what else is nested."""
    if rows := _rows_of(value):
        return table_of(rows)
    if isinstance(value, dict | list):
        return dg.MetadataValue.json(value)
    return dg.MetadataValue.null() if value is None else _rounded(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
    return value


def _rows_of(value: Any) -> list[dict[str, Any]]:
    """The rows of a list of mappings with the same plain values, or of a mapping of such mappings; else none."""
    if isinstance(value, dict) and all(isinstance(inner, dict) for inner in value.values()):
        value = [{"": name, **inner} for name, inner in value.items() if "" not in inner]
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) and row for row in value):
        return []
    plain = all(cell is None or isinstance(cell, str | int | float) for row in value for cell in row.values())
    if not plain or any(row.keys() != value[0].keys() for row in value):
        return []
    return [{name: _rounded(cell) for name, cell in row.items()} for row in value]


def _release_figures(artifact: Artifact) -> dict[str, Any]:
    """Scores with their intervals, and the model card, whose texts are escaped."""
    try:
        manifest = json.loads((artifact.path / "manifest.json").read_text(encoding="utf-8"))
        card = (artifact.path / "model" / "README.md").read_text(encoding="utf-8")
        rows = _score_rows(manifest["scores"], manifest["score_intervals"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # a release of an earlier version
        return {}
    return {"scores": table_of(rows), "model_card": dg.MetadataValue.md(card.split("\n---\n", 1)[-1].strip())}


def _score_rows(
    scores: Mapping[str, Mapping[str, float]], intervals: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[dict[str, Any]]:
    """A row for each model and task: score and interval, in points of 0..1; null where no samples are kept."""
    rows = []
    for model, by_task in scores.items():
        for task, score in by_task.items():
            low, high = intervals.get(model, {}).get(task) or (None, None)
            rows.append({"model": model, "task": task, "score": _rounded(score), "low": low, "high": high})
    return rows


def _schema(columns: Mapping[str, str]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(name, dtype, description=COLUMNS.get(name)) for name, dtype in columns.items()]
    )


def _in_table(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if value is None or isinstance(value, str | int):
        return value
    return json.dumps(value, ensure_ascii=False)[:CELL_CHARACTERS]


def _plots(artifact: Artifact) -> dict[str, Any]:
    """Plots of an artifact that are small enough for the event log, by name."""
    found, folder = {}, artifact.path / UNHASHED_DIR
    for plot in [*sorted(folder.glob("*.png")), *sorted(folder.glob("*/*.png"))]:
        if plot.stat().st_size <= _PLOT_BYTES:
            picture = base64.b64encode(plot.read_bytes()).decode()
            name = f"{plot.stem}_plot" if plot.stem in artifact.metadata else plot.stem
            name = name if plot.parent == folder else f"{name}_of_{plot.parent.name}"
            found[name] = dg.MetadataValue.md(f"![{plot.stem}](data:image/png;base64,{picture})")
    return found
