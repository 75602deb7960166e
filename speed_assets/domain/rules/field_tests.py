"""Which fields each rule tests, as polars expressions over all rows at once.

Belongs here: rules that an expression decides. Not here: rules that need Python for the rows an expression suspects
(`exact_tests.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from speed_assets.domain import row_patterns as patterns
from speed_assets.domain.rules import expressions
from speed_assets.domain.rules.across_rows import tests_across_rows
from speed_assets.domain.rules.languages import LanguagesByField
from speed_assets.domain.task_types import LABEL_TYPES, TRIPLET_FIELDS

FieldTests = dict[str, dict[str, pl.Expr]]
"""By rule code and field: the boolean expression that is true where the field breaks the rule."""

IS_LABEL = pl.col("task_type").is_in(LABEL_TYPES)
"""Whether a row's positive and negative are labels, to which the rules for documents do not apply."""
_DOCUMENTS = ("positive", "negative")


def field_tests(
    rows: pl.DataFrame,
    *,
    skip: tuple[str, ...],
    languages: LanguagesByField,
    language_characters_min: int,
    language_confidence: float | None,
    other_script_max: float,
    label_words_max: int | None,
    topic_words_min: float,
) -> FieldTests:
    """The tests of every rule that an expression decides, in the order in which they name a reason.

    Args: see `first_broken_rules`; `languages` are those of each field.
    """
    tests = _tests_of_form(languages, other_script_max)
    if language_confidence is not None and "other_language" not in skip:
        tests["other_language"] = expressions.other_language_tests(
            rows, languages, language_characters_min, language_confidence
        )
    if label_words_max is not None:
        tests["label_too_long"] = {
            field: IS_LABEL & (pl.col(field).str.count_matches(r"\S+") > label_words_max) for field in _DOCUMENTS
        }
    if topic_words_min:
        tests["topic_not_named"] = _tests_of_topic(topic_words_min)
    return tests | _tests_of_content(languages) | tests_across_rows(rows, skip)


def _in_any_field(test: Callable[[pl.Expr], pl.Expr]) -> dict[str, pl.Expr]:
    return {field: test(pl.col(field)) for field in TRIPLET_FIELDS}


def _tests_of_form(languages: LanguagesByField, other_script_max: float) -> FieldTests:
    """Refusals, echoes of a template or task, other scripts, and a label that is its own negative."""
    query, positive, negative = (pl.col(field) for field in TRIPLET_FIELDS)
    task = pl.col("task").str.to_lowercase().str.strip_chars()
    return {
        "refusal": _in_any_field(lambda text: text.str.contains(patterns.REFUSAL)),
        "as_an_ai": _in_any_field(expressions.speaks_as_an_ai),
        "template_echo": {
            "query": query.str.contains(patterns.TEMPLATE) | query.str.contains(patterns.PLACEHOLDER),
            **{
                field: pl.col(field).str.contains(patterns.TEMPLATE)
                | pl.when(IS_LABEL)
                .then(pl.col(field).str.contains(patterns.LABEL_TEMPLATE))
                .otherwise(pl.col(field).str.contains(patterns.PLACEHOLDER))
                for field in _DOCUMENTS
            },
        },
        "task_echo": {
            "query": query.str.to_lowercase() == task,
            "positive": ~IS_LABEL & (positive.str.to_lowercase() == task),
        },
        "other_script": expressions.other_script_tests(languages, other_script_max),
        "same_positive_negative": {"negative": expressions.is_same_label(IS_LABEL, positive, negative)},
    }


def _tests_of_topic(topic_words_min: float) -> dict[str, pl.Expr]:
    topic = expressions.words_without_marks(pl.col("topic").str.extract(r"([^/]*)$")).list.unique()
    least = topic_words_min * topic.list.len()
    return {
        field: (pl.lit(field == "query") | ~IS_LABEL)
        & (topic.list.set_intersection(expressions.words_without_marks(pl.col(field))).list.len() < least)
        for field in TRIPLET_FIELDS
    }


def _tests_of_content(languages: LanguagesByField) -> FieldTests:
    """Texts that end unfinished, hold markup, or speak about themselves."""
    plain_task = ~pl.col("task").fill_null("").str.contains(patterns.MARKUP_IS_SUBJECT)
    return {
        "unfinished": {
            "query": expressions.ends_unfinished(pl.col("query"), sentences=False, languages=languages["query"]),
            **{
                field: ~IS_LABEL
                & expressions.ends_unfinished(pl.col(field), sentences=True, languages=languages[field])
                for field in _DOCUMENTS
            },
        },
        "markup": _in_any_field(lambda text: text.str.contains(patterns.MARKUP) & plain_task),
        "about_the_document": {
            "query": expressions.opens_as_an_assistant(pl.col("query")),
            **{
                field: expressions.opens_as_an_assistant(pl.col(field))
                | (~IS_LABEL & expressions.is_about_the_document(pl.col(field)))
                for field in _DOCUMENTS
            },
        },
    }
