"""The reference is made from the code, is current, and is complete."""

from __future__ import annotations

import typer

import speed_assets
from checks.registry import CHECKS
from scripts import reference
from speed_assets.cli.app import app
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.orchestration.explain_field import all_fields


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


def test_every_field_has_a_meaning() -> None:
    bare = [line.split(" (")[0] for line in page("recipe.md").splitlines() if line.endswith(": no description")]
    assert not bare, "write a docstring for a new field"
