"""What the folder of a LoRA adapter shows, without loading it.

Belongs here: reading PEFT's `adapter_config.json` and whether the weights are there. Not here: using them, and nothing that an
engine's environment may lack.
"""

from __future__ import annotations

import json
from pathlib import Path

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for (vllm.config.lora.MaxLoRARanks)."""


def lora_rank(folder: str) -> int:
    """The smallest rank of vLLM's that an adapter fits.

    Args:
        folder: an adapter in PEFT's format.

    Raises:
        ValueError: the folder holds no LoRA adapter, or one of a larger rank than vLLM takes.
    """
    try:
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
        rank = int(config["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no LoRA adapter in PEFT's format: {error}") from None
    fitting = [size for size in RANKS if size >= rank]
    if not fitting:
        raise ValueError(f"{folder}: rank {rank} is more than vLLM's largest, {RANKS[-1]}")
    return fitting[0]


def require_effect(folder: str) -> None:
    """Refuse an adapter that changes nothing: a model with it would answer as its base does.

    A LoRA adds the product of two matrices, and the second one (`lora_B`) begins with zeros: where it still holds nothing
    else, nothing was learnt, or the wrong file was saved.

    Args:
        folder: an adapter in PEFT's format; another format is left to its engine.

    Raises:
        ValueError: all its `lora_B` weights are 0, or its file cannot be read.
    """
    file = Path(folder) / "adapter_model.safetensors"
    if not file.is_file():
        return  # of another format: its engine refuses it
    found = False
    try:
        with file.open("rb") as weights:
            length = int.from_bytes(weights.read(8), "little")
            header = dict(json.loads(weights.read(min(length, file.stat().st_size))))
            for name, tensor in header.items():
                if "lora_B" not in name and name != "__metadata__" and "lora_A" not in name:
                    return  # it saves full weights, too
                if "lora_B" in name:
                    found = True
                    start, end = tensor["data_offsets"]
                    weights.seek(8 + length + start)
                    if weights.read(end - start).strip(b"\0"):
                        return
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}") from None
    if found:
        raise ValueError(
            f"the adapter in {folder} changes nothing: all its lora_B weights are 0, so the model would answer as its base "
            "does; train it again, with a higher learning rate or more steps"
        )
