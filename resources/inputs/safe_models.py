"""What the settings of a model from outside show, before any library reads it: its kind, its weights, its base.

Belongs here: refusing what would run code or is another kind of model. Not here: which files are copied (`given_models.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from resources.inputs.file_heads import weights_problem
from resources.store.manifests import read_regular
from speed_assets.domain.reranker_settings import reranker_problem
from speed_assets.recipe import RecipeError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base.json"
"""Of an adapter that this project trained: what its base was."""
MODULES = "modules.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".onnx", ".gguf")
"""Endings of weights that are not read; many of them may run code when they are loaded."""
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How classes of generating models end."""
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
_LIBRARY = "sentence_transformers."
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,100})?")


def read_settings(file: Path, name: str) -> dict[str, Any]:
    """A JSON file of settings.

    Args:
        file: to read.
        name: of the model, for the error.

    Raises:
        RecipeError: It is too large, no file, or no JSON object.
    """
    found = _json(file, name)
    if not isinstance(found, dict):
        raise RecipeError(f"{name}: {file.name} is no JSON object: save the model again")
    return found


def _json(file: Path, name: str) -> Any:
    try:
        return json.loads(read_regular(file.resolve()))
    except (ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:100]
        raise RecipeError(f"{name}: {file.name} cannot be read as JSON ({words}): save the model again") from None


def check_causal(folder: Path, files: Collection[str], name: str) -> None:
    """A folder of a causal language model with its tokenizer. Raises RecipeError for another."""
    if "config.json" not in files:
        more = " (it is a model of sentence-transformers)" if MODULES in files else ""
        raise RecipeError(f"{name} has no config.json: it is no folder of a generator{more}")
    config = read_settings(folder / "config.json", name)
    _check_weights([file for file in files if "/" not in file], name)
    named = config.get("architectures")
    classes = [str(one) for one in named] if isinstance(named, list) else []
    if not any(one.endswith(_CAUSAL) for one in classes) or config.get("is_encoder_decoder") is True:
        shown = ", ".join(classes)[:100] or "a model that names no architecture"
        raise RecipeError(f"{name} is {shown}, and a generator is a causal language model (such as LlamaForCausalLM)")
    if not set(_TOKENIZERS) & set(files):
        raise RecipeError(f"{name} has no tokenizer: save the tokenizer into its folder (tokenizer.save_pretrained)")


def check_adapter(folder: Path, name: str, bases: Collection[str]) -> None:
    """A LoRA adapter on one of the bases.

    Args:
        folder: of the adapter, which has `adapter_config.json` and its weights.
        name: of the adapter, for the error.
        bases: names of the generators' base.

    Raises:
        RecipeError: It is another kind of adapter, or names another base.
    """
    config = read_settings(folder / ADAPTER_CONFIG, name)
    if config.get("peft_type") != "LORA":
        raise RecipeError(
            f"{name} is an adapter of the kind {str(config.get('peft_type'))[:40]!r}, and only LORA can be used"
        )
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not any(_same_base(named, base) for base in bases):
        wanted = next(iter(bases), "not named")
        shown = repr(named[:200]) if isinstance(named, str) else "a base that it does not name"
        raise RecipeError(
            f"{name} is an adapter on {shown}, and generator.base is {wanted}: name that base, or train the adapter on this one"
        )


def _same_base(named: str, base: str) -> bool:
    """Whether two names of a base may mean the same: paths of two machines by their last name.

    >>> _same_base("/home/a/SmolLM2", "/srv/SmolLM2"), _same_base("org/one", "org/two"), _same_base("org/one", "other/one")
    (True, False, False)
    """
    one_is_a_path = any(text.startswith(("/", ".", "~")) for text in (named, base))
    return named == base or (one_is_a_path and Path(named).name == Path(base).name)


