"""SIGKILL at random moments of vLLM, resuming each time: `SPEED_ENGINE_PYTHON=... python -m benchmarks.vllm_kills [--kills 20]`.

The same rows are generated twice with the shipped base model: undisturbed, and with a process killed each time a number of rows drawn
at random is done. With the engine `vllm` the resident worker is killed, with `vllm_server` the server that it has started. Last
line: one JSON object with kills, rows, the share of rows that are the same, and rows that were generated again although they
were in the journal; status 1 unless all rows are the same and none was generated again.

Belongs here: kills of vLLM. Not here: kills of the teacher's stages (`kill9.py`), a row that always kills (`tests_vllm`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from resources.compute.generator import ModelSource, generate
from resources.compute.runner import Runner, WorkerFailed
from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.prompts import PromptSet
from speed_assets.recipe import Sampling, load_recipe

ENGINES = ("vllm", "vllm_server")
TOKENS = 60
BATCH_ROWS = 32


def prompts(rows: int) -> pl.DataFrame:
    """One prompt for each row."""
    words = PromptSet.load("compact")
    texts = [
        words.synthesis("retrieval", f"find texts on topic {n}", draw_attributes("retrieval", n)) for n in range(rows)
    ]
    return pl.DataFrame({"row_id": [f"r{n}" for n in range(rows)], "candidate": [0] * rows, "prompt": texts})


def _write(
    runner: Runner, engine: str, rows: pl.DataFrame, folder: Path, progress: Callable[[int, int, str], None]
) -> pl.DataFrame:
    recipe = load_recipe("offline")
    assert recipe.generator is not None
    settings = recipe.generator.model_copy(update={"engine": engine, "batch_rows": BATCH_ROWS})
    runtime = recipe.runtime.model_copy(update={"engine_restarts": 0})
    source = ModelSource(str(MICROWORLD_BASE), None, None)
    sampling = Sampling(temperature=1.0, max_new_tokens=TOKENS)
    return generate(runner, settings, runtime, source, rows, sampling, 1, folder, progress)


def _resident(runner: Runner) -> int:
    assert runner._resident is not None
    return runner._resident._process.pid


def _children(parent: int) -> list[int]:
    """Processes that a process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except (OSError, IndexError, ValueError):
            continue
    return found


def _victims(runner: Runner, engine: str) -> list[int]:
    """The worker with the engine, or the server that the worker has started."""
    worker = _resident(runner)
    return [worker] if engine == "vllm" else _children(worker)


def _in_journal(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in (folder / "generate" / "journal").glob("*.rows.jsonl"))


def disturbed(engine: str, rows: pl.DataFrame, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Generate rows undisturbed and through kills, and compare them."""
    rng = random.Random(seed_for(seed, "vllm-kills", engine))
    cuts = sorted(rng.sample(range(1, rows.height - BATCH_ROWS), kills))
    runner = Runner(folder / engine, threads=2, warm=False)
    started, done, repeated, killed = time.monotonic(), 0, 0, False
    work = folder / engine / "cut"

    def kill(count: int, _total: int, _note: str) -> None:
        nonlocal killed
        if not killed and done < kills and count >= cuts[done]:
            killed = True
            for victim in _victims(runner, engine):
                os.kill(victim, signal.SIGKILL)

    try:
        expected = _write(runner, engine, rows, folder / engine / "plain", lambda *_progress: None)
        while True:
            killed, before = False, _in_journal(work)
            try:
                found = _write(runner, engine, rows, work, kill)
                break
            except WorkerFailed as failure:
                if not killed:
                    raise
                done += 1
                print(
                    f"{engine}: kill {done}/{kills} with {_in_journal(work)} rows kept ({failure.cause:.80})",
                    file=sys.stderr,
                    flush=True,
                )
            repeated += max(0, before - _in_journal(work))
    finally:
        runner.close()
    repeated += _in_journal(work) - rows.height
    same = float((found["output"] == expected["output"]).mean() or 0.0)  # type: ignore[arg-type]
    return {
        "kills": done,
        "rows": found.height,
        "same_share": round(same, 4),
        "identical": found.equals(expected),
        "generated_again": repeated,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="for each engine")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not os.environ.get("SPEED_ENGINE_PYTHON"):
        raise SystemExit(
            "error: SPEED_ENGINE_PYTHON names no Python that has vllm: `make test-vllm` makes one in .venv-vllm"
        )
    with tempfile.TemporaryDirectory() as temporary:
        rows = prompts(args.rows)
        found = {e: disturbed(e, rows, args.kills, args.seed, Path(temporary)) for e in args.engine or ENGINES}
    print(json.dumps({"kills": sum(one["kills"] for one in found.values()), "seed": args.seed, "engines": found}))
    sys.exit(
        not all(
            one["identical"] and one["generated_again"] == 0 and one["kills"] == args.kills for one in found.values()
        )
    )


if __name__ == "__main__":
    main()
