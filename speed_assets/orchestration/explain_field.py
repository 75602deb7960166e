"""`speed explain`: what a field of a recipe means, and which artifacts a change of it makes stale.

Belongs here: reading the recipe's models and graph. Not here: the fields (`speed_assets/recipe`), printing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from checks.registry import CHECKS
from speed_assets.recipe import Recipe, RecipeError
from speed_assets.recipe.extending import EXTENDS
from speed_assets.recipe.field_texts import field_text

_EXTENDS = (
    "Recipe that this one extends: the name of a shipped recipe, or a YAML file. This one then holds its name and what differs; "
    "mappings are merged field by field, and null removes a section. All other commands see the complete recipe."
)


@dataclass(frozen=True)
class FieldExplanation:
    """A field of a recipe. `stale` are the assets that read it, `downstream` those made from them."""

    field: str
    meaning: str
    about: str
    """Of a section: its own description, next to what the field means in which it is."""
    type: str
    required: bool
    default: Any
    value: Any
    stale: list[str]
    downstream: list[str]
    checks: list[str]
    fields: list[str]
    """Fields of a section; empty for a value."""


def explain_field(recipe: Recipe, path: str) -> FieldExplanation:
    """What a field means, and what reads it.

    Args:
        recipe: the recipe whose value and graph are read.
        path: dotted path such as `embedding_model.batch_size`, or its last names where they are unique.

    Raises:
        RecipeError: when no field has that name, or several have.
    """
    if path == EXTENDS:
        return FieldExplanation(path, _EXTENDS, "", "text", False, None, None, [], [], [], [])
    path = _full_path(path)
    owner, name, info = _lookup(path)
    section = _model_in(info.annotation)
    text = field_text(owner, name) or info.description
    about = _one_paragraph((section.__doc__ if section else "") or "")
    direct = [stage.name for stage in recipe.graph().values() if _reads(recipe, stage, path.split("."))]
    return FieldExplanation(
        field=path,
        meaning=_one_paragraph(text or about or "no description"),
        about=about if text else "",
        type=_type_in_words(owner.model_json_schema(), name),
        required=info.is_required(),
        default=None if info.is_required() else _plain(info.get_default(call_default_factory=True)),
        value=_value(recipe, path),
        stale=direct,
        downstream=_downstream(recipe, direct),
        checks=[f"{check.asset}: {check.name}" for check in CHECKS if _judged_by(path, check.thresholds)],
        fields=[f"{path}.{field}" for field in section.model_fields] if section else [],
    )


def all_fields(model: type[BaseModel] = Recipe, path: str = "") -> Iterator[str]:
    """Dotted paths of every section and field of a recipe."""
    for name, info in model.model_fields.items():
        yield f"{path}{name}"
        section = _model_in(info.annotation)
        if section is not None and path.count(".") < 6:  # no section holds itself; a bound all the same
            yield from all_fields(section, f"{path}{name}.")


def _full_path(name: str) -> str:
    known = list(all_fields())
    if name in known:
        return name
    found = [field for field in known if field.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise RecipeError(f"several fields are called {name}: {', '.join(found)}")
    last = {field.rpartition(".")[2]: field for field in known}
    close = [
        *difflib.get_close_matches(name, known, 2),
        *(last[match] for match in difflib.get_close_matches(name.rpartition(".")[2], last, 2)),
    ]
    hint = f". Did you mean {' or '.join(dict.fromkeys(close))}?" if close else "; `speed schema` lists all fields"
    raise RecipeError(f"a recipe has no field {name}{hint}")


def _lookup(path: str) -> tuple[type[BaseModel], str, FieldInfo]:
    """The section that holds a field, and the field."""
    *sections, name = path.split(".")
    owner: type[BaseModel] = Recipe
    for section in sections:
        found = _model_in(owner.model_fields[section].annotation)
        assert found is not None
        owner = found
    return owner, name, owner.model_fields[name]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section among the alternatives of a type; None for values, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if getattr(annotation, "__origin__", None) in (list, tuple, dict):
        return None
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _reads(recipe: Recipe, stage: Any, path: list[str]) -> bool:
    """Whether the fingerprint of a stage holds the field."""
    for task_type in stage.task_types or (None,):
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


def _downstream(recipe: Recipe, direct: list[str]) -> list[str]:
    graph, reached = recipe.graph(), set(direct)
    for name, stage in graph.items():  # in the order of the graph: inputs come first
        if reached.intersection(stage.inputs):
            reached.add(name)
    return [name for name in graph if name in reached and name not in direct]


def _judged_by(path: str, thresholds: tuple[str, ...]) -> bool:
    section, _, rest = path.partition(".")
    return section == "checks" and rest.partition(".")[0] in thresholds


def _value(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for name in path.split("."):
        value = getattr(value, name, None)
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is PydanticUndefined:
        return None
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
    "null": "null",
}


def _type_in_words(schema: Mapping[str, Any], name: str) -> str:
    """The type of a property of a JSON schema, with its bounds."""

    def words(part: Mapping[str, Any]) -> str:
        if "$ref" in part:
            definition = schema["$defs"][part["$ref"].rpartition("/")[2]]
            return "section" if definition.get("type") == "object" else words(definition)
        for several in ("anyOf", "oneOf"):
            if several in part:
                return " or ".join(dict.fromkeys(map(words, part[several])))
        if "allOf" in part:
            return words(part["allOf"][0])
        if "const" in part or "enum" in part:
            return "one of " + ", ".join(map(str, part.get("enum") or [part["const"]]))
        text = _TYPES.get(part.get("type", ""), "value")
        if text == "list" and isinstance(part.get("items"), Mapping):
            text = f"list ({words(part['items'])})"
        bounds = [f"{word} {part[bound]:g}" for bound, word in _BOUNDS.items() if bound in part]
        return ", ".join([text, *bounds])

    return words(schema["properties"][name])
