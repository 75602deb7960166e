"""Fields of a recipe that are changed for one run: `speed run --set FIELD=VALUE`, and the run config of the UI.

A changed recipe is read as if its file held the other values, so the same rules apply and the fingerprints of what it makes
contain them.

Belongs here: dotted fields, their values as text, putting them into the values of a recipe. Not here: what a field may be
(`sections/`, `rules`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from speed_assets.domain.bounded_yaml import YamlProblem, read_yaml_text
from speed_assets.recipe.recipe_error import RecipeError

_FIELD = re.compile(r"[A-Za-z0-9_-]{1,80}(\.[A-Za-z0-9_-]{1,80}){0,9}")
_FIXED = ("name",)
"""Fields that make another recipe: releases and accounts go by them."""


def changes_of(texts: Iterable[str]) -> dict[str, Any]:
    """The fields and values of `FIELD=VALUE`, each value in YAML. Raises RecipeError.

    >>> changes_of(["embedding_model.learning_rate=0.05", "evaluation.tasks=[STS12, STS13]"])
    {'embedding_model.learning_rate': 0.05, 'evaluation.tasks': ['STS12', 'STS13']}
    """
    changes: dict[str, Any] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or not _FIELD.fullmatch(field):
            raise RecipeError(f"--set {text[:80]!r}: write FIELD=VALUE, as in embedding_model.learning_rate=0.05")
        if field in changes:
            raise RecipeError(f"--set {field}: it is given twice")
        try:
            changes[field] = read_yaml_text(value)
        except YamlProblem as error:
            raise RecipeError(f"--set {field}: the value is not YAML: {error}") from None
    return changes


def with_changes(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a recipe with other values at dotted fields; the argument stays as it is. Raises RecipeError."""
    changed = dict(values)
    for field, value in changes.items():
        if not isinstance(field, str) or not _FIELD.fullmatch(field):
            raise RecipeError(f"{str(field)[:80]!r} is no field of a recipe: write it as section.field")
        if field in _FIXED:
            raise RecipeError(f"{field} cannot be changed for one run: write a recipe of another name")
        *parents, last = field.split(".")
        section = changed
        for at, name in enumerate(parents):
            inner = section.get(name)
            if inner is not None and not isinstance(inner, Mapping):
                raise RecipeError(f"{field}: {'.'.join(parents[: at + 1])} is no section")
            section[name] = dict(inner or {})
            section = section[name]
        section[last] = value
    return changed


def changes_in_words(changes: Mapping[str, Any]) -> str:
    """Changed fields for a tag or a line.

    >>> changes_in_words({"seed": 3, "topics.limit": None})
    'seed=3, topics.limit=null'
    """
    shown = {None: "null", True: "true", False: "false"}
    return ", ".join(
        f"{field}={shown[value] if value is None or isinstance(value, bool) else value}"[:200]
        for field, value in changes.items()
    )
