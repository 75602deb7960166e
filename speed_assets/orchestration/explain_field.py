"""`speed explain`: what a field of a recipe means, and which artifacts a change of it makes stale.

Belongs here: reading the recipe's models and graph. Not here: the fields (`speed_assets/recipe`), which assets a change
reaches (`field_staleness.py`), printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from checks.registry import CHECKS
from speed_assets.domain.graph import downstream
from speed_assets.orchestration.field_staleness import stale_assets
from speed_assets.recipe import Recipe, RecipeError
from speed_assets.recipe.extending import EXTENDS
from speed_assets.recipe.field_paths import (
    IN_LIST,
    IN_MAPPING,
    FieldOfSection,
    close_fields,
    did_you_mean,
    fields_by_path,
    known_paths,
)
from speed_assets.recipe.field_texts import field_text

_EXTENDS = (
    "Recipe that this one extends: the name of a shipped recipe, or a YAML file. This one then holds its name and what differs; "
    "mappings are merged field by field, and null removes a section. All other commands see the complete recipe."
)


@dataclass(frozen=True)
class FieldDescription:
    """A field, whatever the recipe."""

    field: str
    meaning: str
    about: str = ""
    """Of a section: its own description, next to what the field means in which it is."""
    type: str = "text"
    required: bool = False
    default: Any = None
    fields: Sequence[str] = ()
    """Fields of a section, or of the sections in a list or mapping; empty for a value."""


@dataclass(frozen=True)
class FieldExplanation(FieldDescription):
    """A field of a recipe. `stale` are the assets that another value makes stale, `downstream` those made from them."""

    value: Any = None
    stale: Sequence[str] = ()
    by_content: Sequence[str] = ()
    """Of `stale`, those that read the content of what the field names: another content makes them stale, too."""
    absent: str | None = None
    """The section above the field that the recipe does not have; None where the recipe has all of them."""
    downstream: Sequence[str] = ()
    checks: Sequence[str] = ()


def describe_field(path: str) -> FieldDescription:
    """What a field means, its type and its default.

    Args:
        path: dotted path such as `embedding_model.batch_size`, or its last names where they are unique.

    Raises:
        RecipeError: when no field has that name, or several have.
    """
    if path == EXTENDS:
        return FieldDescription(path, _EXTENDS)
    field = _find_field(path)
    text = field_text(field.owner, field.name) or field.info.description
    about = _one_paragraph((field.section.__doc__ if field.section else "") or "")
    required = field.info.is_required()
    return FieldDescription(
        field=field.path,
        meaning=_one_paragraph(text or about or "no description"),
        about=about if text else "",
        type=_type_in_words(field.owner.model_json_schema(), field.name),
        required=required,
        default=None if required else _plain(field.info.get_default(call_default_factory=True)),
        fields=[f"{field.below}.{name}" for name in field.section.model_fields] if field.section else [],
    )


def explain_field(recipe: Recipe, path: str) -> FieldExplanation:
    """What a field means, and what a change of it makes stale.

    Args:
        recipe: the recipe whose value and graph are read.
        path: as in `describe_field`.

    Raises:
        RecipeError: when no field has that name, or several have.
    """
    described = describe_field(path)
    if described.field == EXTENDS:
        return FieldExplanation(**vars(described))
    found, graph = stale_assets(recipe, described.field), recipe.graph()
    reached = downstream(graph, found.stale)
    return FieldExplanation(
        **vars(described),
        value=_value(recipe, described.field),
        stale=found.stale,
        by_content=found.by_content,
        absent=_absent(recipe, described.field),
        downstream=[name for name in graph if name in reached and name not in found.stale],
        checks=[f"{check.asset}: {check.name}" for check in CHECKS if _judged_by(described.field, check.thresholds)],
    )


def _find_field(path: str) -> FieldOfSection:
    """The one field that a path or its end names."""
    found = known_paths(path)
    if len(found) == 1:
        return fields_by_path()[found[0]]
    if found:
        raise RecipeError(f"several fields are called {path}: {', '.join(found)}")
    advice = did_you_mean(close_fields(path))
    raise RecipeError(f"a recipe has no field {path}{f'. {advice}' if advice else '; `speed schema` lists all fields'}")


def _judged_by(path: str, thresholds: tuple[str, ...]) -> bool:
    section, _, rest = path.partition(".")
    return section == "checks" and rest.partition(".")[0] in thresholds


def _value(recipe: Recipe, path: str) -> Any:
    """The value of a field; of a field of entries a list or mapping of the values that the entries have."""

    def below(value: Any, names: Sequence[str]) -> Any:
        if not names or value is None:
            return _plain(value)
        name, *others = names
        if name == IN_LIST:
            return [below(entry, others) for entry in value]
        if name == IN_MAPPING:
            return {key: below(entry, others) for key, entry in value.items()}
        return below(getattr(value, name, None), others)

    return below(recipe, path.split("."))


def _absent(recipe: Recipe, path: str) -> str | None:
    """The first section of a path that the recipe does not have."""
    names = path.split(".")[:-1]
    above = (".".join(names[: at + 1]) for at in range(len(names)))
    return next((section for section in above if _value(recipe, section) is None), None)


def _plain(value: Any) -> Any:
    if value is PydanticUndefined:
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
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
