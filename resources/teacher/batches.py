"""A teacher asked by batch files (OpenAI's Files and Batches API): cheaper than online, and hours slower.

A batch outlives the run that sent it. Its keys are in a `BatchLog` before it is created, so a run that follows a
killed one waits for that batch instead of paying for a second one, whatever mode it uses.

Belongs here: which batches are sent, and what becomes of their rows. Not here: single requests (`batch_client.py`), lines of
the files (`batch_files.py`), replies (`chat.py`), asking online (`endpoint.py`), the table behind the log (`ledger.py`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from resources.ledger.calls import (
    Allowance,
    AnswerSink,
    CapReached,
    SilenceListener,
    TeacherEngine,
    TeacherRequest,
    TeacherUnavailable,
)
from resources.teacher.batch_client import BatchClient, BatchRequestRefused
from resources.teacher.batch_files import answers_from_jsonl, requests_jsonl
from resources.teacher.chat import Outcome, endpoint_name, redact_and_shorten
from speed_assets.recipe import Calls, Teacher

FILE_BYTES = 190_000_000
"""Largest file sent, in bytes (OpenAI takes 200 MB)."""
_ID = "batch"
"""Key in a batch's `info` that holds the provider's id."""
_ENDED = frozenset(("completed", "failed", "expired", "cancelled"))
_GRACE_S = 3600.0
"""Seconds after its deadline until a batch that has not ended is reported. Ours."""


class OutstandingBatch(Protocol):
    """A batch that was or may have been sent, and has not been collected."""

    @property
    def id(self) -> str:
        """Our own name of the batch."""

    @property
    def keys(self) -> Sequence[str]:
        """Keys of its requests."""

    @property
    def info(self) -> Mapping[str, Any]:
        """The provider's id under `batch`, once it has arrived."""


class BatchLog(Protocol):
    """Durable outstanding batches; their requests are sent in no other way."""

    def save_batch(self, id: str, endpoint: str, keys: Iterable[str], info: Mapping[str, Any]) -> None:
        """Store a batch, durable on return. One that is stored already gets the new `info`.

        Args:
            id: Our own name of the batch.
            endpoint: URL of the server.
            keys: Keys of its requests.
            info: JSON values: the provider's id under `batch`, once it has arrived.
        """

    def claim_batches(self, endpoint: str, keys: Iterable[str]) -> Sequence[OutstandingBatch]:
        """Take over the batches at `endpoint` that hold one of `keys` and that no other live process holds."""

    def close_batch(self, id: str) -> None:
        """Forget a batch."""


