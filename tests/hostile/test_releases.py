"""Releases that somebody sent: what they state becomes no path, and what they lack ends in one line.

Belongs here: `manifest.json`, `recipe.json` and tables of a release. Not here: `artifact.json` (`test_manifests.py`).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.releases.releases import Release, find_release
from resources.store.bucket import Bucket
from resources.store.manifests import load_manifest
from resources.store.shared_store import SharedStore
from resources.store.store import Store, StoreError
from speed_assets.cli import main
from speed_assets.orchestration.diff import diff
from tests.hostile.conftest import FINGERPRINT

MADE = {"fingerprint": "b2" * 32, "digest": "c3" * 32}
PATHS = (
    "{victim}",
    "../../../victim",
    "..",
    ".",
    "",
    "/",
    "a" * 63,
    "A" * 64,
    "a" * 64 + "\n",
    "a" * 65,
    "../" * 20,
    "\0",
    "é" * 64,
)
MANIFESTS: tuple[Any, ...] = (
    [], 5, "x", None, {}, {"artifacts": []}, {"artifacts": None}, {"artifacts": {"a": 5}}, {"artifacts": {"a": {}}},
    {"artifacts": {"../x": MADE}}, {"artifacts": {"a/b/c": MADE}}, {"artifacts": {"/etc": MADE}}, {"artifacts": {"a": MADE | {"digest": 5}}},
    {"artifacts": {}, "rows": 5}, {"artifacts": {}, "rows": {"sts": "3"}}, {"artifacts": {}, "rows": {"sts": -1}},
    {"artifacts": {}, "rows": {"sts": 1e300}},
)  # fmt: skip
RECIPES: tuple[Any, ...] = (
    [], 5, "x", None, {"seed": "x"}, {"seed": 1e300}, {"seed": 10**30}, {"checks": []}, {"checks": {"superior": []}}, {"teacher": []},
    {"embedding_model": "x"}, {"corpus": [1]},
)  # fmt: skip
TEXTS = (b"", b"[" * 100_000, b'{"a":' * 300 + b"1" + b"}" * 300, b"\xff", b"1" * 6_000, b"\0")


def sent(place: Path, manifest: Any, recipe: Any = None, fingerprint: str = FINGERPRINT) -> Release:
    """A sealed release of another home; bytes are written as they are."""
    other = Store(place).open()
    with other.building(fingerprint) as work:
        (work / "model").mkdir()
        (work / "model" / "weights.bin").write_bytes(b"weights")
        for name, value in (("manifest.json", manifest), ("recipe.json", {} if recipe is None else recipe)):
            (work / name).write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        made = other.seal(
            "release",
            fingerprint,
            work,
            partition=None,
            metadata={"number": 1},
            lineage={"recipe": {"name": "offline"}},
        )
    return Release(made.path, load_manifest(made.path))


def ends_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which a command refuses its input."""
    started = time.process_time()
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert "this is a bug" not in shown
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert time.process_time() - started < 5
    return shown


