"""Batch files against a real server on loopback: nothing is sent twice, whatever becomes of a batch or of the run."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

import pytest

from resources.ledger.calls import CapReached, TeacherAnswer, TeacherRequest, TeacherUnavailable
from resources.teacher.batch_files import answers_from_jsonl, requests_jsonl
from resources.teacher.batches import BatchEngine, BatchesFirst
from resources.teacher.endpoint import OpenAIEngine
from tests.support import teacher_server
from tests.support.endpoint_calls import FAST, KEY, Keeper, echo, requests, teacher_at
from tests.support.teacher_server import Faults, TeacherServer, microworld

CALLS = FAST.model_copy(update={"batch_poll_s": 0.02, "batch_rows": 20, "attempts": 3, "mode": "batch"})


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs but what any process start would run."""


@dataclass(frozen=True)
class Held:
    id: str
    endpoint: str
    keys: tuple[str, ...]
    info: Mapping[str, Any]


class Log:
    """A `BatchLog` in memory that kills at a chosen step, before or after the step has become durable."""

    def __init__(self, kill_at: int | None = None, durable: bool = True) -> None:
        self.held: dict[str, Held] = {}
        self.kill_at, self.durable = kill_at, durable
        self.steps = 0

    def _step(self, change: Callable[[], object]) -> None:
        self.steps += 1
        if self.steps == self.kill_at and not self.durable:
            raise Killed
        change()
        if self.steps == self.kill_at:
            raise Killed

    def save_batch(self, id: str, endpoint: str, keys: Iterable[str], info: Mapping[str, Any]) -> None:
        batch = Held(id, endpoint, tuple(keys), dict(info))
        if id in self.held:
            batch = replace(self.held[id], info=dict(info))
        self._step(lambda: self.held.update({id: batch}))

    def claim_batches(self, endpoint: str, keys: Iterable[str]) -> list[Held]:
        wanted = set(keys)
        return [batch for batch in self.held.values() if batch.endpoint == endpoint and wanted & set(batch.keys)]

    def close_batch(self, id: str) -> None:
        self._step(lambda: self.held.pop(id, None))


class Settling(Keeper):
    """As the ledger: a key that was given back may be taken again."""

    def release(self, requests: Sequence[TeacherRequest]) -> None:
        super().release(requests)
        for request in requests:
            self.taken[request.key] = 0


def engine(server: TeacherServer, log: Log, **calls: Any) -> BatchEngine:
    return BatchEngine(teacher_at(server.url), CALLS.model_copy(update=calls), None, log)


def executed(server: TeacherServer) -> Counter[str]:
    return server.answered()


def test_all_rows_come_by_several_files() -> None:
    keeper, log, asked = Settling(), Log(), requests(50)
    with TeacherServer(echo, Faults(batch_polls=2)) as server:
        engine(server, log).answer(asked, keeper.sink, keeper)
    assert len(server.batches) == 3
    assert {keeper.kept[r.key].text for r in asked} == {f"answer to {r.prompt}" for r in asked}
    assert keeper.handed == executed(server) == Counter(r.key for r in asked)
    assert keeper.kept[asked[0].key].output_tokens == 4
    assert not log.held
    assert not keeper.back


@pytest.mark.parametrize("fate", ["partial", "missing", "expired", "cancelled", "failed", "lost"])
def test_what_a_batch_did_not_answer_is_asked_again_and_nothing_else(fate: str) -> None:
    keeper, log, asked = Settling(), Log(), requests(20)
    with TeacherServer(echo, Faults(batches=(fate,))) as server:
        engine(server, log).answer(asked, keeper.sink, keeper)
    assert keeper.handed == executed(server) == Counter(r.key for r in asked)
    assert len(server.batches) == (1 if fate == "lost" else 2)
    assert keeper.back.total() == {"lost": 0, "failed": 20}.get(fate, 10)
    assert not log.held


