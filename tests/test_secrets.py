"""Secrets of the environment at every sink: masked in data, and found nowhere after a run with a teacher that echoes them.

Belongs here: masking in what is printed and stored. Not here: which variables workers get (`hostile/test_sinks.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

from resources import redaction
from resources.ledger import accounts
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.progress import ProgressLines
from resources.redaction import MASK, mask_files, masked, masked_errors, masked_table, masked_values, secret_values
from resources.store.store import Store, write_atomically
from speed_assets.cli.output import fail, note, out, show_json, show_table
from speed_assets.recipe import PROJECT
from tests.support.http_messages import write_reply
from tests.support.teacher_server import Faults, TeacherServer, microworld
from tests.support.tiny import tiny_data, write_recipe

KEY = 'sk-planted-9a/7"e-0001'  # with characters that JSON escapes
TOKEN = "ghp-planted-4242"
WORD = "violins"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_NAMED", {"ROUTER"})
    for name in [name for name in os.environ if redaction._HOLDS_SECRET.search(name)]:
        monkeypatch.delenv(name)
    values = {"ROUTER": KEY, "GIT_TOKEN": TOKEN, "OTHER_PASSWORD": WORD, "SHORT_KEY": "abc", "PLAIN": "plain-value-123"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_words_and_short_values_stay_in_data() -> None:
    assert secret_values() == [KEY, TOKEN]
    assert masked(f"{KEY} {TOKEN} {WORD} abc plain-value-123") == f"*** *** {WORD} abc plain-value-123"
    assert masked(f"{json.dumps(KEY)} http://host/{quote(KEY, safe='')}?{quote(KEY)}") == '"***" http://host/***?***'


@pytest.mark.parametrize(
    ("name", "value"),
    [("A_API_KEY", "sk-1234567"), ("AAPIKEY", "sk-1234567"), ("A_KEY_2", "sk-1234567"), ("GITHUB_PAT", "sk-1234567"),
     ("A_URL", "postgresql://user:sk-1234567@host/db"), ("A_SECRET", "abcdefghijklmnop"), ("A_PASSWORD", "12345678")],
)  # fmt: skip
def test_what_is_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert len(secret_values()) == 3


@pytest.mark.parametrize("name", ["KEYBOARD", "TOKENIZERS_PARALLELISM", "LESSKEYIN", "MONKEY", "PATH"])
def test_what_is_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "some-value-123")
    assert secret_values() == [KEY, TOKEN]


def test_what_is_secret_is_known_at_once_and_what_is_not_any_more_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets are read again only when a variable has changed."""
    text = "first-value-1 second-value-2 third-value-3 fourth-value-4"
    assert redaction.masked(text) == redaction.redacted(text) == text
    monkeypatch.setenv("LATE_API_KEY", "first-value-1")
    assert redaction.masked(text) == redaction.redacted(text) == text.replace("first-value-1", "***")
    monkeypatch.setenv("LATE_API_KEY", "second-value-2")
    assert redaction.masked(text) == redaction.redacted(text) == text.replace("second-value-2", "***")
    monkeypatch.delenv("LATE_API_KEY")
    monkeypatch.setenv("PLAIN", "third-value-3")
    assert redaction.masked(text) == text
    monkeypatch.setattr(redaction, "_NAMED", set())
    redaction.mark_secret_variables("PLAIN")
    assert redaction.masked(text) == redaction.redacted(text) == text.replace("third-value-3", "***")
    monkeypatch.setattr(os, "environ", {"OTHER_TOKEN": "fourth-value-4"})
    assert redaction.masked(text) == text.replace("fourth-value-4", "***")
    redaction.secret_values().clear()  # a list of its own
    assert redaction.secret_values() == ["fourth-value-4"]


