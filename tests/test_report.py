"""The report: complete in one file, every text of a model escaped, no request."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.store.artifacts import Artifacts
from resources.store.store import Artifact, Store, StoreError
from speed_assets.domain.rows import QUARANTINE_SCHEMA
from speed_assets.orchestration.report import write_report
from speed_assets.orchestration.report.contents import contents
from speed_assets.orchestration.report.page import render
from speed_assets.orchestration.report.subject import Subject, subject_of
from tests.support.servers import NotInstalled
from tests.support.tiny import tiny_recipe

HOSTILE = (
    '<script>alert("x")</script>',
    '"><img src=http://evil.example/p.png onerror=alert(1)>',
    "<style>@import 'http://evil.example/x.css'</style>",
    "</pre></div><iframe src='http://evil.example'></iframe>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1) ![x](http://evil.example/p.png)",
    "right \u202e to left, bell \x07, lone \x1b[31m",
)


class _Shelf(Store):
    """A store that holds exactly these artifacts."""

    def __init__(self, home: Path, artifacts: list[Artifact]) -> None:
        super().__init__(home)
        self._held = {artifact.fingerprint: artifact for artifact in artifacts}

    def fetch(self, asset: str, fingerprint: str) -> Artifact | None:
        return self._held.get(fingerprint)


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_subject(folder: Path) -> Subject:
    """Tables, metadata and outcomes in which every text that a model or server writes is hostile."""
    rows = [
        {
            "row_id": f"r{n}",
            "task_type": "retrieval",
            "topic": text,
            "before": f'{{"user_query": "a", "{n}": "before"}}' if n else text,
            "output": text,
            "changed": True,
            "reason": text,
        }
        for n, text in enumerate(HOSTILE)
    ]
    quarantine = pl.DataFrame(
        [[f"q{n}", "final_triplets", "sts", text, text, text] for n, text in enumerate(HOSTILE)],
        schema=QUARANTINE_SCHEMA,
        orient="row",
    )
    step = {"step": "rules", "rows_in": 9, "removed": 7, "readmitted": 0, "rows_out": 2}
    scores = {"embedding_model": {HOSTILE[0]: 0.5}, "untrained": {HOSTILE[0]: 0.25}}
    made = {
        "revised_data": _artifact(folder, "revised_data", {"rows": 7, "seconds": 2.5}, {"data": pl.DataFrame(rows)}),
        "final_triplets": _artifact(
            folder, "final_triplets", {"rows": 2, "steps": [step], "seconds": 4000}, {"quarantine": quarantine}
        ),
        "mteb_scores": _artifact(
            folder, "mteb_scores", {"scores": scores, "trainings": 1, "sd_between_seeds": None}, {}
        ),
    }
    recipe = tiny_recipe()
    outcome = {"passed": False, "reason": HOSTILE[1], "metadata": {}}
    return Subject(
        title="a test",
        recipe=recipe.name,
        published={**recipe.published(), "description": HOSTILE[0]},
        store=_Shelf(folder, list(made.values())),
        kinds={name: stage.kind for name, stage in recipe.graph().items()},
        inputs={name: tuple(stage.inputs) for name, stage in recipe.graph().items()},
        artifacts={(name, None): artifact for name, artifact in made.items()},
        release=None,
        previous=None,
        outcomes={("mteb_scores", None): {"superior": outcome}, ("final_triplets", None): {"plausible": outcome}},
    )


def _artifact(folder: Path, asset: str, metadata: dict[str, Any], tables: dict[str, pl.DataFrame]) -> Artifact:
    path = folder / asset
    path.mkdir()
    for name, table in tables.items():
        table.write_parquet(path / f"{name}.parquet")
    return Artifact(asset, asset * 4, "d" * 64, None, {}, metadata, {}, 0.0, path)


def test_hostile_rows_stay_text(tmp_path: Path) -> None:
    page = _Page(render(contents(hostile_subject(tmp_path))))
    assert not {"script", "iframe", "link", "object", "base", "form"} & set(page.tags)
    assert page.tags.count("style") == 1
    addresses = [value for name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert 'alert("x")' in page.text, "the text itself is readable"
    assert "{{ 7 * 7 }}" in page.text
    assert not {"\u202e", "\x07", "\x1b"} & set(page.text)


def test_no_address_is_on_the_page(tmp_path: Path) -> None:
    text = render(contents(hostile_subject(tmp_path)))
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import '" not in text


def test_it_says_what_was_decided_and_counted(tmp_path: Path) -> None:
    subject = hostile_subject(tmp_path)
    found = contents(subject)
    assert found["decision"]["word"] == "refused"
    assert found["funnel"][0]["share"] == 1 - 7 / 9
    assert found["quarantine"]["rows"] == len(HOSTILE)
    assert found["revisions"]["changed"] == len(HOSTILE)
    assert [model["name"] for model in found["scores"]["models"]] == ["embedding_model", "untrained"]
    assert found["toy"] is not None, "a toy language is named as one"
    text = render(found)
    assert "1 h 6 min" in text
    assert "2.5 s" in text
    assert render(contents(replace(subject, outcomes={}, missing=["release"])))


def test_an_empty_home_has_a_page_too(tmp_path: Path) -> None:
    page = write_report(tiny_recipe(), tmp_path / "home", None, tmp_path / "page.html")
    text = page.read_text()
    assert "Not made yet" in text
    assert len(Artifacts(tiny_recipe(), Store(tmp_path)).graph) == text.count('<g class="box ')


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="0 releases or runs are called 'nobody'"):
        subject_of(tiny_recipe(), tmp_path / "home", "nobody")


@pytest.mark.ui
def test_it_sends_no_request_and_fits_the_screen(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    from tests.support.ui import SIZE, chromium

    file = tmp_path / "page.html"
    file.write_text(render(contents(hostile_subject(tmp_path))))
    try:
        with chromium() as browser:
            page, asked = browser.new_page(viewport=SIZE), []
            page.on("request", lambda request: asked.append(request.url))
            page.on("dialog", lambda dialog: asked.append(dialog.message))
            page.goto(file.as_uri())
            page.wait_for_timeout(300)
            assert asked == [file.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= SIZE["width"]
    except NotInstalled as missing:
        pytest.skip(str(missing))
