"""When two texts count as the same words: case, punctuation, spacing and invisible characters folded away.

Belongs here: the one table that says so, and texts as buffers for the compiled filters. Not here: the filters.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl

SPACE = 32
ALONE = 1 << 31
"""Set on characters that are words of their own, in scripts without spaces."""
_PLANE = 0x10000
_WITHOUT_SPACES = ((0x0E00, 0x0EFF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))


@lru_cache(maxsize=1)
def fold_table() -> np.ndarray:
    """What each character of the basic plane becomes: (65536,) uint32; 0 drops it, `SPACE` ends a word.

    Compatibility forms (full width, ligatures of one letter) become the plain character.
    """
    table = np.full(_PLANE, SPACE, np.uint32)
    for code in range(_PLANE):
        category = unicodedata.category(chr(code))
        if category[0] in "LNM":
            plain = unicodedata.normalize("NFKC", chr(code)).casefold()
            table[code] = ord(plain) if len(plain) == 1 and ord(plain) < _PLANE else code
        elif category in ("Cf", "Cs"):
            table[code] = 0
    for first, last in _WITHOUT_SPACES:
        letters = np.arange(first, last + 1)
        letters = letters[(table[letters] != SPACE) & (table[letters] != 0)]
        table[letters] |= ALONE
    return table


def fold(text: str) -> str:
    """The words of a text between single spaces, as the compiled filters see them.

    >>> fold("  Don't STOP\\u2014now!")
    'don t stop now'
    """
    table = fold_table()
    pieces = []
    for letter in text:
        code = ord(letter)
        folded = int(table[code]) if code < _PLANE else SPACE if 0x1F000 <= code < 0x20000 else code
        if folded:
            piece = chr(folded & ~ALONE)
            pieces.append(f" {piece} " if folded & ALONE else piece)
    return " ".join("".join(pieces).split())


class Buffer(NamedTuple):
    """Texts as one run of UTF-8 bytes: text i is `data[offsets[i]:offsets[i + 1]]`."""

    data: np.ndarray
    offsets: np.ndarray

    @property
    def longest(self) -> int:
        """Bytes of the longest text."""
        return int(np.diff(self.offsets).max(initial=0))


def text_buffer(texts: pl.Series) -> Buffer:
    """The texts of a column; null is the empty text."""
    arrow: Any = texts.cast(pl.String).fill_null("").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = arrow.buffers()
    shown = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    return Buffer(np.frombuffer(data, np.uint8) if data else np.zeros(1, np.uint8), shown)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def in_parallel(work: Callable[[int, int], None], rows: int, at_least: int = 2_000) -> None:
    """Call `work(first, past_last)` over pieces of 0..rows in threads; for kernels that release the lock."""
    workers = min(available_cores(), max(1, rows // at_least))
    if workers == 1:
        work(0, rows)
        return
    bounds = np.linspace(0, rows, workers * 4 + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))
