"""Which assets another value of a field makes stale.

The recipe is read again with other values of the field, as `speed plan --set` does. An asset whose fingerprint then contains
something else is stale: another part of the recipe, another digest of a file or model that it reads, or other inputs. So
nothing here lists which stage reads which field.

Belongs here: other values of a field, and comparing what fingerprints contain. Not here: what a fingerprint contains
(`speed_assets/recipe/fingerprint_parts.py`, `resources/inputs/external_digests.py`).
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from resources.inputs.external_digests import external_digest
from resources.store.artifacts import partitions_of
from speed_assets.domain.graph import Graph, Stage
from speed_assets.domain.task_types import GROUNDED_AS
from speed_assets.recipe import Recipe, with_changes
from speed_assets.recipe.field_paths import PLACES, FieldOfSection, fields_by_path
from speed_assets.recipe.reading import with_absolute_paths

_CONTENTS = Literal["part", "externals", "inputs"]
_SHARES = "corpus.share"
"""How the fields begin that divide the rows of a task type where the recipe's file does not."""
_EITHER = (("corpus.path", "corpus.dataset"), ("corpus.dataset", "corpus.path"))
"""Fields of which a recipe has one: another value of the first is tried without the second."""
_TRIED = 3
"""Other values of a field that are tried (ours): a further number, none, and one between them."""
_MODELS = ("base", "model")
"""Last names of fields that name a model: a folder, or one of a hub."""


@dataclass(frozen=True)
class StaleAssets:
    """Assets in the order of the graph.

    `stale` are those whose fingerprint contains something else. Of these, `by_content` contain the digest of the file or model
    that the field names: another file of the same content leaves them as they are, where nothing else of them follows from its path.
    """

    stale: list[str]
    by_content: list[str]


def stale_assets(recipe: Recipe, path: str) -> StaleAssets:
    """The assets that another value of a field can make stale by itself, without those downstream of them.

    Args:
        recipe: the recipe that holds the field.
        path: the field, or a section: then any of its fields. A field of an entry counts as the list or mapping of the entry.

    Raises:
        KeyError: there is no field of that path.
    """
    names = path.split(".")
    entry = next((at for at, name in enumerate(names) if name in PLACES), len(names))
    named, path = names_content(path), ".".join(names[:entry])
    graph, fields = recipe.graph(), fields_by_path()
    stale = {stage.name for stage in graph.values() if _holds(recipe, stage, names[:entry])}
    content: set[str] = set()
    before = _contents(recipe, graph)
    for field in fields.values():
        if field.path != path and not field.path.startswith(f"{path}."):
            continue
        for other in islice(_other_recipes(recipe, field), _TRIED):
            differing = _differing(before, _contents(other, other.graph()))
            stale |= differing.keys()
            if named and field.path == path:
                content |= {name for name, what in differing.items() if "externals" in what}
    return StaleAssets([name for name in graph if name in stale], [name for name in graph if name in content])


def names_content(path: str) -> bool:
    """Whether a field names a file, a folder or a model, whose content counts.

    >>> names_content("topics.file"), names_content("evaluation.local"), names_content("topics.limit")
    (True, True, False)
    """
    names, folder = path.split("."), Path("/folder")
    if names[-1] in _MODELS:
        return True
    if len(names) == 1 or set(PLACES) & set(names):
        return False
    probes = (with_changes({}, {path: value}) for value in ("./file", ["./file"]))
    return any(with_absolute_paths(probe, folder) != probe for probe in probes)


def _holds(recipe: Recipe, stage: Stage, path: list[str]) -> bool:
    """Whether the fingerprint of a stage contains the field itself."""
    for task_type in partitions_of(stage):
        part: Any = recipe.part(stage, task_type)
        for name in path:
            if not isinstance(part, Mapping):
                return True  # narrowed to one task type
            if name not in part:
                break
            part = part[name]
        else:
            return True
    return False


_Contents = dict[tuple[str, str | None], dict[_CONTENTS, Any]]


def _contents(recipe: Recipe, graph: Graph) -> _Contents:
    """By artifact, what its fingerprint contains; of its inputs which they are, and not what they hold."""
    found: _Contents = {}
    for stage in graph.values():
        for task_type in partitions_of(stage):
            found[stage.name, task_type] = {
                "part": [stage.version, recipe.part(stage, task_type)],
                "externals": {name: _digest(recipe, name, task_type) for name in stage.externals},
                "inputs": [stage.takes, stage.inputs],
            }
    return found


def _digest(recipe: Recipe, external: str, task_type: str | None) -> str:
    """The digest of an external input, or why it cannot be read."""
    try:
        return external_digest(recipe, external, task_type)
    except (OSError, ValueError) as error:
        return str(error)


def _differing(before: _Contents, after: _Contents) -> dict[str, set[_CONTENTS]]:
    """By asset, what of it differs; an asset or task type that only one of both has is not compared."""
    found: dict[str, set[_CONTENTS]] = {}
    for key in before.keys() & after.keys():
        if what := {name for name, value in before[key].items() if after[key][name] != value}:
            found.setdefault(key[0], set()).update(what)
    return found


def _other_recipes(recipe: Recipe, field: FieldOfSection) -> Iterator[Recipe]:
    """Recipes that differ in one field, of those values that the rules of recipes allow."""
    values = recipe.model_dump(mode="json")
    value: Any = recipe
    for name in field.path.split("."):
        value = getattr(value, name, None)
    if field.path.startswith(_SHARES):
        values = _before_shares(values)
    for one, instead in _EITHER:
        if f"{field.path}.".startswith(f"{one}."):
            values = with_changes(values, {instead: None})
    for other in _other_values(field.info.annotation, value):
        try:
            changed = Recipe.model_validate(with_changes(values, {field.path: other}))
            changed.graph()
        except ValueError:  # the rules of recipes refuse it
            continue
        yield changed


def _before_shares(values: Any) -> Any:
    """Values whose grounded rows are counted among those about topics, as in a file where the shares divide them."""
    if not isinstance(values, dict):
        return values
    found = {key: _before_shares(value) for key, value in values.items()}
    for name, grounded in GROUNDED_AS.items():
        if isinstance(found.get(name), int) and isinstance(found.get(grounded), int):
            found[name] += found.pop(grounded)
    return found


def _other_values(annotation: Any, value: Any) -> Iterator[Any]:
    """Values of a type that differ from a value; not all of them need be allowed."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _other_values(parts[0], value)
    elif origin in (Union, types.UnionType):
        for part in parts:
            yield from _other_values(part, value)
    elif origin is Literal:
        yield from (part for part in parts if part != value)
    elif origin in (list, tuple) and not isinstance(value, BaseModel):
        held = list(value) if isinstance(value, list | tuple) else []
        yield from ([], held[1:]) if held else ()
        yield from ([*held, other] for other in _other_values(parts[0], None) if other is not None)
    elif annotation is type(None):
        yield from () if value is None else (None,)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from () if value is not None else ({},)
    else:
        yield from _other_plain_values(annotation, value)


def _other_plain_values(annotation: Any, value: Any) -> Iterator[Any]:
    if annotation is bool:
        yield not value
    elif annotation is str:
        yield f"{value}.other" if isinstance(value, str) else "/other"
    elif annotation in (int, float):
        number = value if isinstance(value, int | float) else 1
        others = (number + 1, 0, number / 2, number - 1, 0.9 * number, 1)
        yield from (annotation(other) for other in others if annotation(other) != value)
