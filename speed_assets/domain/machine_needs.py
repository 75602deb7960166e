"""What a recipe asks of a machine, estimated from numbers: bytes on disk, memory of a card, memory of an index.

Belongs here: the arithmetic, with the source of each constant. Not here: asking the machine or a model hub
(`speed_assets/orchestration/doctor/`), money (`cost_bounds.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "BF16": 2, "F16": 2, "F32": 4}
"""Bytes of a weight by the recipe's name of a type, and by that of safetensors."""
ROW_BYTES = 4_000
"""Bytes on disk of one row of a table: prompt, answer and fields, compressed (ours: 200 to 500 words a row)."""
CALL_BYTES = 700
"""Bytes of ledger a call (docs/benchmarks.md: 660)."""
INDEX_BYTES_A_WORD = 120.0
"""Bytes of the contamination index for each word of the evaluation texts (docs/benchmarks.md: 0.12 GB a million)."""
CHARACTERS_A_WORD = 6.0
"""Of English with its spaces (ours)."""
BENCHMARK_WORDS = {"MTEB(eng, v1)": 335_700_000, "MTEB(eng, v2)": 94_100_000}
"""Words of the scored texts of a benchmark (docs/benchmarks.md, an upper bound)."""
ADAPTER_SHARE = 0.02
"""Weights of an adapter as a share of its base's (ours: r 16 on all linear layers has 0.5 to 1.5 %)."""
ADAM_STATES = 2
"""Numbers that a checkpoint keeps for each trained weight besides it (Adam's two moments)."""
WORKSPACE = 1.1
"""What an engine holds on a card beyond weights and cache, as a factor (ours: activations, CUDA graphs)."""
_PARAMETERS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?([mb])(?![a-z])", re.IGNORECASE)


def parameters_named(model: str) -> int | None:
    """Weights of a model by the size that its name states; None where it states none.

    >>> parameters_named("Qwen/Qwen2.5-0.5B-Instruct"), parameters_named("mistralai/Mistral-7B-v0.1"), parameters_named("gpt2")
    (500000000, 7000000000, None)
    """
    found = _PARAMETERS.findall(model.rpartition("/")[2])
    if not found:
        return None
    number, unit = found[-1]
    return int(float(number) * (10**9 if unit.casefold() == "b" else 10**6))


def cache_bytes_a_token(config: Mapping[str, Any], dtype_bytes: int) -> int | None:
    """Bytes of the KV cache for one token, by a model's `config.json`; None where that does not say.

    Args:
        config: as transformers writes it.
        dtype_bytes: of one number in the cache.

    >>> cache_bytes_a_token({"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}, 2)
    131072
    """
    layers, heads, hidden = (
        _number(config.get(name)) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    shared = _number(config.get("num_key_value_heads")) or heads
    width = _number(config.get("head_dim")) or (hidden // heads if heads else 0)
    return 2 * layers * shared * width * dtype_bytes or None


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def trained_bytes(weights: int, dtype_bytes: int, adapter: bool) -> tuple[int, int]:
    """Bytes on disk of one trained model, and of the checkpoint that is there while it is trained.

    Args:
        weights: number of weights of the base.
        dtype_bytes: of a weight.
        adapter: whether an adapter is trained, and not every weight.

    >>> trained_bytes(1_000, 2, adapter=False)
    (2000, 6000)
    """
    trained = int(weights * ADAPTER_SHARE) if adapter else weights
    return trained * dtype_bytes, trained * (1 + ADAM_STATES) * (4 if adapter else dtype_bytes)


def in_units(size: float) -> str:
    """Bytes for people.

    >>> in_units(3_200_000_000), in_units(15_000_000), in_units(529_200), in_units(900)
    ('3.2 GB', '15 MB', '529 kB', '900 bytes')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            shown = size / unit
            return f"{shown:.1f} {name}" if shown < 10 else f"{shown:,.0f} {name}"
    return f"{size:,.0f} bytes"
