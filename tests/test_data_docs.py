"""Data Docs: a page for each table, the verdicts of the checks, and hostile cells that stay text."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from checks.data_docs import escaped, write_data_docs
from checks.expectations import validate
from resources.store.store import StoreError
from speed_assets.recipe import PROJECT
from tests.support.good_tables import good_table
from tests.support.shelf import Shelf, partition_of
from tests.support.tiny import tiny_data, write_recipe

HOSTILE = """<script src=x>planted()</script><img src=x onerror="planted()">'$row_id ${x} {{ 7*7 }} &lt;i&gt;"""


class Tags(HTMLParser):
    """Every start tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(f"{tag} {attrs}")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docs of a table with planted faults in every kind of cell, and of one without."""
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
    shelf.good("topics")
    page = write_data_docs(shelf, folder / "out")
    assert page == folder / "out/gx/uncommitted/data_docs/local_site/index.html"
    return folder / "out"


def pages(docs: Path) -> dict[str, str]:
    return {str(file): file.read_text() for file in docs.rglob("*.html")}


def test_there_is_a_page_of_results_and_of_expectations_for_each_table(docs: Path) -> None:
    names = list(pages(docs))
    for name in ("seed_data-retrieval", "seed_data-sts", "topics"):
        assert sum(f"/validations/{name}/" in path for path in names) == 1
        assert sum(path.endswith(f"/expectations/{name}.html") for path in names) == 1
    assert len(names) == 7


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
    (page,) = [page for path, page in pages(docs).items() if "/validations/seed_data-retrieval/" in path]
    assert html.escape(HOSTILE) in page
    assert "{{ 7*7 }}" in page


def test_a_page_tells_nobody_that_it_is_read(docs: Path) -> None:
    for page in pages(docs).values():
        assert "great-expectations-web-assets" not in page
        assert "dataContextId" not in page
    assert "analytics_enabled: false" in (docs / "gx/great_expectations.yml").read_text()


def test_the_docs_say_what_the_checks_say_and_the_checks_go_on(docs: Path) -> None:
    found = {}
    for file in docs.rglob("validations/**/*.json"):
        result = json.loads(file.read_text())
        found[result["suite_name"]] = result["success"]
    assert found == {"seed_data-retrieval": False, "seed_data-sts": True, "topics": True}
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
