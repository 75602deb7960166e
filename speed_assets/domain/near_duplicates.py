"""Near-duplicate rows: exact ones by normalized text, near ones by MinHash over character shingles.

Belongs here: finding rows that say the same. Not here: thresholds (recipe) and what happens to the rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

_SPACE = re.compile(r"\W+")


def normalize(text: str) -> str:
    """Case, punctuation and spacing folded."""
    return _SPACE.sub(" ", text.casefold()).strip()


def near_duplicates(texts: Sequence[str], *, shingle: int, permutations: int, jaccard: float) -> list[int | None]:
    """For each text the index of the earlier text that it repeats, or None when it is new.

    `shingle` is in characters; a pair counts when its exact Jaccard similarity over shingles is at least
    `jaccard` (0..1). MinHash only proposes pairs.
    """
    first_of: dict[str, int] = {}
    repeats: list[int | None] = []
    index = MinHashLSH(threshold=jaccard, num_perm=permutations)
    shingles: dict[int, set[bytes]] = {}
    for position, text in enumerate(map(normalize, texts)):
        if text in first_of:
            repeats.append(first_of[text])
            continue
        pieces = {text[i : i + shingle].encode() for i in range(max(1, len(text) - shingle + 1))}
        signature = MinHash(num_perm=permutations, seed=1)
        signature.update_batch(list(pieces))
        match = next(
            (
                int(key)
                for key in sorted(index.query(signature), key=int)
                if _similar(pieces, shingles[int(key)], jaccard)
            ),
            None,
        )
        repeats.append(match)
        if match is None:
            first_of[text] = position
            shingles[position] = pieces
            index.insert(str(position), signature)
    return repeats


def _similar(a: set[bytes], b: set[bytes], jaccard: float) -> bool:
    common = len(a & b)
    return common >= jaccard * (len(a) + len(b) - common) - 1e-9
