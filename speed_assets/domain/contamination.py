"""Rows that contain evaluation text: equal after folding, in runs of words, or as an edited copy.

An edited copy is found by its words: their longest common subsequence with an evaluation text of about the same
length. Candidates come from the rarest words of the row, so that none is missed.

Belongs here: finding the evaluation text that a row repeats. Not here: which sets count (recipe), reading them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from speed_assets.domain.folding import fold_table, in_parallel, text_buffer

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
    """Share of the row's runs that occur in the sets, or of an evaluation text's runs that occur in the row."""
    words_min: int
    """Shorter texts are only compared as complete texts: one other word makes another text of them."""
    neighbour: float | None
    """Share of the words of the longer text, in the same order, that an edited copy has; None skips this test."""


class EvaluationIndex:
    """An index of the texts of evaluation sets, by task."""

    def __init__(self, texts: Mapping[str, Iterable[str]], limits: Limits) -> None:
        from speed_assets.domain import kernels

        columns = [pl.Series(group, dtype=pl.String).unique(maintain_order=True) for group in texts.values()]
        owners = [pl.repeat(task, len(column), eager=True) for task, column in zip(texts, columns, strict=True)]
        self.tasks = pl.concat([pl.Series(dtype=pl.String), *owners])
        text = text_buffer(pl.concat([pl.Series(dtype=pl.String), *columns]))
        counts = np.empty(len(self.tasks), np.int64)
        kernels.count_words(*text, fold_table(), counts)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        words = np.empty(starts[-1], np.uint64)
        kernels.words_in(*text, fold_table(), starts, words)
        runs = _table_of_runs(starts, words, limits.ngram)
        run_bits = np.zeros(max(64, len(runs.keys)), np.uint8)
        kernels.set_key_bits(run_bits, runs.keys[runs.keys != 0])
        places = np.repeat(np.arange(len(self.tasks)), counts)
        known, ids = np.unique(words, return_inverse=True)
        once = np.unique(np.stack([ids, places], axis=1).reshape(-1, 2), axis=0)  # a text once per word
        self._sets = kernels.Sets(
            starts,
            words,
            _table_of_runs(starts, words, 0),
            runs,
            run_bits,
            _open_table(known, np.arange(len(known))),
            np.searchsorted(once[:, 0], np.arange(len(known) + 1)),
            np.ascontiguousarray(once[:, 1]),
            int(counts.max(initial=0)),
        )
        self._copy_limits = kernels.CopyLimits(
            EXACT_WORDS_LEAST,
            limits.ngram,
            float(limits.containment),
            limits.words_min,
            2.0 if limits.neighbour is None else float(limits.neighbour),
            _CANDIDATES,
        )

    def __len__(self) -> int:
        return len(self.tasks)

    def copies(self, texts: pl.Series) -> pl.DataFrame:
        """Find the evaluation text that each text repeats.

        Args:
            texts: Any texts.

        Returns:
            (evaluation, how) of each text: the task, and `exact`, `ngram` or `neighbour`; null if it repeats none.
        """
        from speed_assets.domain import kernels

        text = text_buffer(texts)
        found = np.full(len(texts), -1, np.int64)
        how = np.zeros(len(texts), np.int8)

        def find(first: int, past: int) -> None:
            longest = int(np.diff(text.offsets[first : past + 1]).max(initial=0))
            kernels.find_copies(*text, first, past, longest, fold_table(), self._sets, self._copy_limits, found, how)

        if len(self):
            in_parallel(find, len(texts))
        owner = pl.Series(found, dtype=pl.Int64).to_frame("at").select(pl.when(pl.col("at") >= 0).then("at"))["at"]
        codes = pl.Series(how, dtype=pl.Int8)
        return pl.DataFrame(
            {
                "evaluation": self.tasks.gather(owner),
                "how": codes.replace_strict(HOW, default=None, return_dtype=pl.String),
            }
        )

    def copies_in(self, rows: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
        """Find the evaluation text that each row repeats.

        Args:
            rows: With these fields.
            fields: Tested in this order; the first one that repeats a text counts.

        Returns:
            (evaluation, how) of each row; null if no field repeats a text.
        """
        found = [self.copies(rows[field]) for field in fields]
        first = [pl.coalesce(frame[column] for frame in found).alias(column) for column in ("evaluation", "how")]
        return pl.select(first)


def _table_of_runs(starts: np.ndarray, words: np.ndarray, width: int) -> Any:
    """From the hash of each run of `width` words (0: of all words of a text) to its text, as `kernels.Table`."""
    from speed_assets.domain import kernels

    room = max(len(words), len(starts) - 1)
    runs, owners = np.empty(room, np.uint64), np.empty(room, np.int64)
    count = kernels.runs_in(starts, words, width, runs, owners)
    return _open_table(runs[:count], owners[:count])


def _open_table(keys: np.ndarray, values: np.ndarray) -> Any:
    """A `kernels.Table`, at most half full."""
    from speed_assets.domain import kernels

    size = 1 << max(4, int(2 * len(keys)).bit_length())
    table = kernels.Table(np.zeros(size, np.uint64), np.zeros(size, np.int64))
    kernels.fill_table(*table, keys, values)
    return table
