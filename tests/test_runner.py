"""Worker processes: results, failures in words, no orphans, and generation that resumes and repeats itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.externals import MICROWORLD_BASE
from resources.runner import Runner, WorkerFailed, worker_environment
from speed_assets.recipe import PROJECT


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("home"), threads=1)
    runner.warm_up()
    yield runner
    runner.close()


def prompts(path: Path, count: int = 12) -> Path:
    rows = [
        {"row_id": f"r{i}", "candidate": i % 2, "prompt": f'cost of oboe{"s" * (i % 5)}\n"ask", "text"\n'}
        for i in range(count)
    ]
    pl.DataFrame(rows).write_parquet(path)
    return path


def generation(folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "model": str(MICROWORLD_BASE),
        "revision": None,
        "dtype": "float32",
        "prompts": str(prompts(folder / "prompts.parquet")),
        "out": str(folder / "out.parquet"),
        "journal": str(folder / "journal"),
        "seed": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_new_tokens": 40,
        "batch_rows": 4,
    } | changes


def test_generation_in_any_batches_gives_the_same_rows(runner: Runner, tmp_path: Path) -> None:
    outputs = []
    for name, batch in (("a", 4), ("b", 12)):
        params = generation(tmp_path / name, batch_rows=batch)
        result = runner.run("generate", params, tmp_path / name)
        outputs.append(pl.read_parquet(params["out"]))
        assert result["rows"] == 12
    assert outputs[0]["row_id"].to_list() == [f"r{i}" for i in range(12)]
    same = (outputs[0]["output"] == outputs[1]["output"]).mean()
    assert same is not None
    assert same > 0.9, "padding may turn a near tie in the last bit, no more"
    other = generation(tmp_path / "c", seed=2)
    runner.run("generate", other, tmp_path / "c")
    assert pl.read_parquet(other["out"])["output"].to_list() != outputs[0]["output"].to_list()


def test_a_resumed_generation_keeps_finished_shards_and_ends_the_same(runner: Runner, tmp_path: Path) -> None:
    params = generation(tmp_path)
    runner.run("generate", params, tmp_path)
    whole = pl.read_parquet(params["out"])
    shards = sorted((tmp_path / "journal").iterdir())
    assert len(shards) == 3
    kept = {shard.name: shard.stat().st_mtime_ns for shard in shards[1:]}
    shards[0].unlink()
    runner.run("generate", params, tmp_path)
    assert pl.read_parquet(params["out"]).equals(whole)
    assert kept == {name: (tmp_path / "journal" / name).stat().st_mtime_ns for name in kept}


@pytest.mark.parametrize("warm", [True, False])
def test_a_failing_worker_says_why(warm: bool, runner: Runner, tmp_path: Path) -> None:
    runner = runner if warm else Runner(tmp_path, threads=1, warm=False)
    with pytest.raises(WorkerFailed, match=r"worker generate failed: .*nowhere.*worker\.log"):
        runner.run("generate", generation(tmp_path, model=str(tmp_path / "nowhere")), tmp_path)
    with pytest.raises(WorkerFailed, match="no worker does 'dance'"):
        runner.run("dance", {}, tmp_path)


def children(process: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process:
            found.append(int(status.parent.name))
    return found


PARENT = """
import json, sys
from pathlib import Path
from resources.runner import Runner
folder = Path(sys.argv[1])
Runner(folder, 1).run("generate", json.loads((folder / "params.json").read_text()), folder / "job")
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    params = generation(tmp_path, max_new_tokens=900, prompts=str(prompts(tmp_path / "many.parquet", 4000)))
    (tmp_path / "params.json").write_text(json.dumps(params))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=PROJECT)
    family: set[int] = set()

    def worker_runs() -> bool:
        zygotes = children(parent.pid)
        family.update(zygotes)
        family.update(child for zygote in zygotes for child in children(zygote))
        return len(family) >= 2

    try:
        assert wait_for(worker_runs, 90)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert wait_for(lambda: not any(alive(process) for process in family), 10)


def test_workers_get_no_secrets() -> None:
    given = {"PATH": "p", "OPENAI_API_KEY": "x", "HF_TOKEN": "x", "my_password": "x", "A_SECRET": "x", "KEYBOARD": "k"}
    assert worker_environment(given) == {"PATH": "p", "KEYBOARD": "k"}
