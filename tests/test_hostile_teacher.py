"""A teacher's server that means harm, or is ill: redirects, bodies without end, echoes of the key, long silences."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from resources.ledger.calls import CallContext, TeacherUnavailable
from resources.ledger.ledger import Ledger
from resources.teacher.endpoint import OpenAIEngine
from resources.teacher.known_dialects import DialectBook
from resources.teacher.pacing import Pace
from resources.teacher.teacher import Teacher
from speed_assets.recipe import Sampling
from tests.support.endpoint_calls import FAST, KEY, Keeper, echo, requests, teacher_at
from tests.support.http_messages import write_reply
from tests.support.teacher_server import Faults, TeacherServer
from tests.support.tiny import tiny_data, tiny_recipe

WARM = Sampling(temperature=1.0, max_new_tokens=900)


class Raw(TeacherServer):
    """Answers every chat completion by writing whatever `writes` does."""

    def __init__(self, writes: Any) -> None:
        super().__init__(echo)
        self._writes = writes
        self.keys: list[str | None] = []

    async def _complete(
        self, headers: dict[str, str], body: dict[str, Any], came: float, writer: asyncio.StreamWriter
    ) -> None:
        self.keys.append(headers.get("authorization"))
        self.bodies.append(body)
        result = self._writes(writer, headers)
        if asyncio.iscoroutine(result):
            await result


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "model": "m"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with TeacherServer(echo) as elsewhere:
        to = {"location": f"{elsewhere.url}/chat/completions?key={KEY}"}
        with Raw(lambda writer, _headers: write_reply(writer, status, b"", to)) as server:
            engine = OpenAIEngine(teacher_at(server.url), FAST, KEY)
            keeper = Keeper()
            with pytest.raises(TeacherUnavailable, match=r"redirects to http.*set teacher\.endpoint") as caught:
                engine.answer(requests(50), keeper.sink, keeper)
        assert elsewhere.bodies == []
        assert elsewhere.url in str(caught.value)
        assert KEY not in str(caught.value)
        assert not keeper.kept


BOMB = gzip.compress(json.dumps(completion("x" * 100_000_000)).encode())


def bomb(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    write_reply(writer, 200, BOMB, {"content-encoding": "gzip"})


async def endless(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    writer.write(b"HTTP/1.1 200 -\r\ncontent-type: application/json\r\n\r\n")
    while True:
        writer.write(b" " * 100_000)
        await writer.drain()


async def drops(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    writer.write(b"HTTP/1.1 200 -\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


def foreign(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
    write_reply(writer, 200, json.dumps(completion("x")).encode(), {"content-encoding": "br"})


@pytest.mark.parametrize(
    ("writes", "cause"),
    [
        (bomb, "longer than 1,000,000 bytes"),
        (endless, "longer than 1,000,000 bytes"),
        (drops, "no answer within 1 s"),
        (foreign, "packed as 'br'"),
    ],
)
def test_a_body_is_bounded_in_size_and_time(writes: Any, cause: str) -> None:
    calls = FAST.model_copy(update={"timeout_s": 1.0, "breaker_s": 2.0, "reply_bytes_max": 1_000_000})
    with Raw(writes) as server:
        keeper = Keeper()
        with pytest.raises(TeacherUnavailable, match=cause):
            OpenAIEngine(teacher_at(server.url), calls, None).answer(requests(3), keeper.sink, keeper)
    assert not keeper.kept


def test_a_packed_body_is_read() -> None:
    def packed(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
        write_reply(writer, 200, gzip.compress(json.dumps(completion("answer")).encode()), {"content-encoding": "gzip"})

    with Raw(packed) as server:
        keeper = Keeper()
        OpenAIEngine(teacher_at(server.url), FAST, None).answer(requests(3), keeper.sink, keeper)
    assert {answer.text for answer in keeper.kept.values()} == {"answer"}


# Secrets

HEADER = "planted-header-7731"


def recipe_at(url: str, **dialect: Any) -> Any:
    teacher = {"engine": "openai", "model": "m", "endpoint": url, "key_variable": "PLANTED"}
    return tiny_recipe(
        teacher={**tiny_data()["teacher"], **teacher, "dialect": {"headers": {"X-Team": "PLANTED_TEAM"}, **dialect}},
        calls={"backoff_s": 0.01, "backoff_max_s": 0.05, "breaker_s": 2, "timeout_s": 2},
    )


def echoing(status: int, value: Any) -> Any:
    """Says back what it was sent, the key and all."""

    def writes(writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        said = f"you sent {headers['authorization']} and {headers.get('x-team')}"
        text = json.dumps(value).replace("ECHO", said)
        write_reply(
            writer, status, text.encode(), {"location": f"http://127.0.0.1:9/{KEY}?{HEADER}"} if status == 307 else None
        )

    return writes


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (400, {"error": {"message": "ECHO", "code": "x"}}),
        (422, {"detail": [{"msg": "ECHO"}]}),
        (401, {"error": {"message": "ECHO"}}),
        (500, {"error": "ECHO"}),
        (307, {}),
        (200, completion("ECHO")),
        (200, {**completion("text"), "model": "ECHO"}),
        (200, {"choices": [{"message": {"content": None, "refusal": "ECHO"}, "finish_reason": "stop"}]}),
        (200, {"choices": [{"error": {"message": "ECHO"}, "message": {"content": ""}}]}),
        (200, {"nothing": "ECHO"}),
    ],
)
def test_a_planted_key_is_found_nowhere(
    status: int, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLANTED", KEY)
    monkeypatch.setenv("PLANTED_TEAM", HEADER)
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with Raw(echoing(status, value)) as server:
        recipe = recipe_at(server.url)
        teacher = Teacher(recipe, Ledger.at(tmp_path), dialects=DialectBook(recipe.teacher, tmp_path))
        try:
            answers, use = teacher.ask(
                CallContext("run", "seed_data"),
                teacher.requests([f"prompt {number}" for number in range(5)], WARM),
                lambda _done, _total, note: said.append(note),
            )
            said += [repr(answers), repr(use.metadata())]
        except TeacherUnavailable as error:
            said.append(str(error))
        assert server.keys[0] == f"Bearer {KEY}"
    kept = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    for secret in (KEY, HEADER):
        assert all(secret not in text for text in (*said, caplog.text)), said
        assert all(secret.encode() not in content for content in kept)
    for call in _calls(tmp_path):
        assert KEY not in call
        assert HEADER not in call


def _calls(home: Path) -> list[str]:
    from resources.ledger.accounts import read_calls

    return [repr(call) for call in read_calls(Ledger.at(home))]


def test_what_a_terminal_obeys_is_not_repeated() -> None:
    def colours(writer: asyncio.StreamWriter, _headers: dict[str, str]) -> None:
        write_reply(writer, 401, {"error": {"message": "\x1b]0;PWNED\x07\x1b[31m"}})

    with Raw(colours) as server:
        keeper = Keeper()
        with pytest.raises(TeacherUnavailable) as caught:
            OpenAIEngine(teacher_at(server.url), FAST, None).answer(requests(1), keeper.sink, keeper)
    assert "PWNED" in str(caught.value)
    assert str(caught.value).isprintable()


# Silence and recovery


def test_while_nothing_comes_the_progress_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.teacher.endpoint.SILENT_S", 0.3)
    said: list[str] = []
    with TeacherServer(echo, Faults(status_500=1.0)) as server:
        engine = OpenAIEngine(teacher_at(server.url), FAST.model_copy(update={"breaker_s": 1.5}), None)
        engine.on_silence = said.append
        keeper = Keeper()
        with pytest.raises(TeacherUnavailable):
            engine.answer(requests(3), keeper.sink, keeper)
    assert 3 <= len(said) <= 6
    assert re.match(
        r"no answer since \d\d:\d\d:\d\d \(\d+ s\); \d in flight, \d waiting .*; the last problem: 500: something broke",
        said[-1],
    )


def test_after_an_outage_all_are_asked_again_in_seconds() -> None:
    calls = FAST.model_copy(
        update={
            "backoff_s": 0.5,
            "backoff_max_s": 60.0,
            "breaker_s": 60,
            "concurrency_start": 32,
            "concurrency_max": 64,
        }
    )
    with TeacherServer(echo, Faults()) as server:
        engine, keeper = OpenAIEngine(teacher_at(server.url), calls, None), Keeper()
        over = []

        def outage() -> None:
            while len(server.served) < 200:
                time.sleep(0.01)
            server.faults = Faults(status_429=1.0, retry_after_s=None)
            time.sleep(4)
            server.faults = Faults(latency_s=0.02)
            over.append(time.monotonic())

        thread = threading.Thread(target=outage, daemon=True)
        thread.start()
        engine.answer(requests(1500), keeper.sink, keeper)
        ended = time.monotonic()
        thread.join()
    assert keeper.handed.total() == 1500
    assert ended - over[0] < 10  # 40 s at one more for each round, and up to 60 s for what waits to be sent again


def test_the_limit_is_back_in_a_few_rounds_after_an_outage() -> None:
    pace = Pace(FAST.model_copy(update={"concurrency_start": 64}))
    for now in range(10):
        pace.record_overload(sent_at=now + 0.5, now=float(now + 1))
    assert pace.limit == 1
    rounds = 0
    while pace.limit < 32:
        rounds += 1
        for _ in range(pace.limit):
            pace.record_answer()
    assert rounds <= 6
