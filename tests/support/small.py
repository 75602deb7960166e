"""The offline recipe on few rows: the whole graph in well under a minute, for tests and for benchmarks that run it often.

Belongs here: that one recipe as data, and writing it to a file. Not here: what it is used for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from speed_assets.recipe import RECIPES, Checks

ROWS = {"classification": 16, "retrieval": 16, "sts": 16, "matching_short": 10, "matching_long": 10}


def small_data() -> dict[str, Any]:
    """The offline recipe with few rows, few steps and gates that any model passes."""
    data: dict[str, Any] = yaml.safe_load((RECIPES / "offline.yaml").read_text())
    data["name"] = "tiny"
    data["topics"] |= {"limit": 20, "at_least": 5}
    data["seed_data"]["rows"] = ROWS
    data["junior_data"] |= {"prompts": ROWS, "candidates": 4}
    data["preference_pairs"]["prompts"] = ROWS
    data["revision_data"]["rows"] = ROWS
    data["senior_data"]["rows"] = {name: 2 * rows for name, rows in ROWS.items()}
    for section in ("junior_model", "senior_model", "revisor_model"):
        data[section] |= {"epochs": 3, "batch_size": 4}
    for section in ("junior_data", "senior_data", "revised_data"):
        data[section]["sampling"]["max_new_tokens"] = 100
    data["row_verdicts"] |= {"rows": dict.fromkeys(ROWS, 6), "rules": None}
    data["final_triplets"] |= {
        "rules": {},
        "scores": {"calibration": {}, "least_likely_min": -30.0, "margin_min": -0.99},
    }
    data["embedding_model"] |= {"dimensions": 32, "batch_size": 8, "epochs": 15}
    data["embedding_reruns"] = {"count": 1}
    data["evaluation"]["microworld"] = {"topics": 12, "rows": 60}
    passed = {  # by any model
        name: 0 if name == "pairs_min" else 1.0 if name.endswith("_max") else 0.0
        for name in Checks.model_fields
        if name.endswith(("_min", "_max"))
    }
    data["checks"] = passed | {
        "superior": {"resamples": 500},
        "non_inferior": {"resamples": 500, "margin": 1.0},
        "gain_over_untrained_min": -1.0,
        "gain_over_baselines_min": -1.0,
        "loss_drop_min": -1e6,
        "reward_accuracy_min": -1.0,
    }
    return data


def write_recipe(folder: Path, data: dict[str, Any]) -> Path:
    """The recipe as a file, with its topic files named absolutely."""
    files = {name: str((RECIPES / data["topics"][name]).resolve()) for name in ("file", "alignment")}
    data = {**data, "topics": {**data["topics"], **files}}
    path = folder / f"{data['name']}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path
