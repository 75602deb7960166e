"""The small recipe as tests use it: changed by dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speed_assets.recipe import RECIPES, Recipe, parse_recipe
from tests.support.small import ROWS, small_data, write_recipe

__all__ = ["ROWS", "set_paths", "tiny_data", "tiny_recipe", "write_recipe"]

tiny_data = small_data


def set_paths(data: Any, changes: Mapping[str, Any]) -> None:
    """Set values of a recipe's data by dotted path, with `__` for the dot."""
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = data
        for name in parents:
            section = section[name]
        section[last] = value


def tiny_recipe(**changes: Any) -> Recipe:
    """The tiny recipe; `changes` replace values by dotted path, with `__` for the dot."""
    data = tiny_data()
    set_paths(data, changes)
    return parse_recipe(data, RECIPES / "tiny.yaml")
