"""Shared fixtures: the environment of tests, and data that may or may not lie beside the project."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("no deadlines", deadline=None)  # a busy machine is no fault
settings.load_profile("no deadlines")

POSTGRES_PASSWORD = "p4ssw0rd-of-the-ledger"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and topic trees beside the project; tests that need them skip without them."""
    path = Path(os.environ.get("SPEED_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}: set SPEED_SHARED to the folder that has it")
    return path


class Postgres:
    """A private PostgreSQL server on loopback, with a password, that can be killed, stopped and started again."""

    def __init__(self, programs: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="speed-pg-"))
        self._programs = programs
        # The server refuses to run as root.
        self._user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        password = self.folder / "password"
        password.write_text(POSTGRES_PASSWORD)
        if self._user:
            for path in (self.folder, password):
                shutil.chown(path, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://speed:{POSTGRES_PASSWORD}@127.0.0.1:{self.port}/postgres"
        self._call("initdb", "-U", "speed", "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "-N")

    def start(self) -> None:
        options = f"-c fsync=off -c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories=''"
        self._call("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", f"{options} -c max_connections=200", "start")

    def processes(self) -> list[int]:
        """The server and what it has started for each connection."""
        server = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        below = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [server, *map(int, below)]

    def signal(self, number: int) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def kill(self) -> None:
        """SIGKILL to all of it; returns when all of it is gone."""
        processes = self.processes()
        self.signal(signal.SIGKILL)
        while any(Path(f"/proc/{process}").exists() for process in processes):
            time.sleep(0.01)

    def close(self) -> None:
        self._call("pg_ctl", "-w", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str(self._programs / program), "-D", str(self.folder / "data"), *arguments]
        quiet = subprocess.DEVNULL
        subprocess.run(command, cwd=self.folder, check=check, stdout=quiet, stderr=quiet, **self._user)  # type: ignore[call-overload]


def _postgres() -> Iterator[Postgres]:
    candidates = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    initdb = next((Path(path) for path in reversed(candidates) if path), None)
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    psycopg = pytest.importorskip("psycopg")
    server = Postgres(initdb.parent)
    try:
        server.start()
        psycopg.connect(server.url).close()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a private PostgreSQL server; skips where it is not installed."""
    for server in _postgres():
        yield server.url


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server that a test may harm."""
    yield from _postgres()


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose ledger is SQLite, and again one whose ledger is a database of its own in PostgreSQL."""
    monkeypatch.delenv("SPEED_LEDGER_URL", raising=False)
    if request.param == "postgresql":
        import psycopg

        server: str = request.getfixturevalue("postgres_server")
        name = f"ledger_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        monkeypatch.setenv("SPEED_LEDGER_URL", f"{server.rpartition('/')[0]}/{name}")
    return tmp_path
