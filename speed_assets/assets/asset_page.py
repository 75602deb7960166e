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
    "rows",
    "asked",
    "quarantined",
    "truth",
    "kept",
    "removed",
    "warning",
    "loss_first",
    "loss_last",
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
    """A figure as it is shown: four significant digits of fractions, JSON of what is nested."""
    if isinstance(value, dict | list):
        return dg.MetadataValue.json(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
    return dg.MetadataValue.null() if value is None else value


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
    found = {}
    for plot in sorted((artifact.path / UNHASHED_DIR).glob("*.png")):
        if plot.stat().st_size <= _PLOT_BYTES:
            picture = base64.b64encode(plot.read_bytes()).decode()
            name = f"{plot.stem}_plot" if plot.stem in artifact.metadata else plot.stem
            found[name] = dg.MetadataValue.md(f"![{plot.stem}](data:image/png;base64,{picture})")
    return found
