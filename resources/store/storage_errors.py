"""Errors whose cause is the disk: recognising them, and saying which folder it is and what to do.

Every writer words a full or read-only disk in its own way: Python, polars, SQLite, safetensors, Dagster's event log. A
worker on a full disk cannot even write down why it ended, so the free space is checked, too.

Belongs here: recognising such errors, and their messages. Not here: keeping data valid meanwhile (`store.py`, `ledger.py`,
the workers' journals).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resources.redaction import error_and_causes
from resources.store.store import StoreError

MIN_FREE_BYTES = 1 << 20
"""Free space in bytes below which a disk counts as full: less than a model, a table or a log needs. Ours."""
_FULL = re.compile(
    r"no space left on device|database or disk is full|disk quota exceeded|os error 28\b|errno 28\b", re.I
)
_READ_ONLY = re.compile(r"read-only file system|readonly database|os error 30\b|errno 30\b", re.I)
_BROKEN = re.compile(r"input/output error|disk i/o error|unable to open database file|os error 5\b|errno 5\b", re.I)
_ADVICE = "what is finished is kept, and the next run resumes from it"


def storage_problem(words: str, home: Path) -> str | None:
    """The problem of the storage that is behind an error.

    Args:
        words: The messages of the error and of its causes.
        home: The home that the run writes to.

    Returns:
        The problem and what to do about it; None for an error with another cause.
    """
    folder, free = _tightest(home)
    if _READ_ONLY.search(words):
        return f"{home} is on a read-only file system: make it writable, or set another SPEED_HOME; {_ADVICE}"
    if _FULL.search(words) or free < MIN_FREE_BYTES:
        return f"no space left under {folder} ({free:,} bytes are free): make room there, then run again; {_ADVICE}"
    if _BROKEN.search(words):
        return f"{home} cannot be read or written: check its disk and its permissions, then run again; {_ADVICE}"
    return None


@contextmanager
def explain_storage_errors(home: Path) -> Iterator[None]:
    """Raise errors of the block whose cause is the storage of a home as StoreError, with what to do; others pass unchanged."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        words = "\n".join(map(str, error_and_causes(error)))
        if found := storage_problem(words, home):
            raise StoreError(
                f"{found} ({type(error).__name__}: {words.strip().partition(chr(10))[0][:300]})"
            ) from error
        raise


def _tightest(home: Path) -> tuple[Path, int]:
    """The folder among those that a run writes to whose disk has the least left, and its free bytes."""
    folders = [home, Path(tempfile.gettempdir())]
    found = [(shutil.disk_usage(folder).free, folder) for folder in folders if os.path.isdir(folder)]
    free, folder = min(found, default=(MIN_FREE_BYTES, home))
    return folder, free
