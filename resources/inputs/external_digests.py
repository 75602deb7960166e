"""Digests of inputs outside recipe and graph: topic file, prompts, base models, evaluation sets, versions of libraries.

Hidden state of the process: digests of paths are cached by the sizes and times of all files below them.

Belongs here: naming the content of such an input for fingerprints. Not here: loading it (`base_models.py`,
`prompt_files.py`, `evaluation_sets.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from resources.inputs.base_models import MICROWORLD_BASE, generator_name, is_on_hub
from resources.inputs.corpus_files import corpus_digest
from resources.inputs.evaluation_sets import check_folder, scored_folders
from resources.inputs.example_files import examples_digest
from resources.inputs.given_models import is_local, local_files
from resources.inputs.hub_datasets import dataset_digest
from resources.inputs.hub_revisions import cached_commit
from resources.inputs.judged_queries import judged_queries_digest
from resources.inputs.packaged_models import is_packaged, packaged_digest
from resources.inputs.prompt_files import prompts_of
from resources.inputs.rerankers import check_reranker_here
from resources.inputs.topic_files import checked_topic_file, topic_file_bytes
from resources.store.manifests import file_digest
from resources.store.store import tree_digest
from speed_assets.domain.evaluation_folders import OWN_SETS
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import EXTERNAL, SCORING_LIBRARIES
from speed_assets.domain.prompts import PromptKind, relevance_digest
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES, TOPIC_TYPES
from speed_assets.domain.topics import special_form
from speed_assets.microworld.evaluation import EVALUATION_VERSION, TASK_NAMES
from speed_assets.recipe import Embedder, GivenTriplets, Pooled, Recipe, RecipeError


def external_digest(recipe: Recipe, external: str, task_type: str | None) -> str:
    """The digest of an external input that a stage lists.

    Args:
        recipe: The recipe that says which file, model or set the input is.
        external: A name of `Stage.externals`, such as `topic_file` or `prompt:judge`.
        task_type: The task type of the artifact; None where the stage has one artifact for all.

    Returns:
        64 hex digits.

    Raises:
        RecipeError: The input does not exist or cannot be read.
        KeyError: There is no external of that name.
    """
    name, _, kind = external.partition(":")
    if name == "prompt":
        return _prompt(recipe, kind, task_type)
    if name == EXTERNAL:
        return _given(recipe, kind)
    return _DIGESTS[name](recipe, task_type)


def folder_digest(folder: str) -> str:
    """The digest of an evaluation set in a folder. Raises RecipeError when the folder does not exist."""
    path = Path(folder)
    if not path.is_dir():
        raise RecipeError(f"evaluation.local: there is no folder {path}")
    return _path_digest(str(path), _state(path))


def evaluation_notes(recipe: Recipe) -> list[str]:
    """What may lower scores on the recipe's evaluation folders, one sentence each.

    Raises:
        RecipeError: A folder cannot be read or scored as it is.
    """
    evaluation = recipe.evaluation
    own = OWN_SETS if recipe.own_evaluation else ()
    scored_folders(evaluation.local, [*evaluation.tasks, *(TASK_NAMES if evaluation.microworld else ()), *own])
    there = [folder for folder in evaluation.local if Path(folder).is_dir()]
    return [note for folder in there for note in check_folder(folder, _state(Path(folder)))]


def _topic_file(recipe: Recipe, _task_type: str | None) -> str:
    files = {"file": recipe.topics.file, "alignment": recipe.topics.alignment}
    return digest({field: _topic_file_digest(field, Path(file)) for field, file in files.items() if file})


def _topic_file_digest(field: str, path: Path) -> str:
    stat = checked_topic_file(field, path).stat()
    return _form_digest(field, str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _form_digest(field: str, path: str, _size: int, _mtime: int) -> str:
    """The digest of a topic file; it also depends on the form of a file that earlier versions read in another way."""
    content, form = file_digest(Path(path)), special_form(topic_file_bytes(field, path))
    return digest([content, form]) if form else content


def _rows_wanted(recipe: Recipe, task_type: str | None) -> str:
    """Which topics are drawn follows from these numbers."""
    types = _types(recipe, task_type)
    if task_type == GROUNDED:  # the table of passages is of all rows that are written from them
        types = [*types, *recipe.given_text_types()]
    return digest([recipe.rows_wanted(of_type) for of_type in types])


def _prompt(recipe: Recipe, kind: str, task_type: str | None) -> str:
    prompts = prompts_of(recipe)
    if kind == "expand":
        return prompts.expansion_digest()
    if kind == "relevance":
        return relevance_digest(prompts)
    return digest(
        [
            prompts.digest(cast(PromptKind, kind), of_type)
            for of_type in _types(recipe, task_type)
            if kind != "brainstorm" or TASK_TYPES[of_type].has_brainstorm
        ]
    )


def _types(recipe: Recipe, task_type: str | None) -> list[str]:
    """Without grounded rows of a type digests are those of before there was any."""
    if task_type:
        return [task_type]
    return sorted([*TOPIC_TYPES, *[GROUNDED] * bool(recipe.corpus), *recipe.given_text_types()])


def _corpus_files(recipe: Recipe, _task_type: str | None) -> str:
    assert recipe.corpus is not None
    section = recipe.corpus
    own = dataset_digest(section.dataset) if section.dataset else corpus_digest(Path(str(section.path)))
    if section.alignment is None:
        return own
    return digest([own, corpus_digest(Path(section.alignment), "corpus.alignment")])


def _examples_file(recipe: Recipe, _task_type: str | None) -> str:
    assert recipe.examples is not None
    return examples_digest(recipe.examples)


def _judged_queries(recipe: Recipe, _task_type: str | None) -> str:
    assert recipe.own_evaluation is not None
    return judged_queries_digest(recipe.own_evaluation)


def _pool_models(recipe: Recipe, _task_type: str | None) -> str:
    return _retrievers(recipe.own_evaluation.pooled if recipe.own_evaluation else None)


def _answer_models(recipe: Recipe, _task_type: str | None) -> str:
    return _retrievers(recipe.examples.answers if recipe.examples else None)


def _retrievers(pooled: Pooled | None) -> str:
    return digest([_embedder_digest(model) for model in pooled.models] if pooled else None)


def _untrained_base(recipe: Recipe, task_type: str | None) -> str:
    return digest([_embedding_base(recipe, task_type), recipe.embedding_model.untrained()])


def _generator_base(recipe: Recipe, _task_type: str | None) -> str:
    assert recipe.generator is not None
    return _model_digest(generator_name(recipe.generator), recipe.generator.revision)


def _given(recipe: Recipe, stage: str) -> str:
    section = getattr(recipe.given, stage)
    if isinstance(section, GivenTriplets):
        return examples_digest(section, f"{EXTERNAL}.{stage}")
    if is_local(section.model):
        return local_files(stage, section, recipe.generator).digest()
    return _model_digest(section.model, section.revision)


def _scores_embedder(recipe: Recipe, _task_type: str | None) -> str:
    return _embedder_digest(recipe.row_scores.embedder if recipe.row_scores else None)


def _negatives_embedder(recipe: Recipe, _task_type: str | None) -> str:
    return _embedder_digest(recipe.mined_negatives.embedder if recipe.mined_negatives else None)


def _reranker(recipe: Recipe, _task_type: str | None) -> str:
    assert recipe.reranker_scores is not None
    check_reranker_here(recipe.reranker_scores)
    return _model_digest(recipe.reranker_scores.model, recipe.reranker_scores.revision)


def _embedder_digest(embedder: Embedder | None) -> str:
    return _model_digest(embedder.model, embedder.revision) if embedder else digest(None)


def _embedding_base(recipe: Recipe, _task_type: str | None) -> str:
    section = recipe.embedding_model
    if section.base == "static":
        return digest(["static", _model_digest(str(MICROWORLD_BASE / "tokenizer.json"), None), section.dimensions])
    return _model_digest(section.base, section.revision)


def _evaluation_sets(recipe: Recipe, _task_type: str | None) -> str:
    return digest([EVALUATION_VERSION, recipe.evaluation.model_dump(mode="json", exclude={"local"})])


def _scoring_libraries(_recipe: Recipe, _task_type: str | None) -> str:
    return digest({library: _installed(library) for library in SCORING_LIBRARIES})


def _mteb_version(_recipe: Recipe, _task_type: str | None) -> str:
    """The version of mteb decides which revision of a task's data is read."""
    return digest(_installed("mteb"))


