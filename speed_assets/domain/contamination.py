"""Rows that hold evaluation text: whole after folding, in runs of words, or as an edited copy.

An edited copy is found by its words: their longest common subsequence with an evaluation text of about the same
length. Candidates come from the rarest words of the row, so that none is missed.

Belongs here: telling which evaluation text a row repeats. Not here: which sets count (recipe), reading them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from speed_assets.domain.folding import buffer, fold_table, in_parallel

EXACT_WORDS_LEAST = 3
"""Shorter texts are labels and single words, which no set owns."""
HOW = {1: "exact", 2: "ngram", 3: "neighbour"}
_CANDIDATES = 500  # texts that one row is compared with at most: bounds the time whatever the sets


@dataclass(frozen=True, slots=True)
class Limits:
    """When a row repeats an evaluation text."""

    ngram: int
    """Words in a run."""
    containment: float
    """Share of the row's runs that stand in the sets, or of an evaluation text's runs that stand in the row."""
    words_min: int
    """Shorter texts are held against the sets as a whole only: one other word makes another text of them."""
    neighbour: float | None
    """Share of the words of the longer text, in the same order, that an edited copy has; None does not look."""


class EvaluationIndex:
    """The texts of evaluation sets, by task, ready to be found in rows."""

    def __init__(self, texts: Mapping[str, Iterable[str]], limits: Limits) -> None:
        from speed_assets.domain import kernels

        self._limits = limits
        columns = [pl.Series(group, dtype=pl.String).unique(maintain_order=True) for group in texts.values()]
        owners = [pl.repeat(task, len(column), eager=True) for task, column in zip(texts, columns, strict=True)]
        self.tasks = pl.concat([pl.Series(dtype=pl.String), *owners])
        text = buffer(pl.concat([pl.Series(dtype=pl.String), *columns]))
        counts = np.empty(len(self.tasks), np.int64)
        kernels.count_words(*text, fold_table(), counts)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._words = np.empty(self._starts[-1], np.uint64)
        kernels.words_in(*text, fold_table(), self._starts, self._words)
        self._whole = self._table(0)
        self._runs = self._table(limits.ngram)
        self._run_bits = np.zeros(max(64, len(self._runs[0])), np.uint8)
        kernels.mark_all(self._run_bits, self._runs[0][self._runs[0] != 0])
        places = np.repeat(np.arange(len(self.tasks)), counts)
        known, ids = np.unique(self._words, return_inverse=True)
        once = np.unique(np.stack([ids, places], axis=1).reshape(-1, 2), axis=0)  # a text once per word
        self._postings = np.ascontiguousarray(once[:, 1])
        self._posting_starts = np.searchsorted(once[:, 0], np.arange(len(known) + 1))
        self._vocabulary = _table(known, np.arange(len(known)))

    def __len__(self) -> int:
        return len(self.tasks)

    def copies(self, texts: pl.Series) -> pl.DataFrame:
        """(evaluation, how) of each text: the task that it repeats and `exact`, `ngram` or `neighbour`; null if none."""
        from speed_assets.domain import kernels

        limits = self._limits
        text = buffer(texts)
        found = np.full(len(texts), -1, np.int64)
        how = np.zeros(len(texts), np.int8)
        longest_text = int(np.diff(self._starts).max(initial=0))

        def look(first: int, past: int) -> None:
            longest = int(np.diff(text.offsets[first : past + 1]).max(initial=0))
            kernels.find_copies(
                *text, first, past, longest, fold_table(), EXACT_WORDS_LEAST, limits.ngram, limits.containment,
                limits.words_min, 2.0 if limits.neighbour is None else limits.neighbour,
                *self._whole, self._run_bits, *self._runs, *self._vocabulary, self._posting_starts, self._postings,
                self._starts, self._words, longest_text, _CANDIDATES, found, how,
            )  # fmt: skip

        if len(self):
            in_parallel(look, len(texts))
        owner = pl.Series(found, dtype=pl.Int64).to_frame("at").select(pl.when(pl.col("at") >= 0).then("at"))["at"]
        codes = pl.Series(how, dtype=pl.Int8)
        return pl.DataFrame(
            {
                "evaluation": self.tasks.gather(owner),
                "how": codes.replace_strict(HOW, default=None, return_dtype=pl.String),
            }
        )

    def copies_in(self, rows: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
        """(evaluation, how) of each row: of the first of its fields that repeats a text; null if none does."""
        found = [self.copies(rows[field]) for field in fields]
        first = [pl.coalesce(frame[column] for frame in found).alias(column) for column in ("evaluation", "how")]
        return pl.select(first)

    def _table(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        from speed_assets.domain import kernels

        room = max(len(self._words), len(self))
        runs, owners = np.empty(room, np.uint64), np.empty(room, np.int64)
        count = kernels.runs_in(self._starts, self._words, width, runs, owners)
        return _table(runs[:count], owners[:count])


def _table(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An open table for `kernels.look_up`, at most half full."""
    from speed_assets.domain import kernels

    size = 1 << max(4, int(2 * len(keys)).bit_length())
    table = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    kernels.put_all(*table, keys, values)
    return table
