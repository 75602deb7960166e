"""What the folder of a LoRA adapter shows, without loading it.

Belongs here: reading PEFT's `adapter_config.json`, whether the weights are there, and whether their names are names of the base.
Not here: using them, and nothing that an engine's environment may lack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    file = Path(folder) / WEIGHTS
    if not file.is_file():
        return  # of another format: its engine refuses it
    found = False
    for name, tensor in _header(file).items():
        if "lora_B" not in name and "lora_A" not in name:
            return  # it saves full weights, too
        if "lora_B" in name:
            found = True
            if _any_number(file, tensor):
                return
    if found:
        raise ValueError(
            f"the adapter in {folder} changes nothing: all its lora_B weights are 0, so the model would answer as its base "
            "does; train it again, with a higher learning rate or more steps"
        )


def require_fit(folder: str, model: str, revision: str | None) -> None:
    """Refuse an adapter whose weights have other names than the modules of its base: vLLM drops those without a word.

    Args:
        folder: an adapter in PEFT's format; another format is left to its engine.
        model: the base, a folder or a name on the hub; one whose names cannot be read here is left to its engine.
        revision: of the base on the hub.

    Raises:
        ValueError: a weight of the adapter has no module in the base, or a file cannot be read.
    """
    file = Path(folder) / WEIGHTS
    if not file.is_file():
        return
    adapter = _header(file)
    base = _folder_tensors(Path(model)) if Path(model).is_dir() else _hub_tensors(model, revision)
    if base is None:
        return
    strange = modules_without_base(adapter, base)
    if strange:
        raise ValueError(
            f"the adapter in {folder} does not fit {model}: {len(strange)} of its modules are none of the base's, such as "
            f"{strange[0]}, and vLLM would answer without them; train the adapter again on this base"
        )


def modules_without_base(adapter: Iterable[str], base: Iterable[str]) -> list[str]:
    """Modules of an adapter that the base does not have, sorted.

    A checkpoint may name its modules without the outermost class (`h.0` for `transformer.h.0`), and models of several parts
    have their language model at another place than their checkpoint (`language_model.model` for `model.language_model`).
    Such names are compared without these outer parts, and all others as they are.

    Args:
        adapter: names of the adapter's tensors, as PEFT writes them; only those of LoRA matrices count.
        base: names of the base's tensors.
    """
    wanted = {match[1].replace(".base_layer", "") for match in map(_LORA.match, adapter) if match}
    names = set(base)
    lists = {match[1] for match in map(_NUMBERED.match, names) if match}
    outer = len(lists) != 1 or any(path.count(".") != 1 for path in lists)
    has = {part for name in names for part in _paths(_inner(name) if outer else name)}
    return sorted(
        module for module in wanted if module not in _TIED and (_inner(module) if outer else module) not in has
    )


WEIGHTS = "adapter_model.safetensors"
_LORA = re.compile(r"(?:base_model\.model\.)?(.+?)\.lora_(?:embedding_)?[AB](?:\.|$)")
_NUMBERED = re.compile(r"(.+?)\.\d+\.")
"""What comes before the first number in a name: the path of a list of layers."""
_OUTER = ("model", "language_model", "transformer", "text_model", "backbone", "gpt_neox")
"""Names of the parts that hold a language model (`base_model_prefix` of transformers, and those of models of several parts)."""
_TIED = ("lm_head", "embed_out")
"""An output layer that shares the embedding's weights is in no checkpoint."""


def _inner(name: str) -> str:
    first, dot, rest = name.partition(".")
    return _inner(rest) if dot and first in _OUTER else name


def _paths(name: str) -> list[str]:
    """The modules that hold a tensor: a list of experts may be one module, whose parts the checkpoint names."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _folder_tensors(folder: Path) -> set[str] | None:
    index = folder / INDEX
    if index.is_file():
        return _indexed(index)
    files = [file for file in folder.glob("*.safetensors") if file.name != WEIGHTS]
    return {name for file in files for name in _header(file)} if files else None


def _hub_tensors(model: str, revision: str | None) -> set[str] | None:
    """From the cache, or from the hub by the index or the first bytes of the weights.

    None where the hub does not answer or has no safetensors; then the engine, which needs the same files, says why.
    """
    from huggingface_hub import hf_hub_download, parse_safetensors_file_metadata, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(cached, str) and (found := _folder_tensors(Path(cached).parent)):
        return found
    with suppress(Exception):
        return _indexed(Path(hf_hub_download(model, INDEX, revision=revision)))
    with suppress(Exception):
        return set(parse_safetensors_file_metadata(model, "model.safetensors", revision=revision).tensors)
    return None


INDEX = "model.safetensors.index.json"


def _indexed(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text())["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{index} cannot be read as an index of safetensors: {error}") from None


def _header(file: Path) -> dict[str, Any]:
    """Name -> place and type of each tensor of a safetensors file, without what else its header says."""
    try:
        with file.open("rb") as weights:
            length = int.from_bytes(weights.read(8), "little")
            header = dict(json.loads(weights.read(min(length, file.stat().st_size))))
    except (OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}") from None
    header.pop("__metadata__", None)
    return header


_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Of a number, by the name of its type."""


def _any_number(file: Path, tensor: Any) -> bool:
    """Whether any number of a tensor is not 0, nor a 0 with a sign."""
    try:
        with file.open("rb") as weights:
            length = int.from_bytes(weights.read(8), "little")
            start, end = tensor["data_offsets"]
            weights.seek(8 + length + start)
            content, size = bytearray(weights.read(end - start)), _BYTES.get(tensor["dtype"], 1)
        content[size - 1 :: size] = content[size - 1 :: size].replace(b"\x80", b"\0")  # the sign is the highest bit
        return bool(content.strip(b"\0"))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}") from None
