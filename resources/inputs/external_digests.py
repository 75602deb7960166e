"""Digests of what lies outside recipe and graph: topic file, prompts, base models, evaluation sets.

Belongs here: naming the content of such a thing. Not here: using it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from resources.inputs.evaluation_sets import scored_folders
from resources.inputs.hub_revisions import cached_commit, resolve_commit
from resources.inputs.packaged_models import is_packaged, packaged_digest, packaged_folder
from resources.store.store import file_digest, tree_digest
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import SCORING_LIBRARIES
from speed_assets.domain.prompts import PromptKind, PromptSet
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.microworld.evaluation import EVALUATION_VERSION
from speed_assets.recipe import PROJECT, Embedder, Generator, Prompts, Recipe, RecipeError, read_yaml

MICROWORLD_BASE = PROJECT / "speed_assets" / "microworld" / "base"


def generator_base(section: Generator) -> str:
    """Folder or hub name of the model that generators are tuned from. `microworld` is the shipped one; a packaged one is
    converted at the first call. Raises RecipeError when it is not there."""
    return resolve_model(_generator_name(section), section.revision)[0]


def generator_revision(section: Generator) -> str | None:
    """The commit of a generator's base on a hub; None for a base that lies on this machine."""
    return resolve_model(_generator_name(section), section.revision)[1]


def _generator_name(section: Generator) -> str:
    return str(MICROWORLD_BASE) if section.base == "microworld" else section.base


def resolve_model(name: str, revision: str | None) -> tuple[str, str | None]:
    """(folder, None) of a model that lies here or in an installed package, (name, commit) of one on a hub.

    Raises RecipeError when there is no such model.
    """
    if is_packaged(name):
        return str(packaged_folder(name)), None
    if _on_hub(name):
        return name, resolve_commit(name, revision)
    return name, None


def resolve_embedder(section: Embedder) -> dict[str, Any]:
    """An embedder's section with its folder or hub name and commit in it, as a worker loads it."""
    model, revision = resolve_model(section.model, section.revision)
    return {**section.model_dump(), "model": model, "revision": revision}


def pin_revisions(recipe: Recipe) -> None:
    """Resolve every hub model of a recipe to a commit, so that it is known before anything is paid for.

    Raises RecipeError that names the model when a hub does not know it or cannot be asked.
    """
    named = [(recipe.embedding_model.base, recipe.embedding_model.revision)]
    if recipe.generator is not None and "junior_model" in recipe.graph():
        named.append((_generator_name(recipe.generator), recipe.generator.revision))
    for owner in (recipe.row_scores, recipe.mined_negatives):
        if owner is not None and owner.embedder is not None:
            named.append((owner.embedder.model, owner.embedder.revision))
    for name, revision in named:
        if is_packaged(name):
            packaged_digest(name)
        elif name != "static" and _on_hub(name):
            resolve_commit(name, revision)


def _on_hub(name: str) -> bool:
    """Whether a name means a model of a hub. Raises RecipeError for a path at which nothing is."""
    path = Path(name)
    if is_packaged(name) or path.exists():
        return False
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise RecipeError(f"there is no model folder {name}: correct the path, or give the name of a model on a hub")
    return True


def prompt_set(section: Prompts) -> PromptSet:
    """The prompt set that a recipe names, with the user's own wording where the recipe has a file of it. Raises RecipeError."""
    if section.file is None:
        return PromptSet.load(section.set)
    path = Path(section.file)
    if not path.is_file():
        raise RecipeError(f"prompts.file: there is no file {path}; name one, or leave the field out")
    stat = path.stat()
    return _reworded(section.set, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _reworded(name: str, path: Path, _mtime: int, _size: int) -> PromptSet:
    try:
        return PromptSet.load(name).reworded(read_yaml(path))
    except (ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"prompts.file: {path}: {str(error).removeprefix(f'{path}: ')}") from None


def external_digest(recipe: Recipe, external: str, task_type: str | None) -> str:
    """The digest of an external that a stage lists; raises RecipeError when it is not there."""
    name, _, kind = external.partition(":")
    if name == "topic_file":
        files = {"file": recipe.topics.file, "alignment": recipe.topics.alignment}
        return digest({field: _topic_file_digest(field, Path(file)) for field, file in files.items() if file})
    if name == "rows_wanted":  # which topics are drawn follows from it
        types = [task_type] if task_type else sorted(TASK_TYPES)
        return digest([recipe.rows_wanted(of_type) for of_type in types])
    if name == "prompt":
        prompts = prompt_set(recipe.prompts)
        if kind == "expand":
            return prompts.expansion_digest()
        types = [task_type] if task_type else sorted(TASK_TYPES)
        return digest(
            [
                prompts.digest(cast(PromptKind, kind), t)
                for t in types
                if kind != "brainstorm" or TASK_TYPES[t].has_brainstorm
            ]
        )
    if name == "generator_base":
        assert recipe.generator is not None
        return _model_digest(_generator_name(recipe.generator), recipe.generator.revision)
    if name in ("scores_embedder", "negatives_embedder"):
        owner = recipe.row_scores if name == "scores_embedder" else recipe.mined_negatives
        embedder = owner and owner.embedder
        return _model_digest(embedder.model, embedder.revision) if embedder else digest(None)
    if name == "embedding_base":
        section = recipe.embedding_model
        if section.base == "static":
            return digest(["static", _model_digest(str(MICROWORLD_BASE / "tokenizer.json"), None), section.dimensions])
        return _model_digest(section.base, section.revision)
    if name == "evaluation_sets":
        return digest([EVALUATION_VERSION, recipe.evaluation.model_dump(mode="json", exclude={"local"})])
    if name == "scoring_libraries":
        return digest({library: version(library) for library in SCORING_LIBRARIES})
    if name == "mteb_version":  # it says which revision of a task's data is read
        return digest(version("mteb"))
    if name == "evaluation_texts":
        scored_folders(recipe.evaluation.local)  # a wrong description is refused before anything is paid for
        return digest([folder_digest(folder) for folder in recipe.evaluation.local])
    raise KeyError(external)


def folder_digest(folder: str) -> str:
    """The digest of an evaluation set in a folder; raises RecipeError when it is not there."""
    path = Path(folder)
    if not path.is_dir():
        raise RecipeError(f"evaluation.local: there is no folder {path}")
    return _path_digest(str(path), _state(path))


def _topic_file_digest(field: str, path: Path) -> str:
    if not path.is_file():
        raise RecipeError(f"topics.{field}: there is no file {path}; give one with --topics or in the recipe")
    return file_digest(path)


def _model_digest(name: str, revision: str | None) -> str:
    if is_packaged(name):
        return packaged_digest(name)
    if _on_hub(name):
        # The word of a branch stands for itself until a run has resolved it: a plan asks no hub.
        return digest(["hub", name, cached_commit(name, revision) or revision])
    path = Path(name)
    return _path_digest(str(path), _state(path))


def _state(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What shows that a file below `path` may have changed. The newest time alone would not: a file may be replaced by an
    older one, and a clock may be set back."""
    stats = ((str(p), p.stat()) for p in sorted([path, *path.rglob("*")]))
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats)


@lru_cache(maxsize=64)
def _path_digest(path: str, _state: tuple[tuple[str, int, int, int], ...]) -> str:
    return tree_digest(Path(path))
