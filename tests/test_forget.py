"""Which artifacts and releases hold a document, and what is left of it once it is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from resources.store.store import Artifact, Store
from speed_assets.domain.fingerprints import digest
from speed_assets.orchestration.forget import forget
from speed_assets.recipe import Recipe, RecipeError
from tests.support.reading_teacher import write_corpus
from tests.test_corpus_loop import recipe_of
from tests.test_grounded_rows import passages_of


def sealed(
    store: Store, asset: str, inputs: Mapping[str, str], table: pl.DataFrame | None = None, **metadata: object
) -> Artifact:
    fingerprint = digest([asset, dict(inputs)])
    with store.building(fingerprint) as out:
        (out / "model.bin").write_text(asset)
        if table is not None:
            table.write_parquet(out / "data.parquet")
        lineage = {"inputs": dict(inputs)}
        return store.seal(asset, fingerprint, out, partition=None, metadata=metadata, lineage=lineage)


def test_every_artifact_and_release_that_held_a_document_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "home").open()
    table = pl.DataFrame(
        {
            "document_id": ["a.md", "b.md"],
            "text": ["The first text.", "Another text."],
            "alignment": [True, False],
            "synthesis": [False, True],
        }
    )
    parts = {"alignment": "part-of-a", "synthesis": "part-of-b"}
    sealed(store, "passages", {}, table, parts=parts)
    seeds = sealed(store, "seed_data", {"passages": "part-of-a"}, pl.DataFrame({"positive": ["The first text."]}))
    junior = sealed(store, "junior_model", {"seed_data": seeds.digest})
    sealed(
        store, "senior_data", {"passages": "part-of-b"}, pl.DataFrame({"prompt": ["<passage>Another text.</passage>"]})
    )
    sealed(store, "release", {"embedding_model": junior.digest})
    recipe = recipe_of("http://127.0.0.1:1/v1", tmp_path)
    held = {one.name: (one.rows, one.made_from) for one in forget(recipe, store.home, "a.md").held}
    assert held == {
        "passages": (1, ()),
        "seed_data": (1, ("passages",)),
        "junior_model": (0, ("seed_data",)),
        "release": (0, ("junior_model",)),
    }
    assert {one.name for one in forget(recipe, store.home, "b.md").held} == {"passages", "senior_data"}
    with pytest.raises(RecipeError, match="no passage of a document"):
        forget(recipe, store.home, "c.md")


def test_a_forgotten_document_is_in_no_passage(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 12)
    recipe = recipe_of("http://127.0.0.1:1/v1", tmp_path)
    before = passages_of(recipe, tmp_path / "one").tables["data"]
    assert recipe.corpus is not None
    less = recipe.corpus.model_copy(update={"forget": ("note003.md",)})
    without = Recipe.model_validate(recipe.model_dump() | {"corpus": less.model_dump()})
    run = passages_of(without, tmp_path / "two")
    after = run.tables["data"]
    texts = before.filter(document_id="note003.md")["text"]
    assert not after["text"].is_in(texts.implode()).any()
    assert run.tables["quarantine"].filter(reason="forgotten")["detail"].to_list() == [
        "note003.md: corpus.forget names it"
    ]
    assert after["passage_id"].is_in(before["passage_id"].implode()).all()
