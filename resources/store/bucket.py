"""Objects below one URL of any file system that fsspec opens: reading, writing, listing, and retrying.

Hidden state of the process: `bucket_at` caches one `Bucket` per URL, with the manifests and listings it has read.

Belongs here: requests to the object store and the names of its objects. Not here: which artifact is sent or fetched
(`shared_store.py`), and how an artifact is laid out in a home (`store.py`).
"""

from __future__ import annotations

import errno
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from resources.redaction import redacted_message
from resources.store.figures import check_figures
from resources.store.manifests import MANIFEST_BYTES_MAX, MANIFEST_FILE, read_manifest
from resources.store.store import StoreError

URL_VARIABLE = "SPEED_STORE_URL"
ATTEMPTS = 6
"""Attempts per request, the first included. Ours."""
WAIT_S = 1.0
"""Longest wait before the second attempt, in seconds; each later wait may be twice as long: half a minute in all. Ours."""
THREADS = 8
"""Files transferred at the same time. Ours."""
_PROBE = "speed-store.json"
"""An object that shows that the store can be reached and written, before anything is built."""
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ImportError, ValueError, TypeError)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError")

T = TypeVar("T")
Key = tuple[str, str]
"""Asset and the first 24 digits of a fingerprint: the name of an artifact in a home, too."""


class Bucket:
    """Objects below one URL. Threads may share it.

    Manifests are cached for the lifetime of the process: another home may replace one, but not the inputs of a run.
    Requests raise StoreError when they fail for good; the message says what to do.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.traffic = {"up_s": 0.0, "up_bytes": 0.0, "down_s": 0.0, "down_bytes": 0.0}
        self.unreported_damage: dict[Key, str] = {}
        """Manifests that cannot be read and that no message has named yet, with the reason."""
        self._read: dict[Key, tuple[bytes, dict[str, Any]]] = {}
        self._listed: dict[str, set[str]] = {}
        self._rejected: dict[Key, bytes] = {}
        self._looked: set[str] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Check that the store can be reached, and before its first use that it can be written. Raises StoreError."""
        if self._protocols[0] == "file" and not self._fs.isdir(
            self._opened[1]
        ):  # a missing mount would begin a new store
            raise StoreError(f"the shared store {self.url} is not there: mount that folder, or create it once")
        if self.read(_PROBE) is None:
            self.write(_PROBE, b'{"layout": 1}\n')

    def manifest(self, key: Key) -> dict[str, Any] | None:
        """The manifest under a key; None when there is none, or when it was rejected."""
        if key in self._read:
            return self._read[key][1]
        text = self.read(manifest_name(key))
        if text is None or text == self._rejected.get(key):
            return None
        try:
            manifest = read_manifest(text)
            if artifact_key(manifest["asset"], manifest["fingerprint"]) != key:
                raise ValueError(f"{MANIFEST_FILE} is another artifact's")
            check_figures(manifest)
        except ValueError as error:
            self._rejected[key] = text
            self.unreported_damage[key] = str(error)
            return None
        self._read[key] = text, manifest
        return manifest

    def manifest_bytes(self, key: Key) -> bytes:
        """The bytes of a manifest that `manifest` has returned."""
        return self._read[key][0]

    def reject(self, key: Key) -> None:
        """Treat a manifest as absent, since its files are damaged, until another home replaces it."""
        self._rejected[key] = self._read.pop(key)[0]

    def has_artifact(self, key: Key) -> bool:
        """Whether the store has a complete artifact under a key that was not rejected."""
        if key not in self._rejected and (key in self._read or key in self.manifest_keys(key[0])):
            return True
        return self.manifest(key) is not None

    def publish(self, key: Key, text: bytes) -> None:
        """Write a manifest; its files must have been uploaded."""
        self.write(manifest_name(key), text)
        self._read[key] = text, read_manifest(text)
        self._rejected.pop(key, None)

    def manifest_keys(self, asset: str, again: bool = False) -> set[Key]:
        """The keys of an asset's manifests: as this process first listed them, or `again` as they are now."""
        if again or asset not in self._listed:
            self._listed[asset] = {name.removesuffix(".json") for name in self.json_names(f"manifests/{asset}")}
        return {(asset, name) for name in self._listed[asset]}

    def first_visit(self, folder: str) -> bool:
        """Whether this is the first call with that folder in this process."""
        with self._lock:
            new = folder not in self._looked
            self._looked.add(folder)
        return new

    def read(self, name: str) -> bytes | None:
        """The bytes of an object, at most one more than a manifest may have; None when it does not exist.

        A folder, a pipe or a link to nothing in the place of an object has none.
        """
        if "file" in self._protocols and os.path.lexists(path := self._path(name)) and not os.path.isfile(path):
            return b""
        try:
            # With a range: a read without limits asks S3 for the size first, and an object may have any size.
            content: bytes = self._again(
                f"read {name}", lambda: self._fs.cat_file(self._path(name), start=0, end=MANIFEST_BYTES_MAX + 1)
            )
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replace an object at once: readers get the old bytes or the new ones."""

        def write() -> None:
            if "file" not in self._protocols:
                self._fs.pipe_file(self._path(name), content)
                return
            temporary = f"{self._path(name)}.{os.getpid()}-{threading.get_ident()}"
            self._fs.pipe_file(temporary, content)
            os.replace(temporary, self._path(name))

        self._required(f"write {name}", write)

    def upload(self, file: Path, name: str) -> None:
        """Send a file to an object."""
        self._required(f"write {name}", lambda: self._fs.put_file(str(file), self._path(name)))
        self._count("up_bytes", file.stat().st_size)

    def download(self, name: str, file: Path) -> None:
        """Fetch an object into a file; writes nothing when the object does not exist."""
        path = self._path(name)
        if "file" in self._protocols and not os.path.isfile(path):  # a pipe never ends
            file.unlink(missing_ok=True)
            return
        try:
            self._again(f"read {name}", lambda: self._fs.get_file(path, str(file)))
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
        """The results of an action on every item, in order, `THREADS` at a time. The first error ends it."""
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
        """Try an action `ATTEMPTS` times at most. Raises FileNotFoundError, and StoreError for every other failure."""
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
            # Retries are made here alone: three layers of them would turn one stall into minutes.
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
    """The bucket of this process under a URL."""
    return Bucket(url)


def _checked(url: str) -> str:
    if re.search(r"://[^/]*@", url) or "?" in url or "#" in url:
        raise StoreError(
            f"{URL_VARIABLE} holds a user, a password or options: write protocol://bucket/prefix only, and give "
            "credentials and endpoint in the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
        )
    return url


def artifact_key(asset: str, fingerprint: str) -> Key:
    """The key of an artifact."""
    return asset, fingerprint[:24]


def manifest_name(key: Key) -> str:
    """The name of the object that holds an artifact's manifest."""
    return f"manifests/{key[0]}/{key[1]}.json"


def files_folder(key: Key, manifest: Mapping[str, Any]) -> str:
    """The folder of the objects that hold an artifact's files."""
    return f"artifacts/{key[0]}/{key[1]}/{str(manifest['seal'])[:24]}"
