"""A recipe from its YAML file, and errors that say what to change in it.

Belongs here: reading YAML, relative paths, the wording of errors. Not here: what a recipe may contain (`sections/`, `rules`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from speed_assets.domain.bounded_yaml import BYTES_MAX, YamlProblem, read_yaml_text
from speed_assets.recipe.model import Recipe
from speed_assets.recipe.paths import DEFAULT_RECIPE, RECIPES
from speed_assets.recipe.recipe_error import RecipeError


def find_recipe(name: str | os.PathLike[str]) -> Path:
    """The file of a recipe: a path, or the bare name of one in `recipes/`."""
    path = _usable_path(os.fspath(name), "--recipe")
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = RECIPES / f"{path}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise RecipeError(f"no recipe at {path}: give a YAML file or one of {names}")
    return path.resolve()


def load_recipe(name: str | os.PathLike[str] = DEFAULT_RECIPE, topics: str | os.PathLike[str] | None = None) -> Recipe:
    """Read and validate a recipe; `topics` replaces its topic file. Raises RecipeError."""
    path = find_recipe(name)
    return parse_recipe(read_yaml(path), path, topics)


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


_PATHS = {
    "corpus": ("path",),
    "examples": ("file",),
    "topics": ("file", "alignment"),
    "prompts": ("file",),
    "evaluation": ("local",),
}
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
            section["file"] = str(_usable_path(os.fspath(topics), "--topics").resolve())
        for field in fields:
            found = section.get(field)
            if field == "local" and isinstance(found, list | tuple):
                section[field] = [_absolute(folder, item, f"{name}.{field}") for item in found]
            elif field != "local" and isinstance(found, str):
                section[field] = _absolute(folder, found, f"{name}.{field}")
        values[name] = section
    return values


def _absolute(folder: Path, value: Any, field: str) -> Any:
    """A path that starts at the recipe's folder; what is no text stays, for the section to refuse. Raises RecipeError."""
    return str((folder / _usable_path(value, field)).resolve()) if isinstance(value, str) else value


def _usable_path(text: str, field: str) -> Path:
    """A path that a file system can have. Raises RecipeError."""
    encoded = os.fsencode(text) if text.isascii() else text.encode("utf-8", "surrogateescape")
    if "\0" in text or len(encoded) > 4000 or any(len(part) > 250 for part in encoded.split(b"/")):
        raise RecipeError(f"{field}: {_shown(text)} is no path: it is too long, or holds a NUL character")
    return Path(text)


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
        return f"{field}: unknown field{value}; remove it or correct its name"
    if item["type"] == "missing":
        return f"{field}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if field.endswith(("key_variable", "endpoint")) or ".headers." in field:  # somebody may have put a secret there
        advice = "" if field.endswith("endpoint") else "this is to be the name of an environment variable: "
        return f"{field}: {advice}{message[0].lower() + message[1:]}"
    shown = "" if isinstance(item["input"], dict | BaseModel) else f" (value {_shown(item['input'])})"
    return f"{field}: {message[0].lower() + message[1:]}{shown}"
