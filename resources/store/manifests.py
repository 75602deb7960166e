"""Manifests of artifacts, read as what they are: text from outside. Nothing of one is used before it has passed `read_manifest`.

A manifest may come from another home, a shared store or a folder that somebody sent. So names have patterns, numbers have
bounds, files stay below their folder, and links are never followed.

Belongs here: the shape of an `artifact.json`, and whether a folder is as its manifest states. Not here: where artifacts are
(`store.py`, `shared_store.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from speed_assets.recipe import RECIPE_NAME

MANIFEST_FILE = "artifact.json"
MANIFEST_BYTES_MAX = 64_000_000
"""Maximum bytes of a manifest: one of 100,000 files has 15 MB. Ours."""
_FILES_MAX = 200_000
_TIME_MAX = 253_402_300_799
"""Unix seconds of the last second of the year 9999, the last that can be written as a date."""


def _below(name: str) -> str:
    """A file name that stays below the folder that it is joined to."""
    path = PurePosixPath(name)
    if name != path.as_posix() or path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
        raise ValueError("no relative path below the artifact's folder")
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ValueError("a name of more than 255 bytes")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
AssetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,80}$")]
FileName = Annotated[str, Field(max_length=4096), AfterValidator(_below)]


def names_artifact(asset: str, fingerprint: str) -> bool:
    """Whether these may be an artifact's: only such names become paths, wherever they were read.

    >>> names_artifact("topics", "a1" * 32), names_artifact("topics", "../../../.ssh")
    (True, False)
    """
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,80}", asset) and re.fullmatch(r"[0-9a-f]{64}", fingerprint))


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class _File(_Read):
    bytes: Annotated[int, Field(ge=0, lt=1 << 63)]
    sha256: Sha256


class _ReleaseFigures(_Read):
    """Figures of a release that are listed and compared; others may be anything."""

    number: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None
    rows_released: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None
    scores: dict[str, float] | None = None


class _ReleaseRecipe(_Read):
    name: Annotated[str, Field(pattern=RECIPE_NAME)] | None = None


class _ReleaseLineage(_Read):
    recipe: _ReleaseRecipe | None = None
    inputs: dict[str, str] = {}


class _Manifest(_Read):
    asset: AssetName
    partition: AssetName | None
    fingerprint: Sha256
    digest: Sha256
    files: Annotated[dict[FileName, _File], Field(max_length=_FILES_MAX)]
    metadata: dict[str, Any]
    lineage: dict[str, Any]
    created: Annotated[float, Field(ge=0, le=_TIME_MAX)]
    seal: Sha256

    @model_validator(mode="after")
    def _release(self) -> _Manifest:
        if self.asset == "release":
            _ReleaseFigures.model_validate(self.metadata)
            _ReleaseLineage.model_validate(self.lineage)
        return self


def read_manifest(text: bytes) -> dict[str, Any]:
    """The JSON values of a manifest, with its seal.

    The seal is a digest of the rest. It shows damage, not manipulation: anybody can write a new one.

    Raises:
        ValueError: The bytes have changed since they were written, or a field is not what it has to be.
    """
    if len(text) > MANIFEST_BYTES_MAX:
        raise ValueError(f"{MANIFEST_FILE} has more than {MANIFEST_BYTES_MAX:,} bytes")
    try:
        values: dict[str, Any] = json.loads(text)
        _, seal = values["files"], values.pop("seal")
        written = manifest_text(values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{MANIFEST_FILE} is missing or broken") from None
    if text != written:
        raise ValueError(f"{MANIFEST_FILE} has changed since it was written")
    manifest = {**values, "seal": seal}
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = next((part for part in first["loc"] if part in _Manifest.model_fields), "a field")
        raise ValueError(f"{MANIFEST_FILE} is broken: {field}: {first['msg']}") from None
    return manifest


def load_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a folder. Raises ValueError when it is absent, a link, too large or broken."""
    return read_manifest(read_regular(folder / MANIFEST_FILE))


def listed_manifest(folder: Path) -> dict[str, Any]:
    """As `load_manifest`, but read once for as long as the file's inode, size and time stay: for lists of many artifacts.

    A plan looks at the manifests of an asset for each of its task types. The values are shared: nobody may change them. What is
    used is fetched, and read again then.

    Raises:
        ValueError: it is absent, a link, too large or broken.
    """
    file = folder / MANIFEST_FILE
    try:
        state = file.lstat()
    except OSError:
        raise ValueError(f"{file.name} is missing or broken") from None
    return _manifest_as_of(folder, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=2048)
def _manifest_as_of(folder: Path, state: tuple[int, ...]) -> dict[str, Any]:
    return load_manifest(folder)


def read_regular(file: Path) -> bytes:
    """The bytes of a file that somebody sent. Raises ValueError when it is absent, too large, or a link, a pipe or a device."""
    try:
        state = file.lstat()
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{file.name} is no file")
        if state.st_size > MANIFEST_BYTES_MAX:
            raise ValueError(f"{file.name} has more than {MANIFEST_BYTES_MAX:,} bytes")
        return file.read_bytes()
    except OSError:
        raise ValueError(f"{file.name} is missing or broken") from None


def manifest_text(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest on disk, with the sha256 of the rest under `seal`."""
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**manifest, "seal": seal}, indent=1, sort_keys=True) + "\n").encode()


def integrity_problem(path: Path) -> str | None:
    """The first problem of the artifact at `path`, naming the file; None when every byte is as written."""
    return next(integrity_problems(path), None)


def integrity_problems(path: Path) -> Iterator[str]:
    """Every problem of the artifact at `path`, which may be any folder: files that are missing, changed or additional, links."""
    try:
        files = load_manifest(path)["files"]
    except ValueError as error:
        yield str(error)
        return
    yield from file_problems(path, files)


def file_problems(path: Path, files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Every problem of the files of the artifact at `path`, which its manifest lists: missing, changed or additional ones, links."""
    present = dict(_entries(path))
    for name, entry in files.items():
        file = path / name
        state = present.pop(name, None)
        if state is None:
            yield f"{name} is missing"
        elif not stat.S_ISREG(state.st_mode):
            yield f"{name} is a link or no file"
        elif state.st_size != entry["bytes"]:
            yield f"{name} has {state.st_size} bytes instead of {entry['bytes']}"
        elif file_digest(file) != entry["sha256"]:
            yield f"{name} has changed since it was written"
    for name in sorted(present):
        if name != MANIFEST_FILE:
            yield f"{name} was not there when it was written"


def _entries(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(name, state) of everything below a folder but folders themselves; links are listed and never followed.

    A folder that cannot be read is listed, too: nobody knows what is in it. An empty one holds nothing.
    """
    unread: list[OSError] = []
    for root, folders, names in os.walk(path, onerror=unread.append):
        for name in [*names, *(folder for folder in folders if os.path.islink(os.path.join(root, folder)))]:
            file = Path(root, name)
            yield file.relative_to(path).as_posix(), file.lstat()
    for error in unread:
        folder = Path(error.filename)
        yield folder.relative_to(path).as_posix(), folder.lstat()


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
