"""Models that a recipe names: a folder on this machine, an installed package, or a commit on a model hub.

Belongs here: resolving such a name to what a worker loads. Not here: digests for fingerprints (`external_digests.py`), the
three kinds themselves (`packaged_models.py`, `hub_revisions.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resources.inputs.hub_datasets import dataset_folder
from resources.inputs.hub_revisions import DATASETS, cached_commit, is_path, resolve_commit
from resources.inputs.packaged_models import is_packaged, packaged_digest, packaged_folder
from speed_assets.domain.graph import has_generators
from speed_assets.recipe import PROJECT, Embedder, Generator, GivenModel, Recipe, RecipeError

MICROWORLD_BASE = PROJECT / "speed_assets" / "microworld" / "base"


def generator_name(section: Generator) -> str:
    """The recipe's name of the model that generators are tuned from; `microworld` becomes the path of the shipped one."""
    return str(MICROWORLD_BASE) if section.base == "microworld" else section.base


def generator_base(section: Generator) -> str:
    """Folder or hub name of the model that generators are tuned from; a packaged one is converted at the first call.

    Raises:
        RecipeError: There is no such model.
    """
    return resolve_model(generator_name(section), section.revision)[0]


def generator_revision(section: Generator) -> str | None:
    """The commit of a generator's base on a hub; None for a base on this machine."""
    return resolve_model(generator_name(section), section.revision)[1]


def resolve_model(name: str, revision: str | None) -> tuple[str, str | None]:
    """Where a model is loaded from.

    Args:
        name: A folder, `package:NAME`, or the name of a model on a hub.
        revision: Branch, tag or commit on the hub; None is the default branch.

    Returns:
        (folder, None) of a model on this machine or in a package, (name, commit) of one on a hub.

    Raises:
        RecipeError: There is no such model.
    """
    if is_packaged(name):
        return str(packaged_folder(name)), None
    if is_on_hub(name):
        return name, resolve_commit(name, revision)
    return name, None


def resolve_embedder(section: Embedder) -> dict[str, Any]:
    """An embedder's section with its folder or hub name and commit in it, as a worker loads it."""
    model, revision = resolve_model(section.model, section.revision)
    return {**section.model_dump(), "model": model, "revision": revision}


def pin_revisions(recipe: Recipe) -> bool:
    """Resolve every hub model of a recipe, and its data set, to a commit before anything is paid for.

    Returns:
        Whether this home uses one of them for the first time: fingerprints and code versions from before are of no commit.

    Raises:
        RecipeError: A hub does not have one of them or cannot be reached; the message names it.
    """
    named = [(recipe.embedding_model.base, recipe.embedding_model.revision)]
    if recipe.generator is not None and has_generators(recipe.graph()):
        named.append((generator_name(recipe.generator), recipe.generator.revision))
    for owner in (recipe.row_scores, recipe.mined_negatives):
        if owner is not None and owner.embedder is not None:
            named.append((owner.embedder.model, owner.embedder.revision))
    if recipe.reranker_scores is not None:
        named.append((recipe.reranker_scores.model, recipe.reranker_scores.revision))
    named += [(model.model, model.revision) for pooled in recipe.pools().values() for model in pooled.models]
    named += [
        (found.model, found.revision)
        for stage in recipe.given_names()
        if isinstance(found := getattr(recipe.given, stage), GivenModel)
    ]
    on_hub = [(name, revision) for name, revision in named if name != "static" and is_on_hub(name)]
    for name, _ in named:
        if is_packaged(name):
            packaged_digest(name)
    dataset = recipe.corpus.dataset if recipe.corpus is not None else None
    if dataset is not None and dataset_folder(dataset) is None:
        on_hub.append((DATASETS + dataset.name, dataset.revision))
    first = any(cached_commit(name, revision) is None for name, revision in on_hub)
    for name, revision in on_hub:
        resolve_commit(name, revision)
    return first


def is_on_hub(name: str) -> bool:
    """Whether a name means a model of a hub.

    Raises:
        RecipeError: The name is a path, and there is nothing at it.
    """
    if is_packaged(name) or Path(name).exists():
        return False
    if is_path(name):
        raise RecipeError(f"there is no model folder {name}: correct the path, or give the name of a model on a hub")
    return True
