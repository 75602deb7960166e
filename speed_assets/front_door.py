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


def open_release(name: str | os.PathLike[str], home: Path | None = None) -> Release:
    """A release by its folder, or by how its fingerprint begins.

    Args:
        name: the folder of a release at any place, or the first characters of the fingerprint of one in `home`.
        home: the home to search; None takes `SPEED_HOME`.

    Returns:
        The release: its `path` holds `model/` and `data/`; `table` and `json` read its files.

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
        TypeError: when a text is no string.
    """
    from speed_assets.domain.contamination import EvaluationIndex
    from speed_assets.domain.contamination import Limits as ContaminationLimits

    if limits is None:
        from speed_assets.recipe import Contamination

        names = ("ngram", "containment", "words_min", "neighbour")
        limits = ContaminationLimits(**{name: getattr(Contamination(), name) for name in names})
    return EvaluationIndex(evaluation, limits).copies(pl.Series(texts, dtype=pl.String))
