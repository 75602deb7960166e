"""Artifacts on disk: a directory named by its fingerprint, whole or absent.

An artifact is built in `work/<fingerprint>/`, which survives an interruption so that a killed stage
goes on where it was, and is moved to `artifacts/<asset>/<fingerprint>/` when everything in it has
reached the disk. `artifact.json` lists every file with its size and sha256.

Belongs here: layout, completeness, integrity. Not here: what a fingerprint is made of (`artifacts.py`), a store that
several homes share (`shared_store.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, Self

import polars as pl

from speed_assets.domain.fingerprints import digest
from speed_assets.errors import SpeedError

MANIFEST = "artifact.json"
SCRATCH = "scratch"
"""Subfolder of a work folder for journals, checkpoints and logs: dropped when the artifact is complete."""
PARQUET: Mapping[str, Any] = {"compression": "zstd", "compression_level": 1, "statistics": True}
"""How tables are written: level 1 takes half the time of the default for a tenth more bytes."""
ASIDE = "aside"
"""Subfolder of an artifact whose files are kept but do not count in its content digest (logs, plots, timings)."""


class StoreError(SpeedError, RuntimeError):
    """The home cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Sealed:
    """What a complete artifact says of itself. `digest` is over the content of its files, so equal content is equal."""

    asset: str
    fingerprint: str
    digest: str
    partition: str | None
    files: Mapping[str, Mapping[str, Any]]
    metadata: Mapping[str, Any]
    lineage: Mapping[str, Any]
    created: float

    @classmethod
    def of(cls, manifest: Mapping[str, Any], **more: Any) -> Self:
        """From an `artifact.json`."""
        return cls(**{name: manifest[name] for name in Sealed.__dataclass_fields__}, **more)


@dataclass(frozen=True)
class Artifact(Sealed):
    """A complete artifact whose files lie in this home."""

    path: Path

    def table(self, name: str = "data") -> pl.DataFrame:
        """The Parquet table `name`; `quarantine` may be absent and is then empty."""
        file = self.path / f"{name}.parquet"
        return pl.read_parquet(file) if file.exists() else pl.DataFrame()

    def json(self, name: str) -> Any:
        """The JSON file `name` of the artifact."""
        return json.loads((self.path / name).read_text())


