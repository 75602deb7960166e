"""Rules of rows, where some rows are written from passages.

A passage was not written by the loop, so what a written text must not be (unfinished, a refusal, with markup) is not asked of it. Of a
grounded row what was written is read as any other, and whether it is copied from its passage, or has nothing to do with it.

Belongs here: which texts of a row the rules read. Not here: the rules (`rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from speed_assets.domain import rules
from speed_assets.domain.folding import fold
from speed_assets.domain.given_texts import classes_of
from speed_assets.domain.parsing import QUERY_WORDS_LEAST, lower_case_text, words_only, words_stand_in
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, language_columns
from speed_assets.domain.rows import stand_mostly_in
from speed_assets.domain.rules import RULE_CODES, RULES_ACROSS_ROWS
from speed_assets.domain.rules.languages import by_drawn_languages
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, GROUNDED, STS_TYPES, TRIPLET_FIELDS

COPIED = "query_in_positive"
UNSPECIFIC = "unspecific_query"
UNLIKE = "unlike_passage"
NOT_NAMED = "label_not_named"
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
_NEAR_COPY_WORDS = 8
"""Words from which on a query that has nearly all pairs of its words from the passage is a copy with a word changed (ours)."""
_ASKED = ("?", "\uff1f", "\u061f")
"""How a question ends, in Latin letters, Japanese and Arabic."""
_STEM = 5
"""Letters in which two forms of a word agree (ours)."""
_SOUND = "The old boiler in the cellar heats three rooms of the house."
"""Stands in for a passage: a text in English that breaks no rule."""


def first_broken_rules_by_source(
    rows: pl.DataFrame, *, query_words_min: int = 8, skip: tuple[str, ...] = (), **numbers: Any
) -> pl.DataFrame:
    """(reason, detail) of each row, as `rules.first_broken_rules`; of grounded rows only what their written texts break.

    Rows with `LANGUAGE_COLUMNS` are judged by the languages that were drawn for them.

    Args:
        rows: row_id, task_type, topic, task, query, positive, negative.
        query_words_min: words of a query that may not stand in its positive, or in its passage.
        skip: codes that are not asked for.
        numbers: the other numbers of `rules.first_broken_rules`.
    """
    given = rows["task_type"].is_in(GIVEN_TEXT_TYPES)
    grounded = rows["task_type"] == GROUNDED
    if not (grounded.any() or given.any()):
        return _broken(rows, query_words_min=query_words_min, skip=skip, **numbers)
    of_passage = pl.col("task_type") == GROUNDED
    is_given = pl.col("task_type").is_in(GIVEN_TEXT_TYPES)
    shown = rows.with_columns(
        positive=pl.when(of_passage).then(pl.lit(_SOUND)).otherwise("positive"),
        query=pl.when(~is_given).then("query"),  # what is not there breaks no rule
        topic=pl.when(of_passage | is_given)
        .then(pl.lit(""))
        .otherwise("topic"),  # a title, whose words a query need not have
    )
    if not language_columns(rows) and "en" not in numbers.get("languages", ("en",)):
        shown = shown.with_columns(pl.lit(None, pl.String).alias(name) for name in LANGUAGE_COLUMNS)
    if language_columns(shown):
        shown = shown.with_columns(
            document_language=pl.when(of_passage).then(pl.lit("en")).otherwise("document_language")
        )
    if given.any():  # rules that compare rows know them by their queries
        alone = _broken(shown, query_words_min=query_words_min, skip=(*skip, *RULES_ACROSS_ROWS), **numbers)
        others = tuple(code for code in RULE_CODES if code not in RULES_ACROSS_ROWS or code in skip)
        broken = _first_of(alone, _broken(rows, query_words_min=query_words_min, skip=others, **numbers))
    else:
        broken = _broken(shown, query_words_min=query_words_min, skip=skip, **numbers)
    translated = _in_two_languages(rows)
    found: list[tuple[str | None, str | None]] = []
    texts = rows.select("task_type", "task", *TRIPLET_FIELDS).iter_rows(named=True)
    for row, apart in zip(texts, translated, strict=True):
        tests = _tests_of_passage(row, query_words_min, apart=apart)
        found.append(next((test for test in tests if test[0] not in skip), (None, None)))
    schema = {"reason": pl.String, "detail": pl.String}
    return _first_of(broken, pl.DataFrame(found, schema=schema, orient="row"))


def _tests_of_passage(row: Mapping[str, str], query_words_min: int, *, apart: bool) -> Iterator[tuple[str, str]]:
    """(code, field) of every rule on a row and its passage that the row breaks.

    Args:
        row: task_type, task, query, positive, negative.
        query_words_min: words of a given or written query that may not stand in the text opposite.
        apart: whether the written text is in another language than the passage.
    """
    query, positive, negative = (row[field] or "" for field in TRIPLET_FIELDS)
    if row["task_type"] == GROUNDED:
        if is_copied(query, positive, query_words_min):
            yield COPIED, "query"
        if not apart and is_unspecific(query, positive):
            yield UNSPECIFIC, "query"
    elif row["task_type"] == "grounded_classification":
        yield from (
            (NOT_NAMED, field) for field in ("positive", "negative") if not _is_named(row[field] or "", row["task"])
        )
    elif row["task_type"] in GIVEN_TEXT_TYPES:
        if row["task_type"] not in STS_TYPES and words_stand_in(query, positive, query_words_min):
            yield COPIED, "positive"
        if words_stand_in(query, negative, QUERY_WORDS_LEAST):
            yield "query_in_negative", "negative"
        long = row["task_type"] not in STS_TYPES  # a paraphrase of one sentence may share no word with it
        if long and positive and not apart and is_unspecific(positive, query):
            yield UNLIKE, "positive"


def _is_named(label: str, task: str) -> bool:
    """Whether a label is one of the classes of its task; of a task in words of the user's own, whether it stands in it."""
    classes = classes_of(task)
    if classes:
        return lower_case_text(label).strip(" .") in {lower_case_text(one) for one in classes}
    return words_stand_in(label, task, 1)


def _first_of(reasons: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """(reason, detail) of the first frame, and of the other where the first has no reason."""
    missing = reasons["reason"].is_null()
    return reasons.with_columns(
        pl.when(missing).then(others[name]).otherwise(pl.col(name)).alias(name) for name in ("reason", "detail")
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


def is_copied(query: str, passage: str, words_min: int) -> bool:
    """Whether a query is so many words of its passage, one after the other, or more of them with a word changed here and there.

    A question is no copy with a word changed: people ask for one word of a sentence with the others of it.

    Args:
        query: written for the passage.
        passage: verbatim.
        words_min: words of a query that may not stand in the passage.

    >>> passage = "The lever next to the old boiler opens the second valve of the house."
    >>> is_copied("old boiler", passage, 5), is_copied("The lever near to the old boiler opens the second valve", passage, 20)
    (False, False)
    >>> copy = "The lever next to the old boiler opens the first valve"
    >>> is_copied(copy, passage, 8), is_copied(f"{copy}?", passage, 8)
    (True, False)
    """
    if words_stand_in(query, passage, words_min):
        return True
    words = words_only(query)
    near = words.count(" ") + 1 >= max(words_min, _NEAR_COPY_WORDS) and not query.rstrip().endswith(_ASKED)
    return near and stand_mostly_in(f" {words} ", f" {words_only(passage)} ")


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
