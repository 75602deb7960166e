"""Public functions for programs that import `speed_assets`; each combines several modules.

Belongs here: short ways to parts of the product. Not here: the parts themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from resources.releases.releases import Release
    from speed_assets.domain.contamination import Limits
    from speed_assets.domain.near_duplicates import Similarity
    from speed_assets.domain.statistics import Difference


def open_release(name: str | os.PathLike[str], home: Path | None = None) -> Release:
    """A release by its folder, or by how its fingerprint begins.

    Args:
        name: the folder of a release at any place, or the first characters of the fingerprint of one in `home`.
        home: the home to search; None takes `SPEED_HOME`.

    Returns:
        The release: its `path` holds `model/`, and `data/` where any row may be published; `table` and `json` read its files.

    Raises:
        StoreError: when there is no such release, or several.
    """
    from resources.releases import releases
    from resources.store.home import speed_home
    from resources.store.shared_store import store_of

    return releases.find_release(store_of(home or speed_home()), os.fspath(name))


def contamination(
    texts: Sequence[str], evaluation: Mapping[str, Iterable[str]], limits: Limits | None = None
) -> pl.DataFrame:
    """Find texts of evaluation sets in texts: equal after folding, in runs of words, or as edited copies.

    Args:
        texts: the texts to search.
        evaluation: texts by the name of their evaluation set.
        limits: when a text repeats another; None takes the defaults of a recipe's `final_triplets.contamination`.

    Returns:
        One row a text: `evaluation`, the set that it repeats, and `how`, one of `exact`, `ngram` and `neighbour`; null where
        it repeats none.

    Raises:
        TypeError: when a text is no string, or the texts of a set are one string.
    """
    if one := [name for name, of_set in evaluation.items() if isinstance(of_set, str)]:
        raise TypeError(f"the texts of {one[0]!r} are one string: give a list of texts")
    from speed_assets.domain.contamination import EvaluationIndex
    from speed_assets.domain.contamination import Limits as ContaminationLimits

    if limits is None:
        from speed_assets.recipe import Contamination

        names = ("ngram", "containment", "words_min", "neighbour")
        limits = ContaminationLimits(**{name: getattr(Contamination(), name) for name in names})
    return EvaluationIndex(evaluation, limits).copies(pl.Series(texts, dtype=pl.String))


def near_duplicates(
    texts: Sequence[str], quality: Sequence[float] | None = None, similarity: Similarity | None = None
) -> pl.DataFrame:
    """Find texts that repeat a better one: equal, or with nearly the same words.

    Texts are compared by MinHash sketches of their shingles.

    Args:
        texts: the texts to search.
        quality: of two that resemble each other the one of higher quality stays; None takes the first.
        similarity: when two texts are near-duplicates; None takes the defaults of a recipe's `final_triplets.near_duplicates`.

    Returns:
        One row a text, in their order: `repeats`, the place of the text that it repeats, null where it stays.

    Raises:
        TypeError: when a text is no string.
    """
    from speed_assets.domain.near_duplicates import Similarity as NearDuplicateLimits
    from speed_assets.domain.near_duplicates import near_duplicates as repeated_rows

    if similarity is None:
        from speed_assets.recipe import NearDuplicates

        names = ("shingle", "permutations", "jaccard", "boilerplate", "short_words", "short_jaccard")
        similarity = NearDuplicateLimits(**{name: getattr(NearDuplicates(), name) for name in names})
    places = pl.Series(
        [f"{place:012}" for place in range(len(texts))], dtype=pl.String
    )  # of equals the first one stays
    of_higher = None if quality is None else pl.Series(quality, dtype=pl.Float64)
    found = repeated_rows(places, pl.Series(texts, dtype=pl.String), similarity, of_higher)
    return (
        pl.DataFrame({"row_id": places})
        .join(found, on="row_id", how="left", maintain_order="left")
        .select(pl.col("repeats").cast(pl.Int64))
    )


def compare(ours: Sequence[float], theirs: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Difference:
    """Compare two models on the same samples: a paired bootstrap, as the release's gates use it.

    Args:
        ours: our model's score on each sample (each query, each pair).
        theirs: the other model's, of the same samples in the same order.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        The difference of the means: `value`, `error`, `interval(alpha)`, and `p_above(edge)`, the p-value of "the true
        difference is `edge` or less".

    Raises:
        ValueError: when the two sides differ in length, or have fewer than two samples.
    """
    import numpy as np

    from speed_assets.domain.statistics import Part
    from speed_assets.domain.statistics import compare as compare_trainings

    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"{len(ours)} and {len(theirs)} scores: give at least two, of the same samples on both sides")
    names = tuple(map(str, range(len(ours))))
    sides = [{"": Part("mean", names, np.asarray(side, np.float64))} for side in (ours, theirs)]
    return compare_trainings("", sides[:1], sides[1:], resamples=resamples, seed=seed, noise=False)
