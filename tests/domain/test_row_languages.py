"""Languages of rows: shares as asked for, changes that touch the rows they are about, and the columns that say them."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.languages import LANGUAGES, declaration
from speed_assets.domain.language import known_languages, most_likely_language
from speed_assets.domain.language_names import LANGUAGE_NAMES, UNSPACED, mteb_languages
from speed_assets.domain.row_languages import (
    OF_THE_PASSAGE,
    Drawn,
    Languages,
    drawn_languages,
    language_counts,
    with_passage_languages,
)
from speed_assets.domain.rules.expressions import _SCRIPTS
from speed_assets.domain.task_types import TASK_TYPE_NAMES

SHARES = {"en": 0.7, "de": 0.2, "ja": 0.1}
ROWS = [f"row{number}" for number in range(3000)]


def drawn(languages: Languages, task_type: str = "retrieval", rows: list[str] = ROWS) -> list[Drawn]:
    return [drawn_languages(languages, task_type, 1, row_id) for row_id in rows]


def test_languages_come_in_their_shares_whatever_the_scale() -> None:
    found = Counter(one.query for one in drawn(Languages(SHARES)))
    assert {code: count / len(ROWS) for code, count in found.items()} == pytest.approx(SHARES, abs=0.03)
    tenfold = {code: 10 * weight for code, weight in reversed(SHARES.items())}
    assert drawn(Languages(tenfold)) == drawn(Languages(SHARES)), "weights of any scale and order"


def test_documents_are_in_another_language_in_the_share_asked_for() -> None:
    apart = [one for one in drawn(Languages(SHARES, cross_lingual=0.3)) if one.query != one.document]
    assert len(apart) / len(ROWS) == pytest.approx(0.3, abs=0.03)
    english = Counter(one.document for one in apart if one.query == "en")
    assert english["de"] / english.total() == pytest.approx(2 / 3, abs=0.06), "by the weights of the others"
    assert all(one.query == one.document for one in drawn(Languages(SHARES)))
    more = drawn(Languages(SHARES, cross_lingual=0.5))
    assert all(
        late.document == early.document
        for early, late in zip(drawn(Languages(SHARES, 0.3)), more, strict=True)
        if early.query != early.document
    )


@given(
    weights=st.dictionaries(st.sampled_from(["en", "de", "ja", "ar", "fr"]), st.floats(0.01, 5), min_size=2),
    weight=st.floats(0.01, 5),
    cross=st.sampled_from([0.0, 0.4]),
)
@settings(max_examples=40, deadline=None)
def test_another_weight_of_a_language_touches_the_rows_that_it_wins_or_loses(
    weights: dict[str, float], weight: float, cross: float
) -> None:
    language = sorted(weights)[0]
    rows = ROWS[:60]
    before = drawn(Languages(weights, cross), rows=rows)
    after = drawn(Languages({**weights, language: weight}, cross), rows=rows)
    for old, new in zip(before, after, strict=True):
        assert old == new or language in (old.query, new.query, old.document, new.document)
    won = weight > weights[language]
    for old, new in zip(before, after, strict=True):
        if old.query != new.query:
            assert (new if won else old).query == language


def test_labels_and_passages_have_no_drawn_language() -> None:
    assert {one.document for one in drawn(Languages(SHARES, 1.0), "classification")} == {None}
    assert set(drawn(Languages(SHARES), "grounded")) == {Drawn(None, None)}
    mixed = Counter(one.query for one in drawn(Languages(SHARES, same_as_passage=0.25), "grounded"))
    assert mixed[None] / len(ROWS) == pytest.approx(0.25, abs=0.03)
    assert mixed["en"] / (len(ROWS) - mixed[None]) == pytest.approx(0.7, abs=0.04)
    for task_type in TASK_TYPE_NAMES:
        assert set(drawn_languages(Languages({"ja": 3}, 0), task_type, 1, "r").names()) == {
            "query_language",
            "document_language",
        }
    assert Drawn(None, None).names()["query_language"] == OF_THE_PASSAGE
    assert Drawn("ja", "de").names() == {"query_language": "Japanese", "document_language": "German"}


def test_the_language_of_a_passage_is_found_among_the_recipes() -> None:
    texts = {code: ["\n".join(paragraphs) for _, paragraphs in declaration(code)] for code in LANGUAGES}
    for code, found in texts.items():
        likely = most_likely_language(pl.Series(found), LANGUAGES)
        assert (likely == code).mean() == 1, (code, likely.value_counts())
        others = [other for other in LANGUAGES if other != code]
        assert most_likely_language(pl.Series(found), others).null_count() >= len(found) - 1
    rows = pl.DataFrame({"passage": [texts["de"][3], texts["ja"][3], "12"], "query_language": [None, "en", None]})
    told = with_passage_languages(rows, Languages({"de": 1, "ja": 1, "en": 1}))
    assert told["document_language"].to_list() == ["de", "ja", None]
    assert told["query_language"].to_list() == ["de", "en", None], "a query that follows its passage has its language"
    empty = with_passage_languages(rows.clear(), Languages({"de": 1}))
    assert empty.schema["document_language"] == pl.String


def test_rows_are_counted_by_language() -> None:
    rows = pl.DataFrame({"query_language": ["en", "en", "de", None], "document_language": ["en", "ja", None, "ja"]})
    assert language_counts(rows, {"ja": 1, "en": 2, "de": 1}) == {
        "drawn": {"en": 0.5, "de": 0.25, "ja": 0.25},
        "query": {"en": 2, "de": 1},
        "document": {"ja": 2, "en": 1},
        "cross_lingual": 1,
    }


def test_every_language_of_the_table_can_be_detected_and_judged_by_its_script() -> None:
    assert set(LANGUAGE_NAMES) <= known_languages()
    assert len(LANGUAGE_NAMES) == len(set(LANGUAGE_NAMES.values())) > 100
    other = {code for code in LANGUAGE_NAMES if not mteb_languages([code])[0].endswith("-Latn")}
    assert other == set(_SCRIPTS) & set(LANGUAGE_NAMES)
    assert other >= UNSPACED
