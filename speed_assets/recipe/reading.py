"""A recipe from its YAML file, and errors that say what to change in it.

Belongs here: reading YAML, relative paths, the wording of errors. Not here: what a recipe may contain (`sections/`, `rules`),
recipes that extend others (`extending.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from speed_assets.domain.bounded_yaml import BYTES_MAX, YamlProblem, read_yaml_text
from speed_assets.recipe.changed_fields import with_changes
from speed_assets.recipe.extending import effective, resolved, shipped_recipes, usable_path
from speed_assets.recipe.field_paths import close_fields, did_you_mean, fields_next_to
from speed_assets.recipe.model import Recipe
from speed_assets.recipe.paths import DEFAULT_RECIPE, RECIPES
from speed_assets.recipe.recipe_error import RecipeError

PROBLEMS_SHOWN = 50
"""Lines of a message about a recipe."""


def find_recipe(name: str | os.PathLike[str]) -> Path:
    """The file of a recipe: a path, or the bare name of one in `recipes/`. Raises RecipeError."""
    path = usable_path(os.fspath(name), "--recipe")
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = RECIPES / f"{path}.yaml"
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}: give a YAML file or one of {', '.join(shipped_recipes())}")
    return path.resolve()


def load_recipe(
    name: str | os.PathLike[str] = DEFAULT_RECIPE,
    topics: str | os.PathLike[str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: a YAML file, or the name of a shipped recipe.
        topics: a topic file in place of the recipe's.
        changes: values in place of the recipe's, by dotted field.

    Returns:
        The recipe, complete and with absolute paths.

    Raises:
        RecipeError: with every field that is wrong, its value and what is allowed.
    """
    path = find_recipe(name)
    return parse_recipe(read_yaml(path), path, topics, changes)


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file in which each key occurs once, in the bounds of `domain/bounded_yaml.py`. Raises RecipeError."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise YamlProblem(f"more than {BYTES_MAX:,} bytes")
        return read_yaml_text(path.read_text(encoding="utf-8"))
    except YamlProblem as error:
        raise RecipeError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def parse_recipe(
    data: Any,
    path: Path,
    topics: str | os.PathLike[str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe from plain values.

    Args:
        data: what the YAML file holds.
        path: of that file; errors name it, and relative paths in the recipe start at its folder. Where `extends` names another
            recipe, these values are what differs from it.
        topics: a topic file in place of the recipe's.
        changes: values in place of the recipe's, by dotted field.

    Raises:
        RecipeError: with every field that is wrong, its value and what is allowed.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, this is {type(data).__name__}")
    values = effective(data, path, read_yaml, with_absolute_paths)
    if changes:
        values = with_absolute_paths(with_changes(values, changes), path.parent)
    if topics is not None and isinstance(values.get("topics"), Mapping):
        values["topics"] = {
            **values["topics"],
            "file": str(resolved(usable_path(os.fspath(topics), "--topics"), "--topics")),
        }
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors(include_url=False)]
        more = [f"and {len(lines) - PROBLEMS_SHOWN:,} more"] if len(lines) > PROBLEMS_SHOWN else []
        raise RecipeError(
            f"{path}: {len(lines)} problem(s)\n  " + "\n  ".join([*lines[:PROBLEMS_SHOWN], *more])
        ) from None


_PATHS = {
    "corpus": ("path", "alignment"),
    "examples": ("file",),
    "own_evaluation": ("queries",),
    "topics": ("file", "alignment"),
    "prompts": ("file",),
    "evaluation": ("local",),
}
"""Fields that are paths, or lists of them, by section."""


def with_absolute_paths(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a recipe with absolute paths; relative ones start at the recipe's folder, else at the shipped recipes."""
    values = dict(data)
    for name, fields in _PATHS.items():
        if not isinstance(values.get(name), Mapping):
            continue
        section = dict(values[name])
        for field in fields:
            found = section.get(field)
            if field == "local" and isinstance(found, list | tuple):
                section[field] = [_absolute(folder, item, f"{name}.{field}") for item in found]
            elif field != "local" and isinstance(found, str):
                section[field] = _absolute(folder, found, f"{name}.{field}")
        values[name] = section
    if isinstance(values.get("corpus"), Mapping) and "dataset" in values["corpus"]:
        found = _located(folder, "corpus.dataset", values["corpus"]["dataset"], ("name",))
        values["corpus"] = {**values["corpus"], "dataset": found}
    if isinstance(values.get("given"), Mapping):
        values["given"] = {name: _located(folder, f"given.{name}", found) for name, found in values["given"].items()}
    if "reranker_scores" in values:
        values["reranker_scores"] = _located(folder, "reranker_scores", values["reranker_scores"])
    return values


def _located(folder: Path, place: str, section: Any, fields: Sequence[str] = ("file", "model")) -> Any:
    """A section that names a file, a model or a data set, with an absolute path: of a file, of `./model`, and of a folder that is there."""
    if not isinstance(section, Mapping):
        return section
    found = dict(section)
    for field in fields:
        text, named = found.get(field), f"{place}.{field}"
        if not isinstance(text, str) or not text:
            continue
        path = usable_path(text, named)
        path = path.expanduser() if text.startswith("~/") else path
        if field == "file" or path.is_absolute() or text.startswith(".") or (folder / path).is_dir():
            found[field] = str(resolved(folder / path, named))
    return found


def shipped_files(recipe: Recipe, text: str = "", folder: Path | None = None) -> list[str]:
    """Fields of a recipe that name a file or folder of the shipped recipes, as `field: name`.

    Args:
        recipe: with absolute paths.
        text: of its file; what that names by its absolute path is the user's own choice, and no finding.
        folder: of its file; what the text names by the way from there is the user's own choice, too.
    """

    def chosen(file: str) -> bool:
        return file in text or (folder is not None and os.path.relpath(file, folder) in text)

    named: dict[str, list[str | None]] = {
        "topics.file": [recipe.topics.file],
        "topics.alignment": [recipe.topics.alignment],
        "prompts.file": [recipe.prompts.file],
        "evaluation.local": list(recipe.evaluation.local),
    }
    return [
        f"{field}: {Path(file).name}"
        for field, files in named.items()
        for file in files
        if file is not None and RECIPES.resolve() in Path(file).parents and not chosen(file)
    ]


def _absolute(folder: Path, value: Any, field: str) -> Any:
    """A path that starts at the recipe's folder, or at the shipped recipes where only those have it.

    What is no text stays, for the section to refuse. Raises RecipeError.
    """
    if not isinstance(value, str):
        return value
    path = usable_path(value, field)
    own, shipped = resolved(folder / path, field), resolved(RECIPES / path, field)
    copied = not field.startswith("corpus.") and ".." not in path.parts and not own.exists() and shipped.exists()
    return str(shipped if copied else own)


def _shown(value: Any) -> str:
    """A value of a recipe, short enough for a line."""
    if not isinstance(value, str | int | float | bool | None):
        return (
            f"a {type(value).__name__} of {len(value)}"
            if isinstance(value, list | tuple | dict)
            else type(value).__name__
        )
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _explain(item: dict[str, Any]) -> str:
    field = ".".join(str(part)[:80] for part in item["loc"]) or "recipe"
    if item["type"] == "extra_forbidden":  # a text is not repeated: it may be a key
        value = f" (value {_shown(item['input'])})" if isinstance(item["input"], int | float) else ""
        advice = did_you_mean(close_fields(field, fields_next_to(item["loc"])))
        return f"{field}: unknown field{value}{f'. {advice}' if advice else '; remove it or correct its name'}"
    if item["type"] == "missing":
        return f"{field}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if field.endswith(("key_variable", "endpoint")) or ".headers." in field:  # somebody may have put a secret there
        advice = "" if field.endswith("endpoint") else "this is to be the name of an environment variable: "
        return f"{field}: {advice}{message[0].lower() + message[1:]}"
    shown = "" if isinstance(item["input"], dict | BaseModel) else f" (value {_shown(item['input'])})"
    return f"{field}: {message[0].lower() + message[1:]}{shown}"
