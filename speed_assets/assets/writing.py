"""What the writing stages share: prompts in, parsed rows out, and the truth where it is known.

Belongs here: steps that several assets take in the same way. Not here: any one asset.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from resources.generator import generate
from speed_assets.assets.stage import StageRun
from speed_assets.domain.rows import parse_outputs
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.microworld.records import NOTHING_RIGHT, truth_of
from speed_assets.recipe import Sampling

WRITTEN = ("row_id", "task_id", "task_type", "topic", "task", "prompt", "output", "query", "positive", "negative")
GENERATED = (*WRITTEN, "candidate", "prompt_tokens", "output_tokens", "valid", "problem")


def write_with(run: StageRun, model: str, prompts: pl.DataFrame, sampling: Sampling) -> pl.DataFrame:
    """Rows written by a generator for `prompts` (with a `candidate` column), parsed; none is dropped."""
    seed = run.recipe.seed
    outputs = generate(run.runner, run.recipe.generator, model, prompts, sampling, seed, run.scratch, run.progress)
    return parse_outputs(outputs, run.task_type).select(GENERATED)


def generation_metadata(rows: pl.DataFrame) -> dict[str, Any]:
    """Rates and token counts of generated rows."""
    return {
        "asked": rows.height,
        "valid_share": _share(rows["valid"]),
        "problems": problem_counts(rows),
        "prompt_tokens": int(rows["prompt_tokens"].sum()),
        "output_tokens": int(rows["output_tokens"].sum()),
        "mean_output_tokens": round(float(rows["output_tokens"].mean() or 0.0), 1),  # type: ignore[arg-type]
    }


def problem_counts(rows: pl.DataFrame) -> dict[str, int]:
    """How many rows have each problem, most frequent first."""
    return dict(Counter(p for p in rows["problem"] if p is not None).most_common())


def truth(run: StageRun, rows: pl.DataFrame, asked: int) -> dict[str, Any]:
    """{"truth": shares of the `asked` rows} in the microworld, else {}: nobody else knows.

    `rows` holds task_type, task, query, positive, negative; rows that are not there count as wrong.
    """
    if run.whole_recipe.teacher.engine != "microworld" or not asked:
        return {}
    known = [
        truth_of(row["task_type"], row["task"], TASK_TYPES[row["task_type"]].record(row))
        for row in rows.select("task_type", "task", "query", "positive", "negative").iter_rows(named=True)
    ] or [NOTHING_RIGHT]
    parts = ("valid", "on_topic", "positive_right", "negative_right", "all_right")
    return {"truth": {part: round(sum(getattr(t, part) for t in known) / asked, 4) for part in parts}}


def _share(column: pl.Series) -> float:
    return round(float(column.mean() or 0.0), 4)  # type: ignore[arg-type]