def test_batches_that_bring_nothing_end_with_the_cause() -> None:
    keeper, log = Settling(), Log()
    with TeacherServer(echo, Faults(batches=("failed",) * 9)) as server:  # noqa: SIM117
        with pytest.raises(TeacherUnavailable, match=r"nothing in 3 rounds .*failed: queue is full.*20 calls are left"):
            engine(server, log).answer(requests(20), keeper.sink, keeper)
    assert len(server.batches) == 3
    assert keeper.back.total() == 60


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("step", range(1, 7))
def test_a_run_killed_at_any_step_of_the_log_sends_nothing_twice(step: int, durable: bool) -> None:
    """Steps of each of two batches: save its name, save its id; then close each."""
    keeper, asked = Settling(), requests(40)
    log = Log(step, durable)
    with TeacherServer(echo, Faults(batch_polls=2)) as server:
        with pytest.raises(Killed):
            engine(server, log).answer(asked, keeper.sink, keeper)
        log.kill_at = None
        unknown = [request for request in asked if request.key not in keeper.kept]  # as the ledger tells
        for key in set(keeper.taken) - set(keeper.kept):
            keeper.taken[key] = 1 if any(key in batch.keys for batch in log.held.values()) else 0
        engine(server, log).answer(unknown, keeper.sink, keeper)
    assert executed(server) == Counter(r.key for r in asked)
    assert set(keeper.handed.values()) == {1}
    assert len(keeper.kept) == 40


def test_another_mode_waits_for_the_rows_of_a_batch() -> None:
    keeper, log, asked = Settling(), Log(kill_at=2), requests(30)
    with TeacherServer(echo, Faults(batch_polls=3, batches=("partial",))) as server:
        with pytest.raises(Killed):
            engine(server, log).answer(asked[:20], keeper.sink, keeper)
        log.kill_at = None
        batches = engine(server, log)
        assert batches.keys_in_batches(asked) == {request.key for request in asked[:20]}
        online = OpenAIEngine(teacher_at(server.url), FAST, None)
        BatchesFirst(online, batches).answer(asked, keeper.sink, keeper)
    assert executed(server) == keeper.handed == Counter(r.key for r in asked)
    assert sum(entry.batch and entry.status == 200 for entry in server.served) == 10
    assert len(server.batches) == 1
    assert not log.held


def test_rows_of_an_old_batch_that_nobody_asks_for_now_are_kept_for_later() -> None:
    keeper, log, asked = Settling(), Log(kill_at=2), requests(20)
    with TeacherServer(echo) as server:
        with pytest.raises(Killed):
            engine(server, log).answer(asked, keeper.sink, keeper)
        log.kill_at = None
        engine(server, log).answer(asked[:5], keeper.sink, keeper)
        engine(server, log).answer(requests(3, "other"), keeper.sink, keeper)
        assert [len(batch.keys) for batch in log.held.values()] == [15]
        engine(server, log).answer(asked[5:], keeper.sink, keeper)
    assert set(executed(server).values()) == {1}
    assert not log.held


def test_a_refused_row_fails_alone() -> None:
    keeper, log, asked = Settling(), Log(), requests(20)
    with TeacherServer(echo, Faults(refused="prompt 7")) as server:
        engine(server, log).answer(asked, keeper.sink, keeper)
    errors = {r.prompt: keeper.kept[r.key].error for r in asked if keeper.kept[r.key].error}
    assert errors == {"prompt 7": "400: we do not answer this: prompt 7"}
    assert keeper.back == Counter([asked[7].key])
    assert len(server.batches) == 1


def test_a_cap_sends_what_is_below_it_and_collects_it() -> None:
    keeper, log = Settling(cap=30), Log()
    with TeacherServer(echo) as server, pytest.raises(CapReached):
        engine(server, log).answer(requests(60), keeper.sink, keeper)
    assert executed(server).total() == keeper.handed.total() == 30