class Store:
    """Artifacts under one home (`SPEED_HOME`). Two homes are two worlds."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._verified: dict[str, Artifact] = {}
        self.damaged: list[str] = []
        """What `find` met and set aside, in words."""

    def open(self) -> Store:
        """Create the folders. Raises StoreError when the home cannot be written."""
        try:
            for name in ("artifacts", "work", "releases"):
                (self.home / name).mkdir(parents=True, exist_ok=True)
            probe = self.home / "work" / f".probe-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"SPEED_HOME {self.home} cannot be written ({error.strerror}): free or change it, or set another SPEED_HOME"
            ) from None
        return self

    def folder(self, asset: str, fingerprint: str) -> Path:
        root = self.home / "releases" if asset == "release" else self.home / "artifacts" / asset
        return root / fingerprint[:24]

    def find(self, asset: str, fingerprint: str) -> Artifact | None:
        """The complete, intact artifact of this fingerprint, or None.

        A damaged one (missing file, wrong size, wrong sha256) is moved to `work/damaged/`, never used.
        """
        known = self._verified.get(fingerprint)
        if known is not None and known.path.exists():
            return known
        path = self.folder(asset, fingerprint)
        if not path.exists():
            return None
        problem = verify(path)
        if problem:
            grave = self.home / "work" / "damaged" / f"{asset}-{fingerprint[:24]}-{time.time_ns()}"
            grave.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has seen it, too
                path.rename(grave)
            self._verified.pop(fingerprint, None)
            self.damaged.append(f"{asset}: {problem}; it will be replaced (the damaged one is kept in {grave})")
            return None
        manifest = json.loads((path / MANIFEST).read_text())
        if manifest["fingerprint"] != fingerprint:
            return None
        return self._known(manifest, path)

    def look(self, asset: str, fingerprint: str) -> Sealed | None:
        """What the artifact that `find` would find says of itself, without fetching its files."""
        return self.find(asset, fingerprint)

    def share(self, artifact: Artifact) -> None:
        """See that other homes can find the artifact; a home that shares nothing has nothing to do."""

    def manifests(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        """What the complete artifacts of an asset and partition say of themselves, in no order; `find` verifies them."""
        return self.here(asset, partition)

    def here(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        """The same of those whose files lie in this home."""
        for file in self.folder(asset, "").glob(f"*/{MANIFEST}"):
            try:
                manifest: dict[str, Any] = json.loads(file.read_text())
            except (OSError, ValueError):
                continue  # `find` says what is wrong with it when it is wanted
            if manifest.get("partition") == partition:
                yield manifest

    def keep(self, name: str, text: str) -> None:
        """Keep a small text beside the artifacts, under a path such as `checks/...`; a later one replaces it at once."""
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)

    def kept(self, name: str) -> str | None:
        """The text under that name."""
        try:
            return (self.home / name).read_text()
        except (OSError, ValueError):
            return None

    def _known(self, manifest: Mapping[str, Any], path: Path) -> Artifact:
        """The artifact at `path`, every byte of which has been looked at."""
        artifact = Artifact.of(manifest, path=path)
        self._verified[artifact.fingerprint] = artifact
        return artifact

    @contextmanager
    def building(self, fingerprint: str, waiting: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """The work folder of an artifact, held by this process alone while the block runs.

        While another process holds it this one waits, after `waiting` has been called. The folder is left as it is when the
        block fails, so that the next attempt can resume.
        """
        work = self.home / "work" / fingerprint[:24]
        (work / SCRATCH).mkdir(parents=True, exist_ok=True)
        lock = (self.home / "work" / f"{fingerprint[:24]}.lock").open("w")
        try:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                waiting()
                flock(lock, LOCK_EX)  # another run builds the same artifact: wait, then find it complete
                work.mkdir(parents=True, exist_ok=True)
                (work / SCRATCH).mkdir(exist_ok=True)
            yield work
        finally:
            lock.close()

    def complete(
        self,
        asset: str,
        fingerprint: str,
        work: Path,
        *,
        partition: str | None,
        metadata: Mapping[str, Any],
        lineage: Mapping[str, Any],
    ) -> Artifact:
        """Seal `work` as the artifact: hash and fsync every file, write the manifest, rename into place."""
        files = {}
        for file in sorted(p for p in work.rglob("*") if p.is_file() and p.name != MANIFEST):
            name = file.relative_to(work).as_posix()
            if name.startswith(f"{SCRATCH}/"):
                continue
            files[name] = {"bytes": file.stat().st_size, "sha256": file_digest(file)}
            fsync(file)
        content = {name: entry["sha256"] for name, entry in files.items() if not name.startswith(f"{ASIDE}/")}
        manifest = {
            "asset": asset,
            "partition": partition,
            "fingerprint": fingerprint,
            "digest": digest(content),
            "files": files,
            "metadata": metadata,
            "lineage": lineage,
            "created": time.time(),
        }
        # As it will be read: floats, tuples and keys in the form that JSON gives them.
        manifest = json.loads(json.dumps(manifest))
        (work / MANIFEST).write_bytes(_manifest_text(manifest))
        fsync(work / MANIFEST)
        target = self.folder(asset, fingerprint)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not sooner: a disk that is full now must not cost the checkpoints that the next attempt goes on from.
        shutil.rmtree(work / SCRATCH, ignore_errors=True)
        if target.exists():
            shutil.rmtree(work)
        else:
            work.rename(target)
        fsync(target.parent)
        artifact = self.find(asset, fingerprint)
        if artifact is None:
            raise StoreError(f"{target} was damaged while it was written: look at the disk, then run again")
        return artifact


def verify(path: Path) -> str | None:
    """What is wrong with the artifact at `path`, naming the file; None when every byte is as written."""
    return next(problems(path), None)


def problems(path: Path) -> Iterator[str]:
    """Everything that is wrong with the artifact at `path`, wherever it lies now: files that are missing, changed or
    not of it. The manifest holds a digest of itself, which shows damage; who changes it on purpose can write a new one.
    """
    try:
        manifest = read_manifest((path / MANIFEST).read_bytes())
    except OSError:
        yield f"{MANIFEST} is missing or broken"
        return
    except ValueError as error:
        yield str(error)
        return
    files = manifest["files"]
    for name, entry in files.items():
        file = path / name
        if not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != entry["bytes"]:
            yield f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
        elif file_digest(file) != entry["sha256"]:
            yield f"{name} has changed since it was written"
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_dir() and name != MANIFEST and name not in files:
            yield f"{name} was not there when it was written"


def read_manifest(text: bytes) -> dict[str, Any]:
    """The manifest in these bytes, with its seal. Raises ValueError when they are not as they were written."""
    try:
        manifest: dict[str, Any] = json.loads(text)
        _, seal = manifest["files"], manifest.pop("seal")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{MANIFEST} is missing or broken") from None
    if text != _manifest_text(manifest):
        raise ValueError(f"{MANIFEST} has changed since it was written")
    return {**manifest, "seal": seal}


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader, and whoever comes after a full disk or a kill, sees all of it or the old one."""
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        unfinished.write_text(text)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _manifest_text(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as it stands on disk, with the sha256 of the rest under `seal`."""
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**manifest, "seal": seal}, indent=1, sort_keys=True) + "\n").encode()


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tree_digest(path: Path) -> str:
    """A digest of every file below `path` (or of the file itself), names included."""
    if path.is_file():
        return digest({path.name: file_digest(path)})
    return digest({p.relative_to(path).as_posix(): file_digest(p) for p in sorted(path.rglob("*")) if p.is_file()})


def fsync(path: Path) -> None:
    """See that a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
