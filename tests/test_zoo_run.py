"""The small recipe through servers of the zoo: the same artifacts as from a server without quirks, and plans that hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.zoo import SPECIES, Quirks, Zoo, by_words

from resources.ledger.ledger import Ledger
from resources.teacher.known_dialects import PROBE_CALLS_MAX
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import PROJECT, Recipe
from tests.support.homes import digests
from tests.support.tiny import tiny_data, tiny_recipe

faults = pytest.mark.faults

ASKING = "key:topics or key:task_list or key:seed_data or key:preference_pairs or key:revision_data"
QUIRKS = {"gemini": "parts", "mistral": "parts", "vague": "", "anthropic_new": "parts"}
"""What is odd about a server's replies besides what it refuses; the others' models think first."""
FOUND_OUT = {
    "openai_reasoning": 3,
    "anthropic": 1,
    "anthropic_new": 2,
    "gemini": 4,
    "mistral": 1,
    "deepseek": 2,
    "vague": 5,
}
"""Calls of a run that a server refuses before it is asked as it wants, as in docs/teachers.md; the others refuse none. Gemini takes
some schemas and refuses those with unions, which a later stage has."""
LOOKED_AT_AGAIN = ("openai_reasoning", "gemini", "vague")
"""Servers whose plan and second run are checked as well: the same code serves all."""
ROWS = {"classification": 5, "retrieval": 5, "sts": 5, "matching_short": 5, "matching_long": 5}


def recipe_at(url: str) -> Recipe:
    """The small recipe, made smaller still: nothing but endpoint and model says how its teacher is asked."""
    teacher = {**tiny_data()["teacher"], "engine": "openai", "model": "m", "endpoint": url}
    return tiny_recipe(
        teacher=teacher,
        calls={"backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 10.0, "breaker_s": 60},
        topics__limit=6,
        seed_data__rows=ROWS,
        junior_data__prompts=ROWS,
        preference_pairs__prompts=ROWS,
        revision_data__rows=ROWS,
        junior_model__epochs=1,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def usual(home: Path) -> Iterator[dict[str, str]]:
    with Zoo(by_words(), SPECIES["vllm"]) as server:
        recipe = recipe_at(server.url)
        asked = plan(recipe, home).as_json()["calls"]
        report = runs.run(recipe, home, select=f"{ASKING} or key:junior_model or key:junior_data")
        assert report.errors == []
        assert server.refused == []
        assert asked >= len(server.bodies) > 50
        yield digests(recipe, home)


def test_the_table_in_the_docs_is_what_these_tests_expect() -> None:
    text = (PROJECT / "docs" / "teachers.md").read_text().partition("`tests/test_zoo_run.py`")[2]
    found = {}
    for names, replies, count in re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]*) \| (\d+)\D[^|]*\| the same \|$", text, re.MULTILINE
    ):
        found |= {name: (replies.replace("usual replies", ""), int(count)) for name in re.findall(r"\w+", names)}
    assert found == {name: (QUIRKS.get(name, "thoughts first"), FOUND_OUT.get(name, 0)) for name in SPECIES}


@faults
@pytest.mark.parametrize("name", SPECIES)
def test_the_same_artifacts_come_from_another_server(name: str, home: Path, usual: dict[str, str]) -> None:
    with Zoo(by_words(), SPECIES[name], Quirks(QUIRKS.get(name, "thoughts first"))) as server:
        recipe = recipe_at(server.url)
        # The models are those of the first run, as long as what they are made from is the same.
        report = runs.run(recipe, home, select=ASKING)
        assert report.errors == []
        assert not any(made.startswith("junior") for made in report.made)
        assert digests(recipe, home) == usual
        assert len(server.refused) == FOUND_OUT.get(name, 0) <= PROBE_CALLS_MAX
        assert all(report.metadata[made].get("refused_calls", 0) == 0 for made in report.made)
        assert "teacher_served" in _of(report, "seed_data")
        assert "replies_without_answer" not in _of(report, "seed_data"), "every reply had one"
        if name not in LOOKED_AT_AGAIN:
            return
        again = plan(recipe, home).as_json()
        assert not [step for step in again["steps"] if step["asset"] in ("task_list", "seed_data") and step["calls"]]
        sent = len(server.bodies)
        assert runs.run(recipe, home, select=ASKING).errors == []
        assert len(server.bodies) == sent
    assert Ledger.at(home).count() > 100


def _of(report: Any, asset: str) -> dict[str, Any]:
    return next(metadata for name, metadata in report.metadata.items() if name.startswith(asset))
