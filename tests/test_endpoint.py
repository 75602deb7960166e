"""The teacher over HTTP against a real server on loopback that fails on purpose."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resources.ledger.calls import CapReached, TeacherAnswer, TeacherRequest, TeacherUnavailable
from resources.teacher import silence
from resources.teacher.endpoint import OpenAIEngine
from speed_assets.domain.parsing import parse_tasks
from speed_assets.domain.prompts import schema_for
from tests.support.endpoint_calls import FAST, KEY, Keeper, ask, echo, requests, teacher_at
from tests.support.teacher_server import Faults, TeacherServer, microworld, read_log, serving


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
    assert 1.0 <= time.monotonic() - started < 20, (
        "without the breaker it would never end; a busy machine takes its time"
    )
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


def test_after_a_server_hung_its_requests_are_sent_again_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """All places hang, and `timeout_s` is a minute: one request at a time finds out that it answers again."""
    monkeypatch.setattr(silence, "SILENT_S", 0.4)
    calls = FAST.model_copy(update={"timeout_s": 60.0, "breaker_s": 120.0})
    keeper, asked = Keeper(), requests(800)
    started = time.monotonic()
    server = ask(Faults(latency_s=0.02, hangs=(0.4, 3.0)), asked, keeper, calls)
    assert time.monotonic() - started < 40
    assert set(keeper.kept) == {request.key for request in asked}
    assert all(times == 1 for times in server.answered().values())
    hung = [entry for entry in server.served if entry.fault == "stalled"]
    assert len(hung) > 20  # what was in flight, and what found out
    first = min(entry.came for entry in server.served)
    again = sorted(entry.left - first for entry in server.served if entry.status == 200 and entry.came - first >= 3.0)
    assert again[0] < 6.0
    assert again[100] < again[0] + 8.0  # the places are free at once


def test_a_connection_that_cannot_be_opened_is_noticed_before_an_answer_would_be_missed() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with ExitStack() as waiting:
            for _ in range(4):  # its queue is full, and the kernel answers nobody any more
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(address)
            calls = FAST.model_copy(update={"timeout_s": 60.0, "connect_s": 0.3, "breaker_s": 1.5})
            keeper = Keeper()
            with pytest.raises(TeacherUnavailable, match=r"no connection within 0\.3 s"):
                OpenAIEngine(teacher_at(f"http://127.0.0.1:{address[1]}/v1"), calls, None).answer(
                    requests(3), keeper.sink, keeper
                )
            assert keeper.back.total() >= 2  # no server has seen them; one may be on its way again


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
