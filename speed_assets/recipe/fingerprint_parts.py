"""What a fingerprint contains of a recipe, and what a release states of it.

Belongs here: which fields count, and the reason for each that does not. Not here: inputs and externals of a fingerprint
(`resources/store/artifacts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from speed_assets.domain.graph import EXTERNAL, Stage, reads_own_section
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, TASK_TYPE_NAMES, TOPIC_TYPES
from speed_assets.recipe.sections.teacher_section import Teacher

if TYPE_CHECKING:
    from speed_assets.recipe.model import Recipe

MEMORY_FIELDS = {
    "micro_batch_size": "how many rows fit into memory; the batch and its gradient stay the same but for rounding",
    "gradient_checkpointing": "memory against time; the gradient is the same",
}

GIVEN_FIELDS = {
    "model": "where the model is; its content, or the commit on its hub, is in the fingerprint instead",
    "revision": "the commit is in the fingerprint instead",
    "gigabytes_max": "a bound; what is above it is refused",
    "file": "where the rows are; their content is in the fingerprint instead",
    "rows_max": "a bound; what is above it is refused",
    "file_megabytes_max": "a bound; what is above it is refused",
    "hosted_teachers": "whether the recipe is refused",
    "released": "what a release holds; only `release` reads it",
}
"""Fields of what is given that no fingerprint contains but that of `release`, which states the whole section."""


UNFINGERPRINTED: dict[str, str] = {
    "corpus.path": "where the documents are; their content is in the fingerprint instead",
    "corpus.dataset": "where the documents are; name, configuration, split and commit, or a folder's files, are in the fingerprint instead",
    "corpus.alignment": "where the documents of the alignment are; their content is in the fingerprint instead",
    "examples.file": "the path of the examples; their content is in the fingerprint instead",
    "examples.released": "which rows a release holds; only `release` reads it",
    "own_evaluation.queries": "where the judged queries are; their content is in the fingerprint instead",
    "corpus.share": "how many rows are grounded; the numbers of rows are in the fingerprints instead",
    "corpus.shares": "how many rows are grounded; the numbers of rows are in the fingerprints instead",
    **{f"given.*.{name}": reason for name, reason in GIVEN_FIELDS.items()},
    "topics.file": "the path of the topics; their content is in the fingerprint instead",
    "evaluation.local": "the paths of evaluation sets; their names and content are in the fingerprint instead",
    "topics.rows_per_prompt_max": "when to warn, never what is asked",
    "topics.refuse": "whether a warning is an error",
    "topics.alignment": "a path; the content of the file is in the fingerprint instead",
    "prompts.file": "a path; the prompts that a stage asks with are in its fingerprint instead",
    "teacher.key_variable": "who pays, not what is asked",
    "senior_data.writer": "which model writes; as an input of the stage its content is in the fingerprint instead",
    "final_triplets.wanted": "how many blocks are written; the number of rows asked for is in the fingerprints instead",
    "reranker_scores.model": "where the reranker is; its content, or the commit on its hub, is in the fingerprint instead",
    "reranker_scores.revision": "the commit is in the fingerprint instead",
    "reranker_scores.batch_size": "how many pairs fit into memory; scores stay the same but for rounding",
    "runtime": "how fast, not what",
    "study": "names other recipes, and changes nothing in this one",
    "calls": "how a question is sent, not what is asked",
    "money": "what is paid and when to stop, not what is asked",
    **{
        f"{section}.{field}": reason
        for section in ("junior_model", "senior_model", "revisor_model", "embedding_model")
        for field, reason in MEMORY_FIELDS.items()
    },
    "description": "prose; only `release` reads it, for its cards",
    "checks": "thresholds judge artifacts and never change them; only `release` reads them",
}
"""Fields that no fingerprint contains, except that of `release` where named, each with the reason."""

_GIVEN = "grounded_rows"
"""The section with a part for each task type whose given text is a passage; rows of other types do not follow from it."""
_STATED = (
    "corpus.path",
    "corpus.dataset",
    "corpus.alignment",
    "corpus.share",
    "corpus.shares",
    "examples.file",
    "examples.released",
    "own_evaluation.queries",
    "topics.file",
    "topics.alignment",
    "prompts.file",
    "evaluation.local",
    "senior_data.writer",
    "reranker_scores.model",
    "reranker_scores.revision",
)
"""Fields of `UNFINGERPRINTED` that a release states, paths by their last name: so its fingerprint contains them, too."""


def part(recipe: Recipe, stage: Stage, task_type: str | None = None) -> dict[str, Any]:
    """What the fingerprint of a stage contains of a recipe: the stage's own section and those that its `reads` name.

    Args:
        recipe: the recipe.
        stage: the stage; a release has `published`.
        task_type: narrows numbers per task type to this one, so that the rows of one type do not touch the fingerprint of
            another; None keeps all.

    Returns:
        {section: plain JSON values}, without the fields of `UNFINGERPRINTED`.
    """
    if stage.kind == "release":
        return published(recipe)
    values = _sections(recipe, stage)
    if stage.given:
        _narrow_to_given(values, recipe, stage)
    for name, value in values.items():
        if isinstance(section := getattr(recipe, name), Teacher):
            value.pop("dialect", None)
            value |= {"dialect": shape} if (shape := section.shape()) else {}
    _drop(values, UNFINGERPRINTED)
    if task_type and _GIVEN in values:
        of_type, sections = task_type.removeprefix("grounded_"), values.pop(_GIVEN)
        values |= {_GIVEN: {of_type: sections[of_type]}} if task_type in GIVEN_TEXT_TYPES else {}
    return {name: _narrow(value, task_type) for name, value in values.items()} if task_type else values


def published(recipe: Recipe) -> dict[str, Any]:
    """What a release states of its recipe, and so what the fingerprint of a release contains.

    Returns:
        {section: plain JSON values} of all that shapes, judges or describes a release. Files and folders of this machine are
        there by their last name only; sections of pace and price are not there.
    """
    values = _sections(recipe, recipe.graph()["release"])
    _drop(values, [field for field in UNFINGERPRINTED if field not in _STATED])
    stated: dict[str, Any] = without_places(values)
    return stated


def _sections(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    own = [stage.name] if stage.name in type(recipe).model_fields and reads_own_section(stage) else []
    names = [*stage.reads, *own]
    values = {name: getattr(recipe, name) for name in names}
    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value for name, value in values.items()
    }


def _narrow_to_given(values: dict[str, Any], recipe: Recipe, stage: Stage) -> None:
    """Of `given` what is given for this stage, and of the generator the base that an adapter is one of."""
    own = getattr(recipe.given, stage.name).model_dump(mode="json", exclude=set(GIVEN_FIELDS))
    if own:
        values[EXTERNAL] = {stage.name: own}
    if generator := values.get("generator"):
        values["generator"] = {name: generator[name] for name in ("base", "revision")}


def _drop(values: dict[str, Any], paths: Iterable[str]) -> None:
    """Remove fields (`section.field`); the names of sections alone are left to `Stage.reads`."""
    for path in paths:
        section, _, field = path.partition(".")
        if field and values.get(section):
            values[section].pop(field, None)


def _narrow(value: Any, task_type: str) -> Any:
    if isinstance(value, dict):
        if set(TOPIC_TYPES) <= set(value) <= set(TASK_TYPE_NAMES):
            return value.get(task_type, 0)
        return {key: _narrow(item, task_type) for key, item in value.items()}
    return value


def without_places(value: Any) -> Any:
    """Plain values, in which a path of this machine is its last name.

    >>> without_places({"base": "/home/ann/models/mine", "files": ["~/topics.txt"], "name": "a/b"})
    {'base': 'mine', 'files': ['topics.txt'], 'name': 'a/b'}
    """
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str) and "\n" not in value and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value
