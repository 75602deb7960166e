"""Data Docs: pages for each table that load nothing, the verdicts of the checks, and hostile cells that stay text."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from checks.data_docs import escaped, with_escaped_texts, write_data_docs
from checks.data_docs_pages import results_page
from checks.expectations import validate
from resources.store.store import StoreError
from speed_assets.recipe import PROJECT
from tests.support.good_tables import good_table
from tests.support.shelf import Shelf, partition_of
from tests.support.tiny import tiny_data, write_recipe

HOSTILE = """<script src=x>planted()</script><img src=x onerror="planted()">'$row_id ${x} {{ 7*7 }} &lt;i&gt;"""

STATISTICS = ("evaluated_expectations", "successful_expectations", "unsuccessful_expectations", "success_percent")


class Tags(HTMLParser):
    """Every start tag and attribute of a page, its links, its ids, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(f"{tag} {attrs}")
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.ids |= {value or "" for name, value in attrs if name == "id"}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docs of a table with planted faults in every kind of cell, of one without a column, and of two without faults."""
    folder = tmp_path_factory.mktemp("docs")
    shelf = Shelf(folder / "home")
    rows = good_table("seed_data", "retrieval")
    bad = rows.with_columns(
        pl.lit(HOSTILE).alias("row_id"),
        pl.lit(HOSTILE).alias("task_type"),
        pl.lit(HOSTILE).alias("query"),
        pl.lit(HOSTILE).alias("positive"),
        pl.lit(HOSTILE).alias(HOSTILE),
    )
    shelf.table("seed_data", bad, 0, "retrieval")
    shelf.good("seed_data", "sts")
    shelf.table("seed_data", good_table("seed_data", "classification").drop("prompt"), 0, "classification")
    shelf.good("topics")
    page = write_data_docs(shelf, folder / "out")
    assert page == folder / "out" / "index.html"
    return folder / "out"


TABLES = {"seed_data-retrieval": False, "seed_data-sts": True, "seed_data-classification": False, "topics": True}
"""The tables of the docs, and whether they meet every expectation."""


def pages(docs: Path) -> dict[str, str]:
    return {str(file): file.read_text() for file in docs.rglob("*.html")}


def test_there_is_a_page_of_results_and_of_expectations_for_each_table(docs: Path) -> None:
    wanted = {f"{kind}/{name}.html" for kind in ("validations", "expectations") for name in TABLES} | {"index.html"}
    assert {str(file.relative_to(docs)) for file in docs.rglob("*") if file.is_file()} == wanted


