"""What a user gives in the place of artifacts: a model's folder, a file of triplets, a recipe that names them.

Belongs here: making them. Not here: what becomes of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.recipe import Recipe, load_recipe
from tests.support.tiny import tiny_data, write_recipe


def a_generator(folder: Path) -> Path:
    """The shipped small model in a folder of the user's own, next to files that are not copied."""
    shutil.copytree(MICROWORLD_BASE, folder)
    (folder / "modeling_mine.py").write_text("raise SystemExit('this is code of a model')")
    (folder / "training_args.bin").write_bytes(b"\x80pickle")
    return folder


def rows_file(folder: Path, count: int = 60) -> Path:
    """Triplets of the user: most whole, one a repeat, one without a positive, one of a type that does not exist."""
    rows: list[dict[str, Any]] = [
        {
            "q": f"how many screws hold plate {n} of pump {n * 7}",
            "text": f"Plate {n} is held by {n + 3} screws, and pump {n * 7} by none of them.",
            "wrong": [f"Pump {n * 7} weighs {n} kg.", f"Plate {n} is grey."] if n % 2 else None,
        }
        for n in range(count)
    ]
    rows += [rows[0], {"q": "a query alone"}, {"q": "a", "text": "b", "kind": "poems"}]
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


COLUMNS = {"query": "q", "positive": "text", "negative": "wrong", "task_type": "kind"}


def with_given(folder: Path, base: dict[str, Any] | None = None, **given: Any) -> Recipe:
    data = base or tiny_data()
    data["given"] = given
    if "final_triplets" in given or "embedding_model" in given:
        data["mteb_scores"] = {"baselines": [], "untrained": True, "bm25": False}
    return load_recipe(write_recipe(folder, data))
