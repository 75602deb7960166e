"""A file lock by which others tell whether the process that took it still lives.

Belongs here: taking one. Not here: what it stands for (`living.py`, `cluster.py`), and locks that are waited for (`store.py`).
"""

from __future__ import annotations

from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import IO


def create_locked_file(path: Path) -> IO[str]:
    """A new file at `path`, locked before anybody can find it free, and until it is closed or this process ends."""
    new = path.with_name(f"{path.name}.new")
    file = new.open("w")
    flock(file, LOCK_EX)
    new.rename(path)
    return file
