"""Artifacts put by hand into a real store, for tests of checks.

Belongs here: artifacts of every asset, good ones and ones that are cut. Not here: their rows (`good_tables.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save_file
from typing_extensions import override

from checks.registry import Outcome, Subject, checks_of, evaluate
from resources.inputs.evaluation_sets import offline_evaluation_texts
from resources.releases.releases import next_number, promote_new_release
from resources.store.artifacts import Artifacts
from resources.store.store import Artifact, Store
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.recipe import Recipe
from tests.support.good_tables import ROWS, good_samples, good_table

PARTITIONED = {stage.name for stage in ALL_STAGES if stage.partitioned}


def recipe_with(source: str = "revised_data", **checks: Any) -> Recipe:
    each = dict.fromkeys(TOPIC_TYPES, ROWS)
    sampling = {"temperature": 1.0, "max_new_tokens": 8}
    training = {"learning_rate": 0.1, "batch_size": 2, "epochs": 1, "max_length": 64}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "description": "for tests",
            "seed": 1,
            "topics": {"file": "topics.txt"},
            "prompts": {"set": "compact"},
            "teacher": {"engine": "microworld", "model": "microworld"},
            "generator": {"engine": "transformers", "base": "microworld", "dtype": "float32", "batch_rows": 8},
            "task_list": {"sampling": sampling},
            "seed_data": {"rows": each, "sampling": sampling},
            "junior_model": training,
            "junior_data": {"prompts": dict.fromkeys(each, ROWS // 2), "candidates": 2, "sampling": sampling},
            "preference_pairs": {"prompts": dict.fromkeys(each, ROWS // 2), "sampling": sampling},
            "senior_model": {**training, "beta": 0.1, "nll_weight": 0.1},
            "senior_data": {"rows": each, "sampling": sampling},
            "revision_data": {"rows": dict.fromkeys(each, ROWS // 2), "sampling": sampling},
            "revisor_model": {**training, "mended_share": 0.5},
            "revised_data": {"sampling": sampling},
            "final_triplets": {"source": source},
            "embedding_model": {**training, "base": "static", "dimensions": 4, "temperature": 0.05},
            "evaluation": {"microworld": {"topics": 8, "rows": 50}},
            "mteb_scores": {"baselines": ["seed_data"]},
            "checks": {"pairs_min": 3, "loss_drop_min": 0.1, **checks},
        }
    )


RECIPE = recipe_with()


DIVERSITY: dict[str, Any] = {
    "topics": {"asked": 40, "covered": 39, "share": 0.975, "missing": ["lutes"]},
    "task_types": {"kept": {"sts": 1.0}, "intended": {"sts": 0.95, "retrieval": 0.05}, "distance": 0.05},
    "vendi": {"rows": 100, "score": 25.0, "per_row": 0.25},
}


EVALUATION = offline_evaluation_texts(RECIPE.evaluation)


METADATA: dict[str, dict[str, Any]] = {
    "evaluation_texts": {"texts_of": {"STSBenchmark": 3}},
    "topics": {"asked": ROWS},
    "task_list": {"asked": ROWS, "parts": {"synthesis": "s", "alignment": "a"}},
    "topic_tree": {"asked": ROWS},
    "passages": {"asked": ROWS},
    "own_evaluation": {"asked": ROWS},
    "examples": {"asked": ROWS},
    "preference_pairs": {
        "asked": 4,
        "contradictions": {"judge": {"prompts": 4, "contradicted": 1}},
        "unreadable": {"judge": {"verdicts": 10, "unreadable": 1}},
        "verdict_problems": {"not_json": 1},
    },
    "senior_model": {"pairs": 3},
    "revision_data": {"asked": 5},
    "revised_data": {
        "asked": ROWS,
        "revisions": 20,
        "revisions_unreadable": 1,
        "revision_problems": {"missing_key:revision": 1},
    },
    "row_scores": {"asked": ROWS},
    "row_verdicts": {"asked": ROWS},
    "mined_negatives": {"asked": ROWS},
    "reranker_scores": {"asked": ROWS},
    "quarantine": {"asked": ROWS},
    "final_triplets": {
        "rows_in": 2 * len(TOPIC_TYPES),
        "diversity": DIVERSITY,
        "contamination": [{"task": task, "texts": len(texts), "removed": 0} for task, texts in EVALUATION.items()],
    },
}


MODELS = ("junior_model", "senior_model", "revisor_model", "embedding_model", "baseline_models", "embedding_reruns")


def losses(*values: float) -> str:
    return "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(values, 1))


class Shelf(Artifacts):
    """Artifacts put there by hand, in a real store: found by asset and partition, whatever their fingerprint."""

    def __init__(self, home: Path, recipe: Recipe = RECIPE) -> None:
        super().__init__(recipe, Store(home).open())
        self.artifacts: dict[tuple[str, str | None], Artifact] = {}
        self.made = 0

    def table(
        self, asset: str, data: pl.DataFrame, quarantine: int = 0, partition: str | None = None, **metadata: Any
    ) -> Artifact:
        with self.store.building(digest([asset, partition, self.made])) as work:
            data.write_parquet(work / "data.parquet")
            if asset == "mteb_scores":
                good_samples(data).write_parquet(work / "samples.parquet")
            aside = pl.DataFrame({"row_id": [f"q{i}" for i in range(quarantine)], "reason": ["not_json"] * quarantine})
            aside.with_columns(raw=pl.lit("x" * 999)).write_parquet(work / "quarantine.parquet")
            return self._complete(asset, partition, work, {**METADATA.get(asset, {}), **metadata})

    def model(
        self,
        asset: str,
        curve: str = losses(*[2.0] * 5, *[1.0] * 5),
        metadata: dict[str, Any] | None = None,
        judged: str | None = None,
        **files: bytes,
    ) -> Artifact:
        with self.store.building(digest([asset, None, self.made])) as work:
            (work / "model").mkdir()
            (work / "aside").mkdir()
            save_file({"weight": np.zeros((2, 3), np.float32)}, work / "model" / "model.safetensors")
            (work / "aside" / "losses.jsonl").write_text(curve)
            if judged:
                (work / "aside" / "judged.json").write_text(judged)
            for name, content in files.items():
                (work / "model" / name.replace("__", ".")).write_bytes(content)
            return self._complete(asset, None, work, METADATA.get(asset, {}) | (metadata or {}))

    def release(self, scores: Artifact) -> Artifact:
        """A release of these scores, in use from now on."""
        fingerprint = digest(["release", scores.digest])
        with self.store.building(fingerprint) as work:
            for name in ("data", "samples"):
                shutil.copy(scores.path / f"{name}.parquet", work / f"{'scores' if name == 'data' else name}.parquet")
            made = self.store.seal(
                "release",
                fingerprint,
                work,
                partition=None,
                metadata={"number": next_number(self.store)},
                lineage={"recipe": {"name": self.recipe.name}, "inputs": {"mteb_scores": scores.digest}},
            )
        promote_new_release(self.store, made.fingerprint)
        return made

    def good(self, asset: str, partition: str | None = None) -> Artifact:
        return self.model(asset) if asset in MODELS else self.table(asset, good_table(asset, partition), 0, partition)

    def _complete(self, asset: str, partition: str | None, work: Path, metadata: dict[str, Any]) -> Artifact:
        fingerprint = digest([asset, partition, self.made])
        self.made += 1
        artifact = self.store.seal(
            asset, fingerprint, work, partition=partition, metadata=metadata, lineage={"inputs": {}}
        )
        self.artifacts[asset, partition] = artifact
        return artifact

    @override
    def fetch(self, asset: str, partition: str | None = None) -> Artifact | None:
        return self.artifacts.get((asset, partition))

    def ask(self, artifact: Artifact, check: str, recipe: Recipe | None = None) -> Outcome:
        found = next(c for c in checks_of(artifact.asset) if c.name == check)
        outcome = evaluate(found, Subject(artifact, recipe or self.recipe, artifact.partition, self.store))
        json.dumps(outcome.metadata, allow_nan=False)
        return outcome


def partition_of(asset: str, task_type: str = "retrieval") -> str | None:
    return task_type if asset in PARTITIONED else None


def good_with(asset: str, **metadata: Any) -> Any:
    return lambda shelf: shelf.table(asset, good_table(asset, partition_of(asset)), 0, partition_of(asset), **metadata)


def cut(asset: str, rows: int, quarantine: int = 0, **metadata: Any) -> Any:
    part = partition_of(asset)
    return lambda shelf: shelf.table(asset, good_table(asset, part).head(rows), quarantine, part, **metadata)


def scores_without(*, model: str, task: str | None = None) -> pl.DataFrame:
    gone = (pl.col("model") == model) & (pl.lit(True) if task is None else pl.col("task") == task)
    return good_table("mteb_scores", None).filter(~gone)


def scored(model: str, score: float) -> pl.DataFrame:
    frame = good_table("mteb_scores", None)
    return frame.with_columns(score=pl.when(pl.col("model") == model).then(score).otherwise("score"))
