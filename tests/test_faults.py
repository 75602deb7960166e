"""Faults of the machine in the middle of a run: nothing is lost, nothing is doubled, and the next run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy

from benchmarks.disk_full import disk, fill_and_resume, harm
from resources.inputs.external_digests import folder_digest
from resources.ledger import accounts, database
from resources.ledger.budget import Budget
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.database import LedgerError
from resources.ledger.ledger import Ledger
from resources.ledger.prices import UNPRICED, Tariff
from resources.releases import releases
from resources.store.store import Store, StoreError
from resources.teacher.pacing import retry_after
from speed_assets import build
from speed_assets.cli import main
from speed_assets.orchestration import runs
from speed_assets.recipe import PROJECT, Cap, Money, RecipeError, load_recipe
from speed_assets.workers.fine_tuning import newest_checkpoint
from tests.support.homes import digests
from tests.support.servers import POSTGRES_PASSWORD, Postgres
from tests.support.tiny import ROWS, tiny_data, tiny_recipe, write_recipe

SELECT = "key:topics or key:task_list or key:seed_data or key:junior_model or key:junior_data"
"""A teacher that is asked, a model that is trained with a checkpoint after every step, and rows that it writes."""
BASE = TeacherRequest("prompt", "model", "1", None, {"temperature": 1.0, "max_new_tokens": 10})
CONTEXT = CallContext("run-1", "seed_data", "sts")
TARIFF = Tariff("2024-10-18", "USD", Decimal(150), Decimal(600))
DAY = 86_400.0


def asked(*numbers: int) -> list[TeacherRequest]:
    return [replace(BASE, prompt=str(number)) for number in numbers]


def answered(*numbers: int) -> list[tuple[TeacherRequest, TeacherAnswer]]:
    return [(request, TeacherAnswer(f"answer to {request.prompt}", 10, 1)) for request in asked(*numbers)]


def write(folder: Path, **changes: Any) -> Path:
    """The tiny recipe with fewer rows as a file, and a checkpoint after every step; `changes` are sections."""
    data = tiny_data()
    data["runtime"] = {"checkpoint_minutes": 0.0}
    data["topics"] |= {"limit": 8}
    few = dict.fromkeys(ROWS, 6)
    data["seed_data"]["rows"] = data["preference_pairs"]["prompts"] = data["revision_data"]["rows"] = few
    data["junior_data"] |= {"prompts": few, "candidates": 2}
    data["junior_model"] |= {"epochs": 2, "batch_size": 8}
    for section, fields in changes.items():
        data[section] = {**data.get(section, {}), **fields}
    return write_recipe(folder, data)


def start(recipe: Path, home: Path, select: str = SELECT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(recipe), "--select", select],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a run said on standard error."""
    said = process.communicate(timeout=300)[1]
    assert process.returncode == status, said
    assert "Traceback" not in said
    return said


@pytest.fixture(autouse=True)
def _sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEED_LEDGER_URL", raising=False)
    monkeypatch.setenv("SPEED_HOME", "")  # runs in this process set both, and then they are as they were
    monkeypatch.setenv("DAGSTER_HOME", "")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which nothing has gone wrong."""
    home = tmp_path_factory.mktemp("whole")
    ended(start(recipe, home))
    return home


def assert_as_undisturbed(recipe: Path, home: Path, whole: Path) -> None:
    """The same artifacts, and every call answered, kept and paid once."""
    parsed = load_recipe(recipe)
    assert harm(home) == []
    assert digests(parsed, home) == digests(parsed, whole)
    ledger, undisturbed = Ledger.at(home), Ledger.at(whole)
    assert ledger.count() == undisturbed.count()
    assert accounts.cost_report(ledger)["calls"] == undisturbed.count()


# The disk


def test_a_disk_that_is_full_again_and_again(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """Three moments here; `python -m benchmarks.disk_full` takes twenty of the whole graph."""
    try:
        found = fill_and_resume(tmp_path, recipe, whole, 3, seed=4, select=SELECT)
    except OSError as error:
        pytest.skip(str(error))
    assert found["wrong"] == []
    assert found["identical"]
    assert found["calls"] == found["calls_paid"] == found["calls_undisturbed"]
    assert found["full"] >= 2, found


def test_a_home_on_a_read_only_disk(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    try:
        with disk(tmp_path / "disk", 1 << 24) as made:
            home = made.folder / "home"
            monkeypatch.setenv("SPEED_HOME", str(home))
            ended(start(recipe, home, "topics"))
            subprocess.run(["mount", "-o", "remount,ro", made.folder], check=True)
            for command in (["run"], ["show"], ["cost"]):
                assert main(command) == 2
                said = capsys.readouterr().err
                assert said.count("error:") == 1
                assert str(home) in said
                assert "Read-only file system" in said
            assert main(["releases"]) == 0
    except OSError as error:
        pytest.skip(str(error))


def test_the_beginning_of_a_checkpoint_is_none_and_leaves_no_litter(tmp_path: Path) -> None:
    for step, state in ((1, '{"global_step": 1}'), (2, '{"global_'), (3, ""), (4, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_what_cannot_be_sealed_keeps_its_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the end of hours of training must not cost the training."""
    store = Store(tmp_path).open()

    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with store.building("f" * 64) as work:
        (work / "scratch" / "checkpoint").write_text("hours")
        (work / "model").write_text("weights")
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(Path, "write_bytes", full)
            store.seal("topics", "f" * 64, work, partition=None, metadata={}, lineage={})
        assert (work / "scratch" / "checkpoint").read_text() == "hours"
        made = store.seal("topics", "f" * 64, work, partition=None, metadata={}, lineage={})
    assert set(made.files) == {"model"}
    assert not (made.path / "scratch").exists()


