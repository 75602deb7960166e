"""A store that several homes share: any file system that fsspec opens, named by `SPEED_STORE_URL`.

The home stays the place where artifacts are built and read. Behind it lie, below the URL:

    artifacts/<asset>/<fingerprint>/<seal>/...   the files of a sealed artifact, never changed once they are written
    manifests/<asset>/<fingerprint>.json         its `artifact.json`, written last: the artifact is there from then on
    checks/...                                   what checks said, as in a home

Files lie under the seal of their manifest, so two machines that make one fingerprint at the same time write into two
folders, and the manifest, one object, names one of them. Nothing is ever deleted.

Belongs here: that layout, sending, fetching, asking again. Not here: how artifacts lie in a home and what makes them whole
(`store.py`), which artifact is wanted (`artifacts.py`).
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from resources.redaction import redacted_message
from resources.store.store import (
    MANIFEST_FILE,
    Artifact,
    ArtifactManifest,
    Store,
    StoreError,
    file_digest,
    fsync,
    integrity_problem,
    read_manifest,
)

URL_VARIABLE = "SPEED_STORE_URL"
ATTEMPTS = 6
"""Times that one request is made before it has failed."""
WAIT_S = 1.0
"""The most seconds before the second attempt; each later wait may be twice as long: half a minute in all."""
THREADS = 8
"""Files that are under way at the same time."""
_SEEN = "speed-store.json"
"""An object that shows that the store can be reached and written, before anything is made."""
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ImportError, ValueError, TypeError)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError")

T = TypeVar("T")
Key = tuple[str, str]
"""Asset and the beginning of a fingerprint, which name an artifact in a home, too."""


def store_of(home: Path) -> Store:
    """The store of a home, with the shared one behind it that `SPEED_STORE_URL` names. Raises StoreError for a bad URL."""
    url = os.environ.get(URL_VARIABLE)
    return SharedStore(home, bucket_at(url)) if url else Store(home)


class SharedStore(Store):
    """A home, and behind it a store that others see, too."""

    def __init__(self, home: Path, behind: Bucket) -> None:
        super().__init__(home)
        self.bucket = behind

    def open(self) -> SharedStore:
        """Create the folders and see that the shared store can be reached. Raises StoreError."""
        super().open()
        self.bucket.open()
        return self

    def fetch(self, asset: str, fingerprint: str) -> Artifact | None:
        """The artifact in the home, else the shared one, fetched and verified. A damaged one is never used."""
        return super().fetch(asset, fingerprint) or self._fetched(asset, fingerprint)

    def peek(self, asset: str, fingerprint: str) -> ArtifactManifest | None:
        here = super().fetch(asset, fingerprint)
        if here is not None:
            return here
        manifest = self._manifest(asset, fingerprint)
        return ArtifactManifest.of(manifest) if manifest else None

    def manifests(self, asset: str, partition: str | None) -> Iterator[dict[str, Any]]:
        yield from self.local_manifests(asset, partition)
        away = [key for key in self.bucket.manifest_keys(asset, again=True) if not self.folder(*key).exists()]
        for manifest in self.bucket.map_threads(self.bucket.manifest, away):
            if manifest is not None and manifest["partition"] == partition:
                yield manifest

    def share(self, artifact: Artifact) -> None:
        """Send the artifact, its manifest last, unless it is there already. What an interrupted sending left is kept."""
        key = _key(artifact.asset, artifact.fingerprint)
        if self.bucket.has_artifact(key):
            return
        text = (artifact.path / MANIFEST_FILE).read_bytes()
        with self.bucket.timed("up"):
            folder = _folder(key, read_manifest(text))
            there = self.bucket.sizes(folder)
            missing = [name for name, entry in artifact.files.items() if there.get(name) != entry["bytes"]]
            for _ in self.bucket.map_threads(lambda n: self.bucket.upload(artifact.path / n, f"{folder}/{n}"), missing):
                pass
            self.bucket.publish(key, text)

    def save_text(self, name: str, text: str) -> None:
        self.bucket.write(name, text.encode())  # first: what the home holds is not sent again
        super().save_text(name, text)

    def load_text(self, name: str) -> str | None:
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
        """Seconds and bytes, up and down, of this process."""
        return {name: round(value, 2) for name, value in self.bucket.traffic.items()}

    def _manifest(self, asset: str, fingerprint: str) -> dict[str, Any] | None:
        """What the shared store holds under this fingerprint, unless it is known to be damaged."""
        key = _key(asset, fingerprint)
        manifest = self.bucket.manifest(key)
        if key in self.bucket.unreported_damage:
            self._tell(key, self.bucket.unreported_damage.pop(key))
        return manifest if manifest is not None and manifest["fingerprint"] == fingerprint else None

    def _fetched(self, asset: str, fingerprint: str) -> Artifact | None:
        key = _key(asset, fingerprint)
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
                self._tell(key, problem)
        return None

    def _download(self, key: Key, manifest: Mapping[str, Any], folder: Path) -> str | None:
        """Bring the files into `folder`; what is wrong with them, or None. What an earlier attempt brought is kept."""
        strange = [name for name in manifest["files"] if not _plain_path(name)]
        if strange:
            return f"{MANIFEST_FILE} names a file outside of the artifact"
        text = self.bucket.manifest_bytes(key)
        if (folder / MANIFEST_FILE).exists() and (folder / MANIFEST_FILE).read_bytes() != text:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).write_bytes(text)

        def bring(name: str) -> None:
            file = folder / name
            if not file.is_file() or file_digest(file) != manifest["files"][name]["sha256"]:
                file.parent.mkdir(parents=True, exist_ok=True)
                self.bucket.download(f"{_folder(key, manifest)}/{name}", file)
            if file.is_file():
                fsync(file)

        for _ in self.bucket.map_threads(bring, manifest["files"]):
            pass
        return integrity_problem(folder)

    @contextmanager
    def _fetching(self, key: Key) -> Iterator[Path]:
        """The folder into which an artifact is fetched, held by this process alone."""
        (self.home / "work").mkdir(parents=True, exist_ok=True)
        folder = self.home / "work" / f"fetched-{key[1]}"
        with folder.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            yield folder

    def _tell(self, key: Key, problem: str) -> None:
        self.damage_reports.append(
            f"{key[0]}: {problem} in the shared store; it is not used, and replaced once it is made again"
        )


class Bucket:
    """Objects below one URL. Threads may share it.

    A manifest that this process has read stays what it was: another home may replace it, but not what a run is made from.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.traffic = {"up_s": 0.0, "up_bytes": 0.0, "down_s": 0.0, "down_bytes": 0.0}
        self.unreported_damage: dict[Key, str] = {}
        """Manifests that cannot be read and that nobody has been told of."""
        self._read: dict[Key, tuple[bytes, dict[str, Any]]] = {}
        self._listed: dict[str, set[str]] = {}
        self._rejected: dict[Key, bytes] = {}
        self._looked: set[str] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        """See that the store can be reached, and at the first time that it can be written. Raises StoreError."""
        if self._protocols[0] == "file" and not self._fs.isdir(
            self._opened[1]
        ):  # else a store of its own would begin there
            raise StoreError(f"the shared store {self.url} is not there: mount that folder, or create it once")
        if self.read(_SEEN) is None:
            self.write(_SEEN, b'{"layout": 1}\n')

    def manifest(self, key: Key) -> dict[str, Any] | None:
        """The manifest under a key; None when there is none, or one that was rejected."""
        if key in self._read:
            return self._read[key][1]
        text = self.read(_pointer(key))
        if text is None or text == self._rejected.get(key):
            return None
        try:
            manifest = read_manifest(text)
            if _key(manifest["asset"], manifest["fingerprint"]) != key:
                raise ValueError(f"{MANIFEST_FILE} is another artifact's")
        except ValueError as error:
            self._rejected[key] = text
            self.unreported_damage[key] = str(error)
            return None
        self._read[key] = text, manifest
        return manifest

    def manifest_bytes(self, key: Key) -> bytes:
        """The bytes of a manifest that was read."""
        return self._read[key][0]

    def reject(self, key: Key) -> None:
        """What the manifest names is damaged: it counts as absent, until there is another."""
        self._rejected[key] = self._read.pop(key)[0]

    def has_artifact(self, key: Key) -> bool:
        """Whether a whole artifact is there, as far as anybody has seen."""
        if key not in self._rejected and (key in self._read or key in self.manifest_keys(key[0])):
            return True
        return self.manifest(key) is not None

    def publish(self, key: Key, text: bytes) -> None:
        """Write a manifest whose files are all there."""
        self.write(_pointer(key), text)
        self._read[key] = text, read_manifest(text)
        self._rejected.pop(key, None)

    def manifest_keys(self, asset: str, again: bool = False) -> set[Key]:
        """The keys of an asset's manifests: as this process first saw them, or as they are now."""
        if again or asset not in self._listed:
            self._listed[asset] = {name.removesuffix(".json") for name in self.json_names(f"manifests/{asset}")}
        return {(asset, name) for name in self._listed[asset]}

    def first_visit(self, folder: str) -> bool:
        """Whether this process has not looked into a folder yet."""
        with self._lock:
            new = folder not in self._looked
            self._looked.add(folder)
        return new

    def read(self, name: str) -> bytes | None:
        """The bytes of an object, or None."""
        try:
            # From byte 0 on, since a read without limits asks S3 for the size first: one more request for each look.
            content: bytes = self._again(f"read {name}", lambda: self._fs.cat_file(self._path(name), start=0))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an object at once: whoever reads it meanwhile reads the old one."""

        def write() -> None:
            if "file" not in self._protocols:
                self._fs.pipe_file(self._path(name), content)
                return
            temporary = f"{self._path(name)}.{os.getpid()}-{threading.get_ident()}"
            self._fs.pipe_file(temporary, content)
            os.replace(temporary, self._path(name))

        self._required(f"write {name}", write)

    def upload(self, file: Path, name: str) -> None:
        """Send a file."""
        self._required(f"write {name}", lambda: self._fs.put_file(str(file), self._path(name)))
        self._count("up_bytes", file.stat().st_size)

    def download(self, name: str, file: Path) -> None:
        """Bring an object; nothing is written when it is not there."""
        try:
            self._again(f"read {name}", lambda: self._fs.get_file(self._path(name), str(file)))
        except FileNotFoundError:
            file.unlink(missing_ok=True)
            return
        self._count("down_bytes", file.stat().st_size)

    def json_names(self, folder: str) -> list[str]:
        """Names of the JSON objects in a folder."""

        def look() -> list[str]:
            self._fs.invalidate_cache()
            found = self._fs.ls(self._path(folder), detail=False)
            return sorted(name for path in found if (name := path.rstrip("/").rpartition("/")[2]).endswith(".json"))

        try:
            return self._again(f"list {folder}", look)
        except FileNotFoundError:
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """{name below the folder: bytes} of every object in it."""
        root = f"{self._path(folder)}/"

        def look() -> dict[str, int]:
            self._fs.invalidate_cache()
            found = self._fs.find(self._path(folder), detail=True)
            return {path.removeprefix(root): int(info["size"]) for path, info in found.items()}

        try:
            return self._again(f"list {folder}", look)
        except FileNotFoundError:
            return {}

    def map_threads(self, action: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """The results of an action on every item, in order, several at a time. The first error ends it."""
        pool = ThreadPoolExecutor(THREADS)
        try:
            yield from pool.map(action, list(items))
        finally:
            pool.shutdown(cancel_futures=True)

    @contextmanager
    def timed(self, way: str) -> Iterator[None]:
        """Count the seconds of a block, `up` or `down`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._count(f"{way}_s", time.monotonic() - started)

    def _count(self, name: str, value: float) -> None:
        with self._lock:
            self.traffic[name] += value

    def _required(self, what: str, action: Callable[[], T]) -> T:
        try:
            return self._again(what, action)
        except FileNotFoundError as error:
            raise StoreError(
                f"the shared store {self.url} could not {what} ({redacted_message(error)}): "
                f"create the bucket or folder, or set another {URL_VARIABLE}"
            ) from None

    def _again(self, what: str, action: Callable[[], T]) -> T:
        """Do it until it is done, `ATTEMPTS` times at most. Raises FileNotFoundError, and StoreError for all else."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except FileNotFoundError:
                raise
            except Exception as error:
                if isinstance(error, StoreError):
                    raise
                if type(error).__name__ in _NO_CREDENTIALS or isinstance(error, PermissionError):
                    advice = "see that the credentials in the environment (for S3: AWS_*) may read and write there"
                elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    advice = "make room, or let write there"
                elif isinstance(error, _FINAL):
                    advice = f"see that {URL_VARIABLE} and the settings of its fsspec file system are right"
                elif attempt < ATTEMPTS:
                    time.sleep(random.random() * WAIT_S * 2 ** (attempt - 1))
                    continue
                else:
                    advice = f"tried {ATTEMPTS} times; see that it is up and can be reached"
                words = f"the shared store {self.url} could not {what} ({redacted_message(error)})"
            raise StoreError(f"{words}: {advice}, then run again: what is made is kept, and sent by the next run")
        raise AssertionError("unreachable")

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}"

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    @property
    def _protocols(self) -> tuple[str, ...]:
        return (self._fs.protocol,) if isinstance(self._fs.protocol, str) else tuple(self._fs.protocol)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the path of the URL in it. Raises StoreError."""
        from fsspec.config import conf
        from fsspec.core import url_to_fs

        protocol = self.url.partition("://")[0] if "://" in self.url else "file"
        options: dict[str, Any] = {"skip_instance_cache": True}
        if protocol in ("file", "local"):
            options["auto_mkdir"] = True
        elif protocol in ("s3", "s3a") and "config_kwargs" not in conf.get("s3", {}):
            # Asking again is done here, once: three layers of it would make minutes of one that stalls.
            options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 2 * THREADS}
        try:
            system, root = url_to_fs(self.url, **options)
        except ImportError as error:
            package = "'speed-assets[s3]'" if protocol in ("s3", "s3a") else f"what fsspec needs for {protocol}"
            raise StoreError(
                f"{URL_VARIABLE} needs a package ({redacted_message(error)}): pip install {package}"
            ) from None
        except ValueError as error:
            raise StoreError(
                f"{URL_VARIABLE} cannot be opened ({redacted_message(error)}): write the URL of a file system that fsspec knows"
            ) from None
        if protocol in ("s3", "s3a"):
            system.retries = 1
        return system, root.rstrip("/")


@cache
def bucket_at(url: str) -> Bucket:
    """The one of this process under a URL."""
    return Bucket(url)


def _checked(url: str) -> str:
    if re.search(r"://[^/]*@", url) or "?" in url or "#" in url:
        raise StoreError(
            f"{URL_VARIABLE} holds a user, a password or options: write protocol://bucket/prefix only, and give "
            "credentials and endpoint in the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
        )
    return url


def _key(asset: str, fingerprint: str) -> Key:
    return asset, fingerprint[:24]


def _pointer(key: Key) -> str:
    return f"manifests/{key[0]}/{key[1]}.json"


def _folder(key: Key, manifest: Mapping[str, Any]) -> str:
    return f"artifacts/{key[0]}/{key[1]}/{str(manifest['seal'])[:24]}"


def _plain_path(name: str) -> bool:
    """Whether a name stays below the folder that it is joined to."""
    return name == PurePosixPath(name).as_posix() and not name.startswith("/") and ".." not in PurePosixPath(name).parts
