"""Requests to the Files and Batches API of one endpoint, sent again while the server fails.

Belongs here: single requests about batches, and their retries. Not here: which batches are sent and what becomes of their
rows (`batches.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import httpx2
import openai

from resources.ledger.calls import TeacherUnavailable
from resources.teacher.chat import (
    CHAT_PATH,
    NO_KEY,
    Secret,
    endpoint_name,
    key_problem,
    read_reply,
    redact_and_shorten,
)
from resources.teacher.pacing import Pace, retry_after, server_time
from resources.teacher.unpacking import BodyLimit, UnreadableBody
from speed_assets.recipe import Calls, Teacher

_METADATA = "speed_batch"
"""Key in a batch's metadata that holds our own name of it: finds a batch whose id never arrived."""
ROW_BYTES = 65_536
"""Bytes of a line of an output file at most, in the mean of its file (ours: 16,000 tokens of an answer); a single line may
have `calls.reply_bytes_max`, as any reply."""
_PAGES = 100
"""Pages of 100 batches that are searched at most. Ours."""


class BatchRequestRefused(TeacherUnavailable):
    """The server refused a request in words."""


class BatchClient:
    """Requests about files and batches.

    Every method raises TeacherUnavailable when the server fails for `calls.breaker_s` seconds, and
    BatchRequestRefused when it refuses.

    Attributes:
        secrets: The key and the values of headers, to be redacted.
        now: Unix seconds by the clock of the server's last reply.
    """

    def __init__(self, teacher: Teacher, calls: Calls, key: str | None, headers: Mapping[str, str]) -> None:
        self._teacher, self._calls, self._key = teacher, calls, key
        self._file_bytes_max = calls.reply_bytes_max
        self._headers = dict(headers)
        self.secrets: Secret = tuple(filter(None, (key, *self._headers.values())))
        self.now = 0.0
        self._pace = Pace(calls)

    def upload(self, name: str, content: bytes) -> str:
        """Send a file of requests; returns its id."""
        upload = (name, content, "application/jsonl")
        file = self._call(
            "take a batch file",
            lambda c: c.files.with_raw_response.create(file=upload, purpose="batch"),
            needs="id",
        )
        return str(file["id"])

    def create(self, own_name: str, file: str) -> str:
        """Create a batch of an uploaded file under our own name; returns the provider's id."""
        asked = {
            "input_file_id": file,
            "endpoint": f"/v1{CHAT_PATH}",
            "completion_window": f"{self._calls.batch_hours}h",
            "metadata": {_METADATA: own_name},
        }
        batch = self._call(
            "create a batch",
            lambda c: c.batches.with_raw_response.create(**asked),
            needs="id",
            find_existing=lambda: self._find_unless_refused(own_name),
        )
        return str(batch["id"])

    def retrieve(self, batch: str) -> dict[str, Any]:
        """The provider's description of a batch; empty when it no longer exists."""
        reply: dict[str, Any] = self._call(
            f"describe batch {batch}", lambda c: c.batches.with_raw_response.retrieve(batch), if_absent={}
        )
        return reply

    def find(self, own_name: str) -> dict[str, Any] | None:
        """The batch that was created under our own name; None when there is none."""
        after: dict[str, str] = {}
        for _ in range(_PAGES):
            page = self._list(after)
            batches = page.get("data") or []
            for batch in batches:
                if (batch.get("metadata") or {}).get(_METADATA) == own_name and isinstance(batch.get("id"), str):
                    return dict(batch)
            if not page.get("has_more") or not batches:
                return None
            after = {"after": batches[-1]["id"]}
        return None

    def download(self, file: str, what: str, rows: int) -> bytes:
        """The bytes of a file; empty when it no longer exists.

        Args:
            file: The provider's id.
            what: Completes "could not ..." in an error.
            rows: Lines that the file may have; a longer file is not read to its end.
        """
        self._file_bytes_max = self._calls.reply_bytes_max + rows * ROW_BYTES
        content: bytes = self._call(what, lambda c: c.files.with_raw_response.content(file), raw=True, if_absent=b"")
        return content

    def _find_unless_refused(self, own_name: str) -> dict[str, Any] | None:
        """As `find`; a server that does not list its batches leaves it open whether the batch exists."""
        try:
            return self.find(own_name)
        except BatchRequestRefused as error:
            raise TeacherUnavailable(str(error)) from None

    def _list(self, after: Mapping[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._call(
            "list its batches", lambda c: c.batches.with_raw_response.list(limit=100, **after)
        )
        return page

    def _call(
        self,
        what: str,
        call: Callable[[Any], Any],
        needs: str | None = None,
        find_existing: Callable[[], dict[str, Any] | None] | None = None,
        raw: bool = False,
        if_absent: Any = None,
    ) -> Any:
        """Send a request until it succeeds.

        Args:
            what: Completes "could not ..." in an error.
            call: Sends the request with the client that it is handed.
            needs: Field of the reply that must hold a text; a reply without it counts as a failure.
            find_existing: Called before each repetition; a result ends the repetitions.
            raw: Return the bytes of the reply instead of its JSON object.
            if_absent: The result when every attempt ends with status 404; None makes a 404 a refusal.

        Returns:
            The JSON object of the reply, or its bytes.
        """
        started, failures = time.monotonic(), 0
        while True:
            absent, asked_wait = False, None
            try:
                response = call(self._client).http_response
                content: bytes = response.content
                self.now = server_time(response.headers)
                value = content if raw else json.loads(content)
                if raw or (isinstance(value, dict) and (needs is None or isinstance(value.get(needs), str))):
                    return value
                text = redact_and_shorten(content[:1000].decode(errors="replace"), self.secrets)
                cause = f"the body is not what it should be: {text!r}"
            except openai.APIStatusError as error:
                cause, absent = self._status_cause(what, error, if_absent is not None)
                asked_wait = retry_after(error.response.headers)
            except openai.APIConnectionError as error:
                inner = error.__cause__ or error
                cause = f"{type(inner).__name__}: {redact_and_shorten(str(inner), self.secrets)}"
            except UnreadableBody as error:
                cause = f"{error} (calls.reply_bytes_max)"
            except (ValueError, RecursionError):
                cause = "the body is not JSON"
            failures += 1
            wait = max(self._pace.backoff(what, failures), min(asked_wait or 0.0, self._calls.backoff_max_s))
            if time.monotonic() - started + wait > self._calls.breaker_s:
                if absent:
                    return if_absent
                raise TeacherUnavailable(
                    f"{endpoint_name(self._teacher)} did not {what} for {self._calls.breaker_s:g} s (calls.breaker_s): {cause}"
                )
            time.sleep(wait)
            if find_existing and (existing := find_existing()):
                return existing

    def _status_cause(self, what: str, error: openai.APIStatusError, may_be_absent: bool) -> tuple[str, bool]:
        """(cause in words, whether it is an allowed 404) of a status that may pass. Raises BatchRequestRefused for others."""
        outcome = read_reply(error.status_code, error.response.content, self._teacher, self.secrets)
        absent = error.status_code == 404 and may_be_absent
        if outcome.kind != "again" and not absent:
            advice = ": if it has no batches, set calls.mode=online" if error.status_code in (404, 405) else ""
            raise BatchRequestRefused(
                f"{endpoint_name(self._teacher)} refuses to {what} ({outcome.words}){advice}"
            ) from None
        return outcome.words, absent

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
                follow_redirects=False, event_hooks=BodyLimit(self._bytes_max, self._seconds_max).hooks()
            ),
        )

    def _bytes_max(self, request: httpx2.Request) -> int:
        return self._file_bytes_max if _is_download(request) else self._calls.reply_bytes_max

    def _seconds_max(self, request: httpx2.Request) -> float | None:
        return None if _is_download(request) else self._calls.timeout_s


def _is_download(request: httpx2.Request) -> bool:
    """Whether the content of a file is requested, and not a JSON object."""
    return request.method == "GET" and request.url.path.endswith("/content")
