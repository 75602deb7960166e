"""The languages of rows: drawn for each row, of its query and of its documents apart.

Each language runs a race under a name of its own (weighted rendezvous hashing), so that another weight of one language changes
the draw of no row but those that it wins or loses.

Belongs here: drawing, the columns that carry what was drawn, counting. Not here: detecting the language of a text (`language.py`), whether
a text is in its language (`rules/`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.language import most_likely_language
from speed_assets.domain.language_names import LANGUAGE_NAMES
from speed_assets.domain.task_types import LABEL_TYPES, TASK_TYPES

LANGUAGE_COLUMNS = ("query_language", "document_language")
"""Columns of tables whose recipe draws languages. Null is a language that nobody asked for: of labels, which are spelt as the
task spells them, and of texts of the user's own that are too short or too mixed to tell."""
OF_THE_PASSAGE = "the language of the passage"
"""What a prompt calls the language of a query that is to be in that of its passage, whichever that is."""
_SEEDS = float(1 << 63)


@dataclass(frozen=True, slots=True)
class Languages:
    """Languages that rows are written in. Fields as in the recipe's section `languages`."""

    shares: Mapping[str, float]
    """Weight of each, by ISO 639-1 code."""
    cross_lingual: float = 0.0
    """Share of the rows whose documents are in another language than their query."""
    same_as_passage: float = 1.0
    """Share of the grounded rows whose query, or whose other texts, are in the language of their passage."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The languages, in order of code."""
        return tuple(sorted(self.shares))


@dataclass(frozen=True, slots=True)
class Drawn:
    """The languages of one row. `query` is None where it is that of the passage; `document` where no text is asked for in one, or where it
    is that of a passage which is the query."""

    query: str | None
    document: str | None

    def columns(self) -> dict[str, str | None]:
        """The values of `LANGUAGE_COLUMNS`."""
        return dict(zip(LANGUAGE_COLUMNS, (self.query, self.document), strict=True))

    def names(self) -> dict[str, str]:
        """{query_language, document_language} as prompts say them."""
        return {
            "query_language": OF_THE_PASSAGE if self.query is None else LANGUAGE_NAMES[self.query],
            "document_language": LANGUAGE_NAMES[language]
            if (language := self.document or self.query)
            else OF_THE_PASSAGE,
        }


def drawn_languages(languages: Languages, task_type: str, seed: int, row_id: str) -> Drawn:
    """The languages of a row.

    Args:
        languages: as the recipe has them.
        task_type: of the row.
        seed: of the recipe.
        row_id: names the draw.

    >>> drawn_languages(Languages({"de": 1.0}), "retrieval", 1, "a row")
    Drawn(query='de', document='de')
    """
    kind = TASK_TYPES[task_type]
    if kind.grounded:
        same = kind.passage == "query" and kind.labels
        same = same or _chance(seed, "language of passage", row_id) < languages.same_as_passage
        written = None if same else _winner(languages.shares, seed, "query language", row_id)
        return Drawn(written, None) if kind.passage == "positive" else Drawn(None, written)
    query = _winner(languages.shares, seed, "query language", row_id)
    if kind.labels:
        return Drawn(query, None)
    if _chance(seed, "cross-lingual", row_id) >= languages.cross_lingual:
        return Drawn(query, query)
    others = {code: weight for code, weight in languages.shares.items() if code != query}
    return Drawn(query, _winner(others, seed, "document language", row_id))


def _chance(seed: int, *name: str) -> float:
    """A number from 0 up to 1, named by its purpose and the row."""
    return seed_for(seed, *name) / _SEEDS


def _winner(weights: Mapping[str, float], seed: int, *name: str) -> str:
    """The language that arrives first: its time is exponential, at the rate of its weight."""
    return min(
        sorted(weights), key=lambda code: -math.log1p(-min(_chance(seed, *name, code), 1 - 2**-53)) / weights[code]
    )


def language_columns(frame: pl.DataFrame) -> list[str]:
    """The names of `LANGUAGE_COLUMNS` in a table of a recipe that draws languages; none in other tables."""
    return [name for name in LANGUAGE_COLUMNS if name in frame.columns]


def with_passage_languages(rows: pl.DataFrame, languages: Languages) -> pl.DataFrame:
    """Grounded rows with the language of their passage, and with that of the query where it follows the passage.

    Args:
        rows: passage, query_language (null: as the passage).
        languages: those that a passage may be in; one in no other is null.
    """
    found = most_likely_language(rows["passage"], languages.codes)
    return rows.with_columns(document_language=found, query_language=pl.coalesce("query_language", found))


def with_given_text_languages(rows: pl.DataFrame, languages: Languages) -> pl.DataFrame:
    """Rows whose query is a passage with its language, and with that of the texts opposite where they follow it; labels have none.

    Args:
        rows: task_type, passage, document_language (null: as the passage).
        languages: those that a passage may be in; one in no other is null.
    """
    found = most_likely_language(rows["passage"], languages.codes)
    texts = ~pl.col("task_type").is_in(LABEL_TYPES)
    return rows.with_columns(
        query_language=found, document_language=pl.when(texts).then(pl.coalesce("document_language", found))
    )


def language_counts(rows: pl.DataFrame, shares: Mapping[str, float]) -> dict[str, Any]:
    """How many rows are in each language.

    Args:
        rows: query_language, document_language.
        shares: weight of each language that is drawn.

    Returns:
        {`drawn`: shares that sum to 1, `query` and `document`: rows by language, `cross_lingual`: rows whose two languages differ}, the largest
        first. Rows of which a language is not known count in neither.
    """
    total = sum(shares.values())
    drawn = {code: round(weight / total, 4) for code, weight in _largest_first(shares)}
    counted = {
        side: dict(_largest_first(dict(rows[f"{side}_language"].drop_nulls().value_counts().iter_rows())))
        for side in ("query", "document")
    }
    apart = rows.filter(pl.col("query_language") != pl.col("document_language")).height
    return {"drawn": drawn, **counted, "cross_lingual": apart}


def _largest_first(numbers: Mapping[str, float]) -> Sequence[tuple[str, float]]:
    return sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
