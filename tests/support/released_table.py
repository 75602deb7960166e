"""A release in little whose model is a table of random vectors: it opens and embeds as every other.

Belongs here: that one release. Not here: what tests do with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from resources.store.store import Artifact, Store
from tests.support.static_embedder import write_embedder

TEXTS = ("the kettle is on the fire", "a ladder stands in the attic", "the anchor is below the harbour bridge")


def released(home: Path, base: str, letter: str = "c", scale: float = 1.0) -> Artifact:
    """A release whose model is a table of random vectors."""
    from sentence_transformers import SentenceTransformer

    store = Store(home).open()
    with store.building(letter * 64) as work:
        model = SentenceTransformer(write_embedder(home.parent / "made"), device="cpu")
        model.prompts = {"query": "find: ", "document": ""}
        weights: Any = model[0]
        weights.embedding.weight.data[5:] *= scale
        weights.embedding.weight.data[: weights.embedding.weight.shape[0] // 3] *= -scale if scale != 1 else 1
        model.save_pretrained(str(work / "model"), create_model_card=False)
        (work / "data" / "retrieval").mkdir(parents=True)
        rows = pl.DataFrame({"query": ["kettle", "ladder"], "positive": list(TEXTS[:2])})
        rows.write_parquet(work / "data" / "retrieval" / "train.parquet")
        (work / "manifest.json").write_text(json.dumps({"artifacts": {}}))
        (work / "recipe.json").write_text(json.dumps({"embedding_model": {"base": base, "revision": None}}))
        return store.seal(
            "release", letter * 64, work, partition=None, metadata={}, lineage={"recipe": {"name": "tiny"}}
        )
