"""Rules that only Python decides exactly: an expression suspects few rows, and a function decides on each of them.

Belongs here: pairs of suspicion and decision. Not here: rules that an expression decides alone (`field_tests.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from speed_assets.domain import row_patterns as patterns
from speed_assets.domain.language import reads_as_english
from speed_assets.domain.noise import MASH_LONGEST, SUSPECT, SUSPECT_MASH, is_noise
from speed_assets.domain.parsing import QUERY_WORDS_LEAST, without_number, words_only, words_stand_in
from speed_assets.domain.rows import may_contain_words_of, may_have_same_words
from speed_assets.domain.rules import expressions
from speed_assets.domain.rules.field_tests import IS_LABEL
from speed_assets.domain.rules.languages import LanguagesByField
from speed_assets.domain.task_types import STS_TYPES, TRIPLET_FIELDS


@dataclass(frozen=True, slots=True)
class ExactTest:
    """One rule on one field."""

    code: str
    field: str
    suspects: pl.Expr
    """True for every row that may break the rule, and for some that do not."""
    breaks: Callable[[str, str, str], bool]
    """Whether (query, positive, negative) break the rule; a missing text is empty."""

    @property
    def column(self) -> str:
        """A name of its own for the column of suspects."""
        return f"{self.code} {self.field}"


def exact_tests(query_words_min: int, languages: LanguagesByField) -> list[ExactTest]:
    """The tests, in the order in which they name a reason.

    Args:
        query_words_min: Words of a query that may not occur in its positive.
        languages: Those that each field is written in.
    """
    return [
        *_tests_of_pairs(query_words_min),
        *(test for field in TRIPLET_FIELDS for test in _tests_of(field, languages[field])),
    ]


def first_broken(rows: pl.DataFrame, suspects: pl.DataFrame, tests: list[ExactTest]) -> dict[int, tuple[str, str]]:
    """By place of a row: the first of the tests that it fails, as (code, field).

    Args:
        rows: query, positive, negative.
        suspects: A boolean column for each test, named by `ExactTest.column`, one row for each of `rows`.
        tests: In order of precedence.
    """
    columns = [rows[field] for field in TRIPLET_FIELDS]
    found: dict[int, tuple[str, str]] = {}
    for test in tests:
        for place in suspects[test.column].arg_true():
            texts = [column[place] or "" for column in columns]
            if place not in found and test.breaks(*texts):
                found[place] = (test.code, test.field)
    return found


def _tests_of_pairs(query_words_min: int) -> Iterator[ExactTest]:
    """Texts of one row that give each other away or repeat each other."""
    query, positive, negative = (pl.col(field) for field in TRIPLET_FIELDS)
    yield ExactTest(
        "label_in_text",
        "query",
        IS_LABEL & may_contain_words_of(positive, query),
        lambda q, p, n: patterns.gives_label_away(p, q),
    )
    yield ExactTest(
        "query_in_negative",
        "negative",
        ~IS_LABEL & may_contain_words_of(query, negative),
        lambda q, p, n: words_stand_in(q, n, QUERY_WORDS_LEAST),
    )
    yield ExactTest(
        "same_query_negative",
        "negative",
        may_have_same_words(query, negative),
        lambda q, p, n: _words_of_entry(q) == _words_of_entry(n),
    )
    yield ExactTest(
        "same_positive_negative",
        "negative",
        ~IS_LABEL & may_have_same_words(positive, negative),
        lambda q, p, n: _words_of_entry(p) == _words_of_entry(n),
    )
    yield ExactTest(
        "query_in_positive",
        "positive",
        ~IS_LABEL
        & ~pl.col("task_type").is_in(STS_TYPES)
        & (query.str.count_matches(" ", literal=True) >= query_words_min - 1)
        & may_contain_words_of(query, positive),
        lambda q, p, n: words_stand_in(q, p, query_words_min),
    )


def _words_of_entry(text: str) -> str:
    return words_only(without_number(text))


def _tests_of(field: str, languages: tuple[str, ...]) -> Iterator[ExactTest]:
    """Noise, loops and personal data in one text."""
    text, number = pl.col(field), TRIPLET_FIELDS.index(field)
    mashed = expressions.only_where(text.str.len_bytes() <= MASH_LONGEST, text).str.contains(SUSPECT_MASH)
    english = languages == ("en",)
    yield ExactTest(
        "noise",
        field,
        text.str.contains(SUSPECT) | mashed.fill_null(False),
        lambda *texts: is_noise(texts[number], english=english or reads_as_english(texts[number])),
    )
    yield ExactTest(
        "repetition",
        field,
        expressions.may_repeat_itself(text) & (pl.lit(field == "query") | ~IS_LABEL),
        lambda *texts: patterns.repeats_itself(texts[number]),
    )
    yield ExactTest(
        "personal_data",
        field,
        text.str.contains(patterns.PERSONAL_SUSPECT),
        lambda *texts: patterns.has_personal_data(texts[number]),
    )
