"""`languages` of a recipe: how it is written, what follows from it, and that recipes without it keep every fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.languages import declaration
from checks.expectations import validate
from resources.inputs.external_digests import external_digest
from resources.inputs.prompt_files import prompts_of
from speed_assets.orchestration.doctor import corpus_probes
from speed_assets.recipe import (
    RECIPES,
    Recipe,
    RecipeError,
    load_recipe,
    parse_recipe,
    shipped_recipes,
    with_changes,
)
from speed_assets.recipe.reading import read_yaml
from tests.support.good_tables import good_table
from tests.support.reading_teacher import note, write_corpus
from tests.support.shelf import partition_of
from tests.test_corpus_loop import recipe_of
from tests.test_corpus_probes import write_articles
from tests.test_examples import Recording, seeds, with_own

SHARES = {"en": 0.7, "de": 0.2, "ja": 0.1}


def with_languages(data: dict[str, Any], languages: Any) -> Recipe:
    data = {**data, "languages": languages}
    return parse_recipe(data, RECIPES / "own.yaml")


@pytest.fixture
def data() -> dict[str, Any]:
    """A recipe with rules everywhere and a real teacher, as its file has it."""
    return {**read_yaml(RECIPES / "laptop.yaml"), "name": "own"}


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_without_it_have_nothing_of_it_in_a_fingerprint(name: str) -> None:
    recipe = load_recipe(name)
    assert "languages" not in recipe.model_dump()
    assert not any("languages" in stage.reads for stage in recipe.graph().values())
    assert recipe.final_triplets.rules.languages == ("en",)


def test_shares_alone_are_short_for_the_section(data: dict[str, Any]) -> None:
    short, full = (with_languages(data, value) for value in (SHARES, {"shares": SHARES}))
    assert short == full
    assert short.languages
    assert (short.languages.cross_lingual, short.languages.same_as_passage) == (0.0, 1.0)
    assert Recipe.model_validate(short.model_dump()) == short
    assert with_languages(data, {False: 1, "sv": 1}).languages.shares == {"no": 1, "sv": 1}, "YAML's `no`"  # type: ignore[union-attr]
    changed = with_changes({**data, "languages": SHARES}, {"languages.de": 0.3})
    assert parse_recipe(changed, RECIPES / "own.yaml").languages.shares["de"] == 0.3  # type: ignore[union-attr]


def test_rules_follow_the_languages_where_they_name_none(data: dict[str, Any]) -> None:
    recipe = with_languages(data, SHARES)
    for name in ("seed_data", "preference_pairs", "final_triplets"):
        assert getattr(recipe, name).rules.languages == ("de", "en", "ja"), name
    data["final_triplets"] = {**data["final_triplets"], "rules": {"languages": ["en", "de"]}}
    with pytest.raises(RecipeError, match=r"final_triplets\.rules\.languages lacks ja, which `languages` draws"):
        with_languages(data, SHARES)
    data["final_triplets"] = {**data["final_triplets"], "rules": {"topic_words_min": 0.5}}
    with pytest.raises(RecipeError, match=r"topic_words_min asks for words of the topic"):
        with_languages(data, SHARES)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ({}, "languages.shares"),
        ({"english": 1}, "no language that rows can be in: they are af, am"),
        ({"en": 0}, "greater than 0"),
        ({"shares": {"en": 1}, "cross_lingual": 0.5}, "needs a second language"),
        ({"shares": {"en": 1, "de": 1}, "cross": 0.5}, "languages.cross"),
    ],
)
def test_what_cannot_be_drawn_is_refused(data: dict[str, Any], languages: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        with_languages(data, languages)


def test_the_microworld_writes_no_language() -> None:
    with pytest.raises(RecipeError, match="`languages` needs a real teacher"):
        with_languages({**read_yaml(RECIPES / "offline.yaml"), "name": "own"}, SHARES)


def test_stages_that_draw_or_count_languages_read_them(data: dict[str, Any]) -> None:
    plain, spoken = parse_recipe(data, RECIPES / "own.yaml"), with_languages(data, SHARES)
    readers = {name for name, stage in spoken.graph().items() if "languages" in stage.reads}
    assert readers == {"seed_data", "junior_data", "senior_data", "final_triplets", "mteb_scores", "release"}
    brainstorm, judge = (
        [external_digest(recipe, f"prompt:{kind}", "retrieval") for recipe in (plain, spoken)]
        for kind in ("brainstorm", "judge")
    )
    assert brainstorm[0] == brainstorm[1], "tasks are not asked for again"
    assert judge[0] != judge[1]
    assert plain.part(plain.graph()["task_list"]) == spoken.part(spoken.graph()["task_list"])
    assert spoken.published()["languages"]["shares"] == SHARES


def test_wording_of_ones_own_has_to_say_the_languages() -> None:
    data = {**read_yaml(RECIPES / "own_corpus.yaml"), "name": "own"}
    with pytest.raises(RecipeError, match=r"must name \{query_language\}"):
        prompts_of(with_languages(data, SHARES))


@pytest.mark.parametrize(("code", "found"), [("de", 0), ("hi", 1)])
def test_documents_in_no_language_of_the_recipe_are_announced(code: str, found: int, tmp_path: Path) -> None:
    write_articles(tmp_path / "corpus", code)
    data = recipe_of("http://127.0.0.1:1/v1", tmp_path, share=0.5).model_dump()
    data["final_triplets"]["rules"] = {"language_confidence": 0.98}
    (tmp_path / "topics.txt").write_text("\n".join(f"人権/第{n}条の権利" for n in range(20)), encoding="utf-8")
    data["topics"] |= {"file": str(tmp_path / "topics.txt"), "alignment": None}
    findings = corpus_probes.text_languages(Recipe.model_validate(data | {"languages": {"de": 1, "ja": 1}}))
    assert len(findings) == found, "topics may be in any language"
    for finding in findings:
        assert "documents read are in other languages" in finding.line
        assert finding.mend == "languages; or corpus.path"


def test_what_the_identifier_does_not_know_or_is_not_asked_is_announced(tmp_path: Path) -> None:
    write_articles(tmp_path / "corpus", "de")
    data = recipe_of("http://127.0.0.1:1/v1", tmp_path).model_dump()
    data["final_triplets"]["rules"] = {"languages": ["de", "xx"], "language_confidence": 0.98}
    (finding,) = corpus_probes.text_languages(Recipe.model_validate(data))
    assert finding.status == "error"
    assert "names xx, which the language identifier does not know" in finding.line
    data["final_triplets"]["rules"] = {}
    (finding,) = corpus_probes.text_languages(Recipe.model_validate(data | {"languages": {"de": 1}}))
    assert (finding.status, finding.mend) == ("warning", "final_triplets.rules.language_confidence=0.98")


def test_own_examples_keep_the_languages_that_they_are_in(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    german = [" ".join(paragraphs) for _, paragraphs in declaration("de")[1:6]]
    lines = [{"query": text[:60], "positive": text} for text in german] + [{"query": "a lamp", "positive": note(3)}]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    data = with_own(recipe_of("http://127.0.0.1:1/v1", tmp_path), str(file), few_shot=0).model_dump()
    data["final_triplets"]["rules"] = {}
    run, _ = seeds(Recipe.model_validate(data | {"languages": SHARES}), tmp_path / "home", Recording())
    own = run.tables["data"].filter(topic="own examples")
    assert own.height == len(lines)
    found = own.filter(pl.col("query") != "a lamp")
    assert set(found["query_language"]) == set(found["document_language"]) == {"de"}
    assert found["prompt"].str.contains("It is in German").all()
    short = own.filter(query="a lamp").row(0, named=True)
    assert (short["query_language"], short["document_language"]) == (None, "en"), "too short to tell"
    assert "in the language of the passage" in short["prompt"], "what was drawn"
    drawn = run.tables["data"].filter(pl.col("topic") != "own examples")
    assert set(drawn["query_language"]) == {"en"}, "that of the notes"


@pytest.mark.parametrize("asset", ["seed_data", "final_triplets", "own_evaluation"])
def test_a_table_that_lacks_languages_or_has_others_fails_its_expectations(asset: str) -> None:
    partition = partition_of(asset)
    plain = good_table(asset, partition)
    table = plain.with_columns(query_language=pl.lit("de"), document_language=pl.lit(None, pl.String))
    assert validate(asset, table, partition, languages=("de", "ja")).passed
    for languages, frame, words in (
        (("ja",), table, "column_values_to_be_in_set(query_language)"),
        (("de",), plain, "document_language"),
        ((), table, "query_language"),
    ):
        outcome = validate(asset, frame, partition, languages=languages)
        assert not outcome.passed
        assert words in outcome.reason