def test_a_refused_key_ends_it_at_once_and_leaves_nothing_outstanding() -> None:
    keeper, log = Settling(), Log()
    with TeacherServer(echo, Faults(key="other")) as server:
        batches = BatchEngine(teacher_at(server.url, key_variable="PLANTED"), CALLS, KEY, log)
        with pytest.raises(TeacherUnavailable, match=r"refuses to take a batch file .*PLANTED") as caught:
            batches.answer(requests(5), keeper.sink, keeper)
    assert KEY not in str(caught.value)
    assert not log.held
    assert keeper.back.total() == 5


def test_a_server_without_batches_says_what_to_set() -> None:
    keeper, log = Settling(), Log()
    with TeacherServer(echo) as server:
        batches = BatchEngine(teacher_at(f"{server.url}/nowhere"), CALLS, None, log)
        with pytest.raises(TeacherUnavailable, match=r"refuses to take a batch file \(404.*set calls.mode=online"):
            batches.answer(requests(5), keeper.sink, keeper)
    assert not log.held


def test_a_batch_past_its_deadline_is_reported() -> None:
    keeper, log = Settling(), Log()
    with TeacherServer(echo, Faults(batch_polls=10**9)) as server:

        class Old(Log):
            def save_batch(self, id: str, endpoint: str, keys: Iterable[str], info: Mapping[str, Any]) -> None:
                super().save_batch(id, endpoint, keys, info)
                for batch in server.batches.values():
                    batch["created_at"] -= 26 * 3600

        log = Old()
        with pytest.raises(TeacherUnavailable, match=r"batch batch_0 .* 24 hours are over"):
            engine(server, log).answer(requests(5), keeper.sink, keeper)
    assert [batch.info["batch"] for batch in log.held.values()] == ["batch_0"]


def test_a_batch_past_its_deadline_is_reported_by_the_providers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """If ours is two days ahead of it, a batch that has just been created is not given up."""
    behind = 48 * 3600
    date, write = {"date": formatdate(time.time() - behind, usegmt=True)}, teacher_server.write_reply

    def dated(writer: Any, status: int, value: Any, headers: Any = None, announced: int | None = None) -> None:
        write(writer, status, value, {**(headers or {}), **date}, announced)

    monkeypatch.setattr(teacher_server, "write_reply", dated)
    keeper = Settling()
    with TeacherServer(echo, Faults(batch_polls=3)) as server:

        class There(Log):
            def save_batch(self, id: str, endpoint: str, keys: Iterable[str], info: Mapping[str, Any]) -> None:
                super().save_batch(id, endpoint, keys, info)
                for batch in server.batches.values():
                    batch["created_at"] = int(time.time()) - behind

        engine(server, There()).answer(requests(5), keeper.sink, keeper)
    assert len(keeper.handed) == 5


def test_a_batch_that_is_gone_is_asked_again() -> None:
    keeper, log, asked = Settling(), Log(), requests(5)
    with TeacherServer(echo) as server:
        log.save_batch("name", server.url, [request.key for request in asked], {"batch": "batch_99"})
        started = time.monotonic()
        engine(server, log, breaker_s=0.3).answer(asked, keeper.sink, keeper)
        assert time.monotonic() - started > 0.2  # not at the first 404: a new batch may not be seen at once
    assert keeper.handed == Counter(r.key for r in asked)
    assert not log.held


def test_files_stay_below_the_providers_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.teacher.batches.FILE_BYTES", 1000)
    keeper, log = Settling(), Log()
    with TeacherServer(echo) as server:
        engine(server, log).answer(requests(10), keeper.sink, keeper)
        uploaded = [content for name, content in server.files.items() if name.startswith("file-")]
    assert len(uploaded) == 4
    assert max(map(len, uploaded)) <= 1000
    assert keeper.handed.total() == 10


def test_a_batch_answers_as_online_does() -> None:
    asked = requests(9, word="brainstorm retrieval: Arts/Music\ntasks:")[1:]
    by_batch, by_hand = Settling(), Settling()
    with TeacherServer(microworld()) as server:
        engine(server, Log()).answer(asked, by_batch.sink, by_batch)
        OpenAIEngine(teacher_at(server.url), FAST, None).answer(asked, by_hand.sink, by_hand)
    assert by_batch.kept == by_hand.kept