def test_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for text in (KEY, f"a {TOKEN} b"):
        out(text)
        note(text)
        fail(text)
        show_json({text: [text, 1]})
        show_table(["name", "n"], [[text, "1"]])
        lines = ProgressLines(sys.stderr, every=0)
        lines.print_line(text)
        lines(text)(1, 2, text)
    shown = capsys.readouterr()
    assert "planted" not in shown.out + shown.err
    assert shown.out.count(MASK) >= 6


def test_values_and_tables_keep_their_form() -> None:
    values = {"a": [KEY, 1, None, {"b": f"x {TOKEN}"}], "c": 1.5}
    assert masked_values(values) == {"a": ["***", 1, None, {"b": "x ***"}], "c": 1.5}
    table = pl.DataFrame(
        {"text": [f"a {KEY}", None], "list": [[TOKEN], []], "struct": [{"x": KEY, "n": 1}, None], "n": [1, 2]}
    )
    found = masked_table(table)
    assert found.schema == table.schema
    assert "planted" not in found.write_ndjson()
    plain = table.select("n")
    assert masked_table(plain) is plain


def test_artifacts_cards_and_texts(tmp_path: Path) -> None:
    store = Store(tmp_path / "home").open()
    with store.building("a" * 64) as work:
        (work / "README.md").write_text(f"# card {KEY}")
        (work / "recipe.json").write_text(json.dumps({"key": KEY}))
        (work / "weights.bin").write_bytes(b"\x00" + TOKEN.encode())  # no text: no model is trained on secrets
        made = store.seal(
            "release", "a" * 64, work, partition=None, metadata={"x": KEY}, lineage={"recipe": {"name": "a"}}
        )
    store.save_text("checks/x.json", json.dumps({"reason": KEY}))
    write_atomically(tmp_path / "home" / "y.json", TOKEN)
    assert made.metadata == {"x": MASK}
    assert json.loads((made.path / "recipe.json").read_text()) == {"key": MASK}
    for file in (tmp_path / "home").rglob("*"):
        assert file.suffix == ".bin" or not file.is_file() or b"planted" not in file.read_bytes(), file


def test_files_without_a_secret_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    before = (tmp_path / "a.json").stat().st_mtime_ns
    mask_files(tmp_path)
    assert (tmp_path / "a.json").stat().st_mtime_ns == before


