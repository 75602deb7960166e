"""What our generation stage costs compared with a raw `LLM.generate`. `python -m benchmarks.overhead`.

The same prompts with the same seeds go through `resources.compute.generator.generate` (worker process, journal by row,
tables) and through `LLM.generate` in a process of its own, in turn, with equal engine arguments. Each repeat has
prompts of its own, so that no prefix cache helps. `ratio` compares output tokens a second from the first request to
the last output; starting processes and engines is in neither. `ratio_whole_call` counts the whole call of
`generate` with a loaded engine: reading and writing tables, naming rows, talking to the worker.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from typing_extensions import override

from resources.compute.generator import ModelSource, engine_python, generate
from resources.compute.runner import Runner
from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.prompts import PromptSet
from speed_assets.recipe import PROJECT, Runtime, Sampling, load_recipe


def prompts(rows: int, repeat: int) -> pl.DataFrame:
    """Synthesis prompts of the microworld's kind, other ones in each repeat."""
    words = PromptSet.load("compact")
    return pl.DataFrame(
        [
            {
                "row_id": f"{repeat}-{row}",
                "candidate": 0,
                "prompt": words.synthesis(
                    "retrieval", f"find texts about {repeat}-{row}", draw_attributes("retrieval", row)
                ),
            }
            for row in range(rows)
        ],
        schema_overrides={"candidate": pl.Int64},
    )


class LoadingWith(Runner):
    """A runner whose jobs load weights in another format of vLLM's (`dummy` draws them)."""

    def __init__(self, runner: Runner, load_format: str) -> None:
        self._runner, self._load_format = runner, load_format

    @override
    def run(self, kind: str, params: Mapping[str, Any], *rest: Any, **options: Any) -> dict[str, Any]:
        return self._runner.run(kind, {**params, "load_format": self._load_format}, *rest, **options)


class Raw:
    """A process with vLLM and nothing of ours around it."""

    def __init__(self, python: str, log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.raw_vllm"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                text=True,
            )
        self._log = log

    def generate(self, job: Path) -> tuple[int, float]:
        """(output tokens, seconds) of the job whose file the stage has left."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(json.loads(job.read_text())["params"]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"raw vLLM ended: see {self._log}")
        answer = json.loads(line)
        return answer["tokens"], answer["seconds"]

    def close(self) -> None:
        self._process.communicate()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default=str(MICROWORLD_BASE), help="folder or hub name (default: the shipped base)")
    parser.add_argument("--load-format", default="auto", help="`dummy` draws weights, for shapes without a download")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-rows", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--max-model-length", type=int, default=None)
    parser.add_argument("--gpu-memory-share", type=float, default=0.45, help="of each of the two engines")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    runtime = Runtime(engine_restarts=0, gpu_memory_share=args.gpu_memory_share, max_model_length=args.max_model_length)
    changes = {"engine": "vllm", "dtype": args.dtype, "batch_rows": args.batch_rows}
    generator = load_recipe("offline").generator
    assert generator is not None
    settings = generator.model_copy(update=changes)
    sampling = Sampling(temperature=1.0, max_new_tokens=args.max_new_tokens)
    source = ModelSource(args.model, None, None)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        runner = Runner(home)
        raw = Raw(engine_python(runtime.engine_python), home / "raw.log")

        def stage(rows: pl.DataFrame, folder: Path) -> tuple[int, float, float]:
            started = time.monotonic()
            generate(LoadingWith(runner, args.load_format), settings, runtime, source, rows, sampling, 1, folder)
            result = json.loads((folder / "generate" / "result.json").read_text())
            return result["generation_tokens"], result["generation_seconds"], time.monotonic() - started

        try:
            stage(prompts(64, -1), home / "warm")
            raw.generate(home / "warm" / "generate" / "job.json")
            ours, whole, theirs = [], [], []
            for repeat in range(args.repeats):
                rows, folder = prompts(args.rows, repeat), home / f"repeat{repeat}"
                turns = ["stage", "raw"] if repeat % 2 == 0 else ["raw", "stage"]
                for turn in turns:
                    if turn == "stage":
                        tokens, seconds, call = stage(rows, folder)
                        ours.append(tokens / seconds)
                        whole.append(tokens / call)
                        print(f"{repeat}: stage {tokens} tokens in {seconds:.2f} s, call {call:.2f} s", flush=True)
                    else:
                        tokens, seconds = raw.generate(job_for(home, rows, repeat))
                        theirs.append(tokens / seconds)
                        print(f"{repeat}: raw   {tokens} tokens in {seconds:.2f} s", flush=True)
            engine = json.loads((home / "warm" / "generate" / "result.json").read_text())["engine"]
        finally:
            raw.close()
            runner.close()
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        json.dumps(
            {
                "ratio": round(statistics.mean(ours) / statistics.mean(theirs), 3),
                "ratio_by_repeat": [round(ratio, 3) for ratio in each],
                "ratio_whole_call": round(statistics.mean(whole) / statistics.mean(theirs), 3),
                "engine": engine,
                "model": args.model if args.model != str(MICROWORLD_BASE) else "microworld base",
                "load_format": args.load_format,
                "prompts": args.rows,
                "repeats": args.repeats,
                "stage_tokens_per_s": [round(value) for value in ours],
                "raw_tokens_per_s": [round(value) for value in theirs],
            }
        )
    )


def job_for(home: Path, rows: pl.DataFrame, repeat: int) -> Path:
    """A job file for raw vLLM: the warm-up's parameters with the prompts of this repeat."""
    job = json.loads((home / "warm" / "generate" / "job.json").read_text())
    file = home / f"raw{repeat}.parquet"
    rows.write_parquet(file)
    job["params"]["prompts"] = str(file)
    (home / f"raw{repeat}.json").write_text(json.dumps(job))
    return home / f"raw{repeat}.json"


if __name__ == "__main__":
    main()
