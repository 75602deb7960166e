"""`speed doctor`, and its probes before a run and in a plan.

Belongs here: the command, and when probes run. Not here: the probes (`speed_assets/orchestration/doctor`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speed_assets.cli.live import busy_with
from speed_assets.cli.options import DEFAULT_RECIPE, JsonOption, RecipeOption, TopicsOption
from speed_assets.cli.output import show, show_json

if TYPE_CHECKING:
    from speed_assets.orchestration.doctor import Finding
    from speed_assets.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the command."""
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
    from speed_assets.orchestration import doctor as probes

    with busy_with("examining this machine, and what the recipe names"):
        findings = probes.examine(recipe, topics, speed_home(), network=not free)
    if as_json:
        show_json(probes.as_json(findings))
    else:
        show(probes.as_text(findings))
    if any(finding.status == "error" for finding in findings):
        raise typer.Exit(1)


def begin(recipe: Recipe, home: Path, say: Callable[[str], None]) -> Sequence[Finding]:
    """Run the probes before a study, print their warnings, and return what they found.

    Raises:
        RecipeError: something would make the study fail; the message lists all of it.
    """
    from speed_assets.orchestration import doctor as probes

    return probes.begin(recipe, home, say).findings


def warnings_of(recipe: Recipe, home: Path) -> list[str]:
    """Findings of the probes that contact no server, one sentence each, for a plan."""
    from speed_assets.orchestration import doctor as probes

    return probes.missing(recipe, home)
