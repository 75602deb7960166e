"""A teacher asked by batch files (OpenAI's Files and Batches API): cheaper than online, and hours slower.

A batch outlives the run that sent it. Its keys are in a `BatchLog` before it is created, so a run that follows a
killed one waits for the old batch instead of paying for a new one, whatever the mode it asks in. The JSONL is the one
that vLLM's `run-batch` reads and writes, too.

Belongs here: files, batches, what became of their rows. Not here: bodies and replies (`chat.py`), asking online
(`endpoint.py`), the table behind the log (`ledger.py`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import httpx2
import openai

from resources.ledger.calls import Allowance, CapReached, Says, Sink, TeacherEngine, TeacherRequest, TeacherUnavailable
from resources.teacher.chat import NO_KEY, PATH, Outcome, Secret, key_problem, read_reply, shorten, where
from resources.teacher.pacing import Pace, retry_after, server_time
from resources.teacher.unpacking import Bounded, TooLong
from speed_assets.recipe import Calls, Teacher

FILE_BYTES = 190_000_000
"""Largest file sent (OpenAI takes 200 MB)."""
ROW_BYTES = 65_536
"""Bytes of a line of an output file at most, in the mean of its file (ours: 16,000 tokens of an answer); a single line may
have `calls.reply_bytes_max`, as any reply."""
_METADATA = "speed_batch"
"""Under this name our own name of a batch stands in its metadata, so that it is found again if its id never came."""
_ID = "batch"
"""Under this name the provider's id stands in a batch's `info`."""
_ENDED = frozenset(("completed", "failed", "expired", "cancelled"))
_PAGES = 100
_GRACE_S = 3600.0
"""Seconds past its deadline until a batch that has not ended is reported."""


class OutstandingBatch(Protocol):
    """A batch that was sent, or was about to be, and has not been collected."""

    @property
    def id(self) -> str:
        """Our own name of it."""

    @property
    def keys(self) -> Sequence[str]:
        """Request keys."""

    @property
    def info(self) -> Mapping[str, Any]:
        """The provider's id under `batch`, once it is known."""


class BatchLog(Protocol):
    """Outstanding batches, durable: their rows are asked for nowhere else."""

    def save_batch(self, id: str, endpoint: str, keys: Iterable[str], info: Mapping[str, Any]) -> None:
        """Durable on return. A batch that is there already gets the new `info`."""

    def claim_batches(self, endpoint: str, keys: Iterable[str]) -> Sequence[OutstandingBatch]:
        """Those at `endpoint` that hold one of `keys` and that no other living process attends to."""

    def close_batch(self, id: str) -> None:
        """Forget a batch."""


def requests_jsonl(requests: Iterable[TeacherRequest]) -> Iterator[str]:
    """One line for each request, named by its key."""
    for request in requests:
        line = {"custom_id": request.key, "method": "POST", "url": f"/v1{PATH}", "body": request.body()}
        yield json.dumps(line) + "\n"


def answers_from_jsonl(
    lines: Iterable[bytes],
    teacher: Teacher,
    key: Secret,
    requests: Mapping[str, TeacherRequest] | None = None,
    read_min: float | None = None,
    line_max: int | None = None,
) -> Iterator[tuple[str, Outcome]]:
    """Request key and outcome of each line of an output or error file. Lines that cannot be read, or that are longer than
    `line_max` bytes, are left out.

    `requests` by key are what was asked, as far as it is known, and `read_min` as `read_reply` takes it."""
    for line in lines:
        if line_max is not None and len(line) > line_max:
            continue
        try:
            entry = json.loads(line)
            name, response, error = entry["custom_id"], entry.get("response") or {}, entry.get("error") or {}
            status = response.get("status_code")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        if not isinstance(name, str):
            continue
        if isinstance(status, int):
            asked = (requests or {}).get(name)
            yield name, read_reply(status, response.get("body") or error, teacher, key, asked, read_min=read_min)
        else:  # never executed: the batch expired or was cancelled before
            yield name, Outcome("again", shorten(json.dumps(error), key))


