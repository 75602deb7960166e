"""Options that several commands share.

Belongs here: their names, types and help. Not here: what commands do with them.
"""

from __future__ import annotations

import difflib
import os
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speed_assets.cli.output import note

if TYPE_CHECKING:
    from speed_assets.recipe import Recipe

DEFAULT_RECIPE = "offline"


def complete_recipe(incomplete: str) -> list[str]:
    """Names of the shipped recipes, for the shell."""
    from speed_assets.recipe import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        envvar="SPEED_RECIPE",
        metavar="FILE|NAME",
        help="Recipe: a YAML file, or the name of a shipped one.",
        autocompletion=complete_recipe,
    ),
]
TopicsOption = Annotated[
    Path | None,
    typer.Option("--topics", envvar="SPEED_TOPICS", metavar="FILE", help="Topic file, in place of the recipe's."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the recipe for this command, as in `embedding_model.learning_rate=0.05`; may be given again.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
JsonAtEndOption = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without this the command only prints what it would do.")]


def load(
    recipe: str, topics: Path | None = None, changed: Sequence[str] | None = None, *, makes_rows: bool = False
) -> Recipe:
    """The recipe of a command line, whose key is secret from here on; reports the files that it takes from the shipped recipes.

    Args:
        recipe: name or file.
        topics: a topic file in the place of the recipe's.
        changed: changes as `FIELD=VALUE`.
        makes_rows: warn first of all where the rows would be those of a toy language, and the topics are somebody's own.

    Raises:
        RecipeError: with a suggestion for a mistyped name.
    """
    from resources.redaction import mark_secret_variables
    from speed_assets.recipe import (
        RECIPES,
        RecipeError,
        changes_of,
        demonstration_notice,
        find_recipe,
        load_recipe,
        shipped_files,
        shipped_recipes,
    )

    try:
        loaded = load_recipe(recipe, topics, changes_of(changed or ()))
    except RecipeError as error:
        matches = (
            []
            if len(recipe) > 100 or Path(recipe).exists()
            else difflib.get_close_matches(recipe, shipped_recipes(), 1)
        )
        if not matches or matches[0] == recipe:
            raise
        raise RecipeError(f"{error}. Did you mean {matches[0]}?") from None
    mark_secret_variables(loaded.teacher.key_variable, *loaded.teacher.dialect.headers.values())
    if makes_rows and (notice := demonstration_notice(loaded)):
        note(textwrap.fill(f"warning: {notice}", shutil.get_terminal_size().columns, break_on_hyphens=False))
    file = find_recipe(recipe)
    text = file.read_text(encoding="utf-8")
    if file.parent != RECIPES.resolve() and (files := shipped_files(loaded, text, file.resolve().parent)):
        note(f"from the shipped recipes, since there is none next to {recipe}: {', '.join(files)}")
    return loaded


def rows_count(text: str | int) -> int:
    """A number of rows given as an argument.

    Raises:
        BadParameter: it is no whole number of 0 to 999,999,999.
    """
    if isinstance(text, int):
        return text
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"{text[:40]!r} is no number of rows: give 0 or more")
    if len(text) > 9:
        raise typer.BadParameter("more rows than any table has: give at most 999,999,999")
    return int(text)


def home_to_run_in() -> Path:
    """The home that the environment names, for a command that starts several processes."""
    from resources.store.home import speed_home

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of several processes share the cores
    return speed_home()


def prepared_home() -> Path:
    """The same, created with its Dagster instance where it does not exist."""
    from resources.store.home import prepare_home

    home = home_to_run_in()
    prepare_home(home)
    return home
