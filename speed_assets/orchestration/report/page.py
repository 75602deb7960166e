"""The page of a report: one HTML file that sends no request, with every text escaped.

Belongs here: rendering and writing. Not here: what the page says (`contents.py`).
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resources.store.store import write_atomically
from speed_assets.domain.escaping import for_terminal
from speed_assets.orchestration.report.contents import contents, duration, money
from speed_assets.orchestration.report.subject import subject_of
from speed_assets.recipe import Recipe, RecipeError

TEMPLATE = "report.html.j2"


def write_report(recipe: Recipe, home: Path, name: str | None = None, out: Path | None = None) -> Path:
    """Write the report of a home, run or release.

    Args:
        recipe: The recipe of the home's latest state.
        home: The home that is read; nothing in it changes but the page.
        name: As `subject_of` takes it; None is the latest state.
        out: The file to write; None is `reports/RECIPE.html` in the home, with the run's or release's name where there is one.

    Returns:
        The file.

    Raises:
        StoreError: There is no such release or run.
        RecipeError: The file cannot be written.
    """
    subject = subject_of(recipe, home, name)
    tail = f"-{subject.title.split()[-1]}" if name else ""
    file = out or home / "reports" / f"{subject.recipe}{tail}.html"
    text = render(contents(subject))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as error:
        raise RecipeError(f"--out {file} cannot be written: {error.strerror or error}") from None
    return file.resolve()


def render(values: dict[str, Any]) -> str:
    """The page of these values, as `contents` gives them."""
    environment = Environment(
        loader=PackageLoader("speed_assets.orchestration", "report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "count": _count,
        "duration": duration,
        "model_text": model_text,
        "money": money,
        "percent": lambda share: f"{100 * share:.1f} %",
        "picture": picture,
    }
    drawings = {name: Markup(values[name]) for name in ("graph", "intervals")}  # noqa: S704  # labels are escaped where they are drawn
    return environment.get_template(TEMPLATE).render(values | drawings)


def model_text(text: object) -> str:
    """Text of a model without control characters and marks that change the direction of writing; the template escapes it."""
    return for_terminal(text, lines=True)


def picture(path: Path) -> str:
    """A PNG as a data address."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _count(value: float | None, unknown: str = "") -> str:
    return unknown if value is None else f"{value:,}"
