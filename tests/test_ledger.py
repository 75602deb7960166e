"""The ledger on SQLite and PostgreSQL: durable, shared, old ones opened, broken ones refused; and what it tells."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.ledger import accounts
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.database import Database, LedgerError
from resources.ledger.holders import is_alive, process_name
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff
from speed_assets.cli import main
from speed_assets.domain.fingerprints import canonical_json
from tests.support.servers import POSTGRES_PASSWORD

BASE = TeacherRequest("prompt", "model", "1", None, {"temperature": 1.0, "max_new_tokens": 10})
CONTEXT = CallContext("run-1", "seed_data", "sts")
TARIFF = Tariff("2024-10-18", "USD", Decimal(150), Decimal(600))


def asked(number: int) -> TeacherRequest:
    return replace(BASE, prompt=str(number))


def answered(*numbers: int) -> list[tuple[TeacherRequest, TeacherAnswer]]:
    return [(asked(n), TeacherAnswer(f"answer {n}", 10 + n, 1)) for n in numbers]


def test_a_kept_answer_stays_and_a_second_one_is_paid_for(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, answered(1), TARIFF)
    ledger.record(replace(CONTEXT, run="run-2"), [(asked(1), TeacherAnswer("other", 5, 5))], TARIFF)
    assert Ledger.at(home).lookup([asked(1).key]) == {asked(1).key: TeacherAnswer("answer 1", 11, 1, reused=True)}
    costs = accounts.cost_report(ledger)
    assert (costs["calls"], ledger.count()) == (2, 1)
    assert costs["money"] == pytest.approx((11 * 150 + 600 + 5 * 750) / 1e9)


def test_unknown_usage_stays_unknown(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, [(BASE, TeacherAnswer("text"))], TARIFF)
    ledger.record(CONTEXT, answered(1), TARIFF)
    assert ledger.lookup([BASE.key])[BASE.key] == TeacherAnswer("text", None, None, reused=True)
    costs = accounts.cost_report(ledger)
    assert (costs["prompt_tokens"], costs["money"], costs["unpriced_calls"]) == (None, None, 1)
    assert costs["known_money"] == {"USD": pytest.approx((11 * 150 + 600) / 1e9)}


def test_a_refused_call_is_not_kept(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, [(BASE, TeacherAnswer("", error="content policy"))], TARIFF)
    assert (ledger.lookup([BASE.key]), accounts.cost_report(ledger)["calls"]) == ({}, 0)


def test_hostile_text_comes_back_as_it_was(home: Path) -> None:
    ledger = Ledger.at(home)
    text = "\x00\x1b[31m'; DROP TABLE calls; --\u2028\U0001f600" + "x" * 100_000
    request = replace(BASE, prompt=text, schema={"type": "object", "title": "'\x00"})
    ledger.record(CONTEXT, [(request, TeacherAnswer(text))])
    assert ledger.lookup([request.key])[request.key].text == text
    (call,) = accounts.read_calls(ledger)
    assert call["request"]["messages"][0]["content"] == text


def test_thousands_of_keys_are_found(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, answered(*range(2500)))
    found = ledger.lookup([asked(n).key for n in range(-2500, 2500)])
    assert len(found) == 2500
    assert found[asked(2499).key].text == "answer 2499"


def _write(home: str, start: int) -> None:
    ledger = Ledger.at(Path(home))
    for number in range(start, start + 40):
        ledger.record(CONTEXT, answered(number), TARIFF)


def test_several_processes_share_one_ledger(home: Path) -> None:
    """They also create it at the same time."""
    processes = [multiprocessing.get_context("spawn").Process(target=_write, args=(str(home), n)) for n in (0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    ledger = Ledger.at(home)
    assert (ledger.count(), accounts.cost_report(ledger)["calls"]) == (60, 80)


def test_costs_are_reported_by_asset_partition_model_and_day(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, answered(1), TARIFF)
    ledger.record(CallContext("run-2", "task_list", None), answered(2, 3), TARIFF)
    ledger.record(CallContext("run-3", "task_list", None), [(replace(BASE, model="m2"), TeacherAnswer("x", 7, 2))])
    costs = accounts.cost_report(ledger)
    by = {dimension: {row[dimension]: row for row in costs["by"][dimension]} for dimension in accounts.COST_DIMENSIONS}
    assert {name: row["calls"] for name, row in by["asset"].items()} == {"seed_data": 1, "task_list": 3}
    assert {name: row["calls"] for name, row in by["partition"].items()} == {"sts": 1, None: 3}
    assert by["model"]["model"]["money"] == pytest.approx((36 * 150 + 3 * 600) / 1e9)
    assert by["model"]["model"]["prices"] == ["2024-10-18"]
    assert (by["model"]["m2"]["money"], by["model"]["m2"]["unpriced_calls"]) == (None, 1)
    assert (by["asset"]["task_list"]["money"], by["asset"]["task_list"]["prompt_tokens"]) == (None, 32)
    assert list(by["day"]) == [time.strftime("%Y-%m-%d", time.gmtime())]
    assert set(by["run"]) == {"run-1", "run-2", "run-3"}


def test_pruning_says_first_and_keeps_the_costs(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, answered(1, 2), TARIFF)
    ledger.record(replace(CONTEXT, stage="task_list"), answered(3), TARIFF)
    before = accounts.cost_report(ledger)
    (going,) = accounts.prune_answers(ledger, stage="seed_data", model=None, before=None, remove=False)
    assert (going["calls"], ledger.count()) == (2, 3)
    assert accounts.prune_answers(ledger, stage="seed_data", model="other", before=None, remove=True) == []
    assert accounts.prune_answers(ledger, stage=None, model=None, before="2024-10-18", remove=True) == []
    accounts.prune_answers(ledger, stage="seed_data", model="model", before=None, remove=True)
    assert (ledger.count(), accounts.cost_report(ledger)) == (1, before)
    for condition in ({"before": "soon"}, {"before": None}):
        with pytest.raises(LedgerError):
            accounts.prune_answers(ledger, stage=None, model=None, remove=True, **condition)


def test_export_is_whole_and_overwrites_nothing(home: Path) -> None:
    ledger = Ledger.at(home)
    ledger.record(CONTEXT, answered(*range(1200)), TARIFF)
    file = home / "calls.jsonl"
    assert accounts.export_calls(ledger, file) == 1200
    calls = [json.loads(line) for line in file.read_text().splitlines()]
    assert {call["key"] for call in calls} == {asked(n).key for n in range(1200)}
    assert calls[0]["request"]["model"] == "model"
    assert all(call["answer"].startswith("answer ") for call in calls)
    with pytest.raises(LedgerError, match="exists already"):
        accounts.export_calls(ledger, file)
    assert [p.name for p in home.iterdir() if "jsonl" in p.name] == ["calls.jsonl"]


def test_batches_are_kept_claimed_and_closed(home: Path) -> None:
    ledger = Ledger.at(home)
    keys = [f"{n:064x}" for n in range(3000)]
    ledger.save_batch("b1", "http://e", keys, {"file": None})
    ledger.save_batch("b1", "http://e", [], {"file": "file-1"})
    ledger.save_batch("b2", "http://other", keys[:1], {})
    (batch,) = Ledger.at(home).claim_batches("http://e", keys[2999:])
    assert (batch.id, set(batch.keys), batch.info) == ("b1", set(keys), {"file": "file-1"})
    assert ledger.claim_batches("http://e", ["another"]) == []
    ledger.close_batch("b1")
    assert ledger.claim_batches("http://e", keys) == []
    assert len(ledger.claim_batches("http://other", keys)) == 1


def _save_and_wait(home: str, ready: multiprocessing.synchronize.Event) -> None:
    Ledger.at(Path(home)).save_batch("b1", "http://e", ["k"], {})
    ready.set()
    time.sleep(600)


def test_a_batch_of_a_living_process_is_left_to_it(home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_save_and_wait, args=(str(home), ready))
    process.start()
    assert ready.wait(60)
    ledger = Ledger.at(home)
    assert ledger.claim_batches("http://e", ["k"]) == []
    process.kill()
    process.join()
    assert [batch.id for batch in ledger.claim_batches("http://e", ["k"])] == ["b1"]


def test_a_process_is_known_by_its_start() -> None:
    place, pid, started = process_name().split("/")
    assert is_alive(process_name(), 0.0)
    assert not is_alive(f"{place}/{pid}/{int(started) + 1}", time.time()), "the id was given out again"
    assert is_alive(f"elsewhere/{pid}/1", time.time() - 3600)
    assert not is_alive(f"elsewhere/{pid}/1", time.time() - 3 * 86400)
    child = subprocess.Popen([sys.executable, "-c", ""])
    stat = Path(f"/proc/{child.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    dead = f"{place}/{child.pid}/{stat.read_text().rpartition(')')[2].split()[19]}"
    assert not is_alive(dead, time.time()), "dead, not yet buried"
    child.wait()


OLD_LAYOUT = """
CREATE TABLE calls (key VARCHAR(64) NOT NULL PRIMARY KEY, stage VARCHAR(64) NOT NULL, model VARCHAR(256) NOT NULL,
request BLOB NOT NULL, answer BLOB NOT NULL, prompt_tokens INTEGER, output_tokens INTEGER, answered_at FLOAT NOT NULL);
CREATE INDEX ix_calls_stage ON calls (stage);
"""


def old_ledger(home: Path) -> None:
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        connection.executescript(OLD_LAYOUT)
        named = zlib.compress(canonical_json(BASE.identity()).encode())
        row = (BASE.key, "seed_data", "model", named, zlib.compress(b"old"), 3, 4, 1.7e9)
        connection.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()


def test_a_ledger_of_the_first_version_is_opened(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    ledger = Ledger.at(tmp_path)
    assert ledger.lookup([BASE.key])[BASE.key] == TeacherAnswer("old", 3, 4, reused=True)
    ledger.record(CONTEXT, answered(1), TARIFF)
    costs = accounts.cost_report(Ledger.at(tmp_path))
    assert (costs["calls"], costs["unpriced_calls"], costs["prompt_tokens"]) == (2, 1, 14)
    with ledger.database.reading() as connection:
        indexed = {name for index in sa.inspect(connection).get_indexes("calls") for name in index["column_names"]}
    assert {"run", "stage"} <= indexed


def test_empty_answers_of_before_are_paid_for_and_no_answers(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    ledger.record(CONTEXT, answered(1, 2), TARIFF)
    ledger.record(CONTEXT, [(asked(3), TeacherAnswer("", 13, 1))], TARIFF)
    ledger.database.close()
    before = accounts.cost_report(ledger)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("ALTER TABLE calls DROP COLUMN served")
    connection.close()
    ledger = Ledger.at(tmp_path)
    assert set(ledger.lookup([asked(n).key for n in (1, 2, 3)])) == {asked(1).key, asked(2).key}
    assert accounts.cost_report(ledger) == before
    ledger.record(CONTEXT, [(asked(3), TeacherAnswer("at last", 13, 1, served="m"))], TARIFF)
    kept = Ledger.at(tmp_path).lookup([asked(3).key])[asked(3).key]
    assert (kept.text, kept.served) == ("at last", "m")


def test_a_reply_without_an_answer_is_paid_for_and_never_found(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    ledger.record(CONTEXT, [(asked(5), TeacherAnswer("", 15, 1, kind="empty", error="no answer"))], TARIFF)
    assert ledger.lookup([asked(5).key]) == {}
    ledger.record(CONTEXT, answered(5), TARIFF)
    assert ledger.lookup([asked(5).key])[asked(5).key].text == "answer 5"


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE calls (number TEXT)")
    connection.close()
    with pytest.raises(LedgerError, match=r"no .*key.* and is not ours"):
        Ledger.at(tmp_path)
    with sqlite3.connect(file) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["calls"]


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "no database"])
def test_a_damaged_ledger_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    ledger = Ledger.at(tmp_path)
    for start in range(0, 3000, 500):
        ledger.record(CONTEXT, answered(*range(start, start + 500)))
    ledger.database.close()
    file = tmp_path / "ledger.sqlite"
    content = file.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "overwritten": content[:4096] + b"\xff" * (len(content) - 4096),
        "no database": b"nonsense" * 5000,
    }[damage]
    file.write_bytes(damaged)
    monkeypatch.setenv("SPEED_HOME", str(tmp_path))
    monkeypatch.delenv("SPEED_LEDGER_URL", raising=False)
    for command in (["cost"], ["run"]) if damage == "truncated" else (["cost"],):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("error:") == 1
        assert "ledger.sqlite" in said
        assert "damaged" in said
    assert file.read_bytes() == damaged


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{POSTGRES_PASSWORD}@h/d",
        f"nonsense {POSTGRES_PASSWORD}",
        f"postgresql://u:{POSTGRES_PASSWORD}@127.0.0.1:1/d",
        f"postgresql://u@127.0.0.1:1/d?password={POSTGRES_PASSWORD}",
        f"postgresql://u:{POSTGRES_PASSWORD}@127.0.0.1:x/d",
    ],
)
def test_the_url_of_a_ledger_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path))
    monkeypatch.setenv("SPEED_LEDGER_URL", url)
    assert main(["cost"]) == 2
    captured = capsys.readouterr()
    assert "SPEED_LEDGER_URL" in captured.err
    assert POSTGRES_PASSWORD not in captured.err + captured.out


def test_the_password_is_in_no_error_of_a_running_server(postgres_server: str) -> None:
    wrong = postgres_server.replace(POSTGRES_PASSWORD, "wrong-" + POSTGRES_PASSWORD)
    with pytest.raises(LedgerError) as caught:
        Database(wrong)
    assert POSTGRES_PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("SPEED_LEDGER_URL", raising=False)
    monkeypatch.setenv("SPEED_HOME", str(tmp_path))
    Ledger.at(tmp_path).record(CONTEXT, [*answered(1, 2), (BASE, TeacherAnswer("\x1b[2J evil"))], TARIFF)

    def said(*arguments: str, status: int = 0) -> str:
        assert main(list(arguments)) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    assert json.loads(said("cost", "--json"))["calls"] == 3
    assert "unknown" in said("cost")
    assert json.loads(said("ledger", "--json"))["by"][0]["calls"] == 3
    assert "seed_data" in said("ledger")
    shown = said("ledger", "show", BASE.key[:12])
    assert json.loads(shown)["answer"] == "\x1b[2J evil"
    assert "\x1b" not in shown
    assert "several keys" in said("ledger", "show", "", status=2)
    assert "no call" in said("ledger", "show", "zz", status=2)
    said("ledger", "export", str(tmp_path / "out.jsonl"))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    assert "would be removed" in said("ledger", "prune", "--stage", "seed_data")
    assert "--stage" in said("ledger", "prune", status=2)
    said("ledger", "prune", "--stage", "seed_data", "--yes")
    assert json.loads(said("ledger", "--json"))["calls"] == 0
    assert json.loads(said("cost", "--json"))["calls"] == 3
