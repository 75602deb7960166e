"""`speed doctor`, and its probes before a run and in a plan.

Belongs here: the command, and when probes run. Not here: the probes (`speed_assets/orchestration/doctor`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speed_assets.cli.options import DEFAULT_RECIPE, JsonOption, RecipeOption, TopicsOption
from speed_assets.cli.output import show, show_json

if TYPE_CHECKING:
    from speed_assets.recipe import Recipe

_DOCTOR = "speed_assets.orchestration.doctor"
_INSTALLED = find_spec("speed_assets.orchestration") is not None and find_spec(_DOCTOR) is not None


def register(app: typer.Typer) -> None:
    """Add the command, where its probes are part of this version."""
    if _INSTALLED:
        epilog = "Example: speed doctor --recipe gpu"
        app.command("doctor", rich_help_panel="Projects and recipes", epilog=epilog)(doctor)


def doctor(
    recipe: RecipeOption = DEFAULT_RECIPE,
    topics: TopicsOption = None,
    free: Annotated[bool, typer.Option("--free", help="Ask nothing outside this machine.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, key, endpoint and models for a recipe; asks the teacher for one token."""
    from resources.store.home import speed_home

    module = _module()
    findings = module.examine(recipe, topics, speed_home(), network=not free)
    if as_json:
        show_json(module.as_json(findings))
    else:
        show(module.as_text(findings))
    if any(finding.status == "error" for finding in findings):
        raise typer.Exit(1)


def begin(recipe: Recipe, home: Path, say: Callable[[str], None], everything: bool = True) -> None:
    """Run the probes before a run, which raise an error for what would make it fail."""
    if _INSTALLED:
        _module().begin(recipe, home, say, everything=everything)


def warnings_of(recipe: Recipe, home: Path) -> list[str]:
    """Findings of the probes that ask nothing outside this machine, one sentence each, for a plan."""
    return list(_module().missing(recipe, home)) if _INSTALLED else []


def _module() -> Any:
    return import_module(_DOCTOR)