@pytest.mark.parametrize("fingerprint", PATHS, ids=lambda text: ascii(text)[:20])
def test_no_fingerprint_becomes_a_path(tmp_path: Path, store: Store, fingerprint: str) -> None:
    """A damaged artifact is moved to `work/damaged`: any folder on the machine was one, where its path had 24 letters."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("mine")
    for asset in ("passages", "topics", "release"):
        store.folder(asset, "").mkdir(parents=True, exist_ok=True)
    stated = fingerprint.format(victim=os.path.relpath(victim, store.folder("passages", "")))
    (tmp_path / "bucket").mkdir()
    shared = SharedStore(store.home, Bucket(f"file://{tmp_path / 'bucket'}")).open()
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}
    for asset in ("passages", "release", "../../victim", "/", "", "..", str(victim)):
        for of in (store, shared):
            assert of.fetch(asset, stated) is None
            assert of.peek(asset, stated) is None
    assert {path for path in tmp_path.rglob("*") if "work" not in path.parts} == before
    assert not (store.home / "work" / "damaged").exists()


@pytest.mark.parametrize("command", ["report", "search", "diff"])
def test_commands_move_nothing_that_a_release_names(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "v").mkdir()
    store.folder("passages", "").mkdir(parents=True)
    release = sent(tmp_path / "sender", {"artifacts": {"passages": {"fingerprint": "../../../v", "digest": "c3" * 32}}})
    arguments = {"report": [], "search": ["words"], "diff": [str(release.path)]}[command]
    shown = ends_in_one_line([command, str(release.path), *arguments], capsys)
    assert "fingerprint" in shown
    assert (tmp_path / "v").is_dir()


@pytest.mark.parametrize(
    ("name", "number"),
    [("manifest.json", at) for at in range(len(MANIFESTS))] + [("recipe.json", at) for at in range(len(RECIPES))],
)
def test_documents_have_the_types_that_code_relies_on(tmp_path: Path, name: str, number: int) -> None:
    table = MANIFESTS if name == "manifest.json" else RECIPES
    content: dict[str, Any] = {"manifest": {"artifacts": {}}, "recipe": {}} | {
        name.removesuffix(".json"): table[number]
    }
    if name == "recipe.json" and table[number] is None:
        content["recipe"] = b"null"
    release = sent(tmp_path, **content)
    with pytest.raises(StoreError, match=name) as caught:
        release.json(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:20])
@pytest.mark.parametrize("command", ["report", "diff", "push"])
def test_documents_that_are_no_json(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], command: str, text: bytes
) -> None:
    release = sent(tmp_path / "sender", text)
    arguments = {"report": [], "diff": [str(release.path)], "push": ["--to", "owner/name"]}[command]
    assert "manifest.json" in ends_in_one_line([command, str(release.path), *arguments], capsys)


def test_pipes_and_links_are_not_read(tmp_path: Path) -> None:
    release = sent(tmp_path, {"artifacts": {}})
    for change in (lambda file: os.mkfifo(file), lambda file: file.symlink_to("/dev/zero"), lambda file: file.mkdir()):
        file = release.path / "manifest.json"
        file.rmdir() if file.is_dir() else file.unlink()
        change(file)
        with pytest.raises(StoreError, match=r"manifest\.json"):
            release.json("manifest.json")


@pytest.mark.parametrize(
    "table", [b"", b"PAR1" + b"\0" * 40 + b"PAR1", {"a": [1]}, {"model": [1], "task": [2]}, {"model": ["embedding_model"], "task": ["x"]}],
    ids=str,
)  # fmt: skip
def test_tables_that_are_none(tmp_path: Path, table: Any) -> None:
    releases = [sent(tmp_path / name, {"artifacts": {}}) for name in ("a", "b")]
    files = {**releases[0].manifest["files"], "scores.parquet": {}, "samples.parquet": {}}
    for release in releases:
        for name in ("scores.parquet", "samples.parquet"):
            file = release.path / name
            file.write_bytes(table) if isinstance(table, bytes) else pl.DataFrame(table).write_parquet(file)
    old, new = (Release(release.path, {**release.manifest, "files": files}) for release in releases)
    with pytest.raises(StoreError, match=r"cannot be") as caught:
        diff(old, new)
    assert "\n" not in str(caught.value)


def test_a_release_as_it_is_made_is_read(tmp_path: Path) -> None:
    content = {
        "artifacts": {"topics": MADE, "seed_data/sts": MADE | {"rows": 3, "teacher_calls": None}},
        "rows": {"sts": 3},
    }
    release = sent(tmp_path, content, {"seed": 1, "checks": {"superior": {}}, "corpus": None})
    assert find_release(Store(tmp_path), release.short).json("manifest.json") == content
    assert release.json("recipe.json")["seed"] == 1