def _installed(library: str) -> str | None:
    """The version of a library; None in an environment that only plans. What is planned there counts it as changed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _evaluation_texts(recipe: Recipe, _task_type: str | None) -> str:
    evaluation_notes(recipe)  # what cannot be read or scored is refused before anything is paid for
    # Scores, quarantine and cards call a set by the name of its folder.
    return digest([[Path(folder).name, folder_digest(folder)] for folder in recipe.evaluation.local])


_DIGESTS: Mapping[str, Callable[[Recipe, str | None], str]] = {
    "topic_file": _topic_file,
    "rows_wanted": _rows_wanted,
    "corpus_files": _corpus_files,
    "examples_file": _examples_file,
    "judged_queries": _judged_queries,
    "pool_models": _pool_models,
    "answer_models": _answer_models,
    "untrained_base": _untrained_base,
    "generator_base": _generator_base,
    "scores_embedder": _scores_embedder,
    "negatives_embedder": _negatives_embedder,
    "reranker": _reranker,
    "embedding_base": _embedding_base,
    "evaluation_sets": _evaluation_sets,
    "scoring_libraries": _scoring_libraries,
    "mteb_version": _mteb_version,
    "evaluation_texts": _evaluation_texts,
}


_CARDS = ".md"
"""Cards of models: no library loads them, so other words in them make no model stale."""


def _model_digest(name: str, revision: str | None) -> str:
    if is_packaged(name):
        return packaged_digest(name)
    if is_on_hub(name):
        # An unresolved branch is digested by its name: `speed plan` sends no request to a hub.
        return digest(["hub", name, cached_commit(name, revision) or revision])
    path = Path(name)
    return _path_digest(str(path), _state(path), _CARDS)


def _state(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What shows that a file below `path` may have changed. The newest time alone would not: a file may be replaced by an
    older one, and a clock may be set back."""
    found = []
    for file in sorted([path, *path.rglob("*")]):
        try:
            stat = file.stat()
        except OSError as error:
            raise RecipeError(
                f"{file} cannot be read ({error.strerror}): mend the link or its permissions, or remove it"
            ) from None
        found.append((str(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(found)


@lru_cache(maxsize=64)
def _path_digest(path: str, _state: tuple[tuple[str, int, int, int], ...], without: str | None = None) -> str:
    return tree_digest(Path(path), without)
