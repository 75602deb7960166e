"""Recipes that extend others: `extends: laptop` and only what differs.

The parent is a shipped recipe by its bare name, or a YAML file, found from the folder of the recipe that names it. A mapping is
merged field by field; any other value, also null and a list, replaces that of the parent. Relative paths start at the folder of
the recipe in which they stand. What comes out is a complete recipe: fingerprints, cards and `speed explain` see nothing else.

Belongs here: finding parents and merging values. Not here: reading YAML, checking a recipe (`reading.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from speed_assets.recipe.paths import RECIPES
from speed_assets.recipe.recipe_error import RecipeError

EXTENDS = "extends"
PARENTS_MAX = 8
"""Maximum recipes above one (ours: nobody can read a recipe that is spread over more files)."""


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def effective(
    data: Mapping[str, Any],
    path: Path,
    read: Callable[[Path], Any],
    with_paths: Callable[[Mapping[str, Any], Path], dict[str, Any]],
) -> dict[str, Any]:
    """The values of a recipe and of those that it extends, merged.

    Args:
        data: The recipe's own values.
        path: Its file.
        read: Reads the plain values of a file.
        with_paths: Makes the paths in values absolute, from a folder.

    Returns:
        Values without `extends`.

    Raises:
        RecipeError: A parent is missing, is no mapping, or extends itself; there are more than `PARENTS_MAX`; or the recipe has
            no name of its own.
    """
    layers, file, seen = [], path, [path.resolve()]
    while True:
        own = dict(data)
        parent = own.pop(EXTENDS, None)
        layers.append(with_paths(own, file.parent))
        if parent is None:
            break
        if "name" not in own:
            raise RecipeError(f"{file}: name: missing; a recipe that extends another has a name of its own")
        file = _parent(parent, file)
        if file in seen:
            circle = " -> ".join(found.name for found in [*seen, file])
            raise RecipeError(f"{path}: extends: a recipe cannot extend itself: {circle}")
        if len(seen) > PARENTS_MAX:
            raise RecipeError(f"{path}: extends: more than {PARENTS_MAX} recipes above this one: merge some of them")
        seen.append(file)
        data = read(file)
        if not isinstance(data, Mapping):
            raise RecipeError(f"{file}: a recipe is a mapping of sections, this is {type(data).__name__}")
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values = merged(values, layer)
    return values


def _parent(named: Any, file: Path) -> Path:
    """The file of the recipe that another extends. Raises RecipeError."""
    if not isinstance(named, str) or not named.strip():
        raise RecipeError(f"{file}: extends: name a YAML file or one of {', '.join(shipped_recipes())}")
    path = usable_path(named, "extends")
    found = file.parent / path if path.suffix in (".yaml", ".yml") else RECIPES / f"{path}.yaml"
    if not found.is_file():
        raise RecipeError(
            f"{file}: extends: no recipe at {found}: name a YAML file or one of {', '.join(shipped_recipes())}"
        )
    return found.resolve()


def merged(below: Any, above: Any) -> Any:
    """Values of a recipe over those that it extends.

    >>> merged({"a": {"x": 1, "y": [1]}, "b": 2}, {"a": {"y": [2]}, "b": None})
    {'a': {'x': 1, 'y': [2]}, 'b': None}
    """
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def usable_path(text: str, field: str) -> Path:
    """A path that a file system can have. Raises RecipeError."""
    try:
        encoded = os.fsencode(text) if text.isascii() else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RecipeError(f"{field}: {text[:79]!a} is no path: it holds half of a character") from None
    if "\0" in text or len(encoded) > 4000 or any(len(part) > 250 for part in encoded.split(b"/")):
        raise RecipeError(f"{field}: {text[:79]!r} is no path: it is too long, or holds a NUL character")
    return Path(text)


def resolved(path: Path, field: str) -> Path:
    """A path without links. Raises RecipeError for a link that leads back to itself."""
    try:
        return path.resolve()
    except (RuntimeError, OSError):
        raise RecipeError(f"{field}: {path} is a link that leads back to itself: correct it") from None
