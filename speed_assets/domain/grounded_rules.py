"""Rules of rows, where some rows are written from passages.

A passage was not written by the loop, so what a written text must not be (unfinished, a refusal, with markup) is not asked of it. Of a
grounded row the query is read as any other, and whether it is copied from its passage.

Belongs here: which texts of a row the rules read. Not here: the rules (`rules.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.domain import rules
from speed_assets.domain.folding import fold
from speed_assets.domain.parsing import words_stand_in
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, language_columns
from speed_assets.domain.rules.languages import by_drawn_languages
from speed_assets.domain.task_types import GROUNDED

COPIED = "query_in_positive"
UNSPECIFIC = "unspecific_query"
_GENERIC_WORDS = (
    "about after all also and any are article because been before being between both but can content could describe described describes"
    " describing description did discuss does document each example explain few find following for from give given has have help here how"
    " information into its itself json key keyword keywords kind know like list look looking made main make many may mean meaning means"
    " might more most much must name need not one only other our out over passage passages please provide provided purpose queries query"
    " question questions related request said same say search see sentence should show some specific subject such take tell text than that"
    " the their them then there these they thing this those through title topic two type typed under until use used user uses using very"
    " want was way were what when where which while who whom whose why will with without word words would write written you your"
)
"""Words of three letters and more that name no subject: of English, of searches, and of the prompts."""
_GENERIC = frozenset(_GENERIC_WORDS.split())
_STEM = 5
"""Letters in which two forms of a word agree (ours)."""
_SOUND = "The old boiler in the cellar heats three rooms of the house."
"""Stands in for a passage: a text in English that breaks no rule."""


def first_broken_rules_by_source(
    rows: pl.DataFrame, *, query_words_min: int = 8, skip: tuple[str, ...] = (), **numbers: Any
) -> pl.DataFrame:
    """(reason, detail) of each row, as `rules.first_broken_rules`; of grounded rows only what their query breaks.

    Rows with `LANGUAGE_COLUMNS` are judged by the languages that were drawn for them.

    Args:
        rows: row_id, task_type, topic, task, query, positive, negative.
        query_words_min: words of a query that may not stand in its positive, or in its passage.
        skip: codes that are not asked for.
        numbers: the other numbers of `rules.first_broken_rules`.
    """
    grounded = rows["task_type"] == GROUNDED
    if not grounded.any():
        return _broken(rows, query_words_min=query_words_min, skip=skip, **numbers)
    of_passage = pl.col("task_type") == GROUNDED
    shown = rows.with_columns(
        positive=pl.when(of_passage).then(pl.lit(_SOUND)).otherwise("positive"),
        topic=pl.when(of_passage).then(pl.lit("")).otherwise("topic"),  # a title, whose words a query need not have
    )
    if not language_columns(rows) and "en" not in numbers.get("languages", ("en",)):
        shown = shown.with_columns(pl.lit(None, pl.String).alias(name) for name in LANGUAGE_COLUMNS)
    if language_columns(shown):
        shown = shown.with_columns(
            document_language=pl.when(of_passage).then(pl.lit("en")).otherwise("document_language")
        )
    broken = _broken(shown, query_words_min=query_words_min, skip=skip, **numbers)
    codes: list[str | None] = []
    translated = _in_two_languages(rows)
    for of_this, apart, query, positive in zip(grounded, translated, rows["query"], rows["positive"], strict=True):
        found_code = None
        if of_this and COPIED not in skip and words_stand_in(query or "", positive or "", query_words_min):
            found_code = COPIED
        elif of_this and not apart and UNSPECIFIC not in skip and is_unspecific(query or "", positive or ""):
            found_code = UNSPECIFIC
        codes.append(found_code)
    code = pl.Series("code", codes, dtype=pl.String)
    found = code.is_not_null() & broken["reason"].is_null()
    return broken.with_columns(
        reason=pl.when(found).then(code).otherwise("reason"),
        detail=pl.when(found).then(pl.lit("query")).otherwise("detail"),
    )


def _broken(rows: pl.DataFrame, **numbers: Any) -> pl.DataFrame:
    if not language_columns(rows):
        return rules.first_broken_rules(rows, **numbers)
    return by_drawn_languages(rules.first_broken_rules, rows, **{"languages": ("en",), **numbers})


def _in_two_languages(rows: pl.DataFrame) -> pl.Series:
    """Whether a query is in another language than its passage, whose words it then does not share."""
    if not language_columns(rows):
        return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    return (rows["query_language"] != rows["document_language"]).fill_null(False)


def is_unspecific(query: str, passage: str) -> bool:
    """Whether a query names nothing that its passage speaks of: it could be asked of any passage.

    Words count by their beginnings, so that "kneading" names "kneaded". Function words of other languages than English count, so that
    the rule spares queries in them rather than rejects.

    >>> is_unspecific("What is typed.", "Bread is kneaded."), is_unspecific("kneading dough", "Bread is kneaded.")
    (True, False)
    """
    named = {
        word[:_STEM] for word in fold(query).split() if word not in _GENERIC and (len(word) > 2 or not word.isascii())
    }
    return not named & {word[:_STEM] for word in fold(passage).split()}
