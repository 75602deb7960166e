"""The page of an asset in Dagster: results and plots first, then rows, figures, provenance.

Belongs here: how metadata of an artifact are shown. Not here: making an artifact (`stage.py`).
"""

from __future__ import annotations

import base64
import inspect
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from resources.store.artifacts import artifact_label
from resources.store.store import UNHASHED_DIR, Artifact
from speed_assets.domain.columns import COLUMNS
from speed_assets.domain.rounding import rounded

CELL_CHARACTERS = 300
"""Characters of a cell that metadata keep (ours)."""
_RELEASED = "embedding_model"
"""The model of a release, among those that were scored."""
TABLE_ROWS, TABLE_COLUMNS = 60, 16
"""Rows and columns of the largest figure that is shown as a table (ours); a larger one is JSON behind a click."""
_PLOT_BYTES = 60_000
"""Larger plots stay on disk: metadata are stored in Dagster's event log (ours)."""
_DIGEST = re.compile("[0-9a-f]{64}")
_FIRST = (
    "number",
    "mean",
    "rows_released",
    "scores",
    "sd_between_seeds",
    "rows",
    "sets",
    "answers",
    "retrievers",
    "asked",
    "quarantined",
    "counts",
    "truth",
    "valid_share",
    "faulty_share",
    "kept",
    "removed",
    "warning",
    "loss_first",
    "loss_last",
    "judged",
    "reward_accuracy",
    "model_card",
    "folder",
)
"""What of an artifact's figures is looked for first."""


def describe(
    artifact: Artifact, reused: bool, seconds: float, made_of: Mapping[tuple[str, str | None], str]
) -> dict[str, Any]:
    """Dagster metadata of an artifact, in the order in which a person reads: results, plots, rows, figures, provenance.

    Model text is shown as cells of tables and as JSON only, never as markup.

    Args:
        artifact: the complete artifact.
        reused: whether it was a cache hit.
        seconds: wall-clock time of the step.
        made_of: {(input asset, partition): content digest}, as `Artifacts.input_digests` returns it.

    Returns:
        Values by name, as Dagster takes them.
    """
    metadata = {name: value for name, value in artifact.metadata.items() if value not in ({}, [], None)}
    columns, sample = metadata.pop("columns", {}), metadata.pop("sample", [])
    digests = {name: metadata.pop(name) for name in list(metadata) if _of_digests(metadata[name])}
    nested_last = sorted(metadata, key=lambda name: isinstance(metadata[name], dict | list))
    figures = {name: _shown(metadata[name]) for name in nested_last}
    if artifact.asset == "release":
        figures |= {**_release_figures(artifact), "folder": dg.MetadataValue.path(str(artifact.path))}
    shown: dict[str, Any] = {name: figures[name] for name in _FIRST if name in figures} | _plots(artifact)
    if sample:
        shown["sample"] = _table(sample, _schema(columns))
    shown |= figures
    if columns:
        shown["dagster/column_schema"] = dg.MetadataValue.table_schema(_schema(columns))
    if "rows" in metadata:
        shown["dagster/row_count"] = metadata["rows"]
    return {
        **shown,
        "folder": dg.MetadataValue.path(str(artifact.path)),
        "reused": reused,
        "step_seconds": round(seconds, 2),
        "made_of": dg.MetadataValue.json({artifact_label(*source): content for source, content in made_of.items()}),
        **{name: _json_or_text(value) for name, value in digests.items()},
        "fingerprint": artifact.fingerprint,
        "digest": artifact.digest,
    }


def _of_digests(value: Any) -> bool:
    """Whether a figure is a digest or some by name: provenance, nothing to read."""
    found = list(value.values()) if isinstance(value, dict) else [value]
    return bool(found) and all(isinstance(entry, str) and _DIGEST.fullmatch(entry) for entry in found)


def source_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Metadata by which the page links to the code of a stage, as it is on this machine."""
    code = inspect.unwrap(function).__code__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(
            file_path=code.co_filename, line_number=code.co_firstlineno, label=function.__name__
        )
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def table_of(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows of plain cells as a table; text is shown as it is, never as markup."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return _table(rows, dg.TableSchema([dg.TableColumn(name, "any") for name in columns]))


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
    """A row for each model and task, the released model first: score and interval, in points of 0..1; null where no samples are kept."""
    rows = []
    for model, by_task in sorted(scores.items(), key=lambda entry: entry[0] != _RELEASED):
        for task, score in by_task.items():
            low, high = intervals.get(model, {}).get(task) or (None, None)
            rows.append({"model": model, "task": task, "score": rounded(score), "low": low, "high": high})
    return rows


def _shown(value: Any) -> Any:
    """A figure as it is shown: four significant digits of fractions, a table of what is nested."""
    if isinstance(value, dict | list):
        rows = _rows(value)
        columns = {name: None for row in rows for name in row}
        fits = 0 < len(rows) <= TABLE_ROWS and len(columns) <= TABLE_COLUMNS
        if not fits or any(_is_cut(cell) for row in rows for cell in row.values()):
            return dg.MetadataValue.json(value)
        return table_of(rows)
    return rounded(value) if isinstance(value, float) else value


def _rows(value: dict[str, Any] | list[Any]) -> list[dict[str, Any]]:
    """The rows of a nested figure; none where it is no table.

    >>> _rows({"junior": {"a": 1}, "senior": {"a": 2}})
    [{'name': 'junior', 'a': 1}, {'name': 'senior', 'a': 2}]
    >>> _rows({"a": 1, "b": [2]})
    [{'name': 'a', 'value': 1}, {'name': 'b', 'value': [2]}]
    >>> _rows([{"a": 1}, {"a": 2}]), _rows([1, 2])
    ([{'a': 1}, {'a': 2}], [])
    """
    if isinstance(value, list):
        return value if all(isinstance(row, dict) for row in value) else []
    if all(isinstance(row, dict) for row in value.values()):
        return [{"name": name, **row} for name, row in value.items()]
    return [{"name": name, "value": cell} for name, cell in value.items()]


def _table(rows: Sequence[Mapping[str, Any]], schema: dg.TableSchema) -> dg.TableMetadataValue:
    names = [column.name for column in schema.columns]
    return dg.MetadataValue.table(
        [dg.TableRecord({name: _in_table(row.get(name)) for name in names}) for row in rows], schema=schema
    )


def _is_cut(cell: Any) -> bool:
    """Whether a table would show less of it than there is."""
    return isinstance(cell, dict | list) and len(json.dumps(cell, ensure_ascii=False)) > CELL_CHARACTERS


def _json_or_text(value: Any) -> Any:
    return value if isinstance(value, str) else dg.MetadataValue.json(value)


def _schema(columns: Mapping[str, str]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(name, dtype, description=COLUMNS.get(name)) for name, dtype in columns.items()]
    )


def _in_table(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return rounded(value)
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
