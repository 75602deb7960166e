"""Dotted paths of the fields of a recipe, and which of them a mistyped one may mean.

A section that stands in a list or a mapping has `<N>` or `<NAME>` for its place in it, as in
`money.prices.models.<NAME>.input_per_million`.

Belongs here: walking the sections by their types. Not here: what a field means (`field_texts.py`), what a change of it makes
stale (`speed_assets/orchestration`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from speed_assets.recipe.model import Recipe

IN_LIST, IN_MAPPING = "<N>", "<NAME>"
"""Stand in a path for the number of an entry, and for the key of one."""
PLACES = (IN_LIST, IN_MAPPING)
_SUGGESTED = 3
"""Fields that a suggestion names (ours: more are no help)."""


@dataclass(frozen=True)
class FieldOfSection:
    """A field where it stands: `owner` is its section, `section` the one that it holds, below `places` of lists and mappings."""

    path: str
    owner: type[BaseModel]
    name: str
    info: FieldInfo
    section: type[BaseModel] | None
    places: tuple[str, ...]

    @property
    def below(self) -> str:
        """How the paths of the fields of `section` begin."""
        return ".".join((self.path, *self.places))


@cache
def fields_by_path() -> dict[str, FieldOfSection]:
    """Every section and field of a recipe, in the order of the sections."""
    return {field.path: field for field in _fields_of(Recipe, "")}


def all_fields() -> list[str]:
    """Dotted paths of every section and field of a recipe."""
    return list(fields_by_path())


def _fields_of(model: type[BaseModel], above: str) -> Iterator[FieldOfSection]:
    for name, info in model.model_fields.items():
        section, places = section_in(info.annotation) or (None, ())
        field = FieldOfSection(f"{above}{name}", model, name, info, section, places)
        yield field
        if section is not None:
            yield from _fields_of(section, f"{field.below}.")


def section_in(annotation: Any) -> tuple[type[BaseModel], tuple[str, ...]] | None:
    """The section that a type holds, and the places of lists and mappings around it; None where it holds values alone.

    >>> section_in(int | None), section_in(dict[str, tuple[Recipe, ...]] | None)
    (None, (<class 'speed_assets.recipe.model.Recipe'>, ('<NAME>', '<N>')))
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ()
    origin = get_origin(annotation)
    around = (IN_MAPPING,) if origin is dict else (IN_LIST,) if origin in (list, tuple) else ()
    for part in get_args(annotation):
        if (found := section_in(part)) is not None:
            return found[0], (*around, *found[1])
    return None


def known_paths(named: str) -> list[str]:
    """The fields that a path or its end names; an entry of a list or mapping by its number or name, by its place, or not at all.

    >>> known_paths("money.prices.models.gpt-4.1.batch_factor"), known_paths("readmit.row_ids")
    (['money.prices.models.<NAME>.batch_factor'], ['final_triplets.readmit.<N>.row_ids'])
    """
    last = named.rpartition(".")[2]
    ways = [path.split(".") for path in all_fields() if path.rpartition(".")[2] == last]
    complete = [".".join(names) for names in ways if _pattern(names).fullmatch(named)]
    return complete or [
        ".".join(names)
        for names in ways
        if any(_pattern(names[at:]).fullmatch(named) for at in range(1, len(names)) if names[at] not in PLACES)
    ]


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """What names a field by these names of its path."""
    places = {IN_LIST: r"(\.(\d+|<N>))?", IN_MAPPING: r"(\..+)?"}
    return re.compile(re.escape(names[0]) + "".join(places.get(name, rf"\.{re.escape(name)}") for name in names[1:]))


def close_fields(named: str, section: Collection[str] = ()) -> list[str]:
    """Fields that a mistyped path may mean, the likeliest first: those of its section, else of all.

    Args:
        named: the path that is no field.
        section: names of the fields next to it; without any, all paths are compared.
    """
    above, _, last = named.rpartition(".")
    if near := difflib.get_close_matches(last, section, _SUGGESTED):
        return [f"{above}.{name}" if above else name for name in near]
    paths = all_fields()
    close = difflib.get_close_matches(named, paths, 2)
    by_last: dict[str, list[str]] = {}
    for path in paths:
        by_last.setdefault(path.rpartition(".")[2], []).append(path)
    for match in difflib.get_close_matches(last, by_last, 2):
        close += by_last[match]
    return list(dict.fromkeys(close))


def did_you_mean(fields: Sequence[str]) -> str:
    """The question that names fields; empty where there are none.

    >>> did_you_mean(["a", "b", "c", "d", "e"])
    'Did you mean a, b, c or 2 more?'
    """
    shown, more = list(fields[:_SUGGESTED]), len(fields) - _SUGGESTED
    words = [*shown, f"{more} more"] if more > 0 else shown
    return f"Did you mean {' or '.join(filter(None, (', '.join(words[:-1]), *words[-1:])))}?" if words else ""


def fields_next_to(location: Sequence[str | int]) -> list[str]:
    """Names of the fields of the section in which a validation error is: `location` is its path, entries by number or key."""
    model: type[BaseModel] = Recipe
    names = iter(location[:-1])
    for name in names:
        info = model.model_fields.get(str(name))
        found = section_in(info.annotation) if info else None
        if found is None:
            return []
        model, places = found
        for _place in places:
            next(names, None)
    return list(model.model_fields)
