"""What the training stages share: rows to the worker, model and losses into the artifact."""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.store import ASIDE
from speed_assets.assets.stage import StageRun
from speed_assets.domain.fingerprints import seed_for
from speed_assets.recipe import RecipeError, Training


def train(run: StageRun, kind: str, base: str, rows: pl.DataFrame, settings: Training) -> dict[str, Any]:
    """Train `base` on `rows` by a worker of this kind (`sft`, `dpo`); the model lies in `model/` of the artifact."""
    if rows.is_empty():
        raise RecipeError(f"{run.stage.name} has no rows to train on: look at its inputs and their quarantines")
    folder = run.scratch / kind
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "rows.parquet")
    (run.out / ASIDE).mkdir(exist_ok=True)
    generator = run.recipe.generator
    return run.runner.run(
        kind,
        {
            "base": base,
            "revision": generator.revision,
            "dtype": generator.dtype,
            "rows": str(folder / "rows.parquet"),
            "out": str(run.out),
            "settings": settings.model_dump(mode="json"),
            "seed": seed_for(run.recipe.seed, run.stage.name) % 2**31,
        },
        folder,
        run.progress,
    )
