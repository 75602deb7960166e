"""From a recipe that draws languages to rows, scores and cards that say them, and what another share costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from resources.releases.cards import dataset_card, model_card
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets.release import manifest_of
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS
from speed_assets.orchestration import runs
from speed_assets.orchestration.report import write_report
from speed_assets.recipe import RECIPES, Recipe, RecipeView, parse_recipe
from tests.support.reading_teacher import reading, write_corpus
from tests.support.speaking_teacher import FRENCH, speaking
from tests.support.teacher_server import TeacherServer
from tests.test_corpus_loop import found, loop_data, recipe_of
from tests.test_corpus_probes import write_articles

LANGUAGES: dict[str, Any] = {"shares": {"en": 2, "de": 1, "ja": 1}, "cross_lingual": 0.5, "same_as_passage": 0.5}


@pytest.fixture(scope="module")
def server() -> Iterator[TeacherServer]:
    with TeacherServer(speaking()) as server:
        yield server


def spoken(url: str, root: Path, languages: dict[str, Any]) -> Recipe:
    data = recipe_of(url, root, share=0.5, tokens_min=8).model_dump(exclude={"queries": {"personas"}})
    data["seed_data"]["rows"] |= {"retrieval": 40, "grounded": 16}
    data["seed_data"]["rules"] = None
    near = {"jaccard": 1.0, "query_least": 1.0}
    data["final_triplets"] = {"source": "seed_data", "rules": {"language_confidence": 0.98}, "near_duplicates": near}
    data["languages"] = languages
    return parse_recipe(data, RECIPES / "own.yaml")


@pytest.mark.faults
def test_from_shares_to_cards_and_what_another_share_costs(server: TeacherServer, tmp_path: Path) -> None:
    for code in ("en", "de"):
        write_articles(tmp_path / "corpus", code)
    recipe, home = spoken(server.url, tmp_path, LANGUAGES), tmp_path / "home"
    assert runs.run(recipe, home).errors == []

    pairs = found(recipe, home, "seed_data", "retrieval").table()
    assert set(pairs["query_language"]) == set(pairs["document_language"]) == {"en", "de", "ja"}
    assert 0.25 < (pairs["query_language"] != pairs["document_language"]).mean() < 0.75  # type: ignore[operator]
    grounded = found(recipe, home, "seed_data", "grounded").table()
    assert set(grounded["document_language"]) <= {"en", "de"}
    assert set(grounded["query_language"]) - set(grounded["document_language"]) == {"ja"}

    triplets = found(recipe, home, "final_triplets")
    kept, gone = triplets.table(), triplets.table("quarantine")
    french = pairs.filter(pl.col("query") == FRENCH)
    assert french.height > 0
    assert set(gone.filter(reason="other_language")["row_id"]) == set(french["row_id"]), "what is not in its language"
    assert {"other_script"}.isdisjoint(gone["reason"])
    assert kept.columns[-2:] == list(LANGUAGE_COLUMNS)
    counted = triplets.metadata["diversity"]["languages"]
    assert counted["drawn"] == {"en": 0.5, "de": 0.25, "ja": 0.25}
    assert sum(counted["query"].values()) == kept.height

    own = found(recipe, home, "own_evaluation").path / "own_evaluation"
    assert set(yaml.safe_load((own / "task.yaml").read_text())["languages"]) >= {"eng-Latn", "deu-Latn"}
    assert set(found(recipe, home, "mteb_scores").metadata["scores"]["embedding_model"]) == {
        "own_search",
        "own_evaluation",
    }
    manifest = manifest_of(Artifacts(recipe, Store(home)))
    assert manifest["languages"] == counted
    view = RecipeView(recipe, "release", (*recipe.graph()["release"].reads, "release"))
    for card in (model_card(view, manifest), dataset_card(view, manifest)):
        assert json.loads(card.split("language: ")[1].split("\n")[0]) == ["en", "de", "ja"]
        assert "| Japanese | `ja` | 25.0% |" in card
    assert "`document_language`" in dataset_card(view, manifest)

    page = write_report(recipe, home, None, tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<td>ja</td><td class="n">25' in page

    before, asked = len(server.served), all_prompts(recipe, home)
    other = spoken(server.url, tmp_path, {**LANGUAGES, "shares": {"en": 2, "de": 1, "ja": 2}})
    assert runs.run(other, home).errors == []
    now = all_prompts(other, home)
    changed = now - asked
    assert 0 < len(changed) < len(now) / 2
    assert all("Japanese" in prompt for prompt in changed), "rows that it gains"
    assert len(server.served) - before <= len(changed) + found(other, home, "own_evaluation").metadata["asked"] / 2


@pytest.mark.faults
def test_languages_are_carried_through_the_whole_loop(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 30)
    with TeacherServer(reading()) as teacher:
        data = loop_data(teacher.url, tmp_path)
        data["languages"] = {"shares": {"en": 1, "de": 1}, "same_as_passage": 0.5}
        recipe, home = parse_recipe(data, RECIPES / "own_loop.yaml"), tmp_path / "home"
        assert runs.run(recipe, home).errors == []
    drawn = {}
    for asset in ("junior_data", "senior_data", "revised_data"):
        table = found(recipe, home, asset, "grounded").table()
        assert table.columns[-2:] == list(LANGUAGE_COLUMNS), asset
        assert set(table["document_language"]) == {"en"}, "that of the notes"
        assert set(table["query_language"]) == {"en", "de"}
        said = pl.col("prompt").str.contains("in German|in the language of the passage|in English")
        assert table.select(said.all()).item()
        drawn[asset] = dict(table.select("row_id", "query_language").iter_rows())
    assert drawn["revised_data"].items() <= drawn["senior_data"].items()
    kept = found(recipe, home, "final_triplets").table()
    assert dict(kept.select("row_id", "query_language").iter_rows()).items() <= drawn["senior_data"].items()
    read = found(recipe, home, "revision_data", "grounded").table()["prompt"]
    assert read.str.contains(", in German").any(), "the revisor sees what was asked"


def all_prompts(recipe: Recipe, home: Path) -> set[str]:
    tables = (found(recipe, home, "seed_data", task_type).table() for task_type in ("retrieval", "grounded"))
    return {prompt for table in tables for prompt in table["prompt"]}
