"""Objects of a shared store that are no files, or of another size than is stated: nothing waits for them, nothing fills the disk.

Belongs here: what stands in the place of an object. Not here: what a manifest states (`test_manifests.py`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.store.bucket import Bucket
from resources.store.shared_store import SharedStore
from tests.hostile.conftest import FINGERPRINT, make_release

KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "loop": lambda path: path.symlink_to(path),
    "dangling link": lambda path: path.symlink_to(path.with_name("absent")),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda path: path.touch(),
    "larger": lambda path: _sparse(path, 10_000_000_000),
}


def _sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def machine(folder: Path, name: str) -> SharedStore:
    (folder / "shared").mkdir(exist_ok=True)
    return SharedStore(folder / name, Bucket(f"file://{folder}/shared")).open()


@pytest.mark.parametrize("which", ["file", "manifest"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_object_costs_a_rebuild(tmp_path: Path, kind: str, which: str) -> None:
    first = machine(tmp_path, "a")
    first.share(make_release(first))
    pattern = "artifacts/**/weights.bin" if which == "file" else "manifests/**/*.json"
    (target,) = (tmp_path / "shared").glob(pattern)
    target.unlink()
    KINDS[kind](target)
    second = machine(tmp_path, "b")
    started = time.monotonic()
    assert second.fetch("release", FINGERPRINT) is None
    list(second.manifests("release", None))
    assert time.monotonic() - started < 5
    assert any("release" in line for line in second.damage_reports), "it is named"
    assert sum(file.stat().st_size for file in (tmp_path / "b").rglob("*") if file.is_file()) < 1_000_000, (
        "nothing was fetched"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["checks/release/a/size.json", "speed-store.json"])
def test_texts_that_are_none(tmp_path: Path, kind: str, name: str) -> None:
    machine(tmp_path, "a")
    file = tmp_path / "shared" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    if kind != "larger":  # the first 64 MB of it are read
        KINDS[kind](file)
    second = machine(tmp_path, "b")
    assert not second.load_text(name)
