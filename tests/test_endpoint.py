"""The teacher over HTTP against a real server on loopback that fails on purpose."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.ledger.calls import CapReached, TeacherAnswer, TeacherRequest, TeacherUnavailable
from resources.teacher.chat import read_reply
from resources.teacher.endpoint import OpenAIEngine
from resources.teacher.pacing import Pace, parse_duration, retry_after
from speed_assets.domain.dialect import Dialect, Structure, strict_schema
from speed_assets.domain.parsing import parse_revision, parse_tasks
from speed_assets.domain.prompts import schema_for
from speed_assets.recipe import Calls, Teacher
from tests.support.teacher_server import Faults, TeacherServer, microworld, read_log, serving

KEY = "sk-planted-0123456789"
FAST = Calls(backoff_s=0.01, backoff_max_s=0.05, timeout_s=2, breaker_s=5, concurrency_start=8, concurrency_max=64)


def echo(body: dict[str, Any]) -> str:
    return f"answer to {body['messages'][-1]['content']}"


def teacher_at(url: str, **changes: Any) -> Teacher:
    return Teacher(engine="openai", model="model", endpoint=url, **changes)


def requests(count: int, word: str = "prompt", **changes: Any) -> list[TeacherRequest]:
    base = TeacherRequest("", "model", None, "here", {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 100})
    return [replace(base, prompt=f"{word} {i}", **changes) for i in range(count)]


class Keeper:
    """A sink and an allowance that remember; `cap` is the most that may be taken."""

    def __init__(self, cap: int | None = None, commit_s: float = 0.0) -> None:
        self.cap, self.commit_s = cap, commit_s
        self.kept: dict[str, TeacherAnswer] = {}
        self.handed: Counter[str] = Counter()
        self.groups: list[int] = []
        self.taken: Counter[str] = Counter()
        self.back: Counter[str] = Counter()
        self.threads: set[int] = set()

    def sink(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        self.threads.add(threading.get_ident())
        time.sleep(self.commit_s)
        self.groups.append(len(answered))
        for request, answer in answered:
            assert self.taken[request.key] == 1
            self.handed[request.key] += 1
            self.kept[request.key] = answer

    def reserve(self, requests: Sequence[TeacherRequest]) -> int:
        self.threads.add(threading.get_ident())
        room = len(requests) if self.cap is None else self.cap - self.taken.total() + self.back.total()
        if room < 1:
            raise CapReached("cap")
        taken = min(room, len(requests))
        self.taken.update(request.key for request in requests[:taken])
        return taken

    def release(self, requests: Sequence[TeacherRequest]) -> None:
        self.back.update(request.key for request in requests)


def ask(
    faults: Faults,
    asked: list[TeacherRequest],
    keeper: Keeper,
    calls: Calls = FAST,
    key: str | None = None,
    **teacher: Any,
) -> TeacherServer:
    with TeacherServer(echo, faults) as server:
        OpenAIEngine(teacher_at(server.url, **teacher), calls, key).answer(asked, keeper.sink, keeper)
    return server


def test_every_request_is_answered_once_through_all_faults() -> None:
    keeper, asked = Keeper(), requests(200)
    faults = Faults(
        seed=1, status_429=0.3, status_500=0.1, broken=0.05, truncated=0.05, not_json=0.02, slow=0.1, slow_s=0.05
    )
    server = ask(faults, asked, keeper)
    assert keeper.handed == Counter(request.key for request in asked)
    assert {keeper.kept[r.key].text for r in asked} == {f"answer to {r.prompt}" for r in asked}
    assert server.answered() == keeper.handed
    assert not keeper.back
    met = Counter(entry.fault for entry in server.served)
    assert all(met[name] for name in ("status_429", "status_500", "broken", "truncated", "not_json", "slow")), met
    assert keeper.kept[asked[0].key].prompt_tokens == 2
    assert len(keeper.threads) == 1
    assert threading.get_ident() not in keeper.threads


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        (Faults(status_500=1.0), "500: something broke"),
        (Faults(status_429=1.0), "429: too much at once"),
        (Faults(broken=1.0), "RemoteProtocolError|ReadError"),
        (Faults(truncated=1.0), "RemoteProtocolError|no chat completion"),
        (Faults(not_json=1.0), "one moment please"),
        (Faults(stalled=1.0), "no answer within 0.3 s"),
    ],
)
def test_when_nothing_succeeds_the_breaker_ends_it_in_time_with_the_cause(faults: Faults, cause: str) -> None:
    keeper, started = Keeper(), time.monotonic()
    calls = FAST.model_copy(update={"breaker_s": 1.0, "timeout_s": 0.3 if faults.stalled else 5.0})
    with pytest.raises(TeacherUnavailable, match=rf"http://127.0.0.1:\d+/v1 answered nothing for 1 s.*({cause})"):
        ask(faults, requests(50), keeper, calls)
    assert 1.0 <= time.monotonic() - started < 2.5
    assert not keeper.kept


def test_an_endpoint_that_accepts_and_never_answers_ends_before_its_timeout() -> None:
    started = time.monotonic()
    with pytest.raises(TeacherUnavailable, match="no answer has arrived yet"):
        ask(Faults(stalled=1.0), requests(5), Keeper(), FAST.model_copy(update={"breaker_s": 0.5, "timeout_s": 60.0}))
    assert time.monotonic() - started < 2


def test_nobody_listens() -> None:
    keeper, asked = Keeper(), requests(5)
    calls = FAST.model_copy(update={"breaker_s": 0.5})
    with pytest.raises(TeacherUnavailable, match="ConnectError"):
        OpenAIEngine(teacher_at("http://127.0.0.1:9/v1"), calls, None).answer(asked, keeper.sink, keeper)
    assert keeper.back.total() >= 1  # no server can have charged for them; some may be trying at the end
    assert set(keeper.back) <= set(keeper.taken)


def test_an_allowance_of_100_sends_at_most_100_under_64_fold_concurrency() -> None:
    keeper = Keeper(cap=100)
    with TeacherServer(echo, Faults(latency_s=0.01)) as server:
        engine = OpenAIEngine(teacher_at(server.url), FAST.model_copy(update={"concurrency_start": 64}), None)
        with pytest.raises(CapReached):
            engine.answer(requests(500), keeper.sink, keeper)
    assert len(server.served) == 100
    assert keeper.handed.total() == 100
    assert server.most_in_flight > 32


def test_nothing_is_sent_before_it_is_taken_nor_twice_at_once() -> None:
    with TeacherServer(echo) as server:

        class Slow(Keeper):
            def reserve(self, requests: Sequence[TeacherRequest]) -> int:
                time.sleep(0.05)
                assert {entry.key for entry in server.served} <= set(self.taken)
                return super().reserve(requests[:5])

        keeper = Slow()
        OpenAIEngine(teacher_at(server.url), FAST, None).answer(requests(20), keeper.sink, keeper)
    assert server.answered().total() == keeper.handed.total() == 20


def test_answers_gather_while_the_sink_commits() -> None:
    keeper = Keeper(commit_s=0.05)
    ask(Faults(), requests(200), keeper, FAST.model_copy(update={"concurrency_start": 64}))
    assert sum(keeper.groups) == 200
    assert len(keeper.groups) < 60


def test_retry_after_is_honoured() -> None:
    with TeacherServer(echo, Faults(status_429=1.0, retry_after_s=0.4)) as server:
        calls = FAST.model_copy(update={"backoff_max_s": 5.0, "concurrency_start": 1, "concurrency_max": 1})
        keeper = Keeper()

        def recover() -> None:
            while len(server.served) < 3:
                time.sleep(0.01)
            server.faults = Faults()

        threading.Thread(target=recover, daemon=True).start()
        OpenAIEngine(teacher_at(server.url), calls, None).answer(requests(2), keeper.sink, keeper)
    refused = [entry for entry in server.served if entry.status == 429]
    for entry, following in zip(server.served, server.served[1:], strict=False):
        if entry in refused:
            assert following.came - entry.left >= 0.4
    assert len(refused) == 3


def test_concurrency_grows_to_what_the_endpoint_bears() -> None:
    keeper = Keeper()
    calls = FAST.model_copy(update={"concurrency_start": 1})
    server = ask(Faults(latency_s=0.1, in_flight_max=8, retry_after_s=None), requests(200), keeper, calls)
    assert keeper.handed.total() == 200
    refused = sum(entry.status == 429 for entry in server.served)
    assert 6 <= server.most_in_flight <= 16
    assert 0 < refused < 100
    assert ask(Faults(latency_s=0.1), requests(300), Keeper(), calls).most_in_flight > 16


def test_a_rate_limit_in_the_headers_holds_back_what_follows() -> None:
    keeper = Keeper()
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "200ms"}
    calls = FAST.model_copy(update={"concurrency_start": 1, "concurrency_max": 1, "backoff_max_s": 5.0})
    server = ask(Faults(headers=headers), requests(4), keeper, calls)
    gaps = [b.came - a.left for a, b in zip(server.served, server.served[1:], strict=False)]
    assert len(gaps) == 3
    assert min(gaps) >= 0.19


def test_another_4xx_fails_its_row_only_with_the_servers_words() -> None:
    keeper, asked = Keeper(), requests(30)
    ask(Faults(refused="prompt 7"), asked, keeper)
    errors = {r.prompt: keeper.kept[r.key].error for r in asked if keeper.kept[r.key].error}
    assert errors == {"prompt 7": "400: we do not answer this: prompt 7"}
    assert keeper.kept[asked[7].key].text == ""
    assert keeper.back == Counter([asked[7].key])
    assert keeper.handed.total() == 30


@pytest.mark.parametrize(
    ("faults", "teacher", "words"),
    [
        (Faults(key="other"), {"key_variable": "PLANTED"}, r"refuses the key in PLANTED \(401"),
        (Faults(key="other"), {}, r"refuses a call without a key"),
        (Faults(unknown_model=True), {}, "does not know the model model"),
    ],
)
def test_what_concerns_all_rows_ends_at_once(faults: Faults, teacher: dict[str, str], words: str) -> None:
    keeper, started = Keeper(), time.monotonic()
    key = KEY if teacher else None
    with pytest.raises(TeacherUnavailable, match=words) as caught:
        ask(faults, requests(100, schema=schema_for("synthesis", "sts")), keeper, key=key, **teacher)
    assert time.monotonic() - started < 2
    assert KEY not in str(caught.value)
    assert keeper.back.total() >= 1


def test_the_key_is_sent_and_stands_in_no_error_and_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLANTED", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    caplog.set_level(logging.DEBUG)
    keeper = Keeper()
    ask(Faults(key=KEY, status_500=0.2), requests(5), keeper, key=os.environ["PLANTED"], key_variable="PLANTED")
    assert keeper.handed.total() == 5
    ask(Faults(refused=KEY), requests(3, word=KEY), keeper, key=KEY)
    assert {answer.error for answer in keeper.kept.values() if answer.error} == {
        f"400: we do not answer this: [key] {i}" for i in range(3)
    }
    for bad in (f"{KEY}\n", f"{KEY}é", None):
        with pytest.raises(TeacherUnavailable, match="PLANTED") as caught:
            ask(Faults(), requests(1), keeper, key=bad, key_variable="PLANTED")
        assert KEY not in repr(caught.value)
    with pytest.raises(TeacherUnavailable) as caught:  # without a key, nobody else's is sent
        ask(Faults(key=KEY), requests(1), keeper)
    assert "somebody" not in str(caught.value)
    assert KEY not in caplog.text
    assert "somebody" not in caplog.text


def test_an_interrupt_hands_on_what_has_come() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without
    try:
        _interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted() -> None:
    keeper, many = (
        Keeper(commit_s=0.02),
        10_000,
    )  # more than are answered before a busy machine has let the thread interrupt
    with TeacherServer(echo, Faults(latency_s=0.02)) as server:
        engine = OpenAIEngine(teacher_at(server.url), FAST, None)

        def interrupt() -> None:
            while len(server.served) < 30:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            engine.answer(requests(many), keeper.sink, keeper)
        came = server.answered()
    assert 20 <= keeper.handed.total() < many
    assert set(keeper.handed) <= set(came)
    assert len(set(came) - set(keeper.handed)) <= FAST.concurrency_max  # cut off on their way
    assert not set(keeper.back) & set(came)


def test_a_sink_that_fails_ends_it_with_its_own_error() -> None:
    class Full(Keeper):
        def sink(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ask(Faults(), requests(50), Full())


def test_tasks_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    most = 0
    create = asyncio.create_task

    def counting(coroutine: Any, **options: Any) -> Any:
        nonlocal most
        task = create(coroutine, **options)
        most = max(most, len(asyncio.all_tasks(task.get_loop())) if "_Asking" in repr(coroutine) else 0)
        return task

    monkeypatch.setattr("resources.teacher.endpoint.asyncio.create_task", counting)
    keeper = Keeper()
    ask(Faults(), requests(600), keeper)
    assert keeper.handed.total() == 600
    assert 8 < most <= FAST.concurrency_max + 5


def test_the_microworld_answers_alike_at_any_port_and_in_its_own_process(tmp_path: Path) -> None:
    asked = requests(12, word="brainstorm retrieval: Arts/Music\ntasks:")[1:]
    asked += [replace(asked[0], sample=1)]
    keepers = []
    with serving(tmp_path / "log", faults=Faults(status_500=0.3)) as url:
        keepers.append(Keeper())
        OpenAIEngine(teacher_at(url), FAST, None).answer(asked, keepers[0].sink, keepers[0])
    assert sum(entry.status == 200 for entry in read_log(tmp_path / "log")) == 12
    with TeacherServer(microworld()) as server:
        keepers.append(Keeper())
        moved = [replace(request, endpoint=server.url) for request in asked]
        OpenAIEngine(teacher_at(server.url), FAST, None).answer(moved, keepers[1].sink, keepers[1])
    first, second = ([k.kept[r.key].text for r in rs] for k, rs in zip(keepers, (asked, moved), strict=True))
    assert first[0] != first[-1]  # another sample of the same prompt
    # The process errs at the recipe's rates, the thread never.
    assert sum(a == b for a, b in zip(first, second, strict=True)) >= 10


@pytest.mark.parametrize("ignores", [True, False])
def test_a_brainstorm_is_read_whether_the_server_holds_to_the_schema_or_not(ignores: bool) -> None:
    asked = requests(4, word="brainstorm retrieval: Arts/Music\ntasks:", schema=schema_for("brainstorm", "retrieval"))
    keeper = Keeper()
    with TeacherServer(microworld(), Faults(ignores_format=ignores)) as server:
        OpenAIEngine(teacher_at(server.url), FAST, None).answer(asked[1:], keeper.sink, keeper)
    text = keeper.kept[asked[3].key].text
    assert text.startswith("[" if ignores else '{"tasks"')
    assert len(parse_tasks(text, 3)) == 3


# Bodies and replies, without a server


def test_the_strict_schema_is_what_openai_takes_and_what_the_parsers_read() -> None:
    tasks = strict_schema(schema_for("brainstorm", "sts"))
    assert (tasks["type"], tasks["properties"]["tasks"]["type"]) == ("object", "array")
    patch = strict_schema(schema_for("revise", "sts"))["properties"]["revision"]["anyOf"][0]
    assert patch["required"] == list(patch["properties"])
    assert {"type": "null"} in patch["properties"]["S1"]["anyOf"]
    assert parse_revision("sts", '{"reason": "r", "revision": {"S1": null, "S2": "x", "S3": null}}').changes == {
        "S2": "x"
    }


@pytest.mark.parametrize(
    ("mode", "kind"), [("json_schema", "json_schema"), ("json_object", "json_object"), ("none", None)]
)
def test_structured_output_is_asked_for_as_the_recipe_says(mode: Structure, kind: str | None) -> None:
    request = requests(1, schema=schema_for("synthesis", "sts"))[0].in_dialect(Dialect(structure=mode))
    assert request.body().get("response_format", {}).get("type") == kind
    assert "response_format" not in replace(request, schema=None).body()


def test_a_seed_tells_samples_apart_and_not_endpoints() -> None:
    request = requests(1)[0]
    seed = request.body()["seed"]
    assert 0 <= seed < 2**31
    assert replace(request, endpoint="there").body()["seed"] == seed
    assert replace(request, sample=1).body()["seed"] != seed
    assert "seed" not in replace(request, parameters={**request.parameters, "temperature": 0.0}).body()


TEACHER = teacher_at("https://host/v1", key_variable="KEY")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, {"choices": [{"message": {"content": "x"}}]}, "answered", "x"),
        (
            200,
            {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]},
            "nothing",
            "no answer (thoughts)",
        ),
        (200, {"choices": [{"message": {"content": None, "refusal": "no"}}]}, "nothing", "no answer (filtered): no"),
        (200, {"choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}]}, "answered", "a"),
        (200, {"choices": [{"message": {"content": "\ud800"}}]}, "answered", "?"),
        (200, {"choices": []}, "again", "no chat completion"),
        (200, {"choices": [{"message": {"content": 5}}]}, "again", "no chat completion"),
        (200, {"error": {"code": 429, "message": "upstream"}}, "again", "upstream"),
        (200, b"[" * 100_000, "again", "no chat completion"),
        (200, b"\xff\xfe", "again", "no chat completion"),
        (429, {"error": {"code": "insufficient_quota", "message": "pay"}}, "hopeless", "has no money left"),
        (529, b"", "again", "529: no words"),
        (409, {"detail": [{"loc": 1}]}, "again", "loc"),
        (403, {"error": "no"}, "hopeless", "the teacher at https://host/v1 refuses the key in KEY"),
        (422, {"message": "y" * 900}, "refused", "422: yyy"),
    ],
)
def test_replies_are_read_as_what_they_mean(status: int, body: Any, kind: str, words: str) -> None:
    outcome = read_reply(status, body, TEACHER, None)
    assert outcome.kind == kind
    assert words in (outcome.answer.text if kind == "answered" and outcome.answer else outcome.words)
    assert len(outcome.words) < 420
    assert "secret" not in outcome.words


@given(st.integers(200, 599), st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "error", "usage", "prompt_tokens", "code", "type", "text"]),
        inner, max_size=3,
    ),
))  # fmt: skip
def test_any_reply_is_read_without_an_exception(status: int, body: Any) -> None:
    read_reply(status, body, TEACHER, KEY)


@pytest.mark.parametrize(("said", "read"), [(7, 7), (2**31 - 1, 2**31 - 1), (2**31, None), (10**30, None), (-1, None)])
def test_numbers_of_tokens_that_no_database_holds_are_unknown(said: int, read: int | None) -> None:
    body = {"choices": [{"message": {"content": "text"}}], "usage": {"prompt_tokens": said, "completion_tokens": 1}}
    outcome = read_reply(200, body, TEACHER, None)
    assert outcome.answer is not None
    assert (outcome.answer.text, outcome.answer.prompt_tokens, outcome.answer.output_tokens) == ("text", read, 1)


def test_waits_are_read_from_headers() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 < (retry_after({"retry-after": date}) or 0) <= 30
    assert retry_after({"retry-after": "2", "retry-after-ms": "1500"}) == 1.5
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    assert parse_duration("1h2m3.5s") == 3723.5
    assert parse_duration("soon 5s") is None


def test_the_limit_halves_once_for_what_was_in_flight_together() -> None:
    pace = Pace(FAST.model_copy(update={"concurrency_start": 16, "backoff_max_s": 10.0}))
    pace.record_overload(sent_at=1.0, now=2.0)
    pace.record_overload(sent_at=1.5, now=2.1)
    assert pace.limit == 8
    for _ in range(10):
        pace.record_answer()
    assert pace.limit == 9
    for now in range(3, 20):
        pace.record_overload(sent_at=now + 0.5, now=float(now + 1))
    assert pace.limit == 1
    for _ in range(10_000):
        pace.record_answer()
    assert pace.limit == 64
    pace.obey_headers({"retry-after": "3600"}, now=100.0, refused=True, tokens=1)
    assert pace.open_at == 110.0


def test_jitter_is_full_and_named_by_the_request() -> None:
    pace = Pace(FAST.model_copy(update={"backoff_s": 1.0, "backoff_max_s": 8.0}))
    waits = [pace.backoff(f"key {i}", 3) for i in range(400)]
    assert 0 <= min(waits) < 0.2
    assert 3.8 < max(waits) <= 4.0
    assert waits[0] == pace.backoff("key 0", 3)
    assert max(pace.backoff("key", n) for n in range(1, 200)) <= 8.0
