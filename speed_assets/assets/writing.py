"""What the writing stages share: prompts in, parsed rows out, and the truth where it is known.

Belongs here: steps that several assets take in the same way. Not here: any one asset.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from resources.externals import prompt_set
from resources.generator import generate
from speed_assets.assets.stage import StageRun
from speed_assets.domain.rows import parse_outputs, synthesis_rows
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.microworld.records import NOTHING_RIGHT, truth_of
from speed_assets.recipe import PerTaskType, Sampling

WRITTEN = ("row_id", "task_id", "task_type", "topic", "task", "prompt", "output", "query", "positive", "negative")
GENERATED = (*WRITTEN, "candidate", "prompt_tokens", "output_tokens", "valid", "problem")


def asked_rows(run: StageRun, rows: PerTaskType) -> pl.DataFrame:
    """The rows that a writing stage asks for in its task type, with their prompts."""
    assert run.stage.takes is not None
    return synthesis_rows(
        run.input("task_list").table().filter(run.stage.takes),
        run.task_type,
        getattr(rows, run.task_type),
        run.recipe.seed,
        run.stage.name,
        prompt_set(run.recipe.prompts),
    )


def write_with(run: StageRun, model: str, rows: PerTaskType, candidates: int, sampling: Sampling) -> dict[str, Any]:
    """Write the table of a generator: its candidates for every row asked for, parsed; none is dropped."""
    numbers = pl.DataFrame({"candidate": range(candidates)}, schema={"candidate": pl.Int64})
    prompts = asked_rows(run, rows).join(numbers, how="cross", maintain_order="left_right")
    outputs = generate(
        run.runner,
        run.recipe.generator,
        str(run.input(model).path / "model"),
        prompts,
        sampling,
        run.recipe.seed,
        run.scratch,
        run.progress,
    )
    parsed = parse_outputs(outputs, run.task_type)
    written = parsed.select(GENERATED)
    run.write(written)
    return {**generation_metadata(written), "read_as": read_as(parsed), **truth(run, written, written.height)}


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


def read_as(rows: pl.DataFrame) -> dict[str, int]:
    """How many answers the parse funnel read at each of its steps."""
    return dict(rows["read_as"].value_counts(sort=True).iter_rows())


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
