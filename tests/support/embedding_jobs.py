"""Jobs of the workers that train and score embedding models, for their tests.

Belongs here: rows, settings and jobs that several test files use. Not here: fixtures (`tests/embedding/conftest.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from sentence_transformers import SentenceTransformer

from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.microworld import toy_records
from speed_assets.workers import embed
from speed_assets.workers.jobs import Evaluate
from speed_assets.workers.training_jobs import EmbeddingSettings

SETTINGS: dict[str, Any] = {
    "pooling": "mean",
    "instruction": None,
    "dtype": "float32",
    "temperature": 0.1,
    "learning_rate": 0.1,
    "batch_size": 64,
    "epochs": 6,
    "warmup_share": 0.0,
    "weight_decay": 0.0,
    "max_length": 64,
    "homogeneous": True,
    "false_negative_margin": None,
    "matryoshka": [],
    "average_last": 1,
    "lora": None,
    "gradient_checkpointing": False,
    "micro_batch_size": 64,
}


def silent(done: int, total: int, note: str) -> None:
    pass


def right_triplets(rows: int, seed: int = 0) -> pl.DataFrame:
    """Rows without a fault, of every task type in turn."""
    rng = random.Random(seed)
    table = []
    for row in range(rows):
        kind = TOPIC_TYPES[row % len(TOPIC_TYPES)]
        task = toy_records.write_task(
            kind, f"{rng.choice(['red', 'blue', 'old'])} {rng.choice(['tea', 'boats', 'chess'])}", rng
        )
        triplet = TASK_TYPES[kind].triplet(toy_records.write_record(kind, toy_records.read_task(kind, task), rng))
        table.append({**triplet, "task": task, "task_type": kind})
    return pl.DataFrame(table, schema=dict.fromkeys((*triplet, "task", "task_type"), pl.String))


def contents(folder: str) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()}


def stop_at(step: int) -> Callable[[int, int, str], None]:
    def report(done: int, _total: int, _note: str) -> None:
        if done == step:
            raise KeyboardInterrupt

    return report


def vectors_of(params: dict[str, Any]) -> Any:
    static: Any = SentenceTransformer(params["out"])[0]
    return static.embedding.weight.detach()


def settings_of(**changes: Any) -> EmbeddingSettings:
    """`SETTINGS`, changed by name, as the worker reads them."""
    return EmbeddingSettings(**{**SETTINGS, **changes})


def train(params: dict[str, Any], report: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Train the one model that `params` describes: fields of a job and of its model together."""
    fields = ("name", "triplets", "out", "aside", "untrained")
    model = {"name": "model", **{name: params[name] for name in fields if name in params}}
    job = {name: value for name, value in params.items() if name not in fields}
    found: dict[str, Any] = embed.run({**job, "models": [model]}, report)["models"][model["name"]]
    return found


def evaluation(tasks: list[str]) -> Evaluate:
    """A job that scores nothing but names these tasks."""
    files: dict[str, Any] = dict.fromkeys(("out", "samples", "plot", "cache"), "")
    return Evaluate(models=(), bm25=False, microworld=None, tasks=tuple(tasks), batch_size=1, **files)
