"""Homes and releases for hostile inputs.

Belongs here: what several files of this folder use. Not here: the inputs (the tables at the head of each file).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.store.store import Artifact, Store

FINGERPRINT = "a1" * 32


def make_release(store: Store, fingerprint: str = FINGERPRINT, name: str = "offline") -> Artifact:
    """A small sealed release."""
    with store.building(fingerprint) as work:
        (work / "model").mkdir()
        (work / "model" / "weights.bin").write_bytes(b"weights")
        (work / "recipe.json").write_text("{}")
        return store.seal(
            "release",
            fingerprint,
            work,
            partition=None,
            metadata={"number": 1, "rows_released": 3, "scores": {"sts": 0.5}},
            lineage={"recipe": {"name": name}, "inputs": {"embedding_model": "b" * 64}},
        )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of an empty home, which is also SPEED_HOME."""
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    return Store(tmp_path / "home").open()


@pytest.fixture
def release(store: Store) -> Artifact:
    """A valid release in that home."""
    return make_release(store)
