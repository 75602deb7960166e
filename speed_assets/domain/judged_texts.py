"""Which passages of a corpus a judged text is: those that hold it, or those that it holds, where it was cut otherwise.

Belongs here: finding them, whatever their white space. Not here: what judgements are (`relevance_judgements.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

_BEGINNING = 32
"""Characters of a passage's beginning by which it is looked for in a text (ours)."""


def same_spaces(text: str) -> str:
    """The text with single spaces.

    >>> same_spaces(" a  b\\n")
    'a b'
    """
    return " ".join(text.split())


def passages_of_texts(texts: Sequence[str], passages: pl.DataFrame) -> dict[str, list[str]]:
    """The ids of the passages that hold each text; of a text that none holds, of those without their first line that it holds.

    Args:
        texts: with single spaces (`same_spaces`).
        passages: passage_id, text; the first line of a passage may be its title.

    Returns:
        {text: passage ids, in the order of the table}, without texts for which there are none.
    """
    found: dict[str, list[str]] = {}
    lines = passages["text"].str.replace_all(r"\s+", " ")
    held: Iterable[Any] = lines.str.extract_many(list(dict.fromkeys(texts)), overlapping=True) if texts else ()
    for passage_id, inside in zip(passages["passage_id"], held, strict=bool(texts)):
        for text in dict.fromkeys(inside if inside is not None else ()):
            found.setdefault(text, []).append(passage_id)
    for text, passage_id in _holding([text for text in texts if text not in found], passages):
        found.setdefault(text, []).append(passage_id)
    return found


def _holding(texts: Sequence[str], passages: pl.DataFrame) -> Iterable[tuple[str, str]]:
    """(text, id of a passage that is in it), by the beginning of the passage."""
    beginning_in: dict[str, dict[str, None]] = {}
    for text in texts:
        for start in range(len(text) - _BEGINNING + 1):
            beginning_in.setdefault(text[start : start + _BEGINNING], {})[text] = None
    for passage_id, passage in passages.select("passage_id", "text").iter_rows() if beginning_in else ():
        bodies = dict.fromkeys((same_spaces(passage), same_spaces(passage.partition("\n")[2])))
        for text in dict.fromkeys(one for body in bodies for one in beginning_in.get(body[:_BEGINNING], ())):
            if any(body in text for body in bodies if body):
                yield text, passage_id
