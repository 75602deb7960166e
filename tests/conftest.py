"""Shared fixtures: the environment of tests, and data that may or may not be next to the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.support import servers, warm
from tests.support.deadline import pytest_runtest_setup as pytest_runtest_setup

T = TypeVar("T")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("no deadlines", deadline=None)  # a busy machine is no fault
settings.load_profile("no deadlines")


def pytest_configure() -> None:
    """Tests have homes of their own, whatever stores the environment names."""
    for name in ("SPEED_STORE_URL", "SPEED_LEDGER_URL", "SPEED_DAGSTER_POSTGRES_URL"):
        os.environ.pop(name, None)


LONGEST_FIRST = (
    "test_shared_loop", "test_database_faults", "test_zoo_run", "test_staleness", "test_daemon", "test_rehearse", "test_loop",
    "test_corpus_loop", "test_training", "test_file_faults", "test_study", "test_process_faults", "test_teacher_loop",
    "test_cluster", "test_clock_faults", "test_families", "test_embedding_families", "test_cli", "test_gpu_pool", "test_runner",
)  # fmt: skip
"""Files that take a minute or more. They start first, so that none of them runs alone at the end of a parallel run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of `tests/faults` is for `make test-faults`; elsewhere a test or a file is marked itself. Long files start first."""
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.faults)
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session", autouse=True)
def _kept_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs in this process share the process that has imported the heavy libraries."""
    with warm.kept_workers(tmp_path_factory.mktemp("workers")):
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and topic trees next to the project; tests that need them skip without them."""
    path = Path(os.environ.get("SPEED_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}: set SPEED_SHARED to the folder that has it")
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a private PostgreSQL server on loopback, with a password; skips where it is not installed."""
    for server in _served(servers.postgres()):
        yield server.url


@pytest.fixture
def postgres() -> Iterator[servers.Postgres]:
    """A private PostgreSQL server that a test may harm."""
    yield from _served(servers.postgres())


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3]:
    """An S3 server on loopback; skips where it is not installed."""
    pytest.importorskip("s3fs")
    yield from _served(servers.s3())


def _served(server: AbstractContextManager[T]) -> Iterator[T]:
    try:
        served = server.__enter__()
    except servers.NotInstalled as missing:
        pytest.skip(str(missing))
    try:
        yield served
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose ledger is SQLite, and again one whose ledger is a database of its own in PostgreSQL."""
    monkeypatch.delenv("SPEED_LEDGER_URL", raising=False)
    if request.param == "postgresql":
        server: str = request.getfixturevalue("postgres_server")
        monkeypatch.setenv("SPEED_LEDGER_URL", servers.new_database(server, "ledger"))
    return tmp_path
