"""Passages that several retrievers find for queries: BM25, and embedding models by the cosine of their vectors.

Every vector of a passage is compared with every query, in blocks (`docs/architecture/corpus.md` says up to how many passages that
is good for). Belongs here: searching. Not here: pools and judgements (`domain/pooling.py`).
"""

from __future__ import annotations

import re
import time
from typing import Any

import bm25s
import numpy as np
import polars as pl

from speed_assets.domain.pooling import RETRIEVED
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Params, PoolPassages, Retriever
from speed_assets.workers.served_model import ServedModel

BM25 = "bm25"
BLOCK = 4096
"""Passages that are embedded and compared at once (ours)."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write the `depth` passages that each retriever ranks highest for each query to `out`, with the columns of `RETRIEVED`.

    Args:
        params: of a job of kind `PoolPassages`.
        report: gets the progress, in retrievers.

    Returns:
        {"queries", "passages", "seconds"}.
    """
    job = PoolPassages.read(params)
    started = time.monotonic()
    queries, passages = pl.read_parquet(job.queries), pl.read_parquet(job.passages)
    depth, total = min(job.depth, passages.height), job.bm25 + len(job.models)
    found = [pl.DataFrame(schema=RETRIEVED)]
    if queries.height and depth:
        if job.bm25:
            found.append(_named(BM25, by_words(queries["query"], passages["text"], depth), queries, passages))
            report(1, total, "retrievers")
        for number, model in enumerate(job.models, 1 + job.bm25):
            found.append(_named(model.name, _by_vectors(model, queries, passages, depth), queries, passages))
            report(number, total, "retrievers")
    pl.concat(found).write_parquet(job.out)
    return {
        "queries": queries.height,
        "passages": passages.height,
        "seconds": round(time.monotonic() - started, 3),
    }


def _named(name: str, places: np.ndarray, queries: pl.DataFrame, passages: pl.DataFrame) -> pl.DataFrame:
    """`places` (queries, depth) of passages, the best first, -1 for none, as rows of `RETRIEVED`."""
    query, rank = np.nonzero(places >= 0)
    return pl.DataFrame(
        {
            "row_id": queries["row_id"].gather(query),
            "passage_id": passages["passage_id"].gather(places[query, rank]),
            "retriever": [name] * len(query),
            "rank": rank + 1,
        },
        schema=RETRIEVED,
    )


def by_words(queries: pl.Series, texts: pl.Series, depth: int) -> np.ndarray:
    """Places of the texts that BM25 ranks highest for each query, (queries, depth); -1 where fewer share a word with it.

    Words are those of the lexical baseline (`encoders.words`): no stemmer, no stop words, so no language is assumed.

    Args:
        queries: texts.
        texts: that are searched.
        depth: at most as many as there are texts.
    """
    indexed = [_words(text) for text in texts]
    known = {word for words in indexed for word in words}
    places = np.full((len(queries), depth), -1, dtype=np.int64)
    # A query without a word that any text has, an index cannot be asked for.
    asked = [(row, found) for row, text in enumerate(queries) if (found := [w for w in _words(text) if w in known])]
    if not asked:
        return places
    index = bm25s.BM25()
    index.index(indexed, show_progress=False)
    found, scores = index.retrieve([words for _, words in asked], k=depth, show_progress=False)
    places[[row for row, _ in asked]] = np.where(np.asarray(scores) > 0, np.asarray(found), -1)
    return places


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _by_vectors(wanted: Retriever, queries: pl.DataFrame, passages: pl.DataFrame, depth: int) -> np.ndarray:
    """Places of the passages that are nearest to each query, (queries, depth)."""
    model = ServedModel(wanted.path, wanted.revision)
    vectors = np.zeros((queries.height, model.width), dtype=np.float32)
    for task in queries["task"].unique(maintain_order=True):
        of_task = (queries["task"] == task).arg_true().to_numpy()
        shown = model.shown(queries["query"].gather(of_task).to_list(), "query", task)
        vectors[of_task] = model.encode(shown, wanted.batch_size)
    vectors = unit(vectors)
    best = Nearest(queries.height, depth)
    for start in range(0, passages.height, BLOCK):
        shown = model.shown(passages["text"].slice(start, BLOCK).to_list(), "document")
        best.add(vectors @ unit(model.encode(shown, wanted.batch_size)).T, start)
    return best.places


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return scaled


class Nearest:
    """The most similar places for each query, over blocks of them."""

    def __init__(self, queries: int, depth: int) -> None:
        self.places = np.full((queries, depth), -1, dtype=np.int64)
        """(queries, depth), the most similar first; -1 until as many were added."""
        self._scores = np.full((queries, depth), -np.inf, dtype=np.float32)

    def add(self, similarities: np.ndarray, start: int) -> None:
        """Take in a block.

        Args:
            similarities: (queries, block).
            start: the place of its first column.
        """
        depth = self.places.shape[1]
        scores, inside = similarities.astype(np.float32, copy=False), np.arange(similarities.shape[1])[None, :]
        if similarities.shape[1] > depth:  # sorting whole blocks would take ten times as long
            inside = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
            scores = np.take_along_axis(scores, inside, axis=1)
        scores = np.concatenate([self._scores, scores], axis=1)
        places = np.concatenate([self.places, np.broadcast_to(inside + start, (len(scores), inside.shape[1]))], axis=1)
        order = np.lexsort((places, -scores), axis=1)[:, :depth]
        self._scores = np.take_along_axis(scores, order, axis=1)
        self.places = np.take_along_axis(places, order, axis=1)
