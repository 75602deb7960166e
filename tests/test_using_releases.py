"""A release in use: search next to the base, a server on loopback, and whether a server gives the release's vectors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from resources.releases.served import ServerFailed, compared, served_vectors
from resources.store.store import Artifact
from speed_assets.cli import main
from speed_assets.recipe import PROJECT
from tests.support.released_table import TEXTS, released
from tests.support.static_embedder import write_embedder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    documents = tmp_path / "documents"
    documents.mkdir()
    for number, text in enumerate(TEXTS):
        (documents / f"{number}.txt").write_text(f"{text} " * 3)
    return tmp_path / "home"


@pytest.mark.faults
def test_search_shows_both_models_in_eighty_columns(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released(home, write_embedder(home.parent / "base"))
    arguments = ["search", "cc", "the kettle", "ladder", "--corpus", str(home.parent / "documents"), "--top", "2"]
    assert main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "release cccccccccccc" in printed
    assert "base base" in printed
    assert "3 passages" in printed
    first = next(line for line in printed.splitlines() if line.startswith("1 "))
    assert first.count("the kettle is on the fire") == 2
    kept = list((home / "work" / "search").glob("*.npy"))
    assert len(kept) == 2, "one table of vectors for each model"
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passages"] == 3
    (hit, _), queries = found["answers"][0]["release"], [one["query"] for one in found["answers"]]
    assert queries == ["the kettle", "ladder"]
    assert (hit["rank"], hit["other_rank"], hit["document_id"]) == (1, 1, "0.txt")
    kept[0].write_bytes(kept[0].read_bytes()[:-64])
    assert main(arguments) == 2
    assert "damaged" in capsys.readouterr().err
    assert main(arguments) == 0


def test_a_release_without_documents_asks_for_some(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = released(home, "static")
    assert main(["search", "cc", "kettle"]) == 2
    assert "was not made from documents: name a folder or a file with --corpus" in capsys.readouterr().err
    assert main(["search", "cc", " "]) == 2
    assert "a query is empty" in capsys.readouterr().err
    assert main(["search", "cc", "kettle", "--corpus", str(home.parent / "documents"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["base"] is None, "a table of random vectors is nothing to compare with"
    assert found["answers"][0]["base"] == []
    (made.path / "model" / "modules.json").write_text("[]")
    assert main(["search", "cc", "kettle", "--corpus", str(home.parent / "documents")]) == 2
    assert "is damaged: model/modules.json" in capsys.readouterr().err


@contextmanager
def serving(home: Path, name: str) -> Iterator[str]:
    """The base URL of `speed serve`, which ends with the block."""
    command = [sys.executable, "-m", "speed_assets.cli", "serve", name, "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert "is served at http://127.0.0.1:" in line, process.stderr.read()
        yield line.split(" is served at ")[1].split("/embeddings")[0]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, process.stderr.read()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.faults
def test_a_served_release_gives_its_vectors(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = released(home, "static")
    released(home, "static", "d", scale=3.0)
    with serving(home, "cc") as url:
        assert main(["check-served", url, "cc", "--json"]) == 0, capsys.readouterr().err
        drift = json.loads(capsys.readouterr().out)
        assert (drift["texts"], drift["width"], drift["over"]) == (4, 64, [])
        assert drift["largest"] < 1e-5
        assert main(["check-served", url, "dd", "--model", made.fingerprint[:12]]) == 1
        assert "farther than the tolerance" in capsys.readouterr().out
        assert main(["check-served", url, "dd"]) == 2
        assert "no such model" in capsys.readouterr().err
        _its_api(url, made)


def _its_api(url: str, made: Artifact) -> None:
    from sentence_transformers import SentenceTransformer

    name = made.fingerprint[:12]
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    assert [one.id for one in client.models.list()] == [name]
    # The client asks for base64 by itself.
    found = client.embeddings.create(model=name, input=["kettle", "ladder"], extra_body={"input_type": "query"})
    own = SentenceTransformer(str(made.path / "model"), device="cpu").encode(["kettle", "ladder"], prompt_name="query")
    np.testing.assert_allclose([one.embedding for one in found.data], own, atol=1e-6)
    assert found.usage.prompt_tokens > 2
    for body, status, word in (
        ({"input": []}, 400, "0 texts"),
        ({"input": ["a", ""]}, 400, "empty"),
        ({"input": [[1, 2]]}, 400, "send texts, not tokens"),
        ({"input": "a", "dimensions": 8}, 400, "this model has 64"),
        ({"input": "a", "model": "other"}, 404, name),
        ({"input": "a", "input_type": "both"}, 400, "input_type"),
    ):
        reply = httpx2.post(f"{url}/embeddings", json=body)
        assert reply.status_code == status, body
        assert word in reply.json()["error"]["message"]
    assert httpx2.post(f"{url}/embeddings", content=b"{").status_code == 400
    assert httpx2.get(f"{url}/models", headers={"Host": "evil.example"}).status_code == 400
    assert httpx2.get(url.replace("/v1", "/health")).json()["status"] == "ok"


def test_a_port_in_use_is_named(home: Path) -> None:
    released(home, "static")
    with serving(home, "cc") as url:
        port = url.split(":")[2].split("/")[0]
        command = [sys.executable, "-m", "speed_assets.cli", "serve", "cc", "--port", port]
        ended = subprocess.run(command, cwd=PROJECT, env=os.environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"port {port} cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


@contextmanager
def replying(status: int, body: Any) -> Iterator[str]:
    """The base URL of a server with one reply to everything."""
    text = body if isinstance(body, str) else json.dumps(body)

    class Reply(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Reply)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


VECTOR = {"index": 0, "embedding": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (200, {"data": []}, "does not hold 1 embeddings"),
        (200, {"data": [{"index": 1, "embedding": [1.0]}]}, "does not hold 1 embeddings"),
        (200, {"data": [VECTOR, VECTOR]}, "does not hold 1 embeddings"),
        (200, {"data": [{"index": 0, "embedding": "AAAA"}]}, "does not hold 1 embeddings"),
        (200, {"data": [{"index": 0, "embedding": [[1.0]]}]}, "does not hold 1 embeddings"),
        (200, '{"data": [{"index": 0, "embedding": [NaN]}]}', "not finite"),
        (200, "[" * 100_000, "does not hold 1 embeddings"),
        (404, {}, "no such model or path"),
        (302, {}, "answers 302"),
        (500, "a \x1b[31mfault", "answers 500"),
    ],
)
def test_nothing_of_a_reply_is_believed(status: int, body: Any, word: str) -> None:
    with replying(status, body) as url, pytest.raises(ServerFailed, match=word):
        served_vectors(url, "m", ["a"], None, 10.0)


def test_addresses_and_keys_are_checked_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("ftp://host/v1", "http://user:hunter22@host/v1", "host"):
        with pytest.raises(ServerFailed, match="URL") as error:
            served_vectors(url, "m", ["a"], None, 1.0)
        assert "hunter22" not in str(error.value)
    monkeypatch.setenv("EMBEDDING_KEY", "two\nlines")
    with pytest.raises(ServerFailed, match="EMBEDDING_KEY holds no key that can be sent") as error:
        served_vectors("http://127.0.0.1:1/v1", "m", ["a"], "EMBEDDING_KEY", 1.0)
    assert "two" not in str(error.value)
    with pytest.raises(ServerFailed, match="does not answer"):
        served_vectors("http://127.0.0.1:1/v1", "m", ["a"], None, 1.0)


def test_drift_is_a_distance_and_not_a_length() -> None:
    own = np.eye(3, dtype=np.float32)
    drift = compared(own * 7, own, 0.001)
    assert (drift.largest, drift.over, round(drift.length_served, 3)) == (0.0, (), 7.0)
    turned = own.copy()
    turned[1] = [1.0, 1.0, 0.0]
    assert compared(turned, own, 0.001).over == (1,)
    with pytest.raises(ServerFailed, match="it serves another model"):
        compared(np.ones((3, 2), dtype=np.float32), own, 0.001)
