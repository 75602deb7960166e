"""Texts that people wrote in German, Japanese, Arabic and Hindi meet the filters as English ones do."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.languages import (
    LANGUAGES,
    Text,
    declaration,
    documents_cut,
    help_pages,
    messages,
    of_language,
    planted,
    rejected,
    rows_of,
    topics_read,
)
from speed_assets.domain.noise import is_noise
from speed_assets.domain.rules import first_broken_rules
from speed_assets.recipe import load_recipe

SECTION = load_recipe("laptop").final_triplets
FOUND_MIN = 0.98


def rate(found: dict[str, int]) -> float:
    return found["rejected"] / found["rows"]


def check(source: str, texts: dict[str, list[Text]], more: float, english: dict[str, list[Text]]) -> None:
    """Each language has at most the rejected rows of English and this share more, and wrong languages are found.

    Args:
        source: of the texts.
        texts: of each language.
        more: share of the rows.
        english: for each language the English texts that it is compared with.
    """
    rows = {language: rows_of(source, found) for language, found in texts.items()}
    for language, frame in rows.items():
        found = rejected(frame, of_language(SECTION, [language]))
        same = rejected(rows_of(source, english[language]), of_language(SECTION, ["en"]))
        assert rate(found) <= rate(same) + more, (language, found, same)
    for language, planted_rows in planted(rows, SECTION).items():
        assert planted_rows["found"] >= FOUND_MIN, (language, planted_rows)


def test_the_declaration_passes_in_every_language() -> None:
    texts = {language: declaration(language) for language in LANGUAGES}
    assert {len(found) for found in texts.values()} == {31}, "the preamble and thirty articles"
    check("declaration", texts, more=0.0, english=dict.fromkeys(LANGUAGES, texts["en"]))
    for found in texts.values():
        assert documents_cut(found)["characters_kept"] > 0.99
        assert documents_cut(found)["dropped"] == {}
        assert topics_read([title for title, _ in found]) == {"titles": 31, "refused": 0}


def test_whole_sentences_pass_where_all_languages_are_asked_for() -> None:
    articles = pl.concat([rows_of("declaration", declaration(language)[1:]) for language in LANGUAGES])
    articles = articles.with_columns(row_id=pl.int_range(pl.len()).cast(pl.String))
    assert rejected(articles, of_language(SECTION, LANGUAGES))["by_rule"] == {}


@pytest.mark.parametrize("source", ["help", "messages"])
def test_texts_of_this_machine_pass_in_every_language(source: str) -> None:
    folder, read = {
        "help": (Path("/usr/share/help"), help_pages),
        "messages": (Path("/usr/share/locale"), messages),
    }[source]
    texts = {language: found for language in LANGUAGES if len(found := read(folder, language)) >= 100}
    if len(texts) < 2 or "en" not in texts:
        pytest.skip(
            f"{folder} has no {source} in English and another language: install gnome-user-docs or desktop libraries"
        )
    english = dict.fromkeys(texts, texts["en"])
    if source == "messages":
        english = {language: messages(folder, language, english=True) for language in texts}
    check(source, texts, more=0.01, english=english)


def test_words_of_other_languages_are_no_english_noise() -> None:
    german = (
        "Die geschätzte Akkulaufzeit ist falsch",
        "Angstschweiß bei Herbstschnee",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    )
    assert not any(is_noise(text, english=False) for text in german)
    assert is_noise("LIFAddingAscendablassamSearchVBA finds it", english=False), "no language writes this"
    row = {"row_id": "r", "task_type": "retrieval", "topic": "t", "task": "t", "negative": "Ein Hut."}
    whole = "Damit der Rechner das Signal des Netzes wieder findet, schalten Sie nach dem Umzug bitte zuerst den Router und dann das Gerät an"
    rows = pl.DataFrame([{**row, "query": german[0], "positive": whole}])
    for languages in (("de",), ("en", "de")):
        assert first_broken_rules(rows, languages=languages, other_script_max=0.3)["reason"].to_list() == [None]
    cut = "What you can do about it when there is the noise of an old fan in your computer and the only thing that helps is an"
    rows = pl.DataFrame([{**row, "query": "a fan", "positive": cut}])
    assert first_broken_rules(rows, languages=("en", "de"), other_script_max=0.3)["reason"].to_list() == ["unfinished"]
