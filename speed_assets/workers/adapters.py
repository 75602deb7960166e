"""What is known of a LoRA adapter from its folder, without loading it.

Belongs here: reading PEFT's `adapter_config.json`. Not here: weights, and nothing that an engine's environment may lack.
"""

from __future__ import annotations

import json
from pathlib import Path

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for (vllm.config.lora.MaxLoRARanks)."""


def lora_rank(folder: str) -> int:
    """The smallest rank of vLLM's that an adapter fits. Raises ValueError for a folder that holds no LoRA adapter."""
    try:
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
        rank = int(config["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no LoRA adapter in PEFT's format: {error}") from None
    fitting = [size for size in RANKS if size >= rank]
    if not fitting:
        raise ValueError(f"{folder}: rank {rank} is more than vLLM's largest, {RANKS[-1]}")
    return fitting[0]
