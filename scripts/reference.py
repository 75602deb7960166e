"""The pages of docs/reference, made from the code: `python -m scripts.reference` writes them, `--check` only compares.

    recipe.md      every field of a recipe: meaning, type, default
    cli.md         every command with its arguments and options
    checks.md      every check: what it asserts, whether it blocks, its thresholds
    api.md         every public name of `speed_assets`, with its docstring
    glossary.md    stages, task types and columns

Belongs here: their layout. Not here: any description; those are docstrings and help texts.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import speed_assets
from checks.registry import CHECKS
from speed_assets.domain.columns import COLUMNS
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES
from speed_assets.orchestration.explain_field import describe_field
from speed_assets.recipe.field_paths import IN_LIST, IN_MAPPING, all_fields

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE = "<!-- Written by `python -m scripts.reference`: change the docstring, not this page. -->"


def recipe_page() -> str:
    """Every field of a recipe."""
    lines = [
        "# Fields of a recipe",
        "",
        MADE,
        "",
        "`speed explain FIELD --recipe FILE` adds the value of a recipe and what a change makes stale. In a path, "
        f"`{IN_LIST}` is any entry of a list, and `{IN_MAPPING}` any key of a mapping.",
        "",
        f"**`extends`** (text): {describe_field('extends').meaning}",
    ]
    for path in all_fields():
        found = describe_field(path)
        if "." not in path:
            lines += ["", f"## `{path}`", ""]
        default = (
            "required" if found.required else f"default `{json.dumps(found.default, default=str, sort_keys=True)}`"
        )
        if found.fields and not found.required and not isinstance(found.default, list):
            default = "optional"
        lines.append(
            f"- **`{path}`** ({found.type}; {default}): {' '.join(filter(None, (found.meaning, found.about)))}"
        )
    return "\n".join(lines) + "\n"


def commands(command: Any, name: str = "speed") -> Iterator[tuple[str, Any]]:
    """Every command of the command line with its full name, groups included."""
    yield name, command
    for below, found in sorted(getattr(command, "commands", {}).items()):
        yield from commands(found, f"{name} {below}")


def cli_page() -> str:
    """Every command, argument and option."""
    from speed_assets.cli.app import app

    lines = ["# Commands", "", MADE, ""]
    for name, command in commands(typer.main.get_command(app)):
        example = str(command.epilog or "")
        lines += [f"## `{name}`", "", _one_line(command.help or ""), ""]
        if example.startswith("Example: "):
            lines += ["```", example.removeprefix("Example: "), "```", ""]
        rows = [row for parameter in command.params if (row := _parameter(parameter)) is not None]
        if rows:
            lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def _parameter(parameter: Any) -> str | None:
    if getattr(parameter, "hidden", False):
        return None
    names = ", ".join(parameter.opts)
    if parameter.param_type_name == "argument":
        names = parameter.metavar or str(parameter.name).upper()
    elif parameter.metavar and not getattr(parameter, "is_flag", False):
        names += f" {parameter.metavar}"
    return f"| `{names.replace('|', chr(92) + '|')}` | {_cell(getattr(parameter, 'help', None) or '')} |"


def checks_page() -> str:
    """Every check, by asset."""
    lines = [
        "# Checks",
        "",
        MADE,
        "",
        "A gate blocks the release; a warning does not. Thresholds are fields of `checks` in a recipe.",
    ]
    for asset in dict.fromkeys(check.asset for check in CHECKS):
        lines += ["", f"## `{asset}`", "", "| check | kind | what it asserts | thresholds |", "|---|---|---|---|"]
        for check in (check for check in CHECKS if check.asset == asset):
            kind = "gate" if check.blocking else "warning"
            thresholds = ", ".join(f"`{name}`" for name in check.thresholds)
            lines.append(f"| `{check.name}` | {kind} | {_cell(check.description)} | {thresholds} |")
    return "\n".join(lines) + "\n"


def api_page() -> str:
    """Every public name with its signature and docstring."""
    lines = [
        "# Public names",
        "",
        MADE,
        "",
        "`import speed_assets as speed`. Other modules may change between versions.",
    ]
    for name in speed_assets.__all__:
        found = getattr(speed_assets, name)
        lines += ["", f"## `speed.{name}`", ""]
        if isinstance(found, str):
            lines.append("The version of the installed package, as text.")
            continue
        if callable(found) and not isinstance(found, type):
            lines += ["```python", f"{name}{signature(found)}", "```", ""]
        lines += ["```text", inspect.getdoc(found) or "", "```"]
    return "\n".join(lines) + "\n"


def signature(function: Callable[..., Any]) -> str:
    """The signature of a function; a default that is an object is written as `...`."""
    found = inspect.signature(function)
    parameters = [
        one
        if isinstance(one.default, int | float | str | tuple | None) or one.default is one.empty
        else one.replace(default=...)
        for one in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters)).replace("'", "").replace("Ellipsis", "...")


def glossary_page() -> str:
    """Stages, task types, columns."""
    lines = ["# Glossary", "", MADE, "", "## Stages", "", "| stage | kind | |", "|---|---|---|"]
    lines += [f"| `{stage.name}` | {stage.kind} | {_cell(stage.description)} |" for stage in ALL_STAGES]
    lines += ["", "## Task types", "", "| task type | | fields of a record |", "|---|---|---|"]
    for name in TASK_TYPE_NAMES:
        found = TASK_TYPES[name]
        keys = ", ".join(f"`{key}`" for key in found.keys)
        lines.append(f"| `{name}` | {_cell(found.description)} | {keys} |")
    lines += ["", "## Columns of tables", "", "| column | |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(COLUMNS[name])} |" for name in sorted(COLUMNS)]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "recipe.md": recipe_page,
    "cli.md": cli_page,
    "checks.md": checks_page,
    "api.md": api_page,
    "glossary.md": glossary_page,
}


def main() -> None:
    made = {name: page() for name, page in PAGES.items()}
    stale = [name for name, text in made.items() if not (f := FOLDER / name).is_file() or f.read_text() != text]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}: run python -m scripts.reference" if stale else 0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(made[name])


if __name__ == "__main__":
    main()
