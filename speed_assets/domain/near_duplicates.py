"""Near-duplicate rows: exact ones by folded text, near ones by MinHash over character shingles, each pair verified.

Which row survives depends on quality and row id alone, not on the order of the rows.

Belongs here: finding rows that repeat others. Not here: thresholds (recipe) and what happens to the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.folding import Buffer, fold_table, in_parallel, text_buffer

FOUND_AT_THRESHOLD = 0.98
"""Share of pairs exactly at the threshold that share a band; the bands are as deep as that allows."""
_COMMON_SLOTS = 1 << 21  # counters of shingles; two in one slot count as one, which costs a few rare shingles
_COMMON_SAMPLE = 20_000  # rows counted
_COMMON_LEAST = 100  # rows: fewer that agree are a cluster of repeats, no boilerplate
_INFORMATIVE_LEAST = 16  # shingles that must be left without boilerplate
_NEAREST = 4  # rows of its bucket that a row is compared with, and with the best one
_TRIES = 48  # comparisons of one row in all its bands: bounds the time whatever the texts
_PARTNERS = 6  # rows that one row resembles, at first


@dataclass(frozen=True, slots=True)
class Similarity:
    """When two texts are near-duplicates."""

    shingle: int
    """Characters."""
    permutations: int
    jaccard: float
    """0..1, over all shingles of the folded texts and over those that are no boilerplate: both must reach it."""
    boilerplate: float
    """Shingles in at least this share of the rows are boilerplate."""
    short_words: int = 0
    """Texts of fewer words are short: one other word makes another text of them."""
    short_jaccard: float = 1.0
    """What a pair with a short text must reach instead of `jaccard`, where it is more."""
    part_jaccard: float = 0.0
    """What the parts of two texts must reach besides, such as the queries of two rows; parts that are empty are not asked."""
    same_rest_jaccard: float = 0.0
    """The same where the texts without their parts are equal: other questions on one paragraph."""

    @property
    def bands(self) -> tuple[int, int]:
        """(bands, hashes in each)."""
        best = 1
        for depth in range(1, self.permutations + 1):
            bands = self.permutations // depth
            if 1 - (1 - self.jaccard**depth) ** bands >= FOUND_AT_THRESHOLD:
                best = depth
        return self.permutations // best, best


class NearDuplicates:
    """An index of rows that grows batch by batch."""

    def __init__(self, similarity: Similarity) -> None:
        self.similarity = similarity
        self._rows = pl.DataFrame(
            schema={"row_id": pl.String, "quality": pl.Float64, "text": pl.String, "part": pl.String}
        )
        self._exact = np.empty(0, np.uint64)
        self._bands = np.empty((0, similarity.bands[0]), np.uint32)
        self._pairs = np.empty((0, 2), np.int64)
        self._common = np.zeros(_COMMON_SLOTS // 8, np.uint8)
        self._counted = 0

    def __len__(self) -> int:
        return self._rows.height

    def add(
        self, row_ids: pl.Series, texts: pl.Series, quality: pl.Series | None = None, parts: pl.Series | None = None
    ) -> None:
        """Sketch new rows and compare them with each other and with all rows before them.

        Of two rows that resemble each other the one of higher `quality` survives, then the one of lower row id. Boilerplate is
        counted again whenever the index has doubled.

        Args:
            row_ids: Unique over all calls.
            texts: What is compared.
            quality: Higher is better; None: all are equal.
            parts: Beginnings of the texts, which must be similar too (`Similarity.part_jaccard`); null sets no condition.

        Raises:
            ValueError: A row id is there twice.
        """
        from speed_assets.domain import kernels

        old = len(self)
        batch = pl.DataFrame(
            {
                "row_id": row_ids.cast(pl.String),
                "quality": pl.zeros(len(row_ids), pl.Float64, eager=True) if quality is None else quality,
                "text": texts,
                "part": pl.repeat(None, len(row_ids), dtype=pl.String, eager=True) if parts is None else parts,
            },
            schema_overrides={"quality": pl.Float64, "text": pl.String, "part": pl.String},
        )
        self._rows = pl.concat([self._rows, batch], rechunk=True) if old else batch
        if self._rows["row_id"].n_unique() < len(self):
            raise ValueError("row ids are not unique: give every row one of its own")
        if not len(self):
            return
        text = text_buffer(self._rows["text"])
        order = self._order()
        if len(self) >= 2 * self._counted:
            self._count_common(text, order)
            old = 0
        _, depth = self.similarity.bands
        self._exact = _grown(self._exact[:old], len(self))
        self._bands = _grown(self._bands[:old], len(self))

        def sketch(first: int, past: int) -> None:
            longest = _longest(text, first + old, past + old)
            kernels.sketch(
                *text, first + old, past + old, longest, fold_table(), self.similarity.shingle, self._common,
                self.similarity.permutations, depth, _INFORMATIVE_LEAST, self._exact, self._bands,
            )  # fmt: skip

        in_parallel(sketch, len(self) - old)
        self._compare(text, order, old)

    def repeats(self) -> pl.DataFrame:
        """(row_id, repeats) of every row that repeats one that survives, which `repeats` names."""
        if not len(self):
            return pl.DataFrame(schema={"row_id": pl.String, "repeats": pl.String})
        order = self._order()
        twin = self._twins(order)
        of = _survivors(order, self._pairs)
        of = np.where(twin >= 0, np.where(of[twin] >= 0, of[twin], twin), of)
        ids = self._rows["row_id"]
        gone = np.flatnonzero(of >= 0)
        return pl.DataFrame({"row_id": ids.gather(gone), "repeats": ids.gather(of[gone])})

    def _order(self) -> np.ndarray:
        """Rows from the best to the worst."""
        return _ranked(self._rows)

    def _twins(self, order: np.ndarray) -> np.ndarray:
        """Of each row the best one with the same folded text, or -1 where it is that itself, or has no words."""
        ranked = pl.DataFrame({"exact": self._exact[order], "row": order})
        best = ranked.select("row", pl.col("row").first().over("exact").alias("best"))
        twin = np.empty(len(self), np.int64)
        twin[best["row"].to_numpy()] = best["best"].to_numpy()
        return np.where((twin == np.arange(len(self))) | (self._exact == 0), -1, twin)

    def _count_common(self, text: Buffer, order: np.ndarray) -> None:
        from speed_assets.domain import kernels

        self._counted = len(self)
        self._pairs = self._pairs[:0]
        if len(self) < _COMMON_LEAST:
            return
        # Drawn, not every n-th: rows that come in turns, topic by topic, would be missed completely.
        draws = np.random.default_rng(seed_for(0, "common shingles") % 2**32)
        sample = draws.choice(order, min(len(self), _COMMON_SAMPLE), replace=False)
        counts = np.zeros(_COMMON_SLOTS, np.int32)
        last = np.full(_COMMON_SLOTS, -1, np.int64)
        kernels.count_shingles(*text, sample, fold_table(), self.similarity.shingle, counts, last)
        least = max(_COMMON_LEAST, self.similarity.boilerplate * len(sample))
        self._common = np.packbits(counts >= least, bitorder="little")

    def _compare(self, text: Buffer, order: np.ndarray, old: int) -> None:
        from speed_assets.domain import kernels

        fresh = np.arange(len(self)) >= old
        twin = self._twins(order)
        single = order[twin[order] < 0]
        ranks = np.arange(len(single), dtype=np.uint64)
        tries = np.zeros(len(self), np.int32)
        words = self._rows["text"].str.count_matches(r"\S+").fill_null(0).to_numpy()
        strict = max(self.similarity.short_jaccard, self.similarity.jaccard)
        jaccard = np.where(words < self.similarity.short_words, strict, self.similarity.jaccard)
        part = text_buffer(self._rows["part"])
        rests = self._rows.select(
            pl.col("text")
            .str.slice(pl.col("part").str.len_chars())
            .str.strip_chars()
            .str.to_lowercase()
            .hash()
            .fill_null(0)
        )["text"].to_numpy()
        partners = np.full((len(self), _PARTNERS), -1, np.int32)
        shingles = kernels.Shingles(fold_table(), self.similarity.shingle, self._common, _INFORMATIVE_LEAST)
        part_jaccard, same_rest = float(self.similarity.part_jaccard), float(self.similarity.same_rest_jaccard)
        limits = kernels.Limits(jaccard, part_jaccard, same_rest, _NEAREST, _TRIES)
        for band in range(self._bands.shape[1]):
            packed = (self._bands[single, band].astype(np.uint64) << np.uint64(32)) | ranks
            packed = packed[packed > np.uint64(0xFFFFFFFF)]
            packed.sort()

            def compare(first: int, past: int, packed: np.ndarray = packed) -> None:
                kernels.compare_buckets(
                    text, part, rests, max(text.longest, part.longest), shingles, limits,
                    packed, first, past, single, fresh, tries, partners,
                )  # fmt: skip

            in_parallel(compare, len(packed))
        row, place = np.nonzero(partners >= 0)
        found = np.stack([row, partners[row, place]], axis=1).astype(np.int64)
        self._pairs = np.concatenate([self._pairs, found])


def near_duplicates(
    row_ids: pl.Series,
    texts: pl.Series,
    similarity: Similarity,
    quality: pl.Series | None = None,
    parts: pl.Series | None = None,
) -> pl.DataFrame:
    """The rows whose text repeats that of a better one.

    Args:
        row_ids: Unique.
        texts: What is compared.
        similarity: When two texts are near-duplicates.
        quality: Higher is better; None: all are equal.
        parts: Beginnings of the texts, which must be similar too (`Similarity.part_jaccard`); null sets no condition.

    Returns:
        (row_id, repeats) of each row to remove, and the row that it repeats.

    Raises:
        ValueError: A row id is there twice.
    """
    index = NearDuplicates(similarity)
    index.add(row_ids, texts, quality, parts)
    return index.repeats()


def repeats_by_pairs(rows: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The rows that repeat a better one, by given pairs.

    Pairs with a missing row are ignored. A row is removed only for resembling a row that stays.

    Args:
        rows: row_id, quality (higher is better) and place.
        pairs: Places a and b of rows that resemble each other.

    Returns:
        (row_id, repeats) of each row to remove, and the row that it repeats.
    """
    place = rows.select("place", pl.int_range(pl.len()).alias("row"))
    known = pairs.join(place, left_on="a", right_on="place").join(place, left_on="b", right_on="place", suffix="_b")
    of = _survivors(_ranked(rows), known.select("row", "row_b").to_numpy().reshape(-1, 2).astype(np.int64))
    gone = np.flatnonzero(of >= 0)
    return pl.DataFrame({"row_id": rows["row_id"].gather(gone), "repeats": rows["row_id"].gather(of[gone])})


def _ranked(rows: pl.DataFrame) -> np.ndarray:
    """Rows from the best to the worst."""
    ranked = rows.select("row_id", "quality", pl.int_range(pl.len()).alias("row"))
    return ranked.sort(["quality", "row_id"], descending=[True, False], nulls_last=True)["row"].to_numpy()


def _survivors(order: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Of each row the better one that it resembles and that stays, or -1 where the row stays itself."""
    from speed_assets.domain import kernels

    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(len(order) + 1))
    of = np.full(len(order), -1, np.int64)
    kernels.find_best_repeated(order, starts, np.ascontiguousarray(both[:, 1]), of)
    return of


def _grown(known: np.ndarray, rows: int) -> Any:
    grown = np.empty((rows, *known.shape[1:]), known.dtype)
    grown[: len(known)] = known
    return grown


def _longest(text: Buffer, first: int, past: int) -> int:
    return int(np.diff(text.offsets[first : past + 1]).max(initial=0))
