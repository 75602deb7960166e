"""Generators as an asset sees them: prompts in, raw outputs out, from a worker process of their own.

Belongs here: choosing engine and model, handing work to the worker, starting a dead engine again. Not here:
decoding (`speed_assets/workers/generate*.py`).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from resources.externals import generator_base
from resources.runner import Runner, WorkerFailed
from resources.store import Artifact
from speed_assets.recipe import Generator as GeneratorSettings
from speed_assets.recipe import RecipeError, Runtime, Sampling

KINDS = {"transformers": "generate", "vllm": "generate_vllm", "vllm_server": "generate_http"}
"""Kind of job by engine."""


@dataclass(frozen=True)
class ModelSource:
    """What an engine loads: a model, and an adapter on it where there is one."""

    model: str
    """Folder or hub name."""
    revision: str | None
    adapter: str | None
    """Folder in PEFT's format."""


def model_source(settings: GeneratorSettings, artifact: Artifact) -> ModelSource:
    """The model of an artifact: its folder `model/`, or the base that generators are tuned from and `adapter/` on it."""
    adapter = artifact.path / "adapter"
    if adapter.is_dir():
        return ModelSource(generator_base(settings), settings.revision, str(adapter))
    return ModelSource(str(artifact.path / "model"), None, None)


def generate(
    runner: Runner,
    settings: GeneratorSettings,
    runtime: Runtime,
    source: ModelSource,
    prompts: pl.DataFrame,
    sampling: Sampling,
    seed: int,
    scratch: Path,
    progress: Callable[[int, int, str], None] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """Answers to `prompts` (row_id, candidate, prompt): adds output, prompt_tokens, output_tokens, finished, error.

    What is finished lies in `scratch`, so a killed run goes on where it was. Rows come back in their order. `schema`
    is the JSON schema of an answer; a recipe with `generator.structured` holds the model to it. An engine that dies is
    started again at most `runtime.engine_restarts` times. Raises WorkerFailed and RecipeError.
    """
    folder = scratch / "generate"
    folder.mkdir(parents=True, exist_ok=True)
    prompts.select("row_id", "candidate", "prompt").write_parquet(folder / "prompts.parquet")
    params = {
        "model": source.model,
        "revision": source.revision,
        "adapter": source.adapter,
        "dtype": settings.dtype,
        "prompts": str(folder / "prompts.parquet"),
        "out": str(folder / "outputs.parquet"),
        "journal": str(folder / "journal"),
        "seed": seed,
        "batch_rows": settings.batch_rows,
        "schema": schema if settings.structured else None,
        **sampling.model_dump(),
    }
    if settings.engine != "transformers":
        params |= {"gpu_memory_share": runtime.gpu_memory_share, "max_model_length": runtime.max_model_length}
    resident = None
    if settings.engine == "vllm":
        resident = engine_python(runtime)
    elif settings.engine == "vllm_server":
        resident = sys.executable  # the client; only the server needs vLLM's environment
        params |= {"endpoint": settings.endpoint}
        params |= {"engine_python": None if settings.endpoint else engine_python(runtime)}
    _run(runner, KINDS[settings.engine], params, folder, progress, resident, runtime.engine_restarts)
    outputs = pl.read_parquet(folder / "outputs.parquet")
    return prompts.join(outputs, on=["row_id", "candidate"], how="left", maintain_order="left", validate="1:1")


def _run(
    runner: Runner,
    kind: str,
    params: dict[str, Any],
    folder: Path,
    progress: Callable[[int, int, str], None] | None,
    resident: str | None,
    restarts: int,
) -> None:
    """Run the job, again after each death of its engine; the next attempt is told how the last one died."""
    crash: str | None = None
    for restart in range(restarts + 1):
        try:
            runner.run(kind, {**params, "crash": crash}, folder, progress, resident=resident)
            return
        except WorkerFailed as failure:
            died = failure.error == "EngineDied" or (failure.error is None and (failure.code or -1) < 0)
            if not died or restart == restarts:
                raise
            crash = failure.cause


def engine_python(runtime: Runtime) -> str:
    """The Python of the environment that has vLLM: SPEED_ENGINE_PYTHON, the recipe's, or this one. Raises RecipeError."""
    named = os.environ.get("SPEED_ENGINE_PYTHON") or runtime.engine_python
    if not named:
        return sys.executable
    found = shutil.which(Path(named).expanduser())
    if not found:
        raise RecipeError(
            f"runtime.engine_python (or SPEED_ENGINE_PYTHON) is {named}, which is no program: "
            "`make .venv-vllm/ready` makes .venv-vllm/bin/python"
        )
    return os.path.abspath(found)  # not resolved: a link in a virtual environment says which environment
