"""Ctrl-C in a terminal: the signal goes to every process of the group, and the end is one line without a traceback."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from resources.dagster_internals import DagsterExecutionInterruptedError
from speed_assets.orchestration.lanes import _quiet_interrupts, dropped_interrupts
from speed_assets.recipe import PROJECT
from tests.support.faults import ended, start, wait_until
from tests.support.servers import free_port


def test_a_run_ends_in_one_line(recipe: Path, tmp_path: Path) -> None:
    process = start(recipe, tmp_path / "home")
    wait_until(lambda: list((tmp_path / "home" / "artifacts").glob("task_list/*")))
    os.killpg(process.pid, signal.SIGINT)
    printed = ended(process, 130)
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == "interrupted: what is finished is kept, the next run resumes from here"


def test_what_a_library_logs_of_the_interrupt_is_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("sqlalchemy.pool")
    with _quiet_interrupts():
        for error in (DagsterExecutionInterruptedError, OSError):
            try:
                raise error
            except BaseException:
                library.exception("an error of closing a connection")
    library.error("one after it")
    assert [entry.exc_info and entry.exc_info[0] for entry in caplog.records] == [OSError, None]


@pytest.mark.parametrize("error", [DagsterExecutionInterruptedError, KeyboardInterrupt, OSError])
def test_an_interrupt_that_strikes_a_finalizer_is_not_lost(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: printed.append(found.exc_type))

    with dropped_interrupts() as dropped:
        assert not dropped.is_set()
        _make_and_drop(error)
    assert dropped.is_set() is (error is not OSError)
    assert printed == ([OSError] if error is OSError else [])


def _make_and_drop(error: type[BaseException]) -> None:
    class Collected:
        def __del__(self) -> None:
            raise error

    Collected()


def _status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.timeout(300)
def test_the_ui_answers_its_own_host_alone_and_ends_quietly(recipe: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "speed_assets.cli", "ui", "--recipe", str(recipe), "--port", str(port)],
            cwd=PROJECT,
            env={**os.environ, "SPEED_HOME": str(tmp_path / "home")},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "serves after" in log.read_text() or process.poll() is not None)
        assert "WARNING" not in log.read_text()
        address = f"http://127.0.0.1:{port}/server_info"
        assert _status(address) == 200
        assert _status(address, Host=f"localhost:{port}", Origin=f"http://localhost:{port}") == 200
        assert _status(address, Host="evil.example") == 400
        assert _status(address, Origin="http://evil.example") == 400
        assert _status(f"http://127.0.0.1:{port}/graphql?query={{version}}") == 400, (
            "an image of another site could ask it"
        )
        before = len(log.read_text())
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(120)
    ending = log.read_text()[before:].splitlines()
    assert ending == ["interrupted: the UI has ended, what is finished is kept"]
