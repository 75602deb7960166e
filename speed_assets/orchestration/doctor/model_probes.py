"""Probes of the models that a recipe loads: folders, packages, and repositories of a model hub.

Belongs here: those probes. Not here: asking a hub (`hub_probes.py`), cards and engines (`engine_probes.py`), what uses a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.inputs.base_models import MICROWORLD_BASE
from resources.inputs.given_models import is_local, local_files
from resources.inputs.hub_revisions import cached_commit, is_path
from resources.inputs.packaged_models import is_packaged, packaged_digest, packaged_here
from resources.inputs.rerankers import check_reranker_folder, check_reranker_here
from speed_assets.domain import machine_needs
from speed_assets.domain.graph import EXTERNAL, GENERATORS, RERANKER_SCORES, has_generators
from speed_assets.domain.machine_needs import in_units
from speed_assets.domain.reranker_settings import HEAD, reranker_problem
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.orchestration.doctor.hub_probes import Repository, ask_hub, offline
from speed_assets.recipe import GivenModel, Recipe, RecipeError

_WEIGHTS = (".safetensors",)
_OLD_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that a recipe names: where it is read, by which field, and the type of its weights."""

    field: str
    name: str
    revision: str | None
    dtype: str

    @property
    def on_hub(self) -> bool:
        return not is_packaged(self.name) and not Path(self.name).exists()

    def folder(self, home: Path | None = None) -> Path | None:
        """Where its files are on this machine; None for what is not there (or has to be converted first)."""
        if is_packaged(self.name):
            return packaged_here(self.name, home)
        if not self.on_hub:
            return Path(self.name)
        return cached(self.name, self.revision, home)

    def config(self, home: Path | None = None) -> Mapping[str, Any]:
        """What its `config.json` says, as far as it is on this machine."""
        folder = self.folder(home)
        try:
            value = json.loads((folder / "config.json").read_text(encoding="utf-8")) if folder else {}
        except (OSError, ValueError):
            value = {}
        return value if isinstance(value, dict) else {}

    def bytes_here(self, home: Path | None = None) -> int | None:
        """Bytes of its weights, as far as they are on this machine."""
        folder = self.folder(home)
        sizes = [file.stat().st_size for file in folder.glob("*.safetensors")] if folder else []
        return sum(sizes) or None

    def weights(self, home: Path | None = None) -> int | None:
        """Number of its weights, by its files, else by its name; None where neither says."""
        size = self.bytes_here(home)
        if size is None:
            return machine_needs.parameters_named(self.name)
        kind = str(self.config(home).get("dtype") or self.config(home).get("torch_dtype") or "bfloat16")
        return size // machine_needs.BYTES.get(kind, 2)


def named_models(recipe: Recipe) -> dict[str, NamedModel]:
    """The models that this recipe's graph loads, by the section that names them."""
    found = {}
    generator = recipe.generator
    if generator is not None and has_generators(recipe.graph()):
        name = str(MICROWORLD_BASE) if generator.base == "microworld" else generator.base
        found["generator"] = NamedModel("generator.base", name, generator.revision, generator.dtype)
    if recipe.embedding_model.base != "static":
        section = recipe.embedding_model
        found["embedding_model"] = NamedModel("embedding_model.base", section.base, section.revision, section.dtype)
    for name in ("row_scores", "mined_negatives"):
        owner = getattr(recipe, name)
        if owner is not None and owner.embedder is not None:
            embedder = owner.embedder
            found[name] = NamedModel(f"{name}.embedder.model", embedder.model, embedder.revision, "float32")
    if recipe.reranker_scores is not None and RERANKER_SCORES in recipe.graph():
        reranker = recipe.reranker_scores
        found[RERANKER_SCORES] = NamedModel("reranker_scores.model", reranker.model, reranker.revision, reranker.dtype)
    for place, pooled in recipe.pools().items():
        for number, model in enumerate(pooled.models):
            field = f"{place}.models.{number}"
            found[field] = NamedModel(f"{field}.model", model.model, model.revision, "float32")
    for stage in recipe.given_names():
        given = getattr(recipe.given, stage)
        if isinstance(given, GivenModel):
            dtype = generator.dtype if generator is not None and stage in GENERATORS else "float32"
            found[f"given.{stage}"] = NamedModel(f"given.{stage}.model", given.model, given.revision, dtype)
    return found


def cached(name: str, revision: str | None, home: Path | None = None) -> Path | None:
    """The snapshot of a hub's model in this machine's cache; None where it is not there or not complete."""
    from huggingface_hub import try_to_load_from_cache

    try:
        wanted = cached_commit(name, revision, home) or revision or "main"
        found = try_to_load_from_cache(name, "config.json", revision=wanted)
    except (RecipeError, ValueError, OSError):
        return None
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return folder if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")) else None


