"""Which process holds something, and whether it is still alive.

On the same machine that is exact: a process is its id and the moment it started, so neither a stopped process nor
an id given out again deceives, and no clock is trusted. Of a process elsewhere nothing can be seen; what it holds
counts as held for `ELSEWHERE_S`.

Belongs here: naming a process and asking for it. Not here: what it holds (`money.py`, `ledger.py`).
"""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from pathlib import Path

from speed_assets.domain.fingerprints import short_id

ELSEWHERE_S = 48 * 3600.0
"""Seconds: twice the day that a provider may take for a batch, the longest that anything is held."""


def process_name() -> str:
    """A name for this process: where it runs, its id, and when it started."""
    pid = os.getpid()
    return f"{_place()}/{pid}/{_started(pid)}"


def is_alive(process: str, since: float) -> bool:
    """Whether the process of that name still runs; `since` is when it last showed itself (Unix seconds)."""
    place, pid, started = process.split("/")[:3]
    if place != _place():
        return time.time() - since < ELSEWHERE_S
    return _started(int(pid)) == started


@cache
def _place() -> str:
    """This machine since its start, and the namespace in which its process ids mean something."""
    try:
        since = Path("/proc/sys/kernel/random/boot_id").read_text()
        return short_id("place", platform.node(), since, os.readlink("/proc/self/ns/pid"))
    except OSError:
        return short_id("place", platform.node())


def _started(pid: int) -> str | None:
    """Clock ticks from the machine's start to the process's; None when it is dead, or dead and not yet buried."""
    try:
        # The name of the program stands in brackets and may hold anything; state and start time follow it.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)  # no /proc here: the id alone has to do
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "0"