def test_no_page_loads_anything(docs: Path) -> None:
    for path, page in pages(docs).items():
        parsed = Tags(page)
        assert parsed.names.isdisjoint(
            {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "source", "svg"}
        ), path
        assert parsed.attributes.isdisjoint({"src", "srcset", "background", "action", "ping", "poster"}), path
        assert [name for name in parsed.attributes if name.startswith("on")] == [], path
        assert "http://" not in page, path
        assert "https://" not in page, path
        (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
        assert "url(" not in page, path
        assert "@import" not in style, path
        assert page.index("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'") < page.index("<style>")


def test_every_link_leads_to_a_page_or_a_part_of_one(docs: Path) -> None:
    for path, page in pages(docs).items():
        parsed = Tags(page)
        assert parsed.links, path
        for link in parsed.links:
            if link.startswith("#"):
                assert link[1:] in parsed.ids, (path, link)
            else:
                assert (Path(path).parent / link).resolve().is_relative_to(docs.resolve())
                assert (Path(path).parent / link).is_file(), (path, link)


def test_the_index_lists_every_validation(docs: Path) -> None:
    page = (docs / "index.html").read_text()
    lines = [line for line in re.findall("<tr>(.*?)</tr>", page, re.DOTALL) if "<td" in line]
    assert len(lines) == len(TABLES)
    for name, passed in TABLES.items():
        (line,) = [line for line in lines if f'href="validations/{name}.html"' in line]
        asset, _, partition = name.partition("-")
        cells = [Tags(cell).text for cell in re.findall("<td[^>]*>(.*?)</td>", line, re.DOTALL)]
        assert cells[:2] == [asset, partition]
        assert cells[2].endswith("passed" if passed else "failed")
        met, expectations = map(int, cells[3].split(" of "))
        assert (met == expectations) == passed
        assert int(cells[4]) == good_table(asset, partition or None).height
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", cells[5])
    assert "2 of 4 tables failed" in Tags(page).text


def test_a_page_of_results_shows_marks_expected_and_observed_values(docs: Path) -> None:
    page = (docs / "validations" / "seed_data-retrieval.html").read_text()
    text = " ".join(Tags(page).text.split())
    for words in (
        "Status: Failed",
        "Observed Value",
        "values must never be null.",
        "100% not null",
        "Sampled Unexpected Values",
    ):
        assert words in text
    assert "values must always be greater than or equal to 1 and less than or equal to 64 characters long." in text
    assert "NaN%" not in text
    good = (docs / "validations" / "seed_data-sts.html").read_text()
    assert page.count('class="fas fa-times text-danger"') == 1 + 5, "the table and each expectation that failed"
    assert good.count('class="fas fa-times text-danger"') == 0
    assert good.count('class="fas fa-check-circle text-success"') == 1 + 21


def test_what_raised_an_exception_says_so_once_escaped(docs: Path) -> None:
    page = (docs / "validations" / "seed_data-classification.html").read_text()
    text = " ".join(Tags(page).text.split())
    assert 'raised an exception:Error: The column "prompt" in BatchData does not exist.' in text
    assert "<details><summary>Show exception traceback...</summary>" in page


def test_a_hostile_message_of_an_exception_is_text() -> None:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    expectation = ExpectationConfiguration(type="expect_column_values_to_not_be_null", kwargs={"column": "query"})
    info = {"raised_exception": True, "exception_message": HOSTILE, "exception_traceback": HOSTILE}
    item = ExpectationValidationResult(
        success=False, expectation_config=expectation, result={}, exception_info={"metric": info}, meta={}
    )
    result = ExpectationSuiteValidationResult(
        success=False, results=[item], suite_name="topics", meta={}, statistics=dict.fromkeys(STATISTICS, 1)
    )
    page = results_page("topics", "topics.html", with_escaped_texts(result, "topics"))
    parsed = Tags(page)
    assert parsed.text.count(HOSTILE) == 2
    assert "script" not in parsed.names
    assert "img" not in parsed.names


def test_markup_of_a_cell_is_text_on_the_page(docs: Path) -> None:
    shown = 0
    for path, page in pages(docs).items():
        parsed = Tags(page)
        planted = [tag for tag in parsed.tags if "planted" in tag or "'src', 'x'" in tag]
        assert planted == [], path
        assert "<script src=x" not in page
        assert 'onerror="planted' not in page
        shown += "planted()" in parsed.text
    assert shown == 1, "the failing rows are shown, on their own page and in no tag"
    page = (docs / "validations" / "seed_data-retrieval.html").read_text()
    assert html.escape(HOSTILE) in page
    assert "{{ 7*7 }}" in page


def test_the_docs_say_what_the_checks_say_and_the_checks_go_on(docs: Path) -> None:
    for name, passed in TABLES.items():
        text = " ".join(Tags((docs / "validations" / f"{name}.html").read_text()).text.split())
        assert f"Status: {'Succeeded' if passed else 'Failed'}" in text
        assert f"Data asset: {name}" in text
    for asset in ("seed_data", "topics"):
        part = partition_of(asset)
        assert validate(asset, good_table(asset, part), part).passed
        assert not validate(asset, good_table(asset, part).head(2).drop("topic"), part).passed


def test_no_file_of_anybody_else_is_touched(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "home")
    with pytest.raises(StoreError, match="no table is made yet"):
        write_data_docs(shelf, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "letter.txt"):
        with pytest.raises(StoreError, match="is no empty folder"):
            write_data_docs(shelf, taken)
    shelf.good("topics")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        write_data_docs(shelf, tmp_path / "mine" / "letter.txt" / "docs")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_keys_and_nested_texts_are_escaped() -> None:
    assert escaped({"<": [("&", 1.5, None, True), {"'": '"'}]}) == {
        "&lt;": [["&amp;", 1.5, None, True], {"&#x27;": "&quot;"}]
    }


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path, tiny_data()))
    told = subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", "data-docs", "--out", str(tmp_path / "out"), "--recipe", recipe],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr == "error: no table is made yet under this recipe: `speed run` makes them\n"
