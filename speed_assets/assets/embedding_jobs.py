"""Jobs of the worker that trains embedding models, for the stages that train some or need the base as it is.

Belongs here: naming the base and its settings to the worker. Not here: what is trained on (`embedding.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resources.compute.parallel_jobs import WorkerJob, run_each
from resources.inputs.base_models import MICROWORLD_BASE, resolve_model
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import seed_for
from speed_assets.recipe import EmbeddingModel


def train_job(run: StageRun[Any], jobs: list[dict[str, Any]], folder: Path, settings: EmbeddingModel) -> dict[str, Any]:
    """Train the models of `jobs`, in as many workers as run at the same time.

    Args:
        run: the stage.
        jobs: fields of `EmbeddingTraining` each.
        folder: of the workers' jobs.
        settings: the recipe's section `embedding_model`.

    Returns:
        {"models": {name: what the worker reports}}, in the order of `jobs`.
    """
    if settings.base == "static":
        base: dict[str, Any] = {"kind": "static", "tokenizer": str(MICROWORLD_BASE), "dimensions": settings.dimensions}
    else:
        name, revision = resolve_model(settings.base, settings.revision)
        base = {"kind": "pretrained", "name": name, "revision": revision}
    workers = min(run.runner.at_once, len(jobs))
    shared = {
        "base": base,
        "settings": settings.model_dump(mode="json"),
        "seed": seed_for(run.recipe.seed, "embedding") % 2**31,
        "checkpoint_minutes": run.unfingerprinted.runtime.checkpoint_minutes,
        "checkpoints": str(folder / "train"),  # of all workers: another number of them resumes
    }
    parts = [
        WorkerJob(
            "embed",
            {"models": jobs[place::workers], **shared},
            folder / f"train_{place}" if place else folder / "train",
        )
        for place in range(workers)
    ]
    trained: dict[str, Any] = {}
    for result in run_each(run.runner, parts, run.progress):
        trained |= result["models"]
    return {"models": {job["name"]: trained[job["name"]] for job in jobs}}


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
