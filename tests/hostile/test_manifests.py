"""Manifests with every field replaced: each is refused in one line, and nothing outside the home changes.

Belongs here: `artifact.json` in a home, in a shared store, in a folder that somebody sent, and journals. Not here: recipes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from resources.releases import releases
from resources.releases.releases import Release
from resources.store import figures, manifests
from resources.store.bucket import Bucket
from resources.store.manifests import (
    MANIFEST_FILE,
    integrity_problems,
    load_manifest,
    manifest_text,
    read_manifest,
)
from resources.store.shared_store import SharedStore
from resources.store.store import Artifact, Store, StoreError
from speed_assets.cli import main
from speed_assets.workers.journal import Journal, Output
from tests.hostile.conftest import FINGERPRINT, make_release

DEEP: Any = "deep"  # stands for 3,000 lists in each other, which no test id can hold
ODD: tuple[Any, ...] = (
    None, [], {}, 0, -1, True, 1e300, "", "x", "../../etc", "/etc/passwd", "a\0b", "\x1b]0;x\x07", "A" * 64, "é" * 64,
)  # fmt: skip
ALLOWED: dict[str, list[Any]] = {
    "partition": [None, "x"], "metadata": [{}], "lineage": [{}], "created": [0], "files": [{}]
}  # fmt: skip
FIELDS = tuple(name for name in manifests._Manifest.model_fields if name != "seal")
INSIDE: dict[str, type[BaseModel]] = {"metadata": manifests._ReleaseFigures, "lineage": manifests._ReleaseLineage}
"""What a release's manifest has to hold in fields that are open for other artifacts."""
NAMES = (
    "../escaped", "/escaped", "a/../../b", "./a", "a//b", "", ".", "..", "a/..", "x\0y", "x\ny", "\x1b[31m", "n" * 256,
    "/".join(["d"] * 3000),
)  # fmt: skip
RECIPES = (
    "../../../victim", "/victim", "..", ".", "a/b", "A", "a b", "a\0", "", "x" * 42, "\u202e", "a\n", 5, [], {"a": 1}, True,
)  # fmt: skip
TEXTS = (
    b"", b"[]", b"{}", b"null", b"5", b'"x"', b'{"files":{}}', b'{"files":[],"seal":"x"}', b'{"seal":{}}', b"[" * 100_000,
    b'{"a":' * 50_000, b"\xff\xfe", b"\0" * 100, b"1" * 6_000, b'{"files":{"a":{"bytes":1}},"seal":"0"}', b"NaN",
)  # fmt: skip


def valid() -> dict[str, Any]:
    return {
        "asset": "release",
        "partition": None,
        "fingerprint": FINGERPRINT,
        "digest": "b" * 64,
        "files": {"recipe.json": {"bytes": 2, "sha256": "c" * 64}},
        "metadata": {"number": 1},
        "lineage": {"recipe": {"name": "offline"}},
        "created": 1.0,
    }


def refused(values: dict[str, Any]) -> str:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"artifact\.json") as caught:
        read_manifest(manifest_text(values))
    assert time.monotonic() - started < 1
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


def rewrite(folder: Path, **changes: Any) -> None:
    """Write a changed manifest with a valid seal, as anybody can."""
    values = load_manifest(folder)
    del values["seal"]
    (folder / MANIFEST_FILE).write_bytes(manifest_text({**values, **changes}))


def test_the_example_of_these_tests_is_valid() -> None:
    assert read_manifest(manifest_text(valid()))["asset"] == "release"


@pytest.mark.parametrize("value", ODD, ids=ascii)
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_has_its_type_and_bounds(field: str, value: Any) -> None:
    values = valid() | {field: value}
    if any(value == allowed and type(value) is type(allowed) for allowed in ALLOWED.get(field, [])) or (
        field in ("asset", "partition") and value == "x"
    ):
        assert read_manifest(manifest_text(values))
    else:
        assert field in refused(values)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_may_be_absent(field: str) -> None:
    values = valid()
    del values[field]
    with pytest.raises(ValueError, match=r"artifact\.json"):
        read_manifest(manifest_text(values))


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_files_stay_below_their_folder(name: str) -> None:
    assert "files" in refused(valid() | {"files": {name: {"bytes": 1, "sha256": "c" * 64}}})


