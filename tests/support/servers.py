"""A PostgreSQL server and an S3 server on loopback, from ordinary packages, for tests and benchmarks.

Belongs here: starting and ending them, faults of the S3 server. Not here: what is kept in them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from typing_extensions import override

POSTGRES_PASSWORD = "p4ssw0rd-of-the-ledger"
S3_SECRET = "s3cr3t-of-the-store"


class NotInstalled(RuntimeError):
    """A server cannot be started; the message says what to install."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Postgres:
    """A private PostgreSQL server on loopback, with a password, that can be killed, stopped and started again."""

    def __init__(self, programs: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="speed-pg-"))
        self._programs = programs
        # The server refuses to run as root.
        user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._user = user if os.geteuid() == 0 else {}
        password = self.folder / "password"
        password.write_text(POSTGRES_PASSWORD)
        if self._user:
            for path in (self.folder, password):
                shutil.chown(path, "postgres", "postgres")
        self.port = free_port()
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
        subprocess.run(command, cwd=self.folder, check=check, stdout=quiet, stderr=quiet, **self._user)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server. Raises NotInstalled."""
    candidates = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    initdb = next((Path(path) for path in reversed(candidates) if path), None)
    if initdb is None:
        raise NotInstalled("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    import psycopg

    server = Postgres(initdb.parent)
    try:
        server.start()
        psycopg.connect(server.url).close()
        yield server
    finally:
        server.close()


def new_database(server: str, what: str) -> str:
    """The URL of a new database on that server."""
    import psycopg

    name = f"{what}_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server.rpartition('/')[0]}/{name}"


class S3:
    """moto's S3 on loopback, in threads of this process; it may be ended and started again with what it holds.

    `fault` is asked of each request, by method and path: `drop` breaks the connection off, a number is the status that
    the request is refused with, None lets it through. `log` has every request that came.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._app = DomainDispatcherApplication(create_backend_app)
        self._port = 0
        self._server: Any = None
        self.fault: Callable[[str, str], int | str | None] = lambda _method, _path: None
        self.log: list[tuple[str, str]] = []
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a client finds the server and is let in."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self) -> str:
        """The URL of a place in a new bucket."""
        name = f"b{uuid.uuid4().hex}"
        urlopen(Request(f"http://127.0.0.1:{self._port}/{name}", method="PUT", headers=_SIGNED), timeout=30).close()
        return f"s3://{name}/speed"

    def start(self) -> None:
        """Listen, on the same port as before."""
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            @override
            def log(self, type: str, message: str, *args: Any) -> None:
                pass

        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.log.append((method, path))
        fault = self.fault(method, path)
        if fault == "drop":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if isinstance(fault, int):
            respond(f"{fault} refused", [("Content-Type", "application/xml")])
            code = "AccessDenied" if fault == 403 else "SlowDown"
            return [f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()]
        answer: Iterable[bytes] = self._app(environ, respond)
        return answer


_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=somebody/20260101/us-east-1/s3/aws4_request"}


@contextmanager
def s3() -> Iterator[S3]:
    """An S3 server for a while. Raises NotInstalled."""
    try:
        server = S3()
    except ImportError:
        raise NotInstalled("the S3 server needs a package: pip install 'moto[server]'") from None
    try:
        yield server
    finally:
        server.stop()
