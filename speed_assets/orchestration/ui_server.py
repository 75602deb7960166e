"""Serving the Dagster UI: `speed ui`.

Belongs here: the server's process, and when it answers. Not here: what it serves (`definitions.py`).
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from resources.store.store import StoreError
from speed_assets.recipe import SHIPPED

HOST = "127.0.0.1"
_LOOK_S = 0.2
"""Seconds between two questions whether the server answers."""


def serve(port: int, say: Callable[[str], None]) -> int:
    """Run the UI until it ends; say its address once it answers, and that it was interrupted.

    Args:
        port: port of loopback; SPEED_HOME, SPEED_RECIPE and DAGSTER_HOME are read from the environment.
        say: receives a line with the address and the seconds that it took, and one after an interrupt.

    Returns:
        The exit status of the server; 0 when it was interrupted.

    Raises:
        StoreError: the port cannot be used, for instance since another process listens on it.
    """
    _check_port(port)
    started = time.monotonic()
    # A session of its own: whatever interrupts this process, the server and its runs get one Ctrl-C, from here.
    server = subprocess.Popen(_command(port), cwd=SHIPPED, start_new_session=True)
    interrupted = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    address, announced = f"http://{HOST}:{port}", False
    while True:
        try:
            status = server.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if not announced and _answers(address):
                announced = True
                say(f"{address} serves after {time.monotonic() - started:.0f} s; Ctrl-C ends it")
        else:
            if not interrupted:
                return status
            say("interrupted: the UI has ended, what is finished is kept")
            return 0


def _command(port: int) -> list[str]:
    # With the workspace named, `dg` does not look for the project's YAML first.
    workspace = str(SHIPPED / "workspace.yaml")
    services = [sys.executable, "-m", "speed_assets.orchestration.ui_services"]
    return [*services, "--host", HOST, "--port", str(port), "--workspace", workspace, "--log-level", "warning"]


def _check_port(port: int) -> None:
    """Raise StoreError for a port that the server could not listen on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                words = f"port {port} is in use, perhaps by another `speed ui`: end it, or name a free port with --port"
            else:
                words = f"port {port} cannot be used ({getattr(error, 'strerror', None) or error}): name another with --port"
            raise StoreError(words) from None


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=5) as response:  # noqa: S310 - loopback
            return bool(response.status == 200)
    except OSError:
        return False
