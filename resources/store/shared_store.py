"""A store that several homes share: any file system that fsspec opens, named by `SPEED_STORE_URL`.

Artifacts are built and read in the home. The shared store holds copies, below the URL:

    artifacts/<asset>/<fingerprint>/<seal>/...   the files of a sealed artifact, never changed once they are written
    manifests/<asset>/<fingerprint>.json         its `artifact.json`, written last: the artifact exists from then on
    checks/...                                   outcomes of checks, as in a home

Files are stored under the seal of their manifest, so two machines that build one fingerprint at the same time write to
two folders, and the manifest, one object, names one of them. Nothing is ever deleted.

Belongs here: sending and fetching artifacts in that layout. Not here: requests and retries (`bucket.py`), the layout of a
home and the integrity of an artifact (`store.py`), which artifact is wanted (`artifacts.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from typing_extensions import override

from resources.redaction import masked
from resources.store.bucket import URL_VARIABLE, Bucket, Key, artifact_key, bucket_at, files_folder
from resources.store.manifests import MANIFEST_FILE, file_digest, integrity_problem, names_artifact, read_manifest
from resources.store.store import Artifact, ArtifactManifest, Store, fsync


def store_of(home: Path) -> Store:
    """The store of a home, together with the shared one where `SPEED_STORE_URL` names one. Raises StoreError for a bad URL."""
    url = os.environ.get(URL_VARIABLE)
    return SharedStore(home, bucket_at(url)) if url else Store(home)


class SharedStore(Store):
    """The store of a home that fetches from a shared store what the home lacks, and sends there what it makes."""

    def __init__(self, home: Path, bucket: Bucket) -> None:
        super().__init__(home)
        self.bucket = bucket

    @override
    def open(self) -> SharedStore:
        """Create the folders and check that the shared store can be reached. Raises StoreError."""
        super().open()
        self.bucket.open()
        return self

    @override
    def fetch(self, asset: str, fingerprint: str) -> Artifact | None:
        """The artifact in the home, else the one in the shared store, fetched and verified. A damaged one is never used."""
        return super().fetch(asset, fingerprint) or self._fetched(asset, fingerprint)

    @override
    def peek(self, asset: str, fingerprint: str) -> ArtifactManifest | None:
        """The manifest in the home, else the one in the shared store."""
        here = super().fetch(asset, fingerprint)
        if here is not None:
            return here
        manifest = self._manifest(asset, fingerprint)
        return ArtifactManifest.of(manifest) if manifest else None

    @override
    def manifests(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        """Manifests of home and shared store, those of the home first."""
        yield from self.local_manifests(asset, partition)
        away = [key for key in self.bucket.manifest_keys(asset, again=True) if not self.folder(*key).exists()]
        for manifest in self.bucket.map_threads(self.bucket.manifest, away):
            if manifest is not None and manifest["partition"] == partition:
                yield manifest

    @override
    def share(self, artifact: Artifact) -> None:
        """Send the artifact, its manifest last, unless the shared store has it. Resumes an interrupted upload."""
        key = artifact_key(artifact.asset, artifact.fingerprint)
        if self.bucket.has_artifact(key):
            return
        text = (artifact.path / MANIFEST_FILE).read_bytes()
        with self.bucket.timed("up"):
            folder = files_folder(key, read_manifest(text))
            there = self.bucket.sizes(folder)
            missing = [name for name, entry in artifact.files.items() if there.get(name) != entry["bytes"]]
            for _ in self.bucket.map_threads(lambda n: self.bucket.upload(artifact.path / n, f"{folder}/{n}"), missing):
                pass
            self.bucket.publish(key, text)

    @override
    def save_text(self, name: str, text: str) -> None:
        """Save a text in the shared store and in the home."""
        self.bucket.write(name, masked(text).encode())  # first: what the home holds is not sent again
        super().save_text(name, text)

    @override
    def load_text(self, name: str) -> str | None:
        """The text in the home; the first call for a folder fetches the shared store's texts of it."""
        folder = name.rpartition("/")[0]
        if not (self.home / name).exists() and self.bucket.first_visit(folder):
            names = [
                f"{folder}/{file}"
                for file in self.bucket.json_names(folder)
                if not (self.home / folder / file).exists()
            ]
            for other, content in zip(names, self.bucket.map_threads(self.bucket.read, names), strict=True):
                if content is not None:
                    super().save_text(other, content.decode(errors="replace"))
        return super().load_text(name)

    def traffic(self) -> dict[str, float]:
        """Seconds and bytes, up and down, that this process has transferred."""
        return {name: round(value, 2) for name, value in self.bucket.traffic.items()}

    def _manifest(self, asset: str, fingerprint: str) -> dict[str, Any] | None:
        """The manifest of the shared store under this fingerprint; None when it is damaged, or these are no names."""
        if not names_artifact(asset, fingerprint):
            return None
        key = artifact_key(asset, fingerprint)
        manifest = self.bucket.manifest(key)
        if key in self.bucket.unreported_damage:
            self._report_damage(key, self.bucket.unreported_damage.pop(key))
        if manifest is not None and manifest["fingerprint"] != fingerprint:
            self.bucket.reject(key)
            self._report_damage(key, f"{MANIFEST_FILE} is another artifact's")
            return None
        return manifest

    def _fetched(self, asset: str, fingerprint: str) -> Artifact | None:
        key = artifact_key(asset, fingerprint)
        while (manifest := self._manifest(asset, fingerprint)) is not None:
            with self.bucket.timed("down"), self._fetching(key) as folder:
                if self.folder(*key).exists():  # another process was faster
                    return super().fetch(asset, fingerprint)
                problem = self._download(key, manifest, folder)
                if problem is None:
                    target = self.folder(*key)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    folder.rename(target)
                    fsync(target.parent)
                    return self._remember(manifest, target)
                shutil.rmtree(folder, ignore_errors=True)
                self.bucket.reject(key)
                self._report_damage(key, problem)
        return None

    def _download(self, key: Key, manifest: Mapping[str, Any], folder: Path) -> str | None:
        """Fetch the files into `folder`, resuming an earlier attempt; returns what is wrong with them, or None.

        Nothing is fetched when an object has another size than the manifest states: it could fill the disk.
        """
        there = self.bucket.sizes(files_folder(key, manifest))
        for name, entry in manifest["files"].items():
            if (size := there.get(name)) is not None and size != entry["bytes"]:
                return f"{name} has {size} bytes instead of {entry['bytes']}"
        text = self.bucket.manifest_bytes(key)
        if (folder / MANIFEST_FILE).exists() and (folder / MANIFEST_FILE).read_bytes() != text:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).write_bytes(text)

        def bring(name: str) -> None:
            file = folder / name
            if not file.is_file() or file_digest(file) != manifest["files"][name]["sha256"]:
                file.parent.mkdir(parents=True, exist_ok=True)
                self.bucket.download(f"{files_folder(key, manifest)}/{name}", file)
            if file.is_file():
                fsync(file)

        for _ in self.bucket.map_threads(bring, manifest["files"]):
            pass
        return integrity_problem(folder)

    @contextmanager
    def _fetching(self, key: Key) -> Iterator[Path]:
        """The folder into which an artifact is fetched, locked for this process."""
        (self.home / "work").mkdir(parents=True, exist_ok=True)
        folder = self.home / "work" / f"fetched-{key[1]}"
        with folder.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            yield folder

    def _report_damage(self, key: Key, problem: str) -> None:
        self.damage_reports.append(
            f"{key[0]}: {problem} in the shared store; it is not used, and replaced once it is made again"
        )
