"""A file lock that shows other processes whether the process that took it is alive.

Belongs here: taking one. Not here: what a lock means (`run_liveness.py`, `cluster.py`), and locks that a process waits
for (`store.py`).
"""

from __future__ import annotations

from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import IO


def create_locked_file(path: Path) -> IO[str]:
    """Create a file that is locked before it appears at `path`, and until it is closed or this process ends.

    Args:
        path: Where the file appears; its folder must exist.

    Returns:
        The open file; closing it frees the lock.
    """
    new = path.with_name(f"{path.name}.new")
    file = new.open("w")
    flock(file, LOCK_EX)
    new.rename(path)
    return file
