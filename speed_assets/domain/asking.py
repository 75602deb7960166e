"""What a stage asks its writer for: rows of one task type, with their prompts.

Belongs here: the columns of a row that is asked for. Not here: which task, passage or text it is about (`rows.py`, `grounded.py`,
`given_texts.py`), how its answer is read (`rows.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, Languages, drawn_languages

WRITTEN_ROW_COLUMNS = ("row_id", "task_id", "task_type", "topic", "task", "prompt")
"""Columns of a row that a model is asked to write, without `words`, the length that its prompt asks for."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Rows of one task type that a stage asks for."""

    stage: str
    """Its name seeds the draws."""
    task_type: str
    rows: int
    """Their number."""
    seed: int
    """Of the recipe."""
    prompts: PromptSet
    lengths: AnswerLengths
    """Words of an answer."""
    languages: Languages | None = None
    """In which rows are written; None where the prompts say none."""

    def row(
        self,
        row_id: str,
        task_id: str,
        topic: str,
        task: str,
        attributes: Mapping[str, str],
        prompt: Callable[[Mapping[str, str] | None], str],
        passage: str | None = None,
    ) -> dict[str, Any]:
        """One row.

        Args:
            row_id: of the row, which also seeds its languages.
            task_id: of the task or passage that it is about.
            topic: of that.
            task: the instruction that the row is trained under.
            attributes: drawn for it.
            prompt: renders its prompt, given the names of its languages.
            passage: the text that it is written from.
        """
        drawn = drawn_languages(self.languages, self.task_type, self.seed, row_id) if self.languages else None
        return {
            "row_id": row_id,
            "task_id": task_id,
            "task_type": self.task_type,
            "topic": topic,
            "task": task,
            "prompt": prompt(drawn.names() if drawn else None),
            "words": self.lengths.words("synthesis", self.task_type, attributes),
            **({} if passage is None else {"passage": passage}),
            **(drawn.columns() if drawn else {}),
        }

    def table(self, rows: Iterable[dict[str, Any]], passages: bool = False) -> pl.DataFrame:
        """A table of such rows.

        Args:
            rows: by `row`.
            passages: whether they are written from passages.

        Returns:
            `WRITTEN_ROW_COLUMNS`, words, `passage` where they are written from passages, and `LANGUAGE_COLUMNS` where there are any.
        """
        schema = dict.fromkeys(WRITTEN_ROW_COLUMNS, pl.String) | {"words": pl.Int64}
        schema |= {"passage": pl.String} if passages else {}
        schema |= dict.fromkeys(LANGUAGE_COLUMNS, pl.String) if self.languages else {}
        return pl.DataFrame(list(rows), schema=schema)
