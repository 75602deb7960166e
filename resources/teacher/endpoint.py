"""A teacher at an OpenAI-compatible endpoint, asked online: hosted APIs, vLLM, any server of chat completions.

Three threads: the caller's waits, one runs the event loop that talks to the server, one does what may block on a disk
or a database (the sink and the allowance). So an interrupt in the caller's thread can neither tear a transaction nor
lose an answer that has arrived.

Belongs here: sending, retrying, the circuit breaker. Not here: reading replies (`chat.py`), the pace (`pacing.py`), batch
files (`batches.py`), storing answers (`ledger.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import httpx2

from resources.ledger.calls import (
    Allowance,
    AnswerSink,
    CapReached,
    SilenceListener,
    TeacherAnswer,
    TeacherRequest,
    TeacherUnavailable,
)
from resources.teacher.chat import (
    CHAT_PATH,
    KEY_HEADER,
    NO_KEY,
    Outcome,
    Secret,
    endpoint_name,
    key_problem,
    read_reply,
    redact_and_shorten,
)
from resources.teacher.pacing import Pace
from resources.teacher.retry_queue import RetryQueue, Sending
from resources.teacher.silence import SILENT_S, Record, Silence
from resources.teacher.unpacking import UnreadableBody, unpack_body
from speed_assets.recipe import Calls, Teacher

_T = TypeVar("_T")
# Its debug lines show a server's headers, which may repeat the key.
logging.getLogger("httpcore2").setLevel(logging.INFO)
_INTERRUPT_S = 0.2
"""Seconds between two checks for an interrupt. Ours."""
_OUTAGE = 8
"""Failures in a row that mean an outage, not an overload. Ours."""
_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""Transport errors after which no server has seen the request."""


