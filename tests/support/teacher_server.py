"""An OpenAI-compatible teacher on loopback that counts what it answers and fails on purpose.

`python -m tests.support.teacher_server --log FILE [--port N] [--recipe NAME] [--faults JSON]` prints its base URL and
answers with the microworld's teacher until its standard input closes. Tests start it in a thread: `TeacherServer`.

It logs each request before it replies, one JSON line each: `key` (the caller's name for it), `status` (0: no reply,
200: a complete answer), `fault`, `batch`, `came`, `left` (seconds). So what it answered can be counted after either side was killed.

Belongs here: chat completions, files and batches as a client sees them, and faults. Not here: what a teacher says.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.replies import least_tokens
from speed_assets.microworld.simulated_teacher import MicroworldTeacher
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.http_messages import NoReplyError, error_body, in_format, uploaded_file, write_reply

Answer = Callable[[dict[str, Any]], str]
"""From a chat completions body to the model's text; ValueError for one that it cannot answer."""


class Cut(str):
    """A text that the server breaks off at its limit: its reply says `length`."""

    __slots__ = ()


HEAD_BYTES = 64 * 1024
BODY_BYTES = 256 * 1024 * 1024
CONNECTIONS = 1024


@dataclass(frozen=True)
class Faults:
    """Shares of requests that go wrong, drawn by seed, key and number of the attempt: the same in any order."""

    seed: int = 0
    status_429: float = 0.0
    status_500: float = 0.0
    broken: float = 0.0
    """The connection breaks without a reply."""
    truncated: float = 0.0
    """The body ends too early, by its announced length or in the middle of its JSON."""
    not_json: float = 0.0
    stalled: float = 0.0
    """Accepted, never answered."""
    slow: float = 0.0
    hangs: tuple[float, float] | None = None
    """What comes between these seconds after the first call is accepted and never answered."""
    retry_after_s: float | None = 0.02
    slow_s: float = 0.2
    latency_s: float = 0.0
    """Seconds that every answer takes."""
    refused: str | None = None
    """Prompts that contain this get a 400."""
    unknown_model: bool = False
    """404 for every call."""
    key: str | None = None
    """Bearer key wanted; any other gets a 401 that repeats what it got."""
    ignores_format: bool = False
    rejects_format: bool = False
    in_flight_max: int | None = None
    """More calls at once get a 429."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every completion."""
    batches: tuple[str, ...] = ()
    """What becomes of the first, second... batch: completed (as all further ones), partial, missing, expired, cancelled,
    failed, or lost (created, but the connection breaks before the reply)."""
    batch_polls: int = 1
    """Reads the state of a batch before it has ended."""

    def draw(self, key: str, attempt: int, after: float) -> str | None:
        """The fault of this attempt, so many seconds after the first call."""
        if self.hangs and self.hangs[0] <= after < self.hangs[1]:
            return "stalled"
        at = random.Random(seed_for(self.seed, "teacher-fault", key, attempt)).random()
        for name in ("status_429", "status_500", "broken", "truncated", "not_json", "stalled", "slow"):
            at -= getattr(self, name)
            if at < 0:
                return name
        return None


@dataclass(frozen=True)
class Served:
    """One request as the log has it."""

    key: str
    status: int
    fault: str | None
    batch: bool
    came: float
    left: float


