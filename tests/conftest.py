"""Shared fixtures: the environment of tests, and data that may or may not lie beside the project."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a private PostgreSQL server on loopback, with a password; skips where it is not installed."""
    candidates = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    initdb = next((Path(path) for path in reversed(candidates) if path), None)
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    psycopg = pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="speed-pg-"))
    # The server refuses to run as root.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    (folder / "password").write_text(POSTGRES_PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(initdb.with_name(program)), "-D", str(folder / "data"), *arguments],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            **user,
        )

    call("initdb", "-U", "speed", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-E", "UTF8", "-N")
    options = f"-c fsync=off -c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c max_connections=200"
    call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    url = f"postgresql://speed:{POSTGRES_PASSWORD}@127.0.0.1:{port}/postgres"
    try:
        psycopg.connect(url).close()
        yield url
    finally:
        call("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


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
