"""Generation over HTTP against a server that misbehaves: retries, refusals, and what is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from speed_assets.workers import generate_http
from tests.support.tiny_text import CONTEXT, write_model

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class FakeServer(ThreadingHTTPServer):
    """Serves models by name and answers completions as a test says; keeps what it was asked."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.names, self.asked = names, list[dict[str, Any]]()
        self.answer: Answer = completion
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        data = [{"id": name, "object": "model", "max_model_len": CONTEXT} for name in self.server.names]
        self._send(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            self._send(*self.server.answer(body))
        finally:
            with self.server.lock:
                self.server.now -= 1

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def completion(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    choice = {"index": 0, "text": f"answer to {len(body['prompt'])}", "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
    return 200, {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def refusal(_body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 400, {"error": {"message": "no such thing", "type": "BadRequestError", "code": 400}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def server(model: str) -> Iterator[FakeServer]:
    server = FakeServer([model])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def job(model: str, server: FakeServer, tmp_path: Path) -> dict[str, Any]:
    rows = [{"row_id": f"r{row}", "candidate": 0, "prompt": "x" * (row + 1)} for row in range(40)]
    rows.append({"row_id": "long", "candidate": 0, "prompt": "x" * CONTEXT})
    pl.DataFrame(rows).write_parquet(tmp_path / "prompts.parquet")
    return {
        "model": model,
        "revision": None,
        "adapter": None,
        "dtype": "float32",
        "prompts": str(tmp_path / "prompts.parquet"),
        "out": str(tmp_path / "out.parquet"),
        "journal": str(tmp_path / "journal"),
        "seed": 1,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_new_tokens": 50,
        "batch_rows": 4,
        "schema": None,
        "endpoint": server.url,
        "folder": str(tmp_path),
    }


def generated(params: dict[str, Any]) -> pl.DataFrame:
    generate_http.run(params, lambda *_: None)
    return pl.read_parquet(params["out"])


def test_every_row_is_asked_once_with_its_own_seed(server: FakeServer, job: dict[str, Any]) -> None:
    table = generated(job)
    assert table["output"].to_list() == [f"answer to {row + 1}" for row in range(40)] + [""]
    assert table["finished"].to_list() == [True] * 40 + [False]
    assert table["error"].null_count() == 41  # without room is no error
    assert len(server.asked) == 40
    assert len({body["seed"] for body in server.asked}) == 40
    assert {(body["temperature"], body["top_p"], body["model"]) for body in server.asked} == {(0.7, 0.9, job["model"])}
    assert server.most <= job["batch_rows"]
    assert generated(job).equals(table)
    assert len(server.asked) == 40  # the journal has them all


def test_a_row_may_bring_its_own_limit(server: FakeServer, job: dict[str, Any]) -> None:
    rows = pl.read_parquet(job["prompts"])
    limits = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.int_range(pl.len()) + 1).alias("max_new_tokens")
    rows.with_columns(limits).write_parquet(job["prompts"])
    table = generated(job)
    assert table.columns == ["row_id", "candidate", "output", "prompt_tokens", "output_tokens", "finished", "error"]
    asked = {len(body["prompt"]): body["max_tokens"] for body in server.asked}
    assert asked == {row + 1: row + 1 if row % 2 == 0 else 50 for row in range(40)}
    rows.write_parquet(job["prompts"])
    generated(job)
    assert len(server.asked) == 80, "a journal of other limits is not taken"


def test_trouble_is_tried_again_and_a_refused_row_is_kept_with_the_words(
    server: FakeServer, job: dict[str, Any]
) -> None:
    busy: set[int] = set()

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        length = len(body["prompt"])
        if length == 7:
            return refusal(body)
        if length % 9 == 0 and length not in busy:
            busy.add(length)
            return 503, {"error": {"message": "busy"}}
        return completion(body)

    server.answer = answer
    table = generated(job)
    assert "no such thing" in table["error"][6]
    assert (table["output"][6], table["finished"][6]) == ("", False)
    assert table["error"].null_count() == 40
    assert table["finished"].sum() == 39
    assert busy == {9, 18, 27, 36}


def test_a_server_that_refuses_all_ends_the_job_with_its_words(server: FakeServer, job: dict[str, Any]) -> None:
    server.answer = refusal
    with pytest.raises(ValueError, match=r"refuses every row: .*no such thing"):
        generated(job)


def test_another_model_is_refused_before_anything_is_asked(server: FakeServer, job: dict[str, Any]) -> None:
    server.names = ["llama"]
    with pytest.raises(ValueError, match=r"serves llama, not .*: serve it under that name"):
        generated(job)
    assert not server.asked


def test_a_schema_reaches_the_server(server: FakeServer, job: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    generated({**job, "schema": schema})
    assert {json.dumps(body["response_format"]["json_schema"]["schema"]) for body in server.asked} == {
        json.dumps(schema)
    }
