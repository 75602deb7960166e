"""Storage that gives out: recognising it behind an error, and saying where and what to do.

A full or read-only disk shows itself in as many words as there are writers: Python, polars, SQLite, safetensors,
Dagster's event log. And a worker on a full disk cannot even write down why it ended, so the disk itself is asked too.

Belongs here: the words. Not here: what is kept whole while it happens (`store.py`, `ledger.py`, the workers' journals).
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
"""Bytes of free space below which a disk counts as full: less than a model, a table or a log needs."""
_FULL = re.compile(
    r"no space left on device|database or disk is full|disk quota exceeded|os error 28\b|errno 28\b", re.I
)
_READ_ONLY = re.compile(r"read-only file system|readonly database|os error 30\b|errno 30\b", re.I)
_BROKEN = re.compile(r"input/output error|disk i/o error|unable to open database file|os error 5\b|errno 5\b", re.I)
_TELLING = "what is finished is kept, and the next run goes on from there"


def storage_problem(words: str, home: Path) -> str | None:
    """What is wrong with the storage that an error speaks of, and what to do; None for an error about anything else."""
    folder, free = _tightest(home)
    if _READ_ONLY.search(words):
        return f"{home} is on a read-only file system: make it writable, or set another SPEED_HOME; {_TELLING}"
    if _FULL.search(words) or free < MIN_FREE_BYTES:
        return f"no space left under {folder} ({free:,} bytes are free): make room there, then run again; {_TELLING}"
    if _BROKEN.search(words):
        return (
            f"{home} cannot be read or written: look at its disk and at who may write there, then run again; {_TELLING}"
        )
    return None


@contextmanager
def explain_storage_errors(home: Path) -> Iterator[None]:
    """Raise an error that the storage of a home is behind as StoreError, with what to do."""
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