class OpenAIEngine:
    """Answers by chat completions, as many at a time as the endpoint can take.

    A request that fails for now (408, 409, 429, 5xx, a broken connection, no answer in time, a body that is cut off or no
    chat completion) is sent again after a wait; after `calls.attempts` failures behind all others. It is never dropped: it
    succeeds, or the endpoint answers nothing for `calls.breaker_s` seconds and TeacherUnavailable names the last cause.
    Other 4xx fail their own row. Until its first answer, the endpoint gets at most `calls.stop_after` requests that are
    without an answer. Redirects are not followed.

    `headers` are sent with every request; their values are as secret as the key. `on_silence` receives messages while the
    server does not answer.
    """

    def __init__(
        self, teacher: Teacher, calls: Calls, key: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._teacher = teacher
        self._calls = calls
        self._key = key
        self._headers = dict(headers or {})
        self._record = Record()
        self.on_silence: SilenceListener | None = None

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        """See `TeacherEngine`. Interrupted, it stores the answers that have arrived, releases what was not sent, and ends.

        Raises:
            CapReached: A cap forbids the next call.
            TeacherUnavailable: The key is missing or unusable, or the endpoint answers nothing for `calls.breaker_s` seconds.
        """
        if problem := key_problem(self._teacher, self._key):
            raise TeacherUnavailable(problem)
        if not requests:
            return
        asking = _Asking(self, requests, sink, allowance)
        with ThreadPoolExecutor(1, "teacher-http") as thread:
            done = thread.submit(lambda: asyncio.run(asking.run()))
            try:
                # A wait without a timeout can delay an interrupt.
                while wait([done], timeout=_INTERRUPT_S).not_done:
                    pass
            except BaseException:
                asking.stop()
                raise  # leaving the block waits until the loop has stored what has arrived
        done.result()


class _Asking:
    """One call of `answer`: what waits, what is in flight, what has arrived. Used on the event loop's thread only."""

    def __init__(
        self, engine: OpenAIEngine, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance
    ) -> None:
        self._teacher, self._calls, self._key = engine._teacher, engine._calls, engine._key
        self._headers, self._record, self._on_silence = engine._headers, engine._record, engine.on_silence
        self._secrets: Secret = tuple(filter(None, (self._key, *self._headers.values())))
        self._sink, self._allowance = sink, allowance
        self._untaken = deque(requests)
        self._taken: deque[Sending] = deque()
        self._in_flight: dict[asyncio.Task[None], Sending] = {}
        self._received: list[tuple[TeacherRequest, TeacherAnswer]] = []
        self._unwritten = 0
        self._taking: asyncio.Task[None] | None = None
        self._pace = Pace(self._calls)
        self._again = RetryQueue(self._pace, self._calls.attempts)
        self._cap: CapReached | None = None
        self._failure: BaseException | None = None
        self._cause = "no answer has arrived yet"
        self._silence = Silence(self._record)
        self._abandoned: set[asyncio.Task[None]] = set()
        self._answered = self._failed_in_a_row = 0
        self._stopped = self._closing = False
        self._wake = asyncio.Event()
        self._something_received = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Ask the loop to end, from another thread."""
        self._stopped = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key or NO_KEY}", "Accept-Encoding": "gzip", **self._headers},
            timeout=httpx2.Timeout(self._calls.timeout_s, connect=min(self._calls.connect_s, self._calls.timeout_s)),
            limits=httpx2.Limits(max_connections=None),  # the pace is the limit
            follow_redirects=False,
        )
        with ThreadPoolExecutor(1, "teacher-writer") as self._writer:
            writing = asyncio.create_task(self._write())
            try:
                await self._send_all(client)
            finally:
                await self._close(writing)
                await client.aclose()
        if self._failure:
            raise self._failure

    async def _send_all(self, client: httpx2.AsyncClient) -> None:
        while not self._stopped and not self._failure and self._open():
            now, silence = time.monotonic(), self._silence
            if not self._in_flight and not self._again:
                silence.alive_at = now  # nothing is sent: the endpoint's silence means nothing
            elif now - silence.alive_at >= self._calls.breaker_s:
                self._failure = TeacherUnavailable(self._breaker_words())
                return
            elif self._on_silence and now - max(silence.alive_at, silence.noticed_at) >= SILENT_S:
                silence.noticed_at = now
                words, listener = self._silence_words(now), self._on_silence
                await self._in_writer(lambda words=words, listener=listener: listener(words))  # type: ignore[misc]
            self._abandon(now)
            self._take()
            while (sending := self._next(now)) is not None:
                sending.sent_at = time.monotonic()
                silence.note_sent(sending.sent_at)
                self._in_flight[asyncio.create_task(self._send(client, sending))] = sending
            await self._pause(now)
        if self._cap and not self._failure and not self._stopped:
            self._failure = self._cap

    def _open(self) -> bool:
        """Whether anything is still to be sent, awaited or written."""
        untaken = bool(self._untaken) and self._cap is None
        return bool(untaken or self._taking or self._taken or self._again or self._in_flight or self._unwritten)

    def _take(self) -> None:
        """Reserve the next block, in the writer's thread, when there is too little to send."""
        if self._untaken and not self._taking and not self._cap and len(self._taken) < (self._pace.limit + 1) // 2:
            self._taking = asyncio.create_task(self._take_block())

    async def _take_block(self) -> None:
        block = [self._untaken[i] for i in range(min(len(self._untaken), self._pace.limit))]
        try:
            taken = await self._in_writer(lambda: self._allowance.reserve(block))
            self._taken += [Sending(self._untaken.popleft()) for _ in range(taken)]
        except CapReached as cap:
            self._cap = cap
        except BaseException as error:
            self._failure = error
        self._taking = None
        self._wake.set()

    def _busy(self, now: float) -> bool:
        """Whether enough is in flight, or the sink is behind, or the endpoint has not answered once yet."""
        if self._record.answered == 0:
            least = max(1, self._calls.stop_after - self._record.nothing)
            if len(self._in_flight) + self._unwritten >= least:
                return True
        if self._unwritten >= 2 * self._calls.concurrency_max:
            return True
        placed = self._silence.count_placed([sending.sent_at for sending in self._in_flight.values()])
        return placed >= self._pace.limit and now < self._silence.probe_at()

    def _next(self, now: float) -> Sending | None:
        """The next request that may be sent now."""
        if self._busy(now) or now < self._pace.open_at:
            return None
        again = self._again.pop(now, has_new=bool(self._taken))
        return again or (self._taken.popleft() if self._taken else None)

    async def _pause(self, now: float) -> None:
        """Wait until something happens, or it is time to send or to give up."""
        silence = self._silence
        times = [silence.alive_at + self._calls.breaker_s]
        if self._on_silence:
            times.append(max(silence.alive_at, silence.noticed_at, now - SILENT_S) + SILENT_S)
        times += [at for at in (silence.probe_at(), silence.abandon_at()) if at > now]
        if not self._busy(now):
            times += [max(due, self._pace.open_at) for due in self._again.due()]
            times += [self._pace.open_at] if self._taken and self._pace.open_at > now else []
        try:
            async with asyncio.timeout(max(0.0, min(times) - now)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _send(self, client: httpx2.AsyncClient, sending: Sending) -> None:
        """Send one request once, and settle or requeue it."""
        try:
            outcome = await self._post(client, sending)
            self._settle(sending, outcome)
        except Exception as error:
            self._failure = error
        finally:
            task = asyncio.current_task()
            assert task is not None
            if self._in_flight.pop(task, None) is not None:
                self._wake.set()

    async def _post(self, client: httpx2.AsyncClient, sending: Sending) -> Outcome:
        request = sending.request
        url = f"{(self._teacher.endpoint or '').rstrip('/')}{CHAT_PATH}"
        try:
            # The client's own timeout applies between two bytes; this one applies to the complete answer.
            async with (
                asyncio.timeout(self._calls.timeout_s),
                client.stream("POST", url, json=request.body(), headers={KEY_HEADER: request.key}) as reply,
            ):
                raw = reply.aiter_raw()
                body = await unpack_body(raw, reply.headers.get("content-encoding", ""), self._calls.reply_bytes_max)
        except UnreadableBody as error:
            sending.uncertain = True
            return Outcome("again", f"{error} (calls.reply_bytes_max)")
        except (TimeoutError, httpx2.TimeoutException) as error:
            sending.uncertain |= type(error).__name__ not in _NEVER_SENT
            if isinstance(error, httpx2.ConnectTimeout):
                return Outcome("again", f"no connection within {self._calls.connect_s:g} s", overloaded=True)
            return Outcome("again", f"no answer within {self._calls.timeout_s:g} s", overloaded=True)
        except httpx2.TransportError as error:
            sending.uncertain |= (name := type(error).__name__) not in _NEVER_SENT
            return Outcome("again", f"{name}: {redact_and_shorten(str(error), self._secrets)}")
        location = reply.headers.get("location")
        outcome = read_reply(
            reply.status_code, body, self._teacher, self._secrets, request, location, self._calls.read_min
        )
        tokens = request.parameters["max_new_tokens"]
        self._pace.obey_headers(reply.headers, time.monotonic(), outcome.kind == "again", tokens)
        if reply.status_code == 403 and outcome.kind == "hopeless" and self._record.answered:
            # The key is valid: some gateways refuse a single prompt this way.
            return Outcome("refused", outcome.words, TeacherAnswer("", error=outcome.words))
        if reply.status_code == 404 and outcome.kind == "refused" and not self._record.answered:
            words = f"does not know the model {request.model}, or has no chat completions at this address"
            return Outcome("hopeless", f"{endpoint_name(self._teacher)} {words} ({outcome.words})")
        return outcome

    def _abandon(self, now: float) -> None:
        """End requests that hang, and send them again. The server may still bill them, as after a timeout."""
        for task in [task for task, sending in self._in_flight.items() if self._silence.hangs(sending.sent_at, now)]:
            sending = self._in_flight.pop(task)
            sending.uncertain = True
            self._again.push(sending, now)
            task.cancel()
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)

    def _settle(self, sending: Sending, outcome: Outcome) -> None:
        now = time.monotonic()
        if outcome.kind == "again":
            self._cause = outcome.words
            self._failed_in_a_row += 1
            if outcome.overloaded:
                self._pace.record_overload(sending.sent_at, now)
            self._again.push(sending, now)
            return
        if outcome.kind == "hopeless":
            self._taken.append(sending)  # not answered: released with what was not sent
            self._failure = TeacherUnavailable(outcome.words)
            return
        assert outcome.answer is not None
        if self._failed_in_a_row >= _OUTAGE:
            self._again.hurry(now)
        self._silence.note_reply(sending.sent_at, now, is_answer=outcome.kind == "answered")
        self._failed_in_a_row = 0
        if outcome.kind == "answered":
            self._answered += 1
            self._record.answered += 1
            self._pace.record_answer()
        else:
            self._record.nothing += 1
        self._received.append((sending.request, outcome.answer))
        self._unwritten += 1
        self._something_received.set()

    async def _write(self) -> None:
        """Pass answers to the sink, all that wait as one group: while it is being written, the next one gathers."""
        while not (self._closing and not self._received):
            await self._something_received.wait()
            self._something_received.clear()
            group, self._received = self._received, []
            if not group:
                continue
            try:
                await self._in_writer(lambda group=group: self._store(group))  # type: ignore[misc]
            except BaseException as error:
                self._failure = error
                self._wake.set()
                return
            self._unwritten -= len(group)
            self._wake.set()

    def _store(self, group: list[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        self._sink(group)
        if refused := [request for request, answer in group if answer.error is not None]:
            self._allowance.release(refused)

    async def _close(self, writing: asyncio.Task[None]) -> None:
        """Cancel what is in flight, write what has arrived, release what was not sent.

        A cancelled request may have been answered and billed, so it stays reserved.
        """
        cut = dict(self._in_flight)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, *self._abandoned, *([self._taking] if self._taking else []), return_exceptions=True)
        self._closing = True
        self._something_received.set()
        await writing
        never_begun = self._in_flight.values()
        unsent = [*self._taken, *never_begun, *self._again]
        if free := [sending.request for sending in unsent if not sending.uncertain]:
            try:
                await self._in_writer(lambda: self._allowance.release(free))
            except Exception as error:
                self._failure = self._failure or error

    async def _in_writer(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def _silence_words(self, now: float) -> str:
        silent = now - self._silence.alive_at
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - silent))
        return (
            f"no answer since {since} ({silent:.0f} s); {len(self._in_flight)} in flight, {len(self._again)} waiting to be "
            f"sent again; the last problem: {self._cause}"
        )

    def _breaker_words(self) -> str:
        left = len(self._untaken) + len(self._taken) + len(self._again) + len(self._in_flight)
        return (
            f"{endpoint_name(self._teacher)} answered nothing for {self._calls.breaker_s:g} s (calls.breaker_s); the last "
            f"problem: {self._cause}. {self._answered} calls of this stage are answered and kept, {left} are left: "
            "run again when it answers"
        )
