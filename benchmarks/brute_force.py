"""Every passage compared with every query, as pools do, without an index: `python -m benchmarks.brute_force`.

Random unit vectors of 384 numbers (all-MiniLM-L6-v2's width) in the blocks of the worker, and BM25 over texts of 120 words that are
drawn as words of a language are (Zipf). Embedding is not in it: an index needs the same vectors. Belongs here: the times. Not here:
searching (`speed_assets/workers/pool_passages.py`).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import polars as pl

from speed_assets.workers.pool_passages import BLOCK, Nearest, by_words, unit

WIDTH = 384
DEPTH = 5
WORDS = 30_000


def vectors_s(passages: int, queries: int, repeats: int) -> dict[str, Any]:
    """Seconds of a search by vectors, the best of several, and megabytes of the passages' vectors."""
    rng = np.random.default_rng(0)
    found = unit(rng.normal(size=(passages, WIDTH)).astype(np.float32))
    asked = unit(rng.normal(size=(queries, WIDTH)).astype(np.float32))
    seconds = []
    for _ in range(repeats):
        started = time.monotonic()
        best = Nearest(queries, DEPTH)
        for start in range(0, passages, BLOCK):
            best.add(asked @ found[start : start + BLOCK].T, start)
        seconds.append(time.monotonic() - started)
    return {
        "passages": passages,
        "queries": queries,
        "seconds": round(min(seconds), 2),
        "megabytes": round(found.nbytes / 1e6),
    }


def words_s(passages: int, queries: int) -> dict[str, Any]:
    """Seconds of a search by words, the index included."""
    rng = np.random.default_rng(0)
    drawn = np.minimum(rng.zipf(1.3, size=(passages, 120)), WORDS)
    texts = pl.Series([" ".join(f"w{word}" for word in row) for row in drawn])
    asked = pl.Series([" ".join(f"w{word}" for word in row[:8]) for row in drawn[:queries]])
    started = time.monotonic()
    by_words(asked, texts, DEPTH)
    return {"passages": passages, "queries": queries, "seconds": round(time.monotonic() - started, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[200, 2_000])
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    sizes = [(passages, queries) for passages in args.passages for queries in args.queries]
    by_vectors = [vectors_s(*size, args.repeats) for size in sizes]
    by_word = [words_s(*size) for size in sizes if size[0] <= 50_000]
    print(json.dumps({"vectors": by_vectors, "words": by_word}))


if __name__ == "__main__":
    main()
