"""What the training stages share: rows to the worker, model and losses into the artifact."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.inputs.base_models import generator_base, generator_revision
from resources.store.store import Artifact
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.training_length import too_few_steps_message
from speed_assets.recipe import RecipeError, Training


def train(
    run: StageRun[Any],
    kind: str,
    rows: pl.DataFrame,
    settings: Training,
    start: Artifact | None = None,
    answer_tokens: int | None = None,
) -> dict[str, Any]:
    """Train a generator; the artifact then holds `adapter/` when `lora` trains one on the recipe's base, else `model/`.

    Args:
        run: the stage.
        kind: of worker: `sft` or `dpo`.
        rows: prompt, and completion or chosen and rejected; rows that are too long go to the quarantine, with their other columns.
        settings: the stage's training section.
        start: artifact of the model to start from; None starts from the recipe's base.
        answer_tokens: most tokens that any of the answers was given, from which `max_length` follows where the recipe
            leaves it open; None takes the longest row.

    Returns:
        What the worker reports (`workers/fine_tuning.py`), and `warning` when the training is too short to change much.

    Raises:
        RecipeError: there are no rows.
    """
    if rows.is_empty():
        raise RecipeError(
            f"{run.stage.name} has no rows to train on: see the quarantines of its inputs (`speed quarantine`)"
        )
    folder = run.scratch / kind
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "rows.parquet")
    runtime = run.unfingerprinted.runtime
    steps = settings.steps(rows.height)
    warning = too_few_steps_message(
        run.stage.name, rows.height, steps, settings.batch_size, run.unfingerprinted.checks.steps_min
    )
    if warning:
        run.progress(0, steps, warning)
    report = run.runner.run(
        kind,
        {
            **_start(run, start),
            "dtype": run.recipe.generator.dtype,
            "rows": str(folder / "rows.parquet"),
            "out": str(run.out),
            "settings": settings.model_dump(mode="json"),
            "seed": seed_for(run.recipe.seed, run.stage.name) % 2**31,
            "checkpoint_minutes": runtime.checkpoint_minutes,
            "chat": run.recipe.generator.chat,
            "answer_tokens": answer_tokens,
        },
        folder,
        run.progress,
        processes=runtime.processes,
    )
    return {**report, "warning": warning} if warning else report


def _start(run: StageRun[Any], start: Artifact | None) -> dict[str, Any]:
    """What training starts from: `base` with `revision`, maybe an `adapter` on it, and `origin`, the base's name.

    `origin` is null for a base that is itself an artifact: an adapter on it would not share the recipe's base.
    """
    generator = run.recipe.generator
    if start is not None and (start.path / "model").is_dir():
        return {"base": str(start.path / "model"), "revision": None, "adapter": None, "origin": None}
    return {
        "base": generator_base(generator),
        "revision": generator_revision(generator),
        "adapter": str(start.path / "adapter") if start else None,
        "origin": {
            "base": generator.base,
            "revision": generator.revision,
            # The senior lists no base: it has that of the junior that it starts from.
            "digest": (start.lineage["externals"] if start else run.externals)["generator_base"],
        },
    }