class BatchEngine:
    """Answers by batch files of at most `calls.batch_rows` rows, all sent at once, then awaited together.

    Rows without an answer (expired, cancelled, failed, 5xx) go into the next batch, until `calls.attempts` rounds in
    a row brought nothing. Leave is taken for a whole file before it is sent; what comes back without an answer is
    given back and taken anew. Rows of a batch that a killed run sent are not taken again: the sink settles them.
    """

    def __init__(
        self, teacher: Teacher, calls: Calls, key: str | None, log: BatchLog, headers: Mapping[str, str] | None = None
    ) -> None:
        self._teacher, self._calls, self._key, self._log = teacher, calls, key, log
        self._headers = dict(headers or {})
        self._secrets: Secret = tuple(filter(None, (key, *self._headers.values())))
        self._endpoint = teacher.endpoint or ""
        self._pace = Pace(calls)
        self._cause = ""
        self._progress = 0
        self._file_max = calls.reply_bytes_max
        """Bytes of the file that is downloaded now, at most."""
        self._now = 0.0  # by the provider's clock, which also says when a batch was created

    def answer(self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance) -> None:
        """See `TeacherEngine`. Interrupted, it leaves its batches in the log, and the next call collects them."""
        waiting, barren = self.collect(requests, sink, allowance), 0
        while waiting:
            before = self._progress
            cap = self._send_all(waiting, allowance)
            waiting = self.collect(waiting, sink, allowance)
            if cap:
                raise cap
            barren = 0 if self._progress > before else barren + 1
            if waiting and barren >= self._calls.attempts:
                raise TeacherUnavailable(
                    f"{where(self._teacher)} brought nothing in {barren} rounds of batches (calls.attempts); the last "
                    f"trouble: {self._cause}. {len(waiting)} calls are left: run again, or set calls.mode=online"
                )

    def held(self, requests: Iterable[TeacherRequest]) -> set[str]:
        """Keys of the requests that are in outstanding batches."""
        keys = {request.key for request in requests}
        return keys & {key for batch in self._claim(keys) for key in batch.keys}

    def collect(
        self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance, wait: bool = True
    ) -> list[TeacherRequest]:
        """Hand on what outstanding batches have for these requests; returns those that are in no batch and unanswered.

        Waits until every batch that holds one of them has ended, or with `wait=False` looks once.
        """
        open_requests = {request.key: request for request in requests}
        while True:
            for batch in self._claim(open_requests):
                self._collect_batch(batch, open_requests, sink, allowance)
            held = self.held(open_requests.values())
            if not wait or not held:
                return [request for key, request in open_requests.items() if key not in held]
            time.sleep(self._calls.batch_poll_s)

    def _claim(self, keys: Iterable[str]) -> Sequence[OutstandingBatch]:
        return self._log.claim_batches(self._endpoint, keys)

    def _collect_batch(
        self,
        batch: OutstandingBatch,
        open_requests: dict[str, TeacherRequest],
        sink: Sink,
        allowance: Allowance,
    ) -> None:
        """Look at one batch; if it has ended, hand on its rows among `open_requests` and take those out of them."""
        name = batch.info.get(_ID)
        if name is None:  # a run ended while it created it: perhaps before, perhaps after
            if found := self._find(batch.id):
                self._log.save_batch(batch.id, self._endpoint, batch.keys, {_ID: found["id"]})
                return
            allowance.give_back([open_requests[key] for key in batch.keys if key in open_requests])
            self._log.close_batch(batch.id)
            return
        reply = self._call(f"look at batch {name}", lambda c: c.batches.with_raw_response.retrieve(name), lost={})
        if reply and reply.get("status") not in _ENDED:
            self._check_deadline(name, reply)
            return
        outcomes = self._download(name, reply, open_requests, len(batch.keys))
        ours = {key: open_requests[key] for key in batch.keys if key in open_requests}
        nothing = Outcome("again", self._batch_words(name, reply))
        came = {key: outcomes.get(key, nothing) for key in ours}
        answered = [(ours[key], outcome.answer) for key, outcome in came.items() if outcome.answer is not None]
        failure: TeacherUnavailable | None = None
        if answered:
            try:
                sink(answered)
            except TeacherUnavailable as error:  # of what they are: they are settled, and must not come again
                failure = error
        # Before the batch is closed: what a killed run had reserved for it is found by the batch.
        if free := [ours[key] for key, outcome in came.items() if outcome.kind not in ("answered", "nothing")]:
            allowance.give_back(free)
        for request, _ in answered:
            del open_requests[request.key]
        self._progress += len(answered)
        self._cause = next((outcome.words for outcome in came.values() if outcome.answer is None), self._cause)
        # Answers that nobody asked for just now wait in the log until somebody does: they are paid for.
        if rest := [k for k in batch.keys if k not in ours and k in outcomes and outcomes[k].kind == "answered"]:
            self._log.save_batch(_new_name(), self._endpoint, rest, batch.info)
        self._log.close_batch(batch.id)
        if failure:
            raise failure
        for outcome in came.values():
            if outcome.kind == "hopeless":
                raise TeacherUnavailable(outcome.words)

    def _download(
        self, name: str, reply: Mapping[str, Any], asked: Mapping[str, TeacherRequest], rows: int
    ) -> dict[str, Outcome]:
        """Outcomes by request key; of two for one key the better. `rows` were in the batch."""
        outcomes: dict[str, Outcome] = {}
        line_max = self._calls.reply_bytes_max
        self._file_max = line_max + rows * ROW_BYTES
        for kind in ("error_file_id", "output_file_id"):
            if file := reply.get(kind):
                content = self._content(file, f"download the {kind[:-8]} file of batch {name}")
                lines = content.splitlines()
                read_min = self._calls.read_min
                outcomes.update(answers_from_jsonl(lines, self._teacher, self._secrets, asked, read_min, line_max))
        return outcomes

    def _content(self, file: str, what: str) -> bytes:
        content: bytes = self._call(what, lambda c: c.files.with_raw_response.content(file), raw=True, lost=b"")
        return content

    def _send_all(self, waiting: Sequence[TeacherRequest], allowance: Allowance) -> CapReached | None:
        """Send batches for `waiting` until all are sent or a cap is reached; returns the cap."""
        rest = list(waiting)
        while rest:
            block, lines = self._fill(rest)
            taken, cap = 0, None
            while taken < len(block) and not cap:
                try:
                    taken += allowance.take(block[taken:])
                except CapReached as reached:
                    cap = reached
            if taken:
                self._send(block[:taken], lines[:taken], allowance)
            if cap:
                return cap
            rest = rest[taken:]
        return None

    def _fill(self, requests: Sequence[TeacherRequest]) -> tuple[list[TeacherRequest], list[bytes]]:
        """As many of the first requests as fit into one file, and their lines."""
        block = list(requests[: self._calls.batch_rows])
        lines: list[bytes] = []
        size = 0
        for line in requests_jsonl(block):
            size += len(line)
            if lines and size > FILE_BYTES:
                break
            lines.append(line.encode())
        return block[: len(lines)], lines

    def _send(self, block: Sequence[TeacherRequest], lines: Sequence[bytes], allowance: Allowance) -> None:
        own_name, keys = _new_name(), [request.key for request in block]
        self._log.save_batch(own_name, self._endpoint, keys, {})
        upload = (f"{own_name}.jsonl", b"".join(lines), "application/jsonl")
        created = False
        try:
            file = self._call(
                "take a batch file",
                lambda c: c.files.with_raw_response.create(file=upload, purpose="batch"),
                needs="id",
            )
            asked = {
                "input_file_id": file["id"],
                "endpoint": f"/v1{PATH}",
                "completion_window": f"{self._calls.batch_hours}h",
                "metadata": {_METADATA: own_name},
            }
            created = True  # unless it is refused in words: a lost reply may have been that of a created batch
            batch = self._call(
                "create a batch",
                lambda c: c.batches.with_raw_response.create(**asked),
                needs="id",
                instead=lambda: self._find_or_leave(own_name),
            )
        except TeacherUnavailable as error:
            if not created or isinstance(error, _Refused):
                allowance.give_back(block)
                self._log.close_batch(own_name)
            raise
        self._log.save_batch(own_name, self._endpoint, keys, {_ID: batch["id"]})

    def _find(self, own_name: str) -> dict[str, Any] | None:
        """The batch that was created under our name for it."""
        after: dict[str, str] = {}
        for _ in range(_PAGES):
            page = self._batches(after)
            batches = page.get("data") or []
            for batch in batches:
                if (batch.get("metadata") or {}).get(_METADATA) == own_name and isinstance(batch.get("id"), str):
                    return dict(batch)
            if not page.get("has_more") or not batches:
                return None
            after = {"after": batches[-1]["id"]}
        return None

    def _find_or_leave(self, own_name: str) -> dict[str, Any] | None:
        """As `_find`; a server that does not list its batches leaves it open whether there is one."""
        try:
            return self._find(own_name)
        except _Refused as error:
            raise TeacherUnavailable(str(error)) from None

    def _batches(self, after: Mapping[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._call(
            "list its batches", lambda c: c.batches.with_raw_response.list(limit=100, **after)
        )
        return page

    def _check_deadline(self, name: str, reply: Mapping[str, Any]) -> None:
        created = reply.get("created_at")
        if isinstance(created, int) and self._now > created + 3600 * self._calls.batch_hours + _GRACE_S:
            raise TeacherUnavailable(
                f"batch {name} at {where(self._teacher)} has not ended though its {self._calls.batch_hours} hours are "
                "over: cancel it there, and run again"
            )

    def _batch_words(self, name: str, reply: Mapping[str, Any]) -> str:
        if not reply:
            return f"batch {name} is not there any more"
        try:
            words = reply["errors"]["data"][0]["message"]
        except (KeyError, IndexError, TypeError):
            words = "no word on this row"
        return f"batch {name} {reply.get('status')}: {shorten(str(words), self._secrets)}"

    def _call(
        self,
        what: str,
        call: Callable[[Any], Any],
        needs: str | None = None,
        instead: Callable[[], dict[str, Any] | None] | None = None,
        raw: bool = False,
        lost: Any = None,
    ) -> Any:
        """The JSON object (`raw`: the bytes) of a reply, asked for again through trouble for `calls.breaker_s` seconds.

        A JSON object without a text under `needs` is trouble, too. `instead` is asked before each repetition and may know the result. `lost` is the result when a 404 stays one
        all that time.
        """
        started, failures = time.monotonic(), 0
        while True:
            absent, asked_wait = False, None
            try:
                response = call(self._client).http_response
                content: bytes = response.content
                self._now = server_time(response.headers)
                value = content if raw else json.loads(content)
                if raw or (isinstance(value, dict) and (needs is None or isinstance(value.get(needs), str))):
                    return value
                cause = f"the body is not what it should be: {shorten(content[:1000].decode(errors='replace'), self._secrets)!r}"
            except openai.APIStatusError as error:
                outcome = read_reply(error.status_code, error.response.content, self._teacher, self._secrets)
                cause, asked_wait = outcome.words, retry_after(error.response.headers)
                absent = error.status_code == 404 and lost is not None
                if outcome.kind != "again" and not absent:
                    advice = ": if it has no batches, set calls.mode=online" if error.status_code in (404, 405) else ""
                    raise _Refused(f"{where(self._teacher)} refuses to {what} ({cause}){advice}") from None
            except openai.APIConnectionError as error:
                cause = f"{type(error.__cause__ or error).__name__}: {shorten(str(error.__cause__ or error), self._secrets)}"
            except TooLong as error:
                cause = f"{error} (calls.reply_bytes_max)"
            except (ValueError, RecursionError):
                cause = "the body is not JSON"
            failures += 1
            wait = max(self._pace.backoff(what, failures), min(asked_wait or 0.0, self._calls.backoff_max_s))
            if time.monotonic() - started + wait > self._calls.breaker_s:
                if absent:
                    return lost
                raise TeacherUnavailable(
                    f"{where(self._teacher)} did not {what} for {self._calls.breaker_s:g} s (calls.breaker_s): {cause}"
                )
            time.sleep(wait)
            if instead and (known := instead()):
                return known

    @cached_property
    def _client(self) -> openai.OpenAI:
        if problem := key_problem(self._teacher, self._key):
            raise TeacherUnavailable(problem)
        return openai.OpenAI(
            api_key=self._key or NO_KEY,
            base_url=self._teacher.endpoint,
            default_headers=self._headers,
            max_retries=0,
            timeout=self._calls.timeout_s,
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False, event_hooks=Bounded(self._bytes_max, self._seconds_max).hooks()
            ),
        )

    def _bytes_max(self, request: httpx2.Request) -> int:
        return self._file_max if _is_file(request) else self._calls.reply_bytes_max

    def _seconds_max(self, request: httpx2.Request) -> float | None:
        return None if _is_file(request) else self._calls.timeout_s


def _is_file(request: httpx2.Request) -> bool:
    """Whether the content of a file is asked for, and not a JSON object."""
    return request.method == "GET" and request.url.path.endswith("/content")


def _new_name() -> str:
    return f"speed-{uuid.uuid4().hex}"


class _Refused(TeacherUnavailable):
    """The server said no in words."""


class BatchesFirst:
    """An online engine for a ledger that may have outstanding batches: their rows are not sent a second time.

    It hands on what ended batches have, asks online for the rows in none, then waits for the others.
    """

    def __init__(self, online: TeacherEngine, batches: BatchEngine) -> None:
        self._online, self._batches = online, batches

    @property
    def says(self) -> Says | None:
        """Who is told while the server does not answer."""
        return getattr(self._online, "says", None)

    @says.setter
    def says(self, says: Says | None) -> None:
        if hasattr(self._online, "says"):
            self._online.says = says

    def held(self, requests: Iterable[TeacherRequest]) -> set[str]:
        """Keys of the requests that are in outstanding batches."""
        return self._batches.held(requests)

    def answer(self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance) -> None:
        """See `TeacherEngine`."""
        free = self._batches.collect(requests, sink, allowance, wait=False)
        held = self._batches.held(requests)
        self._online.answer(free, sink, allowance)
        in_batches = [request for request in requests if request.key in held]
        if in_batches and (rest := self._batches.collect(in_batches, sink, allowance)):
            self._online.answer(rest, sink, allowance)