def test_ledger(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    ledger = Ledger.at(tmp_path / "home")
    request = TeacherRequest(f"prompt {TOKEN}", "m", None, None, {"max_new_tokens": 5})
    ledger.record(CallContext("run", "stage"), [(request, TeacherAnswer(f"echo {KEY}", served=f"m {TOKEN}"))])
    ledger.save_batch("b", "here", [request.key], {"error": KEY})
    assert ledger.lookup([request.key])[request.key].text == f"echo {MASK}"
    assert "planted" not in str(list(accounts.read_calls(ledger)))
    assert "planted" not in str(ledger.claim_batches("here", [request.key]))


class Stubborn(Exception):
    """An error whose words are not in its arguments."""

    def __str__(self) -> str:
        return f"no {KEY}"


@pytest.mark.parametrize(
    "error", [ValueError(f"no {KEY}"), KeyError(TOKEN), OSError(2, "absent", f"/x/{TOKEN}"), Stubborn()], ids=repr
)
def test_errors_that_dagster_stores(error: Exception) -> None:
    with pytest.raises(Exception, match=r"\*\*\*") as caught, masked_errors():
        try:
            raise ValueError(f"cause {KEY}")
        except ValueError as cause:
            raise error from cause
    assert "planted" not in str(caught.value) + str(caught.value.__cause__)


@pytest.fixture
def echoing() -> Iterator[TeacherServer]:
    """A teacher that writes the key and a token of the environment into its answers, plain and as escapes of JSON."""
    answer = microworld({})
    escaped = "".join(f"\\u{ord(character):04x}" for character in KEY)
    plain = json.dumps(f"{KEY} {TOKEN} ")[1:-1]

    def echo(body: dict[str, Any]) -> str:
        return answer(body).replace('": "', f'": "{plain}', 1).replace('", "', f' {escaped}", "', 1)

    with TeacherServer(echo) as server:
        server.faults = replace(Faults(), headers={"x-echo": TOKEN})
        yield server


def planted_in(home: Path) -> list[str]:
    """Files of a home that hold one of the secrets; tables, databases and what is compressed in them read as what they are."""
    found = []
    for file in sorted(home.rglob("*")):
        if file.is_file() and not file.is_symlink():
            content = pl.read_parquet(file).write_ndjson().encode() if file.suffix == ".parquet" else file.read_bytes()
            if content.startswith(b"SQLite format 3"):
                content += b" ".join(_values_of(file))
            if b"planted" in content:
                found.append(file.relative_to(home).as_posix())
    return found + ["ledger" for call in accounts.read_calls(Ledger.at(home)) if "planted" in str(call)]


def _values_of(database: Path) -> Iterator[bytes]:
    """Every value of a SQLite file, unpacked."""
    with closing(sqlite3.connect(database)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    with suppress(zlib.error):
                        content = zlib.decompress(content)
                    yield content


def _written_by_the_teacher(data: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """`speed run` up to the seed data, in a process of its own, with its home in `folder`."""
    selected = "key:topics or key:task_list or key:seed_data"
    return subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", "run", "--json", "--recipe", str(write_recipe(folder, data)), "--select", selected],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip


@pytest.mark.faults
def test_a_key_that_the_teacher_echoes_is_nowhere(echoing: TeacherServer, tmp_path: Path) -> None:
    data = tiny_data()
    data["teacher"] |= {"engine": "openai", "endpoint": echoing.url, "key_variable": "ROUTER"}
    done = _written_by_the_teacher(data, tmp_path)
    assert "planted" not in done.stdout + done.stderr
    assert planted_in(tmp_path / "home") == []
    texts = [str(call["answer"]) for call in accounts.read_calls(Ledger.at(tmp_path / "home"))]
    assert sum(MASK in text or "[key]" in text for text in texts) > 50, "the teacher did echo them"


class SaysBack(TeacherServer):
    """Says back the Authorization header: in refusals of every third prompt, or in a redirect after twenty answers."""

    def __init__(self, how: str) -> None:
        super().__init__(microworld({}))
        self.how, self.said = how, 0

    async def _complete(
        self, headers: dict[str, str], body: dict[str, Any], came: float, writer: asyncio.StreamWriter
    ) -> None:
        refused = len(self.bodies) % 3 == 2 if self.how == "errors" else len(self.served) >= 20
        if not refused:
            return await super()._complete(headers, body, came, writer)
        self.bodies.append(body)
        self.said += 1
        words = {
            "error": {"message": f"not with {headers['authorization']} and {TOKEN}", "code": headers["authorization"]}
        }
        if self.how == "errors":
            return write_reply(writer, 400, words)
        key = quote(headers["authorization"].removeprefix("Bearer "), safe="")
        return write_reply(writer, 307, words, {"location": f"http://127.0.0.1:9/{TOKEN}/{key}?key={KEY}"})


@pytest.mark.faults
@pytest.mark.parametrize("how", ["errors", "redirect"])
def test_a_key_in_an_error_or_a_redirect_is_nowhere(how: str, tmp_path: Path) -> None:
    with SaysBack(how) as server:
        data = tiny_data()
        data["teacher"] |= {"engine": "openai", "endpoint": server.url, "key_variable": "ROUTER"}
        data["checks"]["tasks_missing_max"] = 1.0
        done = _written_by_the_teacher(data, tmp_path)
        assert server.said > (5 if how == "errors" else 0)
    assert "planted" not in done.stdout + done.stderr
    assert planted_in(tmp_path / "home") == []
    if how == "redirect":
        assert done.returncode != 0
        assert "redirects to http://127.0.0.1:9/***/" in done.stdout + done.stderr
