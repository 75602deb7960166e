"""Columns and cells of a user's table: names that the recipe gives, and texts that a cell holds.

Belongs here: what is refused of them. Not here: reading tables (`corpus_files.py`), what rows mean (`example_files.py`,
`judged_queries.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from speed_assets.recipe.section import Section

_SHOWN = 20
"""Names of columns in a message."""


def check_named_columns(named: Section, field: str, columns: Sequence[str]) -> None:
    """A column that the recipe names has to be there; one that has its usual name may be missing.

    Names are compared with the usual ones, since a recipe that was written out by a program states every field.

    Args:
        named: section with a name for each column.
        field: of that section, for errors.
        columns: of the file.

    Raises:
        ValueError: one is missing; the message names those that are there, the nearest first.
    """
    for role, usual in type(named).model_fields.items():
        column = getattr(named, role)
        if column != usual.default and column not in columns:
            raise ValueError(
                f"no column {column}, which {field}.{role} names (it has {named_columns(columns, column)}): correct the name"
            )


def named_columns(columns: Sequence[str], near: str = "") -> str:
    """Names of columns for a message, those first that are like another name.

    >>> named_columns(["question", "answer"], "anwser")
    'answer, question'
    """
    likeness = {name: difflib.SequenceMatcher(None, name.casefold(), near.casefold()).ratio() for name in columns}
    return ", ".join(sorted(columns, key=lambda name: -likeness[name])[:_SHOWN] if near else columns[:_SHOWN])


def cell_text(value: Any, row: int, column: str) -> str | None:
    """The text of a cell without the spaces around it; None of a blank one. A number is its digits.

    Args:
        value: of the cell.
        row, column: where it stands, for errors.

    Raises:
        ValueError: it is no text.
    """
    if value is None:
        return None
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        kind = _KINDS.get(type(value), type(value).__name__)
        raise ValueError(f"row {row}, column {column} holds {kind}, and has to be one text")
    return str(value).strip() or None


def cell_texts(value: Any, row: int, column: str) -> list[str]:
    """The texts of a cell, which may be a list of them; blank ones are left out. Raises ValueError, as `cell_text` does."""
    if not isinstance(value, list):
        text = cell_text(value, row, column)
        return [] if text is None else [text]
    if any(one is not None and not isinstance(one, str) for one in value):
        raise ValueError(
            f"row {row}, column {column} holds a list of other things than texts, and has to be a text or a list of texts"
        )
    return [one.strip() for one in value if one is not None and one.strip()]


_KINDS = {list: "a list", dict: "an object", bytes: "bytes", bool: "true or false"}
