"""Commands about recipes and projects: `init`, `schema`, `explain`.

Belongs here: their arguments and what they print. Not here: what they compute (`speed_assets/orchestration`).
"""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from speed_assets.cli.options import DEFAULT_RECIPE, JsonOption, RecipeOption, TopicsOption, load
from speed_assets.cli.output import out, show, show_json

PANEL = "Projects and recipes"
_BY_CONTENT = "another content of what the field names makes them stale, too"
Template = Enum("Template", {name: name for name in ("laptop", "gpu")})  # type: ignore[misc]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    commands: list[tuple[str, Callable[..., None], str]] = [
        ("init", init, "speed init my_model --template gpu"),
        ("explain", explain, "speed explain embedding_model.batch_size --recipe laptop"),
        ("schema", schema, "speed schema > recipe.schema.json"),
    ]
    for name, function, example in commands:
        app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")(function)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    template: Annotated[Template, typer.Option("--template", help="Shipped recipe to copy.")] = Template.laptop,  # type: ignore[attr-defined]
    as_json: JsonOption = False,
) -> None:
    """Start a project of your own: recipe, topics, environment file, settings, README."""
    from speed_assets.orchestration.new_project import new_project

    files = new_project(folder, template.value)
    if as_json:
        show_json({"folder": str(folder), "files": [str(file) for file in files]})
        return
    show(str(file) for file in files)
    show(
        [
            "",
            "Next: put your topics into topics.txt, name your teacher in recipe.yaml, and then",
            "",
            f"  cd {shlex.quote(str(folder))}; cp .env.example .env; set -a; . ./.env; set +a",
            *(f"  speed {command}" for command in ("doctor", "plan", "rehearse", "run")),
        ]
    )


def schema(as_json: JsonOption = False) -> None:
    """Print the JSON schema of recipes, for completion in editors."""
    from speed_assets.orchestration.new_project import recipe_schema

    show_json(recipe_schema(), indent=None if as_json else 1)


def explain(
    field: Annotated[str, typer.Argument(metavar="FIELD", help="Dotted path of a field, or its last name.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a field of a recipe means, its default and value, and what a change of it makes stale."""
    loaded = load(recipe, topics)
    from speed_assets.orchestration.explain_field import explain_field

    found = explain_field(loaded, field)
    if as_json:
        show_json(asdict(found))
        return
    default = "none: it has to be set" if found.required else _value(found.default)
    absent = f" (this recipe has no `{found.absent}`)" if found.absent else ""
    lines = [
        ("", found.meaning),
        ("", found.about),
        ("type", found.type),
        ("default", default),
        (f"in {loaded.name}", _value(found.value)),
        ("makes stale", f"{', '.join(found.stale) or 'no asset'}{absent}"),
        ("by content", f"{', '.join(found.by_content)} ({_BY_CONTENT})" if found.by_content else ""),
        ("downstream", f"{', '.join(found.downstream)} (where contents change)" if found.downstream else ""),
        ("checks", ", ".join(found.checks)),
        ("fields", ", ".join(name.removeprefix(f"{found.field}.") for name in found.fields)),
    ]
    out(found.field)
    for name, text in lines:
        for line in _indented(name, text) if text else ():
            out(line)


def _indented(name: str, text: str) -> list[str]:
    head = f"  {name}: " if name else "  "
    return textwrap.wrap(text, 80, initial_indent=head, subsequent_indent="    ", break_long_words=False)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
