"""The whole graph on tiny data, every generator on vLLM, through the command that users call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.tiny import ROWS, tiny_data, write_recipe


def test_the_offline_recipe_runs_on_vllm(tmp_path: Path) -> None:
    data = tiny_data()
    data["generator"] |= {"engine": "vllm", "structured": True}
    recipe, home = write_recipe(tmp_path, data), tmp_path / "home"
    command = [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(recipe), "--json"]
    environment = {**os.environ, "SPEED_HOME": str(home)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["errors"] == []
    assert summary["release"]
    artifacts = Artifacts(load_recipe(recipe), Store(home))
    for task_type, asked in ROWS.items():
        written = artifacts.get("senior_data", task_type).table()
        assert written.height == 2 * asked
        assert written["output_tokens"].sum() > 0
