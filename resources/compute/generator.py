"""Generators as an asset sees them: prompts in, raw outputs out, from a separate worker process.

Belongs here: choosing engine and model, cutting shards, starting a dead engine again. Not here: decoding
(`speed_assets/workers/generate*.py`), or where shards run (`cluster.py`).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from resources.compute.cluster import ClusterError, Shard, cluster_for, run_shards
from resources.compute.runner import Runner, WorkerFailed
from resources.inputs.base_models import generator_base, generator_revision
from resources.store.store import Artifact
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import Generator as GeneratorSettings
from speed_assets.recipe import RecipeError, Runtime, Sampling

LIMIT_COLUMN = "max_new_tokens"
"""Column of a table of prompts that holds a row's own limit of tokens."""
JOB_KINDS = {"transformers": "generate", "vllm": "generate_vllm", "vllm_server": "generate_http"}
"""Kind of job by engine."""


@dataclass(frozen=True)
class ModelSource:
    """What an engine loads: a model, and its adapter if there is one."""

    model: str
    """Folder or hub name."""
    revision: str | None
    adapter: str | None
    """Folder in PEFT's format."""


def model_source(settings: GeneratorSettings, artifact: Artifact) -> ModelSource:
    """The model of an artifact: its folder `model/`, or the generators' base with the artifact's `adapter/`."""
    adapter = artifact.path / "adapter"
    if adapter.is_dir():
        return ModelSource(generator_base(settings), generator_revision(settings), str(adapter))
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
    """Generate an answer to each prompt.

    Finished rows are in `scratch`, so that a killed run resumes. An engine that dies is started again at most
    `runtime.engine_restarts` times. With `runtime.cluster` rows go out in shards; the outputs are the same.

    Args:
        runner: Runs the worker.
        settings: The recipe's generator.
        runtime: Threads, cluster and the like, which shape no output.
        source: The model.
        prompts: Columns row_id, candidate, prompt; `max_new_tokens` is a row's own limit in place of the sampling's.
        sampling: Temperature, top_p, and the most tokens of an output.
        seed: Of the sampling.
        scratch: Folder for journals.
        progress: Shows rows done of all.
        schema: JSON schema of an output, which the model is held to with `generator.structured`.

    Returns:
        `prompts` in their order, with output, prompt_tokens, output_tokens, finished, error.

    Raises:
        WorkerFailed: A worker ended without a result.
        ClusterError: The cluster cannot be used, or lost a shard too often.
        RecipeError: `runtime.engine_python` names no program.
    """
    job = _job(settings, runtime, source, sampling, seed, schema)
    folder = scratch / "generate"
    asked = prompts.select("row_id", "candidate", "prompt", cs.by_name(LIMIT_COLUMN, require_all=False))
    if runtime.cluster is None or prompts.is_empty():
        outputs = generate_locally(job, runner, asked, folder, progress)
    else:
        shards = _shards(runner, job, runtime.cluster.shard_rows, asked, folder)
        cluster = cluster_for(runtime, runner, folder / "shards")
        outputs = run_shards(cluster, partial(generate_locally, job), shards, folder / "done", progress)
    return prompts.join(outputs, on=["row_id", "candidate"], how="left", maintain_order="left", validate="1:1")


@dataclass(frozen=True)
class GenerationJob:
    """How rows are generated: engine, its parameters, and its life."""

    engine: str
    params: Mapping[str, Any]
    engine_python: str | None
    restarts: int
    kept: bool
    """Whether the engine stays loaded for the next rows with `transformers`, too."""


def _job(
    settings: GeneratorSettings,
    runtime: Runtime,
    source: ModelSource,
    sampling: Sampling,
    seed: int,
    schema: Mapping[str, Any] | None,
) -> GenerationJob:
    params = {
        "model": source.model,
        "revision": source.revision,
        "adapter": source.adapter,
        "dtype": settings.dtype,
        "seed": seed,
        "batch_rows": settings.batch_rows,
        "schema": schema if settings.structured else None,
        **({"whitespace_max": settings.whitespace_max} if settings.structured else {}),
        "chat": settings.chat,
        **sampling.model_dump(),
    }
    if settings.engine != "transformers":
        params |= {"gpu_memory_share": runtime.gpu_memory_share, "max_model_length": runtime.max_model_length}
    if settings.engine == "vllm_server":
        params |= {"endpoint": settings.endpoint}
    return GenerationJob(
        settings.engine, params, runtime.engine_python, runtime.engine_restarts, kept=runtime.cluster is not None
    )


