"""A recipe from its YAML file, and errors that say what to change in it.

Belongs here: reading YAML, relative paths, the wording of errors. Not here: what a recipe may contain (`sections/`, `rules`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from speed_assets.recipe.model import Recipe
from speed_assets.recipe.paths import DEFAULT_RECIPE, RECIPES
from speed_assets.recipe.recipe_error import RecipeError


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which each key occurs once: a doubled key is nearly always a slip."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise RecipeError(f"line {line}: `{key}` stands twice (first on line {seen[key]})")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def find_recipe(name: str | os.PathLike[str]) -> Path:
    """The file of a recipe: a path, or the bare name of one in `recipes/`."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise RecipeError(f"no recipe at {path}: give a YAML file or one of {names}")
    return path.resolve()


def load_recipe(name: str | os.PathLike[str] = DEFAULT_RECIPE, topics: str | os.PathLike[str] | None = None) -> Recipe:
    """Read and validate a recipe; `topics` replaces its topic file. Raises RecipeError."""
    path = find_recipe(name)
    return parse_recipe(read_yaml(path), path, topics)


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file in which each key occurs once. Raises RecipeError."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader, stricter still
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{path}:{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def parse_recipe(data: Any, path: Path, topics: str | os.PathLike[str] | None = None) -> Recipe:
    """A recipe from plain values.

    Args:
        data: what the YAML file holds.
        path: of that file; errors name it, and relative paths in the recipe start at its folder.
        topics: a topic file in place of the recipe's.

    Raises:
        RecipeError: with every field that is wrong, its value and what is allowed.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, this is {type(data).__name__}")
    try:
        return Recipe.model_validate(_with_absolute_paths(data, path.parent, topics))
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors(include_url=False)]
        raise RecipeError(f"{path}: {len(lines)} problem(s)\n  " + "\n  ".join(lines)) from None


_PATHS = {"topics": ("file", "alignment"), "prompts": ("file",), "evaluation": ("local",)}
"""Fields that are paths, or lists of them, by section."""


def _with_absolute_paths(
    data: Mapping[str, Any], folder: Path, topics: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """The values of a recipe, in which relative paths start at the recipe's folder."""
    values = dict(data)
    for name, fields in _PATHS.items():
        if not isinstance(values.get(name), Mapping):
            continue
        section = dict(values[name])
        if name == "topics" and topics is not None:
            section["file"] = str(Path(topics).resolve())
        for field in fields:
            found = section.get(field)
            if field == "local" and isinstance(found, list | tuple):
                section[field] = [str((folder / item).resolve()) for item in found]
            elif field != "local" and isinstance(found, str):
                section[field] = str((folder / found).resolve())
        values[name] = section
    return values


def _explain(item: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "recipe"
    if item["type"] == "extra_forbidden":
        return f"{field}: unknown field (value {item['input']!r}); remove it or correct its name"
    if item["type"] == "missing":
        return f"{field}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if field.endswith(("key_variable", "endpoint")) or ".headers." in field:  # somebody may have put a secret there
        advice = "" if field.endswith("endpoint") else "this is to be the name of an environment variable: "
        return f"{field}: {advice}{message[0].lower() + message[1:]}"
    shown = "" if isinstance(item["input"], dict | BaseModel) else f" (value {item['input']!r})"
    return f"{field}: {message[0].lower() + message[1:]}{shown}"
