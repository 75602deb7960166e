"""The reference is made from the code, is current, and is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

import speed_assets
from checks.registry import CHECKS
from scripts import reference
from speed_assets.cli.app import app
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.orchestration.explain_field import describe_field
from speed_assets.recipe import Recipe
from speed_assets.recipe.field_paths import all_fields


def page(name: str) -> str:
    return (reference.FOLDER / name).read_text()


def test_pages_are_current() -> None:
    stale = [name for name, make in reference.PAGES.items() if make() != page(name)]
    assert not stale, "run python -m scripts.reference"


def test_every_field_command_check_and_name_is_there() -> None:
    names = {
        "recipe.md": [f"**`{field}`**" for field in all_fields()],
        "cli.md": [f"## `{name}`" for name, _ in reference.commands(typer.main.get_command(app))],
        "checks.md": [f"| `{check.name}` |" for check in CHECKS],
        "api.md": [f"## `speed.{name}`" for name in speed_assets.__all__],
        "glossary.md": [f"| `{stage.name}` |" for stage in ALL_STAGES],
    }
    missing = [(file, name) for file, wanted in names.items() for name in wanted if name not in page(file)]
    assert not missing


def in_schema(part: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Iterator[str]:
    """Paths of the fields in a part of a JSON schema, whatever stands around them: alternatives, lists, mappings."""
    if "$ref" in part:
        yield from in_schema(definitions[part["$ref"].rpartition("/")[2]], definitions, path)
    for name, below in part.get("properties", {}).items():
        yield f"{path}.{name}".lstrip(".")
        yield from in_schema(below, definitions, f"{path}.{name}")
    for several in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for below in part.get(several, ()):
            yield from in_schema(below, definitions, path)
    for inner, place in (("items", "<N>"), ("additionalProperties", "<NAME>")):
        if isinstance(below := part.get(inner), Mapping):
            yield from in_schema(below, definitions, f"{path}.{place}")


def test_every_field_of_the_schema_is_in_the_reference_and_explained() -> None:
    """The schema is Pydantic's own: it knows nothing of how `all_fields` walks."""
    schema = Recipe.model_json_schema()
    wanted = set(in_schema(schema, schema["$defs"], ""))
    assert {"money.prices.models.<NAME>.input_per_million", "final_triplets.readmit.<N>.row_ids"} <= wanted
    assert wanted == set(all_fields())
    assert not [path for path in wanted if f"**`{path}`**" not in page("recipe.md")]
    assert not [path for path in wanted if describe_field(path).field != path]


def test_every_field_has_a_meaning() -> None:
    bare = [line.split(" (")[0] for line in page("recipe.md").splitlines() if line.endswith(": no description")]
    assert not bare, "write a docstring for a new field"
