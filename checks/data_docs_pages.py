"""The pages of Data Docs: Great Expectations renders suites and results, and a page of ours holds them.

Great Expectations' own page loads styles, scripts and pictures from other servers, which would learn that it is read, and
without which it shows nothing. Here its sections stand in a page that loads nothing (`data_docs.html.j2`).

Belongs here: HTML of pages. Not here: what is tested, escaping of values (`data_docs.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from checks.data_docs import Validation

_TEMPLATE = "data_docs.html.j2"
_SECTIONS = "speed_sections.j2"
_IN_PLACE_OF_THEIRS = {
    _SECTIONS: "{% for section in sections %}{% set section_loop = loop %}{% include 'section.j2' %}{% endfor %}",
    "collapse.j2": (
        "<details><summary>{{ content_block.get('collapse_toggle_link', 'Show more') | render_content_block }}</summary>"
        "{% for block in content_block['collapse'] %}"
        "{{ block | render_content_block(content_block_id=content_block_id ~ '-' ~ loop.index) }}"
        "{% endfor %}</details>"
    ),
}
"""Templates that stand before Great Expectations' own: sections without its page, and what unfolds without a script."""
_SUITE_LINK = "../../../../expectations/{file}"
"""How a page of results names its suite: Great Expectations puts such a page four folders deep, and we put it into one."""

_NO_ROW = re.compile(r">NaN% (?:not )?null<")
"""What Great Expectations shows where no row meets the condition of an expectation."""


def results_page(label: str, file: str, result: Any) -> str:
    """A page of results.

    Args:
        label: The artifact.
        file: The name of its pages.
        result: Great Expectations' result, escaped.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    body, contents = _sections(ValidationResultsPageRenderer().render(result))
    body = body.replace(f'href="{_SUITE_LINK.format(file=file)}"', f'href="../expectations/{file}"')
    body = _NO_ROW.sub(">no such row<", body)
    return _page(f"Results: {label}", kind="results", home="../index.html", body=Markup(body), contents=contents)  # noqa: S704


def suite_page(label: str, file: str, suite: Any) -> str:
    """A page of what is expected of an artifact; the arguments are those of `results_page`, with a suite."""
    from great_expectations.render.renderer import ExpectationSuitePageRenderer

    body, contents = _sections(ExpectationSuitePageRenderer().render(suite))
    return _page(
        f"Expectations: {label}",
        kind="suite",
        home="../index.html",
        body=Markup(body),  # noqa: S704
        contents=contents,
        results=f"../validations/{file}",
    )


def index_page(recipe: str, validations: Sequence[Validation]) -> str:
    """The first page: every validation, with links to its results and its suite."""
    return _page(f"Data Docs: {recipe}", kind="index", validations=validations)


def _sections(document: Any) -> tuple[str, list[str]]:
    """The HTML of a document of Great Expectations, and the names of its sections."""
    html = _view().render(document, template=_SECTIONS)
    return html, [section.section_name for section in document.sections]


@cache
def _view() -> Any:
    from great_expectations.render.view import DefaultJinjaPageView

    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([DictLoader(_IN_PLACE_OF_THEIRS), view.env.loader])
    return view


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("checks", "."), autoescape=True, undefined=StrictUndefined)


def _page(title: str, **values: Any) -> str:
    return _environment().get_template(_TEMPLATE).render(title=title, **values)
