"""What training asks of the machine: one device for a process, and its failures, explained.

Belongs here: devices, memory, files of a base that cannot be used. Not here: training itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
_CUDA = re.compile(r"CUDA error|CUBLAS_STATUS|cuDNN error|NCCL (?:error|Error)|HIP error")


def processes() -> int:
    """Processes that train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the one that writes: the first of those that train together."""
    return os.environ.get("RANK", "0") == "0"


def one_device() -> None:
    """Let this process see one GPU at most, unless a launcher has given each its own.

    Call it before CUDA starts: the trainers spread a lone process over all that it sees, which is slow and which TRL
    refuses.

    Raises:
        ValueError: a launcher started more processes than there are GPUs.
    """
    seen = torch.cuda.device_count()
    if processes() > 1:
        if 0 < seen < processes():
            raise ValueError(f"runtime.processes={processes()}, but {seen} GPUs are visible: lower it to {seen}")
    elif seen > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


@contextmanager
def add_advice_to_failures(section: str) -> Iterator[None]:
    """Turn failures of memory, device and base into errors that name what to change.

    Args:
        section: names the fields: "the training section" or a section of the recipe.

    Raises:
        RuntimeError: memory ran out, or the GPU failed.
        ValueError: the base has no safetensors, or weights and base do not fit each other.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())[:300]
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(words):
            raise RuntimeError(
                f"out of memory: in {section}, set a smaller micro_batch_size first (no result changes), then "
                "gradient_checkpointing: true, then a smaller max_length, then lora; and see what else uses the "
                f"device ({words})"
            ) from error
        if _CUDA.search(words):
            raise RuntimeError(
                f"the GPU failed: run again, training resumes from its newest checkpoint; if it fails again, check "
                f"driver and card (nvidia-smi, dmesg), or run with CUDA_LAUNCH_BLOCKING=1 to see where ({words})"
            ) from error
        if "size mismatch" in words:
            raise ValueError(
                f"weights and base do not fit each other; an adapter belongs to the base it was trained on ({words})"
            ) from error
        raise
    except OSError as error:
        words = " ".join(str(error).split())[:300]
        if "safetensors" in words:
            raise ValueError(
                "the base has no safetensors weights, and others are not loaded since they may run code: convert them "
                f"(save_pretrained writes safetensors), or take a revision that has them ({words})"
            ) from error
        raise
