"""Artifacts on disk: a directory named by its fingerprint, complete or absent.

An artifact is built in `work/<fingerprint>/`, which survives an interruption so that a killed stage can resume, and is
moved to `artifacts/<asset>/<fingerprint>/` when all of its files have reached the disk. `artifact.json` lists every file
with its size and sha256.

Belongs here: layout, completeness, integrity. Not here: what a fingerprint is made of (`artifacts.py`), a store that
several homes share (`shared_store.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, Self

import polars as pl

from resources.redaction import mask_files, masked, masked_values
from resources.store.manifests import (
    MANIFEST_FILE,
    file_digest,
    file_problems,
    listed_manifest,
    load_manifest,
    manifest_text,
    names_artifact,
)
from speed_assets.domain.fingerprints import digest
from speed_assets.errors import SpeedError

SCRATCH_DIR = "scratch"
"""Subfolder of a work folder for journals, checkpoints and logs: removed when the artifact is complete."""
PARQUET_OPTIONS: Mapping[str, Any] = {"compression": "zstd", "compression_level": 1, "statistics": True}
"""Options of every Parquet table: level 1 takes half the time of the default for a tenth more bytes (measured)."""
UNHASHED_DIR = "aside"
"""Subfolder of an artifact whose files do not count in its content digest: logs, plots, timings. The name on disk is older
than the name here."""


class StoreError(SpeedError, RuntimeError):
    """The home cannot be used; the message says what to do."""


@dataclass(frozen=True)
class ArtifactManifest:
    """The contents of an `artifact.json`.

    Attributes:
        asset: Name of the stage.
        fingerprint: sha256 of everything that the artifact is made from, 64 hex digits.
        digest: sha256 of the names and contents of its files without `UNHASHED_DIR`: equal content, equal digest.
        partition: Task type, or None.
        files: Bytes and sha256 by file name.
        metadata: Figures for people and Dagster.
        lineage: What the fingerprint is the digest of.
        created: Unix seconds.
    """

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
        """From the JSON values of an `artifact.json`; `more` are fields of a subclass."""
        return cls(**{name: manifest[name] for name in ArtifactManifest.__dataclass_fields__}, **more)


@dataclass(frozen=True)
class Artifact(ArtifactManifest):
    """A complete artifact whose files are in this home."""

    path: Path

    def table(self, name: str = "data") -> pl.DataFrame:
        """The Parquet table `name`; `quarantine` may be absent and is then empty."""
        file = self.path / f"{name}.parquet"
        return pl.read_parquet(file) if file.exists() else pl.DataFrame()

    def json(self, name: str) -> Any:
        """The JSON file `name` of the artifact."""
        return json.loads((self.path / name).read_text())


class Store:
    """Artifacts under one home (`SPEED_HOME`). Two homes share nothing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._verified: dict[str, Artifact] = {}
        self.damage_reports: list[str] = []
        """One message for each damaged artifact that `fetch` quarantined."""

    def open(self) -> Store:
        """Create the folders, for their owner alone. Raises StoreError when the home cannot be written."""
        try:
            self.home.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.home, *(self.home / name for name in ("artifacts", "work", "releases"))):
                make_private(folder)
            probe = self.home / "work" / f".probe-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"SPEED_HOME {self.home} cannot be written ({error.strerror}): free or change it, or set another SPEED_HOME"
            ) from None
        return self

    def folder(self, asset: str, fingerprint: str) -> Path:
        """Where the artifact of this fingerprint is, or would be."""
        root = self.home / "releases" if asset == "release" else self.home / "artifacts" / asset
        return root / fingerprint[:24]

    def fetch(self, asset: str, fingerprint: str) -> Artifact | None:
        """The valid artifact of this fingerprint, or None.

        A damaged one (missing file, wrong size, wrong sha256) is moved to `work/damaged/` and never used.

        Args:
            asset: Name of the stage.
            fingerprint: 64 hex digits.

        Returns:
            The artifact, every byte of which was verified once in this process. None for what is no name of an artifact.
        """
        if not names_artifact(asset, fingerprint):  # another's manifest may state any text; it would become a path
            return None
        known = self._verified.get(fingerprint)
        if known is not None and known.path.exists():
            return known
        path = self.folder(asset, fingerprint)
        if not path.exists():
            return None
        try:
            manifest = load_manifest(path)
            problem = next(file_problems(path, manifest["files"]), None)
        except ValueError as error:
            manifest, problem = {}, str(error)
        if problem:
            grave = self.home / "work" / "damaged" / f"{asset}-{fingerprint[:24]}-{time.time_ns()}"
            grave.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has moved it
                path.rename(grave)
            self._verified.pop(fingerprint, None)
            self.damage_reports.append(f"{asset}: {problem}; it will be replaced (the damaged one is kept in {grave})")
            return None
        if (manifest["asset"], manifest["fingerprint"]) != (asset, fingerprint):
            return None
        return self._remember(manifest, path)

    def peek(self, asset: str, fingerprint: str) -> ArtifactManifest | None:
        """The manifest of the artifact that `fetch` would return, without fetching its files."""
        return self.fetch(asset, fingerprint)

    def share(self, artifact: Artifact) -> None:
        """Make the artifact available to other homes; does nothing where no store is shared."""

    def manifests(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        """The manifests of an asset's and partition's artifacts, in no order. They are not verified; `fetch` does that."""
        return self.local_manifests(asset, partition)

    def local_manifests(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        """As `manifests`, of artifacts whose files are in this home."""
        for file in self.folder(asset, "").glob(f"*/{MANIFEST_FILE}"):
            try:
                manifest = listed_manifest(file.parent)
            except ValueError:
                continue  # `fetch` reports the damage when the artifact is needed
            # A copy of an artifact under another name is none, and neither is one of another asset.
            in_place = (manifest["asset"], manifest["fingerprint"][:24]) == (asset, file.parent.name)
            if in_place and manifest["partition"] == partition:
                yield manifest

    def save_text(self, name: str, text: str) -> None:
        """Save a small text under a path in the home, such as `checks/...`; replaces an earlier one atomically."""
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)

    def load_text(self, name: str) -> str | None:
        """The text that was saved under a name; None when there is none."""
        try:
            return (self.home / name).read_text()
        except (OSError, ValueError):
            return None

    def _remember(self, manifest: Mapping[str, Any], path: Path) -> Artifact:
        """The artifact at `path`, every byte of which was verified."""
        artifact = Artifact.of(manifest, path=path)
        self._verified[artifact.fingerprint] = artifact
        return artifact

    @contextmanager
    def building(self, fingerprint: str, waiting: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """The work folder of an artifact, locked for this process while the block runs.

        The folder stays when the block fails, so that the next attempt can resume.

        Args:
            fingerprint: 64 hex digits.
            waiting: Called once if another process holds the lock, before this one waits for it.

        Yields:
            The folder, with a subfolder `SCRATCH_DIR`.
        """
        work = self.home / "work" / fingerprint[:24]
        (work / SCRATCH_DIR).mkdir(parents=True, exist_ok=True)
        lock = (self.home / "work" / f"{fingerprint[:24]}.lock").open("w")
        try:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                waiting()
                flock(lock, LOCK_EX)  # another run builds the same artifact: wait, then find it complete
                work.mkdir(parents=True, exist_ok=True)
                (work / SCRATCH_DIR).mkdir(exist_ok=True)
            yield work
        finally:
            lock.close()

    @contextmanager
    def recording(self, label: str) -> Iterator[None]:
        """One run at a time records this artifact in Dagster: its materialization, and then the checks of that.

        Args:
            label: Names the artifact among all of a recipe.
        """
        (self.home / "work").mkdir(parents=True, exist_ok=True)
        with (self.home / "work" / f"{digest(label)[:24]}.recording.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            yield

    def seal(
        self,
        asset: str,
        fingerprint: str,
        work: Path,
        *,
        partition: str | None,
        metadata: Mapping[str, Any],
        lineage: Mapping[str, Any],
    ) -> Artifact:
        """Turn a work folder into an artifact: mask secrets, hash and fsync every file, write the manifest, rename into place.

        Args:
            asset: Name of the stage.
            fingerprint: 64 hex digits.
            work: The folder that `building` gave out.
            partition: Task type, or None.
            metadata: Figures for people and Dagster, as JSON values.
            lineage: What the fingerprint is the digest of.

        Returns:
            The artifact, or the one of this fingerprint that another process completed first.

        Raises:
            StoreError: The files were damaged while they were written.
        """
        mask_files(work)
        files = _hashed_files(work)
        content = {name: entry["sha256"] for name, entry in files.items() if not name.startswith(f"{UNHASHED_DIR}/")}
        manifest = {
            "asset": asset,
            "partition": partition,
            "fingerprint": fingerprint,
            "digest": digest(content),
            "files": files,
            "metadata": masked_values(metadata),
            "lineage": masked_values(lineage),
            "created": time.time(),
        }
        # As it will be read: floats, tuples and keys in the form that JSON gives them.
        manifest = json.loads(json.dumps(manifest))
        (work / MANIFEST_FILE).write_bytes(manifest_text(manifest))
        fsync(work / MANIFEST_FILE)
        target = self.folder(asset, fingerprint)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not sooner: the next attempt resumes from these checkpoints if the disk is full now.
        shutil.rmtree(work / SCRATCH_DIR, ignore_errors=True)
        if target.exists():
            shutil.rmtree(work)
        else:
            work.rename(target)
        fsync(target.parent)
        artifact = self.fetch(asset, fingerprint)
        if artifact is None:
            raise StoreError(f"{target} was damaged while it was written: check the disk, then run again")
        return artifact


def _hashed_files(work: Path) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of the files of a work folder, all of which have then reached the disk."""
    files = {}
    for file in sorted(p for p in work.rglob("*") if p.is_file() and p.name != MANIFEST_FILE):
        name = file.relative_to(work).as_posix()
        if name.startswith(f"{SCRATCH_DIR}/"):
            continue
        files[name] = {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        fsync(file)
    return files


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can open, or make one so that exists: a home holds prompts, answers and rows.

    The user's home directory, and folders of others or for everybody, stay as they are.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.stat()
    ours = state.st_uid == os.getuid() and not state.st_mode & stat.S_ISVTX and folder != Path.home()
    if ours and state.st_mode & 0o077:
        with suppress(OSError):  # a file system without permissions
            folder.chmod(0o700)


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file at once, known secrets masked: readers see the old text or the new one, also after a full disk or a kill."""
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        unfinished.write_text(masked(text))
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def tree_digest(path: Path, without: str | None = None) -> str:
    """sha256 of the names and contents of all files below `path`, or of the file `path`; 64 hex digits.

    Files whose names end in `without` do not count.
    """
    if path.is_file():
        return digest({path.name: file_digest(path)})
    return digest(
        {
            p.relative_to(path).as_posix(): file_digest(p)
            for p in sorted(path.rglob("*"))
            if p.is_file() and not (without and p.name.endswith(without))
        }
    )


def fsync(path: Path) -> None:
    """Wait until a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
