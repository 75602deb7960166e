"""Rules of rows whose texts are in languages drawn for them: each text is judged by its own.

Belongs here: which languages the rules expect of which text. Not here: the rules on languages and scripts (`expressions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from speed_assets.domain.row_languages import LANGUAGE_COLUMNS
from speed_assets.domain.rules.codes import RULE_CODES, RULES_ACROSS_ROWS
from speed_assets.domain.task_types import LABEL_TYPES, TRIPLET_FIELDS

LanguagesByField = Mapping[str, tuple[str, ...]]
"""By field of a triplet: ISO 639-1 codes of the languages that its text may be in."""
TASKS_ARE_IN = "en"
"""The language of tasks, whose labels are spelt as the task spells them."""


def languages_by_field(languages: tuple[str, ...], document_languages: tuple[str, ...] | None) -> LanguagesByField:
    """The languages of a query and of the documents; None is the same for all three.

    >>> languages_by_field(("de",), ("ja",))["negative"]
    ('ja',)
    """
    query, *documents = TRIPLET_FIELDS
    return {query: languages, **dict.fromkeys(documents, document_languages or languages)}


def by_drawn_languages(
    first_broken: Callable[..., pl.DataFrame],
    rows: pl.DataFrame,
    *,
    languages: tuple[str, ...],
    skip: tuple[str, ...],
    **numbers: Any,
) -> pl.DataFrame:
    """(reason, detail) of each row in their order, where rows have languages of their own.

    Rules that compare rows with each other read all of them together.

    Args:
        first_broken: `first_broken_rule.first_broken_rules`.
        rows: its columns, query_language and document_language; null is any of `languages`.
        languages: what a text may be in whose language nobody drew; labels may also be spelt as the tasks are.
        skip: codes of rules that are not tested.
        numbers: the other numbers of `first_broken_rules`.
    """
    place = pl.int_range(pl.len(), dtype=pl.UInt32).alias("_place")
    labels = pl.col("task_type").is_in(LABEL_TYPES).alias("_labels")
    parts = []
    for (query, document, are_labels), group in rows.with_columns(place, labels).group_by(
        *LANGUAGE_COLUMNS, "_labels", maintain_order=True
    ):
        documents = (document,) if document else (*languages, TASKS_ARE_IN) if are_labels else languages
        found = first_broken(
            group.drop("_place", "_labels"),
            languages=(query,) if query else languages,
            document_languages=documents,
            skip=(*skip, *RULES_ACROSS_ROWS),
            **numbers,
        )
        parts.append(found.with_columns(group["_place"]))
    one_row = pl.concat(parts).sort("_place").drop("_place") if parts else None
    if one_row is not None and {*RULES_ACROSS_ROWS} <= {*skip}:
        return one_row
    others = tuple(code for code in RULE_CODES if code not in RULES_ACROSS_ROWS or code in skip)
    across = first_broken(rows, languages=languages, skip=others, **numbers)
    if one_row is None:
        return across
    missing = one_row["reason"].is_null()
    return one_row.with_columns(
        pl.when(missing).then(across[name]).otherwise(pl.col(name)).alias(name) for name in ("reason", "detail")
    )