def microworld(error_rates: dict[str, float] | None = None) -> Answer:
    """The microworld's teacher: the same body gets the same answer, whatever the port, the order or the way it came."""
    teacher = MicroworldTeacher(**(error_rates or {}))

    def answer(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        if prompt.startswith(
            "Write the one word yes"
        ):  # the doctor's one call: a form that is enforced begins with a brace
            return "{" if body.get("response_format") else "yes"
        shaping = {name: body.get(name) for name in ("messages", "temperature", "top_p", "max_tokens", "seed")}
        return teacher.answer(prompt, digest(shaping))

    return answer


class TeacherServer:
    """The server in a thread of this process: `with TeacherServer(...) as server: server.url`."""

    def __init__(self, answer: Answer, faults: Faults | None = None, log: Path | None = None, port: int = 0) -> None:
        self.faults = faults or Faults()
        self.served: list[Served] = []
        self.bodies: list[dict[str, Any]] = []
        """Bodies of chat completions, as they came."""
        self.url = ""
        self.most_in_flight = 0
        self._answer, self._port = answer, port
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else None
        self._attempts: Counter[str] = Counter()
        self._in_flight, self._first_came = 0, float("inf")
        self._connections: set[asyncio.Task[None]] = set()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._polls: Counter[str] = Counter()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> TeacherServer:
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the teacher server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        if self._log is not None:
            os.close(self._log)

    def answered(self) -> Counter[str]:
        """Complete answers by key."""
        return Counter(entry.key for entry in self.served if entry.status == 200)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", self._port, limit=HEAD_BYTES)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._started.set()
        await self._end.wait()
        server.close()
        _ = [task.cancel() for task in self._connections]
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._serve(head, reader, writer)
        except (NoReplyError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came = time.monotonic()
        start, _, lines = head.decode("latin-1").partition("\r\n")
        method, target, _ = start.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines.split("\r\n"))
        }
        length = int(headers.get("content-length", 0))
        if length > BODY_BYTES or "transfer-encoding" in headers:
            raise NoReplyError
        body = await reader.readexactly(length)
        if self.faults.key and headers.get("authorization") != f"Bearer {self.faults.key}":
            message = f"Incorrect API key provided: {headers.get('authorization')}"
            write_reply(writer, 401, error_body(message, "invalid_api_key"))
        elif target == "/v1/chat/completions":
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            try:
                await self._complete(headers, json.loads(body), came, writer)
            finally:
                self._in_flight -= 1
        else:
            write_reply(writer, *self._batch_call(method, target, headers, body))
        await writer.drain()

    async def _complete(
        self, headers: dict[str, str], body: dict[str, Any], came: float, writer: asyncio.StreamWriter
    ) -> None:
        key = headers.get("x-client-request-id") or digest(body)
        self.bodies.append(body)
        self._attempts[key] += 1
        self._first_came = min(self._first_came, came)
        fault = self.faults.draw(key, self._attempts[key], came - self._first_came)
        if self.faults.in_flight_max is not None and self._in_flight > self.faults.in_flight_max:
            fault = "status_429"
        await asyncio.sleep(self.faults.slow_s if fault == "slow" else self.faults.latency_s)

        def note(status: int) -> None:
            self._note(Served(key, status, fault, False, came, time.monotonic()))

        if fault == "stalled":
            note(0)
            await asyncio.sleep(3600)
        if fault == "broken":
            note(0)
            raise NoReplyError
        if fault in ("status_429", "status_500"):
            status, wait = int(fault.removeprefix("status_")), self.faults.retry_after_s
            note(status)
            more = {"retry-after": f"{wait:g}"} if status == 429 and wait is not None else {}
            words = "too much at once" if status == 429 else "something broke"
            return write_reply(writer, status, error_body(words), more)
        status, value = self._chat(body)
        if status == 200 and fault in ("truncated", "not_json"):
            note(0)
            text = json.dumps(value).encode() if fault == "truncated" else b"<html>one moment please</html>"
            if fault == "not_json":
                return write_reply(writer, 200, text)
            if self._attempts[key] % 2:
                return write_reply(writer, 200, text[: len(text) // 2])
            write_reply(writer, 200, text[: len(text) // 2], announced=len(text))
            await writer.drain()
            raise NoReplyError
        note(status)
        return write_reply(writer, status, value, self.faults.headers)

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body for a chat completion, online or in a batch."""
        prompt = body["messages"][-1]["content"]
        if self.faults.unknown_model:
            return 404, error_body(f"The model {body['model']} does not exist", "model_not_found")
        if self.faults.rejects_format and "response_format" in body:
            return 400, error_body("response_format is not supported here")
        if self.faults.refused is not None and self.faults.refused in prompt:
            return 400, error_body(f"we do not answer this: {prompt}")
        try:
            text = self._answer(body)
        except ValueError as error:
            return 400, error_body(str(error))
        reason = "length" if isinstance(text, Cut) else "stop"
        if not self.faults.ignores_format:
            text = in_format(text, body.get("response_format"))
        usage = {"prompt_tokens": least_tokens(prompt), "completion_tokens": len(text.split())}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}],
            "usage": usage | {"total_tokens": sum(usage.values())},
        }

    def _note(self, entry: Served) -> None:
        self.served.append(entry)
        if self._log is not None:
            os.write(self._log, (json.dumps(asdict(entry)) + "\n").encode())

    def _batch_call(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """The files and batches API (platform.openai.com/docs/api-reference/batch)."""
        url = urlsplit(target)
        parts = url.path.strip("/").split("/")[1:]
        match (method, *parts):
            case ("POST", "files"):
                name = f"file-{len(self.files)}"
                self.files[name] = uploaded_file(headers["content-type"], body)
                return 200, {"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": 0,
                             "filename": "batch.jsonl", "purpose": "batch", "status": "processed"}  # fmt: skip
            case ("GET", "files", name, "content") if name in self.files:
                return 200, self.files[name]
            case ("POST", "batches"):
                return 200, self._create_batch(json.loads(body))
            case ("GET", "batches"):
                query = parse_qs(url.query)
                newest_first = list(reversed(self.batches.values()))
                ids = [batch["id"] for batch in newest_first]
                first = ids.index(query["after"][0]) + 1 if "after" in query else 0
                last = first + int(query.get("limit", ["20"])[0])
                return 200, {"object": "list", "data": newest_first[first:last], "has_more": last < len(ids)}
            case ("GET", "batches", name) if name in self.batches:
                self._polls[name] += 1
                if self._polls[name] == self.faults.batch_polls:
                    self._end_batch(self.batches[name])
                return 200, self.batches[name]
        return 404, error_body(f"nothing at {method} {url.path}")

    def _create_batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches)}"
        begun = {"object": "batch", "status": "in_progress", "created_at": int(time.time()), "errors": None}
        self.batches[name] = asked | {"id": name} | begun
        if self._fate(name) == "lost":
            raise NoReplyError
        return self.batches[name]

    def _fate(self, name: str) -> str:
        number = int(name.removeprefix("batch_"))
        return self.faults.batches[number] if number < len(self.faults.batches) else "completed"

    def _end_batch(self, batch: dict[str, Any]) -> None:
        """What the batch's fate leaves: output and error files, and a status."""
        fate = self._fate(batch["id"])
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        kept = len(lines) if fate in ("completed", "lost") else 0 if fate == "failed" else len(lines) // 2
        batch["status"] = fate if fate in ("expired", "cancelled", "failed") else "completed"
        if fate == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "queue is full"}]}
            return
        out: dict[str, list[dict[str, Any]]] = {"output": [], "error": []}
        for number, line in enumerate(lines):
            entry: dict[str, Any] = {"id": f"row_{number}", "custom_id": line["custom_id"], "response": None}
            if number >= kept and fate in ("missing", "cancelled"):
                continue
            if number >= kept and fate == "expired":
                entry["error"] = {"code": "batch_expired", "message": "not executed in time"}
            else:
                status, value = (500, error_body("broke")) if number >= kept else self._chat(line["body"])
                now = time.monotonic()
                self._note(Served(line["custom_id"], status, None, True, now, now))
                entry |= {"error": None, "response": {"status_code": status, "request_id": "r", "body": value}}
            is_complete = entry["response"] is not None and entry["response"]["status_code"] == 200
            out["output" if is_complete else "error"].append(entry)
        for kind, entries in out.items():
            if entries:
                name = f"{kind}-{batch['id']}"
                self.files[name] = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
                batch[f"{kind}_file_id"] = name


def read_log(log: Path) -> list[Served]:
    """What a server has logged so far."""
    return [Served(**json.loads(line)) for line in log.read_text().splitlines()]


@contextlib.contextmanager
def serving(log: Path, recipe: str = "offline", faults: Faults | None = None, port: int = 0) -> Iterator[str]:
    """The server in a process of its own, that ends with this one; its base URL."""
    command = [sys.executable, "-m", "tests.support.teacher_server", "--log", str(log), "--recipe", recipe]
    command += ["--port", str(port), "--faults", json.dumps(asdict(faults or Faults()))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert process.stdin
    assert process.stdout
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the teacher server did not start")
        yield url
    finally:
        process.stdin.close()
        process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, required=True, help="a line is appended for each request")
    parser.add_argument("--recipe", default="offline", help="whose teacher.error_rates the teacher errs by")
    parser.add_argument("--faults", default="{}", help="JSON with fields of Faults")
    arguments = parser.parse_args()
    faults = json.loads(arguments.faults)
    faults["batches"] = tuple(faults.get("batches", ()))
    rates = load_recipe(arguments.recipe).teacher.error_rates.model_dump()
    with TeacherServer(microworld(rates), Faults(**faults), arguments.log, arguments.port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