def test_a_settings_file_cut_short_by_a_full_disk_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.store.home import prepare_home

    def full(_self: Path, _text: str) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        Store(tmp_path).open()
        patch.setattr(Store, "open", lambda self: self)
        patch.setattr(Path, "write_text", full)
        prepare_home(tmp_path)
    assert (prepare_home(tmp_path) / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()


# Processes


def test_a_worker_that_stalls_is_ended_with_its_run_and_the_next_run_goes_on(
    recipe: Path, whole: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    shutil.rmtree(home / "artifacts" / "junior_model")
    process = start(recipe, home)
    worker = 0

    def trains() -> bool:
        nonlocal worker
        for log in home.glob("work/*/scratch/**/progress.jsonl"):
            for found in Path("/proc").glob("[0-9]*"):
                try:
                    if os.readlink(found / "fd" / "1") == str(log.with_name("worker.log")) and log.read_text():
                        worker = int(found.name)
                except OSError:
                    continue
        return worker > 0

    wait_until(trains)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1)
    assert process.poll() is None, "a step may take days: nobody but the user knows that it stalls"
    process.send_signal(signal.SIGTERM)
    assert "interrupted: what is finished is kept" in ended(process, 130)
    assert not Path(f"/proc/{worker}").exists()
    ended(start(recipe, home))
    assert_as_undisturbed(recipe, home, whole)


def test_two_runs_at_once_make_everything_once(recipe: Path, whole: Path, tmp_path: Path) -> None:
    both = [start(recipe, tmp_path / "home") for _ in range(2)]
    said = [ended(process) for process in both]
    assert_as_undisturbed(recipe, tmp_path / "home", whole)
    made = [line.split()[1] for text in said for line in text.splitlines() if line.startswith("made ")]
    assert sorted(made) == sorted(set(made)), "one makes it, the other waits and takes it"


def test_a_run_that_waits_for_another_says_so(tmp_path: Path) -> None:
    store, said = Store(tmp_path).open(), threading.Event()
    done: list[bool] = []

    def other() -> None:
        with store.building("f" * 64, said.set):
            done.append(True)

    with store.building("f" * 64):
        thread = threading.Thread(target=other)
        thread.start()
        assert said.wait(20)
        assert not done
    thread.join(20)
    assert done


def test_runs_whose_process_is_gone_are_marked_by_the_next_run(recipe: Path, whole: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(recipe, home)
    wait_until(lambda: list((home / "artifacts").glob("seed_data/*")))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "STARTED" in states(home)
    ended(start(recipe, home))
    assert set(states(home)) == {"FAILURE", "SUCCESS"}
    assert len(list((home / "dagster" / "processes").iterdir())) == 1, "the last one's, which the next one removes"
    assert_as_undisturbed(recipe, home, whole)


def states(home: Path) -> list[str]:
    with sqlite3.connect(home / "dagster" / "history" / "runs.db") as connection:
        return [status for (status,) in connection.execute("SELECT status FROM runs")]


# The ledger's database


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
    assert "see that the database runs" in refused, "one that is not there at the start is told at once"
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


# Clocks

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


# Files and folders


def test_a_topic_file_changed_in_the_middle_of_a_run(tmp_path: Path) -> None:
    topics = tmp_path / "topics.txt"
    lines = Path(tiny_recipe().topics.file).read_text().splitlines()[:20]
    topics.write_text("\n".join(lines))
    recipe = tiny_recipe(topics__file=str(topics), topics__alignment=None, topics__limit=None)

    def change(line: str) -> None:
        if line.startswith("made") and "task_list/retrieval" in line:
            topics.write_text("\n".join(lines[:-1]))

    report = runs.run(recipe, tmp_path / "home", select="key:topics or key:task_list", say=change)
    assert "an input of topics changed during the run" in report.errors[-1]
    assert "run again" in report.errors[-1]
    again = runs.run(recipe, tmp_path / "home", select="key:topics or key:task_list")
    assert again.errors == []
    assert "topics" in again.made
    assert again.metadata["topics"]["rows"] == report.metadata["topics"]["rows"] - 1
    topics.unlink()
    with pytest.raises(ValueError, match=r"there is no file .*topics\.txt; give one with --topics"):
        runs.run(recipe, tmp_path / "home", select="topics")


def test_a_topic_file_changed_while_it_is_read_makes_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speed_assets import build

    topics = tmp_path / "topics.txt"
    lines = Path(tiny_recipe().topics.file).read_text().splitlines()[:20]
    topics.write_text("\n".join(lines))
    recipe = tiny_recipe(topics__file=str(topics), topics__alignment=None, topics__limit=None)
    real = build.FUNCTIONS["topics"]

    def slow(run: Any) -> dict[str, Any]:
        topics.write_text("\n".join(lines[:-1]))
        return real(run)

    monkeypatch.setitem(build.FUNCTIONS, "topics", slow)
    with pytest.raises(RecipeError, match="topics: topic_file changed while it was made from it: run again"):
        runs.run(recipe, tmp_path / "home", select="topics")  # the plan reads it first
    assert not list((tmp_path / "home" / "artifacts").rglob("artifact.json")), "new content under the old name"


def test_a_recipe_that_is_changed_or_gone_in_the_middle_of_a_run_is_the_one_it_began_with(
    whole: Path, tmp_path: Path
) -> None:
    recipe, home = write(tmp_path), tmp_path / "home"
    shutil.copytree(whole, home)
    shutil.rmtree(home / "artifacts" / "junior_data")
    process = start(recipe, home)
    wait_until(lambda: list((home / "artifacts").glob("junior_data/*")))
    recipe.write_text("name: [")
    ended(process)
    recipe.unlink()
    assert f"no recipe at {recipe}" in ended(start(recipe, home), 2)
    assert_as_undisturbed(write(tmp_path), home, whole)


def test_a_home_that_has_moved_to_a_path_with_spaces(whole: Path, tmp_path: Path) -> None:
    home = tmp_path / "another place, with # and é"
    shutil.copytree(whole, home)
    assert "nothing was stale" in ended(start(write(tmp_path), home))
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", junior_model={"learning_rate": 0.002})
    said = ended(start(other, home))
    assert "made   junior_model" in said
    assert "task_list" not in said, "nothing above it is made again"
    assert harm(home) == []


@pytest.mark.parametrize("name", ["what?", "100%25"])
def test_a_home_whose_path_dagster_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    said = ended(start(write(tmp_path), tmp_path / name), 2)
    assert "has a ? or % in its path" in said
    assert not (tmp_path / name / "dagster").exists()


def test_the_words_for_storage_name_folder_and_remedy(tmp_path: Path) -> None:
    from resources.store.storage_errors import explain_storage_errors, storage_problem

    full = storage_problem("OSError: [Errno 28] No space left on device: 'x'", tmp_path)
    assert full is not None
    assert "make room there, then run again" in full
    assert storage_problem("ValueError: 28 rows", tmp_path) is None
    with pytest.raises(StoreError, match="read-only file system: make it writable"), explain_storage_errors(tmp_path):
        raise OSError(30, "Read-only file system")
    with pytest.raises(ValueError, match=r"^other$"), explain_storage_errors(tmp_path):
        raise ValueError("other")
