"""Databases that are killed, stall or are held by another process: no call is paid twice."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy

from resources.ledger import accounts, database
from resources.ledger.database import LedgerError
from resources.ledger.ledger import Ledger
from speed_assets import build
from speed_assets.orchestration import runs
from speed_assets.recipe import load_recipe
from tests.support.faults import (
    CONTEXT,
    TARIFF,
    answered,
    assert_as_undisturbed,
    ended,
    start,
    wait_until,
)
from tests.support.homes import digests
from tests.support.servers import POSTGRES_PASSWORD, Postgres


def test_a_ledger_that_is_gone_when_a_stage_begins_is_named(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> Ledger:
        raise LedgerError("PostgreSQL ledger (SPEED_LEDGER_URL): see that the database runs and lets you in")

    monkeypatch.setattr(build, "Ledger", SimpleNamespace(at=gone))
    report = runs.run(load_recipe(recipe), tmp_path / "home", select="topics")
    assert report.errors == ["PostgreSQL ledger (SPEED_LEDGER_URL): see that the database runs and lets you in"]


def test_postgresql_killed_and_started_again_between_two_uses_is_not_noticed(postgres: Postgres) -> None:
    ledger = Ledger(database.Database(postgres.url))
    ledger.record(CONTEXT, answered(1, 2), TARIFF)
    postgres.kill()
    with pytest.raises(LedgerError, match="see that the database runs") as error:
        ledger.record(CONTEXT, answered(3), TARIFF)
    assert POSTGRES_PASSWORD not in str(error.value)
    postgres.start()
    ledger.record(CONTEXT, answered(3), TARIFF)
    assert (ledger.count(), accounts.cost_report(ledger)["calls"]) == (3, 3)


def test_postgresql_killed_in_the_middle_of_a_run(
    postgres: Postgres, recipe: Path, whole: Path, tmp_path: Path
) -> None:
    """What was acknowledged is there afterwards; the next run asks the rest, and nothing is paid twice."""
    ledger = Ledger(database.Database(postgres.url))
    process = start(recipe, tmp_path / "home", SPEED_LEDGER_URL=postgres.url)
    wait_until(lambda: ledger.count() > 8)
    postgres.kill()
    said = ended(process, 1)
    assert "PostgreSQL ledger (SPEED_LEDGER_URL)" in said
    assert "see that the database runs and lets you in, then run again" in said
    assert POSTGRES_PASSWORD not in said
    refused = ended(start(recipe, tmp_path / "home", SPEED_LEDGER_URL=postgres.url), 2)
    assert "see that the database runs" in refused, "one that is not there at the start is reported at once"
    postgres.start()
    ended(start(recipe, tmp_path / "home", SPEED_LEDGER_URL=postgres.url))
    parsed = load_recipe(recipe)
    assert digests(parsed, tmp_path / "home") == digests(parsed, whole)
    assert ledger.count() == accounts.cost_report(ledger)["calls"] == Ledger.at(whole).count()


def test_dagsters_own_postgresql_killed_in_the_middle_of_a_run(
    postgres: Postgres, recipe: Path, whole: Path, tmp_path: Path
) -> None:
    """The end of that run cannot be written down; the next one tells it as failed and goes on."""
    home, url = tmp_path / "home", postgres.url.replace("://", "+psycopg2://")
    process = start(recipe, home, SPEED_DAGSTER_POSTGRES_URL=url)
    wait_until(lambda: list((home / "artifacts").glob("seed_data/*")))
    postgres.kill()
    said = ended(process, 2)
    assert said.count("error: ") == 1
    assert "Dagster's storage in PostgreSQL (SPEED_DAGSTER_POSTGRES_URL) cannot be used" in said
    assert "see that the database runs and lets you in, then run again" in said
    assert POSTGRES_PASSWORD not in said
    assert "Traceback" not in said
    postgres.start()
    ended(start(recipe, home, SPEED_DAGSTER_POSTGRES_URL=url))
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        states = {status for (status,) in connection.execute(sqlalchemy.text("SELECT status FROM runs"))}
    engine.dispose()
    assert states == {"FAILURE", "SUCCESS"}
    assert_as_undisturbed(recipe, home, whole)


def test_postgresql_that_stalls_is_waited_for(postgres: Postgres) -> None:
    ledger = Ledger(database.Database(postgres.url))
    ledger.record(CONTEXT, answered(1), TARIFF)
    postgres.signal(signal.SIGSTOP)
    timer = threading.Timer(3, postgres.signal, (signal.SIGCONT,))
    timer.start()
    began = time.monotonic()
    ledger.record(CONTEXT, answered(2), TARIFF)
    assert time.monotonic() - began > 2
    assert ledger.count() == 2
    timer.join()


@pytest.mark.parametrize("of", ["sqlite", "postgresql"])
def test_a_writer_that_holds_the_ledger_is_waited_for_and_then_named(
    of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}" if of == "sqlite" else request.getfixturevalue("postgres").url
    monkeypatch.setattr(database, "_BUSY_S", 2)
    ledger, other = Ledger(database.Database(url)), database.Database(url)
    ready, go = threading.Event(), threading.Event()

    def hold() -> None:
        with other.writing():
            ready.set()
            go.wait(30)

    for patient in (True, False):
        ready.clear()
        go.clear()
        holder = threading.Thread(target=hold)
        holder.start()
        assert ready.wait(20)
        if patient:
            threading.Timer(0.5, go.set).start()
            ledger.record(CONTEXT, answered(1), TARIFF)
        else:
            with pytest.raises(LedgerError, match="another process has held it for 2 s; end that one, then run again"):
                ledger.record(CONTEXT, answered(2), TARIFF)
            go.set()
        holder.join(20)
    ledger.record(CONTEXT, answered(2), TARIFF)
    assert (ledger.count(), accounts.cost_report(ledger)["calls"]) == (2, 2)