def generate_locally(
    job: GenerationJob,
    runner: Runner,
    prompts: pl.DataFrame,
    folder: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> pl.DataFrame:
    """Generate on this machine.

    Args:
        job: How.
        runner: Runs the worker.
        prompts: Columns row_id, candidate, prompt, and perhaps `max_new_tokens`.
        folder: Keeps finished rows, so that a killed run resumes.
        progress: Shows rows done of all.

    Returns:
        One row for each prompt: row_id, candidate, output, prompt_tokens, output_tokens, finished, error.

    Raises:
        ClusterError: A folder of the model does not exist on this machine.
        WorkerFailed: The worker ended without a result.
        RecipeError: `runtime.engine_python` names no program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prompts.write_parquet(folder / "prompts.parquet")
    out = folder / "outputs.parquet"
    params = {
        **job.params,
        "prompts": str(folder / "prompts.parquet"),
        "out": str(out),
        "journal": str(folder / "journal"),
    }
    for name in ("model", "adapter"):
        path = params[name]
        if path and os.path.isabs(path) and not os.path.isdir(path):
            raise ClusterError(
                f"no {name} at {path}: models travel as paths, so every machine of a cluster needs SPEED_HOME and this "
                "project at the same path (a shared file system)"
            )
    resident = sys.executable if job.kept else None
    if job.engine == "vllm":
        resident = engine_python(job.engine_python)
    elif job.engine == "vllm_server":
        resident = sys.executable  # the client; only the server needs vLLM's environment
        params |= {"engine_python": None if params["endpoint"] else engine_python(job.engine_python)}
    _run(runner, JOB_KINDS[job.engine], params, folder, progress, resident, job.restarts)
    return pl.read_parquet(out)


def _shards(runner: Runner, job: GenerationJob, rows: int, prompts: pl.DataFrame, folder: Path) -> list[Shard]:
    """`prompts` in shards of `rows` rows, cut between the engine's batches."""
    if job.engine == "transformers":
        folder.mkdir(parents=True, exist_ok=True)
        prompts.write_parquet(folder / "prompts.parquet")
        params = {"prompts": str(folder / "prompts.parquet"), "out": str(folder / "order.parquet"), **job.params}
        runner.run("order", params, folder)
        prompts = prompts[pl.read_parquet(folder / "order.parquet")["position"].to_list()]
        rows = -(-rows // job.params["batch_rows"]) * job.params["batch_rows"]
    named = []
    for number, shard in enumerate(prompts.iter_slices(rows)):
        content = digest([job.engine, dict(job.params), shard.rows()])
        named.append(Shard(f"{number:06d}-{content[:16]}", shard))
    return named


def _run(
    runner: Runner,
    kind: str,
    params: dict[str, Any],
    folder: Path,
    progress: Callable[[int, int, str], None] | None,
    resident: str | None,
    restarts: int,
) -> None:
    """Run the job, again after each death of its engine; the next attempt gets the cause of the last death."""
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


def engine_python(recipes: str | None) -> str:
    """The Python of the environment with vLLM: `SPEED_ENGINE_PYTHON`, the recipe's, or this one. Raises RecipeError."""
    named = os.environ.get("SPEED_ENGINE_PYTHON") or recipes
    if not named:
        return sys.executable
    found = shutil.which(Path(named).expanduser())
    if not found:
        raise RecipeError(
            f"runtime.engine_python (or SPEED_ENGINE_PYTHON) is {named}, which is no program: "
            "`make .venv-vllm/ready` makes .venv-vllm/bin/python"
        )
    return os.path.abspath(found)  # not resolved: a link in a virtual environment says which environment
