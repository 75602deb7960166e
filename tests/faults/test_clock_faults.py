"""Clocks that jump: caps hold, releases keep their order, nothing is made twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from resources.inputs.external_digests import folder_digest
from resources.ledger import accounts, database
from resources.ledger.budget import Budget
from resources.ledger.ledger import Ledger
from resources.ledger.prices import UNPRICED
from resources.releases import releases
from resources.store.store import Store
from resources.teacher.pacing import retry_after
from speed_assets.recipe import Cap, Money
from tests.support.faults import (
    CONTEXT,
    DAY,
    TARIFF,
    answered,
    asked,
    assert_as_undisturbed,
    ended,
    start,
)

CLOCK = """
import os, time
_real, _file = time.time, os.environ["CLOCK_OFFSET"]
def _time():
    try:
        with open(_file) as file:
            return _real() + float(file.read())
    except (OSError, ValueError):
        return _real()
time.time = _time
time.time_ns = lambda: int(_time() * 1e9)
"""
"""Every Python process of a run, workers too: `time.time` is off by the seconds that a file holds."""


def test_a_clock_that_jumps_in_the_middle_of_a_run(recipe: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK)
    offset = tmp_path / "offset"
    offset.write_text("0")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    process = start(recipe, tmp_path / "home", PYTHONPATH=path, CLOCK_OFFSET=str(offset))
    jumps = [DAY, -DAY, 1000.0 - time.time(), 0.0, 40 * DAY]
    for jump in range(10_000):
        if process.poll() is not None:
            break
        offset.write_text(str(jumps[jump % len(jumps)]))
        time.sleep(0.3)
    said = ended(process)
    assert " -" not in "".join(line for line in said.splitlines() if " left)" in line), "no time left is negative"
    assert_as_undisturbed(recipe, tmp_path / "home", whole)
    again = ended(start(recipe, tmp_path / "home"))
    assert "made " not in again


def test_caps_hold_and_nothing_is_freed_when_the_clock_jumps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.at(home)
    money = Money(run=Cap(calls=4))
    budget = Budget(ledger, CONTEXT, money, UNPRICED)
    now = time.time()
    for number, clock in enumerate((now, now + DAY, now - DAY, 1000.0)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        assert Budget(ledger, CONTEXT, money, UNPRICED).reserve(asked(10 + number)) == 1
        assert accounts.cost_report(ledger)["under_way"] == number + 1, (
            "of living processes nothing is lost, by no clock"
        )
    with pytest.raises(Exception, match=r"money\.run\.calls=4"):
        budget.reserve(asked(1))
    monkeypatch.setattr(time, "time", lambda: now + 3 * DAY)
    ledger.record(CONTEXT, answered(20), TARIFF)
    with ledger.database.reading() as connection:
        rows = list(connection.execute(database.TALLIES.select()).mappings())
    assert all(row["calls"] >= 0 for row in rows), "settled under the day on which it was reserved"


def release(home: Path, name: str) -> releases.Release:
    """A release in little, numbered as the stage numbers it."""
    store = Store(home).open()
    with store.building(name * 64) as work:
        (work / "manifest.json").write_text(name)
        made = store.seal(
            "release",
            name * 64,
            work,
            partition=None,
            metadata={"number": releases.next_number(store)},
            lineage={"recipe": {"name": "tiny"}, "inputs": {}},
        )
    releases.promote_new_release(store, made.fingerprint)
    return releases.find_release(store, name * 12)


def test_the_last_release_is_not_decided_by_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = Store(tmp_path), time.time()

    def current() -> str:
        found = releases.current_release(store, "tiny")
        assert found is not None
        return found.fingerprint[0]

    for name, clock in (("a", now), ("b", now - DAY), ("c", 1000.0), ("d", now + DAY)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        release(tmp_path, name)
        assert current() == name, "a new release is in use, whatever the clock says"
    assert [r.fingerprint[0] for r in releases.list_releases(store, "tiny")] == ["d", "c", "b", "a"]
    assert releases.roll_back(store, "tiny").fingerprint[0] == "c"
    assert releases.roll_back(store, "tiny").fingerprint[0] == "b"
    releases.promote_new_release(store, "d" * 64)
    assert current() == "b", "what was chosen stays, though d says that it was made tomorrow"
    monkeypatch.setattr(time, "time", lambda: now - 2 * DAY)
    release(tmp_path, "e")
    assert current() == "e"


def test_releases_from_before_there_were_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "next_number", lambda _store: None)
    release(tmp_path, "a")
    release(tmp_path, "b")
    monkeypatch.undo()
    store = Store(tmp_path)
    assert [r.fingerprint[0] for r in releases.list_releases(store)] == ["b", "a"]
    releases.roll_back(store, "tiny", "a" * 12)
    releases.promote_new_release(store, "b" * 64)
    now = releases.current_release(store, "tiny")
    assert now is not None
    assert now.fingerprint[0] == "a"
    release(tmp_path, "c")
    now = releases.current_release(store, "tiny")
    assert now is not None
    assert now.fingerprint[0] == "c"


def test_a_file_replaced_by_an_older_one_is_seen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("before")
    before = folder_digest(str(tmp_path))
    (tmp_path / "one").write_text("after ")
    os.utime(tmp_path / "one", (1000, 1000))
    assert folder_digest(str(tmp_path)) != before


def test_a_wait_until_a_date_goes_by_the_clock_of_who_named_it() -> None:
    headers = {"retry-after": "Thu, 01 Jan 1970 00:10:30 GMT", "date": "Thu, 01 Jan 1970 00:10:00 GMT"}
    assert retry_after(headers) == 30.0