class BatchEngine:
    """Answers by batch files of at most `calls.batch_rows` rows, all sent at once, then awaited together.

    Rows without an answer (expired, cancelled, failed, 5xx) go into the next batch, until `calls.attempts` rounds in a row
    have no answer. A file is reserved from the budget before it is sent; rows without an answer are released, and reserved
    again with the next file. Rows of a killed run's batch keep their reservations, which the sink settles.
    """

    def __init__(
        self, teacher: Teacher, calls: Calls, key: str | None, log: BatchLog, headers: Mapping[str, str] | None = None
    ) -> None:
        self._teacher, self._calls, self._log = teacher, calls, log
        self._client = BatchClient(teacher, calls, key, headers or {})
        self._endpoint = teacher.endpoint or ""
        self._cause = ""
        self._progress = 0

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        """See `TeacherEngine`. Interrupted, it leaves its batches in the log, and the next call collects them.

        Raises:
            CapReached: A cap forbids the next call; what was sent before is collected first.
            TeacherUnavailable: `calls.attempts` rounds in a row had no answer, or the server refuses.
        """
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
                    f"{endpoint_name(self._teacher)} answered nothing in {barren} rounds of batches (calls.attempts); the last "
                    f"problem: {self._cause}. {len(waiting)} calls are left: run again, or set calls.mode=online"
                )

    def keys_in_batches(self, requests: Iterable[TeacherRequest]) -> set[str]:
        """Keys of the requests that are in outstanding batches."""
        keys = {request.key for request in requests}
        return keys & {key for batch in self._claim(keys) for key in batch.keys}

    def collect(
        self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance, wait: bool = True
    ) -> list[TeacherRequest]:
        """Pass the answers of outstanding batches for these requests to the sink.

        Args:
            requests: Requests that may be in batches.
            sink: Stores answers.
            allowance: Where rows without an answer are released.
            wait: Wait until every batch with one of them has ended; otherwise check each batch once.

        Returns:
            The requests that have no answer and are in no batch.

        Raises:
            TeacherUnavailable: The server refuses, or keeps failing, or a batch passed its deadline.
        """
        open_requests = {request.key: request for request in requests}
        while True:
            for batch in self._claim(open_requests):
                self._collect_batch(batch, open_requests, sink, allowance)
            held = self.keys_in_batches(open_requests.values())
            if not wait or not held:
                return [request for key, request in open_requests.items() if key not in held]
            time.sleep(self._calls.batch_poll_s)

    def _claim(self, keys: Iterable[str]) -> Sequence[OutstandingBatch]:
        return self._log.claim_batches(self._endpoint, keys)

    def _collect_batch(
        self,
        batch: OutstandingBatch,
        open_requests: dict[str, TeacherRequest],
        sink: AnswerSink,
        allowance: Allowance,
    ) -> None:
        """Check one batch; if it has ended, pass its rows to the sink and remove them from `open_requests`."""
        name = batch.info.get(_ID)
        if name is None:  # a run ended while it created the batch: perhaps before, perhaps after
            if found := self._client.find(batch.id):
                self._log.save_batch(batch.id, self._endpoint, batch.keys, {_ID: found["id"]})
                return
            allowance.release([open_requests[key] for key in batch.keys if key in open_requests])
            self._log.close_batch(batch.id)
            return
        reply = self._client.retrieve(name)
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
            except TeacherUnavailable as error:  # about their content: they are settled, and must not be settled twice
                failure = error
        # Before the batch is closed: a killed run's reservations are found through it.
        if free := [ours[key] for key, outcome in came.items() if outcome.kind not in ("answered", "nothing")]:
            allowance.release(free)
        for request, _ in answered:
            del open_requests[request.key]
        self._progress += len(answered)
        self._cause = next((outcome.words for outcome in came.values() if outcome.answer is None), self._cause)
        # Answers to other requests stay in the log until a stage needs them: they are paid for.
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
        """Outcomes by request key; of two for one key, that of the output file. `rows` were in the batch."""
        outcomes: dict[str, Outcome] = {}
        secrets, read_min, line_max = self._client.secrets, self._calls.read_min, self._calls.reply_bytes_max
        for kind in ("error_file_id", "output_file_id"):
            if file := reply.get(kind):
                content = self._client.download(file, f"download the {kind[:-8]} file of batch {name}", rows)
                lines = content.splitlines()
                outcomes.update(answers_from_jsonl(lines, self._teacher, secrets, asked, read_min, line_max))
        return outcomes

    def _send_all(self, waiting: Sequence[TeacherRequest], allowance: Allowance) -> CapReached | None:
        """Send batches for `waiting` until all are sent or a cap is reached; returns the cap."""
        rest = list(waiting)
        while rest:
            block, lines = self._fill(rest)
            taken, cap = 0, None
            while taken < len(block) and not cap:
                try:
                    taken += allowance.reserve(block[taken:])
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
        created = False
        try:
            file = self._client.upload(f"{own_name}.jsonl", b"".join(lines))
            created = True  # unless it is refused: a lost reply may have been that of a created batch
            batch = self._client.create(own_name, file)
        except TeacherUnavailable as error:
            if not created or isinstance(error, BatchRequestRefused):
                allowance.release(block)
                self._log.close_batch(own_name)
            raise
        self._log.save_batch(own_name, self._endpoint, keys, {_ID: batch})

    def _check_deadline(self, name: str, reply: Mapping[str, Any]) -> None:
        created = reply.get("created_at")
        if isinstance(created, int) and self._client.now > created + 3600 * self._calls.batch_hours + _GRACE_S:
            raise TeacherUnavailable(
                f"batch {name} at {endpoint_name(self._teacher)} has not ended though its {self._calls.batch_hours} hours are "
                "over: cancel it there, and run again"
            )

    def _batch_words(self, name: str, reply: Mapping[str, Any]) -> str:
        if not reply:
            return f"batch {name} no longer exists"
        try:
            words = reply["errors"]["data"][0]["message"]
        except (KeyError, IndexError, TypeError):
            words = "no reason is given for this row"
        return f"batch {name} {reply.get('status')}: {redact_and_shorten(str(words), self._client.secrets)}"


def _new_name() -> str:
    return f"speed-{uuid.uuid4().hex}"


class BatchesFirst:
    """An online engine for a ledger that may have outstanding batches: their rows are not sent a second time.

    It collects batches that have ended, asks online for the rows in none, then waits for the other batches.
    """

    def __init__(self, online: TeacherEngine, batches: BatchEngine) -> None:
        self._online, self._batches = online, batches

    @property
    def on_silence(self) -> SilenceListener | None:
        """Receives the online engine's messages while the server does not answer."""
        return getattr(self._online, "on_silence", None)

    @on_silence.setter
    def on_silence(self, listener: SilenceListener | None) -> None:
        if hasattr(self._online, "on_silence"):
            self._online.on_silence = listener

    def keys_in_batches(self, requests: Iterable[TeacherRequest]) -> set[str]:
        """Keys of the requests that are in outstanding batches."""
        return self._batches.keys_in_batches(requests)

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        """See `TeacherEngine`."""
        free = self._batches.collect(requests, sink, allowance, wait=False)
        held = self._batches.keys_in_batches(requests)
        self._online.answer(free, sink, allowance)
        in_batches = [request for request in requests if request.key in held]
        if in_batches and (rest := self._batches.collect(in_batches, sink, allowance)):
            self._online.answer(rest, sink, allowance)