def test_lines_are_what_run_batch_reads_and_writes() -> None:
    request = requests(1)[0]
    line = json.loads(next(requests_jsonl([request])))
    assert (line["custom_id"], line["method"], line["url"]) == (request.key, "POST", "/v1/chat/completions")
    assert line["body"]["messages"] == request.messages
    whole = {"choices": [{"message": {"content": "text"}}]}
    lines = [
        {"custom_id": "a", "response": {"status_code": 200, "body": whole}, "error": None},
        {"custom_id": "b", "response": {"status_code": 400, "body": None}, "error": {"message": "too long"}},
        {"custom_id": "c", "response": None, "error": {"code": "batch_expired"}},
        {"custom_id": "d", "response": {"status_code": 500, "body": {}}},
        {"custom_id": 5},
        {"response": "?"},
        [],
    ]
    content = [json.dumps(entry).encode() for entry in lines] + [b'{"custom_id": "e", "resp', b"\xff"]
    read = dict(answers_from_jsonl(content, teacher_at("http://h/v1"), None))
    assert {name: outcome.kind for name, outcome in read.items()} == {
        "a": "answered", "b": "refused", "c": "again", "d": "again",
    }  # fmt: skip
    assert read["b"].words == "400: too long"
    assert replace(request, sample=1).key != line["custom_id"]


def test_what_a_sink_refuses_to_go_on_with_is_settled_and_never_collected_again() -> None:
    class Ending(Settling):
        def sink(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            super().sink(answered)
            raise TeacherUnavailable("the model only thinks")

    keeper, log, asked = Ending(), Log(), requests(10)
    with TeacherServer(echo) as server, pytest.raises(TeacherUnavailable, match="only thinks"):
        engine(server, log).answer(asked, keeper.sink, keeper)
    assert keeper.handed.total() == 10
    assert not log.held


@pytest.mark.parametrize("packed", [False, True])
def test_an_output_file_without_end_is_not_read_beyond_its_bound(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body may unpack to any size; both end the run with the bound in the error."""
    write = teacher_server.write_reply
    endless = b"x" * 30_000_000
    body = gzip.compress(endless) if packed else endless

    def swollen(writer: Any, status: int, value: Any, headers: Any = None, announced: int | None = None) -> None:
        if isinstance(value, bytes):
            value, headers = body, {"content-encoding": "gzip"} if packed else {}
        write(writer, status, value, headers, announced)

    monkeypatch.setattr(teacher_server, "write_reply", swollen)
    keeper, log = Settling(), Log()
    with (
        TeacherServer(echo) as server,
        pytest.raises(TeacherUnavailable, match=r"download the output file.*the body is longer than 427,680 bytes"),
    ):
        engine(server, log, breaker_s=0.3, reply_bytes_max=100_000).answer(requests(5), keeper.sink, keeper)
    assert log.held, "the batch is paid for: it is collected when the server sends its file"


def test_a_line_that_is_too_long_is_asked_again_and_the_others_are_kept() -> None:
    keeper, asked = Settling(), requests(5)
    long = asked[2].prompt
    with TeacherServer(lambda body: echo(body) * (3000 if body["messages"][-1]["content"] == long else 1)) as server:
        batches = engine(server, Log(), reply_bytes_max=20_000, attempts=1)
        with pytest.raises(TeacherUnavailable, match="1 calls are left"):
            batches.answer(asked, keeper.sink, keeper)
    assert len(keeper.kept) == 4


def test_replies_that_are_packed_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    write = teacher_server.write_reply

    def packing(writer: Any, status: int, value: Any, headers: Any = None, announced: int | None = None) -> None:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        write(writer, status, gzip.compress(text), {**(headers or {}), "content-encoding": "gzip"}, announced)

    monkeypatch.setattr(teacher_server, "write_reply", packing)
    keeper, asked = Settling(), requests(5)
    with TeacherServer(echo) as server:
        engine(server, Log()).answer(asked, keeper.sink, keeper)
    assert len(keeper.kept) == 5
