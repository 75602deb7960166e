"""The release: model, data, cards and manifest in one folder, written at once, only through every gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import dagster as dg

from resources.artifacts import Artifacts
from resources.cards import dataset_card, model_card
from resources.releases import SAMPLES, SCORES
from speed_assets.assets.stage import StageFunction, StageRun
from speed_assets.domain.task_types import TASK_TYPE_NAMES

LIBRARIES = (
    "dagster", "transformers", "trl", "datasets", "sentence-transformers", "mteb", "polars", "great-expectations", "torch",
)  # fmt: skip


def release_through(refusals: Callable[[Artifacts], list[str]]) -> StageFunction:
    """The release stage behind these gates; every gate is asked again, whatever Dagster remembers."""

    def release(run: StageRun) -> dict[str, Any]:
        reasons = refusals(run.artifacts)
        if reasons:
            raise dg.Failure(
                description="release refused:\n" + "\n".join(f"- {reason}" for reason in reasons),
                metadata={"refused": dg.MetadataValue.json(reasons)},
                allow_retries=False,
            )
        manifest = _manifest(run)
        model = run.input("embedding_model")
        shutil.copytree(model.path / "model", run.out / "model", dirs_exist_ok=True)
        (run.out / "model" / "README.md").write_text(model_card(run.whole_recipe, manifest))
        rows = run.input("final_triplets")
        triplets = rows.table()
        for task_type in TASK_TYPE_NAMES:
            part = triplets.filter(task_type=task_type)
            if part.height:
                folder = run.out / "data" / task_type
                folder.mkdir(parents=True, exist_ok=True)
                part.write_parquet(folder / "train.parquet")
        (run.out / "data" / "README.md").write_text(dataset_card(run.whole_recipe, manifest, triplets))
        rows.table("quarantine").write_parquet(run.out / "quarantine.parquet")
        scores = run.input("mteb_scores")
        scores.table().write_parquet(run.out / f"{SCORES}.parquet")
        scores.table("samples").write_parquet(run.out / f"{SAMPLES}.parquet", compression="zstd")
        (run.out / "recipe.json").write_text(run.whole_recipe.model_dump_json(indent=1) + "\n")
        (run.out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        return {"rows_released": triplets.height, "scores": manifest["scores"]["embedding_model"]}

    return release


def _manifest(run: StageRun) -> dict[str, Any]:
    """Every artifact with its fingerprint and digest, every version, the recipe's digest and the scores."""
    artifacts = {}
    for stage, partition in run.artifacts.everything():
        if stage.name != "release":
            artifact = run.artifacts.get(stage.name, partition)
            name = f"{stage.name}/{partition}" if partition else stage.name
            artifacts[name] = {
                "fingerprint": artifact.fingerprint,
                "digest": artifact.digest,
                "stage_version": stage.version,
                "rows": artifact.metadata.get("rows"),
                "teacher_calls": artifact.metadata.get("teacher_calls"),
                "reused_calls": artifact.metadata.get("reused_calls"),
            }
    scores = run.input("mteb_scores").metadata
    return {
        "recipe": run.whole_recipe.name,
        "recipe_digest": run.whole_recipe.digest(),
        "artifacts": artifacts,
        "libraries": {name: version(name) for name in LIBRARIES},
        "scores": scores["scores"],
        "removed": run.input("final_triplets").metadata["removed"],
    }
