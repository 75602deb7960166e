"""One job in one process: `python -m speed_assets.workers.host FOLDER`, or a child of the zygote.

A job is a folder with `job.json` ({"kind", "params"}). The process appends to `worker.log`, reports to
`progress.jsonl` and writes `result.json` last, or `error.json` when it fails. The folder outlives the
process, so what a worker leaves in it (`params["folder"]`) is there for the next attempt. A launcher may start
several such processes on one job; then the first of them (rank 0) reports and writes, and any may fail.

Belongs here: what every worker process does. Not here: what one kind of job does, and nothing heavy at
module level, since the environment must be set before torch is imported.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Report = Callable[[int, int, str], None]
"""Done, total, note: what a worker calls as it goes."""

KINDS = (
    "generate",
    "order",
    "load_dataset",
    "cut_passages",
    "sft",
    "dpo",
    "likelihood",
    "consistency",
    "similarities",
    "mine_negatives",
    "rerank",
    "pool_passages",
    "embed_texts",
    "embed",
    "evaluate",
    "task_texts",
)
"""Kinds of job that need no more than this project's own environment."""
ENGINE_KINDS = ("generate_vllm", "generate_http")
"""Kinds whose worker keeps an engine loaded, in the environment of that engine."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
REPORT_SECONDS = 0.1
"""Reports closer to the last one are left out, except the final one."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_process(threads: int) -> None:
    """Set what torch and its friends read once, when they are imported, and how memory is handed out.

    Threads that wait must sleep: with OpenMP's default of spinning, a busy machine makes small models
    ten times slower. Freed memory stays with the process (mallopt(3), glibc only): otherwise every large tensor is
    mapped and paged in again, a fifth of the time of training on a CPU.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Whether there is a GPU is asked of NVML: asking CUDA itself starts it, and then no worker may be forked any more.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def worker_module(kind: str) -> ModuleType:
    """The module that does jobs of this kind.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS + ENGINE_KINDS:
        raise ValueError(f"no worker does {kind!r}: a job is one of {', '.join(KINDS + ENGINE_KINDS)}")
    return importlib.import_module(f"speed_assets.workers.{kind}")


def run_job(folder: Path) -> None:
    """Do the job in `folder`; the process's stdout and stderr go to its log from here on.

    Args:
        folder: holds `job.json`; gets `progress.jsonl` and `result.json`.

    Raises:
        SystemExit: with status 1 when the worker fails, after `error.json` and a traceback in the log.
    """
    with (folder / "worker.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # Libraries leave temporary files; a killed process could not remove them anywhere else.
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    try:
        job = json.loads((folder / "job.json").read_text())
        params: dict[str, Any] = {**job["params"], "folder": str(folder)}
        module = worker_module(job["kind"])
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(_threads(params))
        leads = os.environ.get("RANK", "0") == "0"
        with (folder / "progress.jsonl" if leads else Path(os.devnull)).open("a", buffering=1) as progress:
            result = module.run(params, _reporter(progress.write))
        if leads:
            write_json(folder / "result.json", result)
    except Exception as error:
        traceback.print_exc()
        message = " ".join(str(error).split())[:1000]
        if not (folder / "error.json").exists():  # of several processes the first to fail knows why
            write_json(folder / "error.json", {"type": type(error).__name__, "message": message})
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees all of it or no file.

    Raises:
        ValueError: the value holds a NaN.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(value, allow_nan=False) + "\n")
    unfinished.replace(path)


def _threads(params: dict[str, Any]) -> int:
    """CPU threads of this process: those of the job, shared by the processes that a launcher started on it."""
    return max(1, (params.get("threads") or cores()) // int(os.environ.get("WORLD_SIZE", "1")))


def _reporter(write: Callable[[str], Any]) -> Report:
    last = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= REPORT_SECONDS:
            last = now
            write(json.dumps({"done": done, "total": total, "note": note}) + "\n")

    return report


def _die_with_parent() -> None:
    """End this process when its stdin closes, which happens however its parent ends."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the one job that the command line names."""
    folder = Path(sys.argv[1])
    prepare_process(_threads(json.loads((folder / "job.json").read_text())["params"]))
    _die_with_parent()
    run_job(folder)


if __name__ == "__main__":
    main()