@pytest.mark.parametrize(
    "entry",
    [None, [], 5, {}, {"bytes": 1}, {"sha256": "c" * 64}, {"bytes": -1, "sha256": "c" * 64}, {"bytes": 1, "sha256": "c" * 63},
     {"bytes": 1, "sha256": "C" * 64}, {"bytes": 10**30, "sha256": "c" * 64}, {"bytes": "1", "sha256": "c" * 64}],
    ids=str,
)  # fmt: skip
def test_entries_of_files_have_bytes_and_sha256(entry: Any) -> None:
    assert "files" in refused(valid() | {"files": {"a": entry}})


@pytest.mark.parametrize("name", RECIPES, ids=ascii)
def test_a_release_names_a_recipe_or_is_none(name: Any) -> None:
    refused(valid() | {"lineage": {"recipe": {"name": name}}})


@pytest.mark.parametrize("metadata", [{"number": "1"}, {"number": -1}, {"scores": []}, {"scores": {"a": "b"}}, {"rows_released": []}], ids=str)  # fmt: skip
def test_figures_that_are_listed_are_numbers(metadata: dict[str, Any]) -> None:
    refused(valid() | {"metadata": metadata})


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:24]))
def test_verify_list_and_roll_back_survive_an_odd_manifest(
    release: Artifact, store: Store, capsys: pytest.CaptureFixture[str], text: bytes
) -> None:
    odd = store.home / "releases" / ("d" * 24)
    odd.mkdir()
    (odd / MANIFEST_FILE).write_bytes(text)
    assert main(["verify", str(odd)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["releases"]) == 0
    shown = capsys.readouterr()
    assert "offline" in shown.out
    assert "d" * 24 in shown.err
    assert main(["rollback", "dddd"]) == 2
    assert main(["diff", str(odd), str(release.path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../../victim/bashrc", "/victim", "a/../../victim"])
def test_no_release_replaces_a_file_outside(release: Artifact, store: Store, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim" / "bashrc"
    victim.parent.mkdir()
    victim.write_text("mine")
    rewrite(release.path, lineage={"recipe": {"name": name}})
    assert main(["rollback", FINGERPRINT[:8]]) == 2
    assert main(["rollback", str(release.path)]) == 2
    assert victim.read_text() == "mine"
    assert not victim.is_symlink()


def test_the_link_to_the_current_release_replaces_nothing_else(release: Artifact, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.home / "releases" / "current").symlink_to(outside)
    with pytest.raises(StoreError, match="no link that SPEED made"):
        releases.make_current(store, Release(release.path, load_manifest(release.path)))
    assert list(outside.iterdir()) == []
    (store.home / "releases" / "current").unlink()
    (store.home / "releases" / "current").mkdir()
    (store.home / "releases" / "current" / "offline").write_text("a file")
    with pytest.raises(StoreError, match="no link that SPEED made"):
        releases.make_current(store, Release(release.path, load_manifest(release.path)))


def _extra(path: Path) -> None:
    (path / "model" / "extra").write_text("x")


def _link_to_file(path: Path) -> None:
    (path / "model" / "passwd").symlink_to("/etc/passwd")


def _link_to_folder(path: Path) -> None:
    (path / "etc").symlink_to("/etc")


def _dangling(path: Path) -> None:
    (path / "nothing").symlink_to(path / "absent")


def _file_as_link(path: Path) -> None:
    (path / "copy").write_bytes(b"weights")
    (path / "model" / "weights.bin").unlink()
    (path / "model" / "weights.bin").symlink_to(path / "copy")


def _folder_as_link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    shutil.move(path / "model", outside)
    (path / "model").symlink_to(outside)


def _pipe(path: Path) -> None:
    os.mkfifo(path / "pipe")


def _manifest_as_link(path: Path) -> None:
    shutil.move(path / MANIFEST_FILE, path.parent / "elsewhere.json")
    (path / MANIFEST_FILE).symlink_to(path.parent / "elsewhere.json")


def _passwd_listed(path: Path) -> None:
    rewrite(path, files={"../../../../../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}})


@pytest.mark.parametrize(
    "change",
    [_extra, _link_to_file, _link_to_folder, _dangling, _file_as_link, _folder_as_link, _pipe, _manifest_as_link, _passwd_listed],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_verify_accounts_for_everything_in_the_folder(
    release: Artifact, store: Store, change: Callable[[Path], None]
) -> None:
    assert list(integrity_problems(release.path)) == []
    change(release.path)
    assert list(integrity_problems(release.path))
    assert main(["verify", str(release.path)]) == 1
    assert Store(store.home).fetch("release", FINGERPRINT) is None, "it is never used"


def test_a_copy_of_a_release_is_none(release: Artifact, store: Store) -> None:
    shutil.copytree(release.path, store.home / "releases" / "copy")
    assert len(releases.list_releases(store)) == 1
    assert releases.broken_releases(store) == ["copy"]


def paths_of(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field of a manifest, also of what is nested: from the model, so that a new field is tried, too."""
    for name, field in model.model_fields.items():
        yield (*at, name)
        inner = [INSIDE[name]] if not at and name in INSIDE else [*_models(field.annotation)]
        for one in inner:
            yield from paths_of(one, (*at, name, *(["recipe.json"] if name == "files" else [])))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


PATHS = tuple(paths_of(manifests._Manifest))
REPLACED: dict[str, Any] = {
    **{"null": None, "list": [], "object": {}, "true": True, "negative": -1, "huge number": 10**30, "no number": 1e300},
    **{"parent": "../../victim", "absolute": "/etc/passwd", "link": "/proc/self/cwd/victim", "escape": "\x1b[31m"},
    **{
        "long": "A" * 100_000,
        "many": ["../../victim"] * 10_000,
        "nested": {"../../victim": {"bytes": 4, "sha256": "0" * 64}},
    },
    **{"digest": "d" * 64, "NUL": "a\0b"},
}


def replaced(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A manifest with one value replaced."""
    first, *rest = path
    return {**values, first: replaced(values.get(first) or {}, tuple(rest), value) if rest else value}


def tampered(made: Artifact, path: tuple[str, ...], value: Any) -> bytes:
    """The manifest of an artifact with one value replaced, and a seal that fits unless it is the seal that is replaced."""
    values = load_manifest(made.path)
    seal = values.pop("seal")
    if path != ("seal",):
        return manifest_text(replaced(values, path, value))
    return manifest_text(values).replace(json.dumps(seal).encode(), json.dumps(value).encode())


def test_every_field_of_a_manifest_is_tried() -> None:
    assert {path[0] for path in PATHS} == set(manifests._Manifest.model_fields)
    assert ("files", "recipe.json", "sha256") in PATHS
    assert ("lineage", "recipe", "name") in PATHS


@pytest.mark.parametrize("kind", REPLACED)
@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_hostile_shared_store_costs_a_rebuild_and_never_a_file(
    tmp_path: Path, path: tuple[str, ...], kind: str
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "victim").write_text("mine")
    url = f"file://{tmp_path}/shared"
    first = SharedStore(tmp_path / "a", Bucket(url))
    first.open()
    made = make_release(first)
    first.share(made)
    text = tampered(made, path, REPLACED[kind])
    first.bucket.write(f"manifests/release/{FINGERPRINT[:24]}.json", text)
    before = _outside(tmp_path)
    second = SharedStore(tmp_path / "b", Bucket(url))
    second.open()
    found = second.fetch("release", FINGERPRINT)
    list(second.manifests("release", None))
    assert found is None or found.path.is_relative_to(tmp_path / "b")
    assert found is not None or any("release" in line for line in second.damage_reports), "it is named"
    assert _outside(tmp_path) == before
    if found is None:  # the run makes it, and the store gets a valid manifest again
        again = make_release(second)
        second.share(again)
        assert SharedStore(tmp_path / "c", Bucket(url)).fetch("release", FINGERPRINT) is not None


def _outside(folder: Path) -> dict[Path, bytes | None]:
    """Every file outside the second home, with its content."""
    homes = [folder / name for name in ("b", "c")]
    files = (file for file in folder.rglob("*") if not any(file.is_relative_to(home) for home in homes))
    return {file: file.read_bytes() if file.is_file() else None for file in files}


FIGURES = [(asset, name) for asset, model in figures.FIGURES.items() for name in model.model_fields]


@pytest.mark.parametrize("value", ["../../x", -1, 1e300, [1], {"a": {"b": "c"}}], ids=str)
@pytest.mark.parametrize(("asset", "name"), FIGURES, ids=str)
def test_figures_of_another_machine_have_their_types(asset: str, name: str, value: Any) -> None:
    """Those that code relies on; a figure of the wrong type would end a run in the middle."""
    valid_for = {"columns": [], "reruns": [{"a": {"b": "c"}}], "seconds": [1e300]}
    manifest = valid() | {"asset": asset, "metadata": {name: value}, "lineage": {}}
    if value in valid_for.get(name, []):
        return
    with pytest.raises(ValueError, match=r"^artifact\.json is broken: metadata\."):
        figures.check_figures(manifest)


@pytest.mark.parametrize(
    "lineage", [{"recipe": []}, {"externals": {"a": 1}}, {"inputs": {"a": []}}, {"inputs": "x"}], ids=str
)
def test_lineage_of_another_machine_has_its_types(lineage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^artifact\.json is broken: lineage\."):
        figures.check_figures(valid() | {"asset": "seed_data", "metadata": {}, "lineage": lineage})


@pytest.mark.parametrize("which", ["file", "folder", "manifest"])
def test_links_in_a_shared_store_bring_nothing_into_a_home(tmp_path: Path, which: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "weights.bin").write_text("a secret of the machine")
    first = SharedStore(tmp_path / "a", Bucket(f"file://{tmp_path}/shared"))
    first.open()
    first.share(make_release(first))
    (weights,) = (tmp_path / "shared" / "artifacts").rglob("weights.bin")
    (manifest,) = (tmp_path / "shared" / "manifests").rglob("*.json")
    target = {"file": weights, "folder": weights.parent, "manifest": manifest}[which]
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    target.symlink_to(tmp_path / "victim" if which == "folder" else tmp_path / "victim" / "weights.bin")
    second = SharedStore(tmp_path / "b", Bucket(f"file://{tmp_path}/shared"))
    second.open()
    assert second.fetch("release", FINGERPRINT) is None
    assert second.damage_reports
    assert not [file for file in (tmp_path / "b").rglob("*") if file.is_symlink()]
    assert not [f for f in (tmp_path / "b").rglob("*") if f.is_file() and b"a secret" in f.read_bytes()]


OUTPUT = json.dumps(
    {"position": 0, "output": "x", "prompt_tokens": 1, "output_tokens": 1, "finished": True, "error": None}
)


@pytest.mark.parametrize(
    "line",
    ["[]", "null", "5", "{}", "[" * 5_000, '{"position": "0"}', OUTPUT.replace("0,", "-1,", 1), OUTPUT.replace('"x"', "[]"),
     OUTPUT.replace("true", '"yes"'), OUTPUT.replace("0,", "1e9,", 1), "\x00", OUTPUT[:-1],
     OUTPUT.replace("}", ', "more": 1e999}'), OUTPUT.replace("{", '{"position": 1e999, '), OUTPUT.replace("x", "\\ud800")],
    ids=lambda line: ascii(line)[:30],
)  # fmt: skip
def test_a_journal_is_read_up_to_its_first_odd_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "job.rows.jsonl").write_text(f"{OUTPUT}\n{line}\n")
    (tmp_path / "job.events.jsonl").write_text(f'{line}\n{{"begin": "all"}}\n')
    journal = Journal(tmp_path, "job")
    assert journal.done == {0}
    journal.finish([Output(1, "y", 1, 1, True)])
    assert journal.table().height == 2
    journal.close()
