"""Cards of a release, written from its manifest and lineage.

Belongs here: the text of model card and dataset card. Model text never stands in a card unescaped.
"""

from __future__ import annotations

import html
import json
from typing import Any

import polars as pl

from speed_assets.recipe import Recipe


def model_card(recipe: Recipe, manifest: dict[str, Any]) -> str:
    """Markdown with the front matter that hubs read."""
    front = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "synthetic-data", "speed"],
        "language": "en",
    }
    return "\n".join(
        [
            _front_matter(front),
            f"# {recipe.name}: embedding model",
            "",
            html.escape(recipe.description),
            "",
            "```python",
            "from sentence_transformers import SentenceTransformer",
            'model = SentenceTransformer("model")',
            "```",
            "",
            "## Scores",
            _score_table(manifest["scores"]),
            "",
            "## Made of",
            _lineage_table(manifest),
            "",
            "## Limits",
            _limits(recipe),
            "",
        ]
    )


def dataset_card(recipe: Recipe, manifest: dict[str, Any], triplets: pl.DataFrame) -> str:
    """Markdown whose front matter names one configuration per task type, so that `load_dataset(folder, name)` opens it."""
    present = list(dict.fromkeys(triplets["task_type"]))
    front = {
        "language": "en",
        "tags": ["synthetic", "embedding", "triplets"],
        "configs": [{"config_name": name, "data_files": f"{name}/train.parquet"} for name in present],
    }
    counts = triplets["task_type"].value_counts(sort=True)
    removed = manifest["removed"] or {"nothing": 0}
    return "\n".join(
        [
            _front_matter(front),
            f"# {recipe.name}: synthetic training triplets",
            "",
            html.escape(recipe.description),
            "",
            "```python",
            "from datasets import load_dataset",
            f'rows = load_dataset("data", "{present[0] if present else "retrieval"}", split="train")',
            "```",
            "",
            "| task type | rows |",
            "|---|---|",
            *(f"| {name} | {count:,} |" for name, count in counts.iter_rows()),
            "",
            "Columns: `row_id`, `task_type`, `topic`, `task`, `query`, `positive`, `negative` (absent for matching tasks).",
            "",
            "## Removed",
            "| reason | rows |",
            "|---|---|",
            *(f"| {html.escape(reason)} | {count:,} |" for reason, count in removed.items()),
            "",
            "The removed rows are in `quarantine.parquet` beside this folder.",
            "",
            "## Made of",
            _lineage_table(manifest),
            "",
            "## Limits",
            _limits(recipe),
            "",
        ]
    )


def _front_matter(values: dict[str, Any]) -> str:
    return "---\n" + "\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()) + "\n---\n"


def _score_table(scores: dict[str, dict[str, float]]) -> str:
    tasks = list(next(iter(scores.values())))
    lines = [f"| model | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 2) + "|"]
    for model, row in scores.items():
        cells = " | ".join(f"{row[task]:.3f}" for task in tasks)
        lines.append(f"| {model} | {cells} | {sum(row.values()) / len(row):.3f} |")
    return "\n".join(lines)


def _lineage_table(manifest: dict[str, Any]) -> str:
    lines = ["| artifact | rows | teacher calls | fingerprint |", "|---|---|---|---|"]
    for name, entry in manifest["artifacts"].items():
        calls = entry["teacher_calls"]
        total = None if calls is None else calls + (entry["reused_calls"] or 0)
        lines.append(f"| {name} | {_or_dash(entry['rows'])} | {_or_dash(total)} | `{entry['fingerprint'][:12]}` |")
    return "\n".join([f"Recipe `{manifest['recipe']}`, digest `{manifest['recipe_digest'][:16]}`.", "", *lines])


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _limits(recipe: Recipe) -> str:
    if recipe.teacher.engine == "microworld":
        return (
            "Made in the microworld, a controlled language of twelve aspects: the scores show that the machinery works. "
            "They say nothing about natural text or about any published model."
        )
    return (
        "All data are synthetic and carry the errors and the licence conditions of their teacher and base models: "
        f"teacher `{html.escape(recipe.teacher.model)}`, "
        f"generators from `{html.escape(recipe.generator.base if recipe.generator else 'none')}`."
    )