def models(recipe: Recipe, home: Path, *, network: bool) -> list[Finding]:
    """Every model that the recipe loads is there, or can be loaded from its hub."""
    found: dict[tuple[str, str | None], Finding] = {}
    for name, model in named_models(recipe).items():
        if name.startswith(EXTERNAL) and is_local(model.name):
            found[name, None] = _given(recipe, name.removeprefix(f"{EXTERNAL}."), model)
        elif name == RERANKER_SCORES and (problem := _reranker_problem(recipe, model, home)):
            found[name, None] = problem
        elif (model.name, model.revision) not in found:
            found[model.name, model.revision] = _here(model, home) or _on_hub(model, home, network)
    return list(found.values())


def _given(recipe: Recipe, stage: str, model: NamedModel) -> Finding:
    """What is to be reported of a folder that the user gives in the place of a stage."""
    try:
        files = local_files(stage, getattr(recipe.given, stage), recipe.generator)
    except RecipeError as problem:
        return error("model", str(problem), model.field)
    return ok("model", f"{files.folder.name}: given for {stage}, {files.part} of {in_units(files.size)}")


def _reranker_problem(recipe: Recipe, model: NamedModel, home: Path) -> Finding | None:
    """Why a reranker on this machine cannot be used; None for one that can, or that only a hub has."""
    section, folder = recipe.reranker_scores, model.folder(home)
    assert section is not None
    try:
        if model.on_hub and folder is not None:
            check_reranker_folder(section, folder)
        elif not model.on_hub:
            check_reranker_here(section)
    except RecipeError as problem:
        return error("model", str(problem), model.field)
    return None


def _here(model: NamedModel, home: Path) -> Finding | None:
    """What is to be reported of a model on this machine; None for one that only a hub may have."""
    name = "model"
    if is_packaged(model.name):
        try:
            packaged_digest(model.name)
        except RecipeError as problem:
            return error(name, str(problem), f"{model.field}, or pip install {model.name.partition(':')[2]}")
        size = model.bytes_here(home)
        return ok(name, f"{model.name} is installed{f', {in_units(size)}' if size else ''}")
    if not model.on_hub:
        folder = Path(model.name)
        if not (folder / "config.json").is_file():
            return error(name, f"{folder} has no config.json: it is no model's folder", model.field)
        if not any(any(folder.rglob(f"*{ending}")) for ending in (*_WEIGHTS, *_OLD_WEIGHTS)):
            return error(name, f"{folder} holds no weights that can be loaded", model.field)
        size = model.bytes_here(home)
        return ok(name, f"{folder.name}: a folder on this machine{f', {in_units(size)}' if size else ''}")
    if is_path(model.name):
        return error(name, f"there is no folder {model.name}", model.field)
    folder_here = model.folder(home)
    if folder_here is not None:
        size = model.bytes_here(home)
        return ok(name, f"{model.name} is in this machine's cache{f', {in_units(size)}' if size else ''}")
    return None


def _on_hub(model: NamedModel, home: Path, network: bool) -> Finding:
    """What a hub says of a model that is not on this machine."""
    name = "model"
    if offline():
        words = f"{model.name} is not in this machine's cache, and HF_HUB_OFFLINE forbids to ask a hub"
        return error(name, words, f"unset HF_HUB_OFFLINE, or {model.field}: a folder")
    if not network:
        return ok(name, f"{model.name} is not in this machine's cache: a run downloads it")
    told = ask_hub(Repository(model.name, model.revision, model.field))
    return told if isinstance(told, Finding) else _of_hub(model, told)


def _of_hub(model: NamedModel, info: Any) -> Finding:
    """What is to be reported of a repository that can be read."""
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    size = sum(size for file, size in files.items() if file.endswith(_WEIGHTS))
    classes = (getattr(info, "config", None) or {}).get("architectures") or []
    if model.field.startswith(RERANKER_SCORES) and classes and not any(str(one).endswith(HEAD) for one in classes):
        return error("model", f"{model.name} {reranker_problem({'architectures': classes}, 1)}", model.field)
    licence = (info.card_data or {}).get("license") if info.card_data else None
    if not size and any(file.endswith(_OLD_WEIGHTS) for file in files):
        words = f"{model.name} has no safetensors: its weights are pickles, which may run code when they are loaded"
        return warning("model", words, f"{model.field}: a model with safetensors")
    if not size:
        return error("model", f"{model.name} holds no weights that can be loaded", model.field)
    gated = ", gated and accepted" if info.gated else ""
    words = f"{model.name}: {in_units(size)} to download, licence {licence or 'not stated'}{gated}"
    return ok("model", words)
