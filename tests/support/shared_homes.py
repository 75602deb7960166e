"""Homes that share a store, and an artifact to send between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from resources.store.bucket import bucket_at
from resources.store.shared_store import SharedStore, store_of
from resources.store.store import UNHASHED_DIR, Artifact, Store

FINGERPRINT = "f" * 64


def machine(home: Path) -> SharedStore:
    """The store as a process of its own on another machine sees it."""
    bucket_at.cache_clear()
    store = store_of(home).open()
    assert isinstance(store, SharedStore)
    return store


def make(store: Store, note: str = "fast", rows: int = 3, fingerprint: str = FINGERPRINT, **more: Any) -> Artifact:
    """An artifact with a table, a folder, an empty file and a note aside, which is not the same each time."""
    with store.building(fingerprint) as work:
        pl.DataFrame({"row": range(rows)}).write_parquet(work / "data.parquet")
        for name, text in {"model/weights": "w" * 1000, "model/empty": "", f"{UNHASHED_DIR}/log": note}.items():
            (work / name).parent.mkdir(exist_ok=True)
            (work / name).write_text(text)
        settings: dict[str, Any] = {"partition": None, "metadata": {"note": note}, "lineage": {}, **more}
        artifact = store.seal("topics", fingerprint, work, **settings)
    store.share(artifact)
    return artifact


def objects(store: SharedStore) -> dict[str, int]:
    folders = ("artifacts", "manifests", "checks")
    return {f"{f}/{name}": size for f in folders for name, size in store.bucket.sizes(f).items()}


def contents(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
