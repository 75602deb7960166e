"""Rules of rows in several languages: each text is judged by the language drawn for it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import polars as pl
import pytest

from benchmarks.languages import LANGUAGES, declaration
from speed_assets.domain.grounded_rules import first_broken_rules_by_source

RULES: dict[str, Any] = {"languages": LANGUAGES, "language_confidence": 0.98, "other_script_max": 0.3}
TASK = "Given a text, find the one that belongs to it"
ARTICLES = {code: ["\n".join(paragraphs) for _, paragraphs in declaration(code)[1:]] for code in LANGUAGES}


def row(
    query: str, positive: str, query_language: str | None, document_language: str | None, **more: Any
) -> dict[str, Any]:
    texts = {"query": query, "positive": positive, "negative": None}
    about = {"row_id": "r", "task_type": "retrieval", "topic": "Rights", "task": TASK}
    return {**about, **texts, "query_language": query_language, "document_language": document_language, **more}


def broken(rows: list[dict[str, Any]], **rules: Any) -> pl.DataFrame:
    named = [{**one, "row_id": f"r{number}"} for number, one in enumerate(rows)]
    frame = pl.DataFrame(
        named, schema_overrides=dict.fromkeys(("negative", "query_language", "document_language"), pl.String)
    )
    return first_broken_rules_by_source(frame, **(RULES | rules))


def cross_lingual_rows() -> list[dict[str, Any]]:
    """The n-th article as query in one language and the next one as document in another."""
    return [
        row(ARTICLES[one][number], ARTICLES[other][number + 1], one, other)
        for one, other in permutations(LANGUAGES, 2)
        for number in range(28)
    ]


def test_cross_lingual_rows_pass_and_exchanged_texts_do_not() -> None:
    rows = cross_lingual_rows()
    assert broken(rows)["reason"].null_count() == len(rows)
    exchanged = [{**one, "query": one["positive"], "positive": one["query"]} for one in rows]
    found = broken(exchanged)
    assert (found["reason"].is_in(["other_language", "other_script"])).mean() >= 0.98
    assert set(found.filter(pl.col("reason") == "other_script")["detail"]) == {"query", "positive"}


def test_a_wrong_language_is_found_in_either_place_though_the_recipe_has_it() -> None:
    german, japanese = ARTICLES["de"][0], ARTICLES["ja"][1]
    for query_language, document_language, detail in (("en", "ja", "query"), ("de", "ar", "positive")):
        found = broken([row(german, japanese, query_language, document_language)])
        assert found["detail"].to_list() == [detail]
    assert broken([row(german, japanese, None, None)])["reason"].to_list() == [None], "nobody drew: any of the recipe"
    french = (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits, doués de raison et de conscience."
    )
    assert broken([row(french, japanese, None, "ja")])["reason"].to_list() == ["other_language"]


def test_labels_may_be_spelt_as_the_task_spells_them() -> None:
    labels = {"negative": "asks for a refund of money that was paid", "task_type": "classification"}
    asked = "asks for the delivery of what was ordered"
    assert broken([row(ARTICLES["de"][0], asked, "de", None, **labels)], languages=("de",))["reason"].to_list() == [
        None
    ]
    assert broken([row(ARTICLES["ja"][0], asked, "de", None, **labels)])["detail"].to_list() == ["query"]


def test_english_words_are_read_in_english_texts_alone() -> None:
    cut = "Damit der Rechner das Signal des Netzes wieder findet, schalten Sie nach dem Umzug bitte zuerst den Router und dann das Gerät an"
    english = "What you can do about it when there is the noise of an old fan in your computer and the only thing that helps is an"
    found = broken([row("Ein Gerät?", cut, "de", "de"), row("A fan?", english, "de", "en")], language_confidence=None)
    assert found["reason"].to_list() == [None, "unfinished"]


def test_lengths_are_not_tested_where_words_are_not_counted() -> None:
    texts = row("短い", "短い", "ja", "ja", negative="長い")
    assert broken([texts], length_tolerance=0.5)["reason"].to_list() == [None]
    assert broken(
        [
            {
                **texts,
                "query_language": "de",
                "document_language": "de",
                "query": "a",
                "positive": "b c",
                "negative": "d",
            }
        ],
        length_tolerance=0.5,
    )["reason"].to_list() == ["too_short"]


@pytest.mark.parametrize("code", ["de", "ja"])
def test_rows_of_one_query_are_compared_across_languages(code: str) -> None:
    query, negative = ARTICLES["en"][0], ARTICLES[code][3]
    rows = [
        row(query, ARTICLES[code][5], "en", code, negative=negative),
        row(query, ARTICLES[code][6], "en", None, negative=negative),
    ]
    assert broken(rows)["reason"].to_list() == [None, "repeated_negative"]
    assert broken(rows, skip=("repeated_negative",))["reason"].to_list() == [None, None]


def test_a_query_in_another_language_shares_no_word_with_its_passage() -> None:
    passage = ARTICLES["de"][2]
    about = {"task_type": "grounded"}
    query = "ジャズの歴史について教えてください"
    assert broken([row(query, passage, "ja", "de", **about)])["reason"].to_list() == [None]
    assert broken([row("Wie backt man Brot?", passage, "de", "de", **about)])["reason"].to_list() == [
        "unspecific_query"
    ]
    assert broken([row("How is the bread baked in the old mill?", passage, "ja", "de", **about)])["reason"][0] in (
        "other_language",
        "other_script",
    )


def test_passages_are_not_read_as_english_where_rules_leave_out_english() -> None:
    one = row("Wer hat Anspruch auf Rechte und Freiheiten?", ARTICLES["de"][1], None, None, task_type="grounded")
    frame = pl.DataFrame([one], schema_overrides={"negative": pl.String}).drop("query_language", "document_language")
    assert first_broken_rules_by_source(frame, **(RULES | {"languages": ("de",)}))["reason"].to_list() == [None]
