"""Which process holds something, and whether it is still alive.

On the same machine that is exact: a process is named by its id and its start, so neither a stopped process nor a reused id
is mistaken, and no clock is trusted. A process on another machine cannot be seen; it counts as alive for `ELSEWHERE_S`.

Hidden state of the process: the name of this machine, which is cached.

Belongs here: naming a process and checking it. Not here: what it holds (`budget.py`, `ledger.py`).
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
    """The name of this process: its machine, its id, and when it started."""
    pid = os.getpid()
    return f"{_place()}/{pid}/{_started(pid)}"


def is_alive(process: str, since: float) -> bool:
    """Whether a process still runs.

    Args:
        process: As `process_name` gives it, with anything after a further slash.
        since: Unix seconds of its last sign of life, which count on another machine.
    """
    place, pid, started = process.split("/")[:3]
    if place != _place():
        return time.time() - since < ELSEWHERE_S
    return _started(int(pid)) == started


@cache
def _place() -> str:
    """A name for this machine since its boot, and for the namespace of its process ids."""
    try:
        since = Path("/proc/sys/kernel/random/boot_id").read_text()
        return short_id("place", platform.node(), since, os.readlink("/proc/self/ns/pid"))
    except OSError:
        return short_id("place", platform.node())


def _started(pid: int) -> str | None:
    """Clock ticks from the machine's boot to the process's start; None when it is dead or a zombie."""
    try:
        # The program's name is in brackets and may contain anything; state and start time follow it.
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
