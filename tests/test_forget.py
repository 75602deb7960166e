"""Which artifacts and releases hold a document, and what is left of it once it is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from resources.store.store import Artifact, Store
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import PASSAGES
from speed_assets.domain.rows import QUARANTINE_SCHEMA
from speed_assets.orchestration.forget import forget
from speed_assets.recipe import Recipe, RecipeError
from tests.support.reading_teacher import write_corpus
from tests.test_corpus_loop import recipe_of
from tests.test_grounded_rows import passages_of


def sealed(
    store: Store,
    asset: str,
    inputs: Mapping[str, str],
    table: pl.DataFrame | None = None,
    quarantine: pl.DataFrame | None = None,
    **metadata: object,
) -> Artifact:
    fingerprint = digest([asset, dict(inputs)])
    with store.building(fingerprint) as out:
        (out / "model.bin").write_text(asset)
        if table is not None:
            table.write_parquet(out / "data.parquet")
        if quarantine is not None:
            quarantine.write_parquet(out / "quarantine.parquet")
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
    with pytest.raises(RecipeError, match="no text of a document"):
        forget(recipe, store.home, "c.md")


def in_quarantine(pieces: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(row_id, PASSAGES, "grounded", reason, "file: why", raw) for row_id, reason, raw in pieces],
        schema=QUARANTINE_SCHEMA,
        orient="row",
    )


def test_a_document_whose_text_is_in_the_quarantine_alone_is_found_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "home").open()
    table = pl.DataFrame({"document_id": ["b.md"], "text": ["The text of two documents."], "synthesis": [True]})
    lost = in_quarantine(
        [
            ("a.md#0", "too_short", "Yes."),
            ("twin.md#0", "duplicate", "The text of two documents."),
            ("twin.md#1", "too_short", "Yes."),
            ("gone.md#0", "forgotten", ""),
        ]
    )
    made = sealed(store, PASSAGES, {}, table, lost, parts={"synthesis": "part-of-b"})
    sealed(store, "mined_negatives", {PASSAGES: made.digest}, pl.DataFrame({"negative": ["Yes. And no."]}))
    rows = sealed(
        store, "senior_data", {PASSAGES: "part-of-b"}, pl.DataFrame({"positive": ["The text of two documents."]})
    )
    sealed(store, "senior_model", {"senior_data": rows.digest})
    sealed(store, "quarantine", {PASSAGES: made.digest}, lost)
    recipe = recipe_of("http://127.0.0.1:1/v1", tmp_path)
    short = forget(recipe, store.home, "a.md")
    assert (short.passages, short.quarantined) == (0, 1)
    assert {one.name: one.rows for one in short.held} == {PASSAGES: 1, "quarantine": 1}, (
        "a short text is not looked for"
    )
    twin = forget(recipe, store.home, "twin.md")
    assert (twin.passages, twin.quarantined) == (0, 2)
    held = {one.name: one.rows for one in twin.held}
    # The other document's rows hold the same text; what was made from them does, too.
    assert held == {PASSAGES: 3, "quarantine": 2, "senior_data": 1, "senior_model": 0, "mined_negatives": 0}
    with pytest.raises(RecipeError, match="no text of a document"):
        forget(recipe, store.home, "gone.md")


def test_rehearsals_are_searched_and_other_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    store = Store(home / "rehearsals" / "own").open()
    made = sealed(store, PASSAGES, {}, pl.DataFrame({"document_id": ["a.md"], "text": ["The first text."]}))
    for folder in ("dagster/history", "reports"):
        (home / folder).mkdir(parents=True)
    recipe = recipe_of("http://127.0.0.1:1/v1", tmp_path)
    found = forget(recipe, home, "a.md")
    assert [one.path for one in found.held] == [str(made.path)]
    history, reports, work = found.elsewhere
    assert history.startswith(f"{home}/dagster/history: events keep the first rows of each table")
    assert (reports.split(":")[0], work.split(":")[0]) == (f"{home}/reports", f"{home}/work")
    monkeypatch.setenv("SPEED_DAGSTER_POSTGRES_URL", "postgresql://host/database")
    monkeypatch.setenv("SPEED_STORE_URL", "file:///mnt/shared")
    history, shared, *_ = forget(recipe, home, "a.md").elsewhere
    assert history.startswith("the history of runs in SPEED_DAGSTER_POSTGRES_URL")
    assert shared.startswith("the store in SPEED_STORE_URL")


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
