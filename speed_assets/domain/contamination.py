"""Rows that hold evaluation text: exact normalized match, and n-gram containment.

Belongs here: telling how much of a row stands in an evaluation set. Not here: which sets count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from speed_assets.domain.near_duplicates import normalize


class EvaluationIndex:
    """Normalized evaluation texts and their word n-grams, by task."""

    def __init__(self, texts: Mapping[str, Iterable[str]], ngram: int) -> None:
        self._n = ngram
        self._exact: dict[str, str] = {}
        self._grams: dict[tuple[str, ...], str] = {}
        for task, group in texts.items():
            for text in group:
                plain = normalize(text)
                if len(plain.split()) >= 3:  # labels and single words are no contamination
                    self._exact.setdefault(plain, task)
                for gram in self._ngrams(plain):
                    self._grams.setdefault(gram, task)

    def _ngrams(self, plain: str) -> list[tuple[str, ...]]:
        words = plain.split()
        return [tuple(words[i : i + self._n]) for i in range(len(words) - self._n + 1)]

    def found_in(self, text: str, containment: float) -> str | None:
        """The evaluation task that `text` repeats: exactly, or with at least this share of its n-grams."""
        plain = normalize(text)
        if plain in self._exact:
            return self._exact[plain]
        grams = self._ngrams(plain)
        hits = [self._grams[gram] for gram in grams if gram in self._grams]
        return hits[0] if grams and len(hits) >= containment * len(grams) and hits else None
