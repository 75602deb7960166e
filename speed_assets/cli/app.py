"""The command line: global options, and every command under its name.

Belongs here: the list of commands and the help of `speed` itself. Not here: what a command does (its own module).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from speed_assets.cli import (
    checking,
    inspecting,
    ledger_commands,
    projects,
    releases_commands,
    running,
    using_commands,
)

EPILOG = """[bold]Examples[/]
speed run                    a demonstration in a toy language
speed init my_model          a project of your own
speed plan --recipe laptop   what would be made, and its cost

[bold]Environment variables[/]
SPEED_HOME                    folder with artifacts, ledger and releases
SPEED_RECIPE, SPEED_TOPICS    recipe and topics of commands without the option
SPEED_STORE_URL               object store that homes share
SPEED_LEDGER_URL              PostgreSQL ledger that homes share
SPEED_DAGSTER_POSTGRES_URL    PostgreSQL storage of the Dagster instance
SPEED_ENGINE_PYTHON           Python of the environment that has vLLM
NO_COLOR                      no colours

[bold]Exit statuses[/]
0    done
1    a run failed, or a release was refused
2    the input was wrong
130  interrupted (Ctrl-C); the next run resumes
143  terminated (SIGTERM); the next run resumes
"""

app = typer.Typer(
    name="speed",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"speed-assets {version('speed-assets')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def speed(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", metavar="DIR", help="Folder with artifacts, ledger and releases, in place of SPEED_HOME."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Build a text embedding model for your own domain: small aligned models write its training data.

    The method is SPEED (arXiv 2410.18634). A large teacher model writes a few examples; small models learn from them, write the rest and revise it; filters and gates decide which rows and which model are released.
    """
    if home is not None:
        from speed_assets.orchestration.home_environment import home_environment

        try:
            context.with_resource(home_environment(home.resolve()))
        except (RuntimeError, ValueError) as error:  # a link that leads back to itself, a NUL
            raise typer.BadParameter(f"--home is no path that can be used: {error}") from None
    if context.invoked_subcommand is None:
        text = context.get_help()
        print(text, end="" if not text else os.linesep)


for module in (running, inspecting, ledger_commands, releases_commands, using_commands, projects, checking):
    module.register(app)