def check_embedder(folder: Path, files: Mapping[str, int], name: str) -> list[str]:
    """The files of a model of sentence-transformers: those at its top, and those in the folders of its modules.

    Raises:
        RecipeError: It is none, names code of its own, or has weights that are no safetensors.
    """
    if MODULES not in files:
        more = "; a language model without pooling is a base (embedding_model.base)" if "config.json" in files else ""
        raise RecipeError(f"{name} has no {MODULES}: it is no model of sentence-transformers{more}")
    kind = _kind(folder, files, name)
    if kind not in (None, "SentenceTransformer"):
        raise RecipeError(f"{name} is a {kind[:40]}, and an embedding model is a SentenceTransformer")
    folders = _module_folders(folder, files, name)
    below = tuple(f"{path}/" for path in folders if path)
    wanted = [file for file in files if "/" not in file or file.startswith(below)]
    for path in {file.rpartition("/")[0] for file in wanted}:
        inside = [file for file in wanted if file.rpartition("/")[0] == path]
        if any(file.endswith(_PICKLES) for file in inside):
            _check_weights(inside, name)
    _check_weights(wanted, name)
    return wanted


def check_reranker(folder: Path, files: Mapping[str, int], name: str, max_length: int) -> None:
    """A folder of a cross-encoder with one output.

    Args:
        folder: to read.
        files: {path below the folder: bytes}.
        name: of the model, for the error.
        max_length: tokens of query and document together at most.

    Raises:
        RecipeError: It is none, names code of its own, or has weights that are no safetensors.
    """
    if "config.json" not in files:
        raise RecipeError(f"{name} has no config.json: it is no folder of a reranker")
    if problem := reranker_problem(read_settings(folder / "config.json", name), max_length):
        raise RecipeError(f"{name} {problem}")
    if MODULES in files:
        _module_folders(folder, files, name)
    _check_weights([file for file in files if "/" not in file], name)
    if not set(_TOKENIZERS) & set(files):
        raise RecipeError(f"{name} has no tokenizer: save the tokenizer into its folder (tokenizer.save_pretrained)")
    check_content(folder, {file: size for file, size in files.items() if "/" not in file}, name)


def _module_folders(folder: Path, files: Collection[str], name: str) -> list[str]:
    """The folders of the modules of a model of sentence-transformers. Raises RecipeError where one is code of its own."""
    modules = _json(folder / MODULES, name)
    if not isinstance(modules, list) or not modules or not all(isinstance(one, dict) for one in modules):
        raise RecipeError(f"{name}: {MODULES} is no list of modules: save the model again")
    classes = [one.get("type") for one in modules]
    for router in (file for file in files if file.endswith("router_config.json")):
        types = read_settings(folder / router, name).get("types")
        classes += list(types.values()) if isinstance(types, dict) else []
    for one in classes:
        if not isinstance(one, str) or not one.startswith(_LIBRARY):
            raise RecipeError(
                f"{name} names the module {str(one)[:80]!r}, which is none of sentence-transformers: code of a model is not run"
            )
    folders = [one.get("path", "") for one in modules]
    for path in folders:
        if path and not (isinstance(path, str) and _FOLDER.fullmatch(path) and ".." not in path):
            raise RecipeError(f"{name}: {MODULES} names the folder {str(path)[:80]!r}, which is none below the model")
    return folders


def _kind(folder: Path, files: Collection[str], name: str) -> str | None:
    """The kind of model that sentence-transformers wrote, as far as it says."""
    file = "config_sentence_transformers.json"
    found = read_settings(folder / file, name).get("model_type") if file in files else None
    return found if isinstance(found, str) else None


def check_content(folder: Path, files: Mapping[str, int], name: str) -> None:
    """Files of weights hold some, as far as their first bytes show.

    Args:
        folder: of the model.
        files: {path below the folder: bytes} of those that are loaded.
        name: of the model, for the error.

    Raises:
        RecipeError: One is empty, or a pointer of Git LFS.
    """
    for file, size in files.items():
        if file.endswith(".safetensors") and (problem := weights_problem(folder / file, size)):
            raise RecipeError(f"{name}: {problem}")


def _check_weights(files: Collection[str], name: str) -> None:
    if any(file.endswith(".safetensors") for file in files):
        return
    others = [file for file in files if file.endswith(_PICKLES)]
    why = f" (it has {others[0]}, which is not read: it may run code when it is loaded)" if others else ""
    raise RecipeError(f"{name} has no safetensors{why}: save it as such (save_pretrained)")
