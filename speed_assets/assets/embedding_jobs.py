"""Jobs of the worker that trains embedding models, for the stages that train some or need the base as it is.

Belongs here: naming the base and its settings to the worker. Not here: what is trained on (`embedding.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resources.inputs.base_models import MICROWORLD_BASE, resolve_model
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import seed_for
from speed_assets.recipe import EmbeddingModel


def train_job(run: StageRun[Any], jobs: list[dict[str, Any]], folder: Path, settings: EmbeddingModel) -> dict[str, Any]:
    """Train the models of `jobs` in one worker.

    Args:
        run: the stage.
        jobs: fields of `EmbeddingTraining` each.
        folder: of the worker's job.
        settings: the recipe's section `embedding_model`.

    Returns:
        What the worker reports.
    """
    if settings.base == "static":
        base: dict[str, Any] = {"kind": "static", "tokenizer": str(MICROWORLD_BASE), "dimensions": settings.dimensions}
    else:
        name, revision = resolve_model(settings.base, settings.revision)
        base = {"kind": "pretrained", "name": name, "revision": revision}
    return run.runner.run(
        "embed",
        {
            "models": jobs,
            "base": base,
            "settings": settings.model_dump(mode="json"),
            "seed": seed_for(run.recipe.seed, "embedding") % 2**31,
            "checkpoint_minutes": run.unfingerprinted.runtime.checkpoint_minutes,
        },
        folder / "train",
        run.progress,
    )


def untrained_model(run: StageRun[Any], folder: Path, settings: EmbeddingModel) -> Path:
    """The embedding base without training, saved as models are that were trained.

    Args:
        run: the stage.
        folder: to work in; what it returns is below it.
        settings: the recipe's section `embedding_model`.
    """
    untrained = folder / "untrained"
    job = {"name": "untrained", "out": str(untrained), "aside": str(folder), "untrained": True}
    train_job(run, [job], folder, settings)
    return untrained
