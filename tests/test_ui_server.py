"""`speed ui` gives its address once the server answers, refuses a port in use, and ends with its server."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from resources.store.store import StoreError
from speed_assets.orchestration import ui_server
from tests.support.servers import free_port

LATE_S = 1.0
SERVER = f"""
import http.server, sys, time
time.sleep({LATE_S})
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of signals as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _serve_until_announced(port: int, number: int) -> tuple[list[str], float, int]:
    """What was announced, after how many seconds, and the exit status after this signal."""
    lines: list[str] = []
    after: list[float] = []
    started = time.monotonic()

    def say(line: str) -> None:
        lines.append(line)
        after.append(time.monotonic() - started)
        if len(lines) > 1:
            return
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()

    status = ui_server.serve(port, say)
    return lines, after[0], status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_address_is_announced_once_the_server_answers(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    port = free_port()
    monkeypatch.setattr(ui_server, "_command", lambda port: [sys.executable, "-c", SERVER, str(port)])
    lines, after, status = _serve_until_announced(port, number)
    assert after >= LATE_S
    assert [line.split()[0] for line in lines] == [f"http://127.0.0.1:{port}", "interrupted:"]
    assert status == 0, "an interrupted server is no failure"
    ui_server._check_port(port)  # free again


def test_a_server_that_fails_is_never_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_server, "_command", lambda _port: [sys.executable, "-c", "raise SystemExit(3)"])
    lines: list[str] = []
    assert ui_server.serve(free_port(), lines.append) == 3
    assert lines == []


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StoreError, match="--port"):
            ui_server.serve(taken.getsockname()[1], print)
