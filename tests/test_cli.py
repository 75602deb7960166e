"""The `speed` command with bad input: one clear message, a non-zero status, no traceback, nothing harmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from resources.store.store import Artifact, Store
from speed_assets.recipe import PROJECT
from tests.support.tiny import tiny_data, write_recipe


def speed(home: Path | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "speed_assets.cli", *arguments],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_clear_failure(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode not in (0, -9)
    assert "Traceback" not in result.stderr + result.stdout
    for word in words:
        assert word in result.stderr
    assert result.stderr.count("error:") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [("name: [", "not valid YAML"), ("name: x\nfoo: 1\n", "foo: unknown field"), ("", "mapping")],
)
def test_broken_recipe(tmp_path: Path, text: str, word: str) -> None:
    recipe = tmp_path / "broken.yaml"
    recipe.write_text(text)
    assert_clear_failure(speed(tmp_path / "home", "run", "--recipe", str(recipe)), str(recipe), word)


def test_negative_number(tmp_path: Path) -> None:
    data = tiny_data()
    data["junior_model"]["learning_rate"] = -1
    recipe = write_recipe(tmp_path, data)
    assert_clear_failure(
        speed(tmp_path / "home", "run", "--recipe", str(recipe)), "junior_model.learning_rate", "-1", "greater than 0"
    )


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "there is no file"),
        (b"\x7fELF\x02\x01\x00\x00\x00\x00\xff\xfe" * 50, "binary"),
        (b"Arts/Music\n", "at_least"),
        (b"", "empty"),
    ],
)
def test_bad_topic_file(tmp_path: Path, content: bytes | None, word: str) -> None:
    topics = tmp_path / "topics.txt"
    if content is not None:
        topics.write_bytes(content)
    home = tmp_path / "home"
    result = speed(home, "run", "--topics", str(topics))
    assert_clear_failure(result, str(topics), word)
    assert not list((home / "artifacts").rglob("artifact.json"))


def test_unwritable_home(tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    assert_clear_failure(speed(blocked / "home", "run"), "SPEED_HOME", "cannot be written")


def test_unknown_asset_and_selection(tmp_path: Path) -> None:
    assert_clear_failure(speed(tmp_path, "show", "nonsense"), "nonsense")
    assert_clear_failure(speed(tmp_path, "run", "--select", "nonsense"), "nonsense")


def test_show_tells_what_is_missing(tmp_path: Path) -> None:
    result = speed(tmp_path, "show")
    assert result.returncode == 0, result.stderr
    assert "not made yet" in result.stdout
    assert "revised_data/sts" in result.stdout


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    data = tiny_data()
    data["teacher"] |= {"engine": "openai", "endpoint": "http://127.0.0.1:9/v1", "key_variable": "OPENAI_API_KEY"}
    recipe = str(write_recipe(tmp_path, data))
    result = speed(tmp_path, "run", "--recipe", recipe, "--select", "topics")
    assert result.returncode == 0, result.stderr
    result = speed(tmp_path, "run", "--recipe", recipe, "--select", "task_list", OPENAI_API_KEY="")
    assert_clear_failure(result, "teacher.key_variable", "OPENAI_API_KEY")


def test_a_hub_that_cannot_be_reached_is_named_before_anything_is_made(tmp_path: Path) -> None:
    result = speed(tmp_path, "run", "--recipe", "teacher_only", "--select", "topics")
    assert_clear_failure(result, "mistralai/Mistral-7B-v0.1", "neither a folder here nor found on a model hub")


def test_a_release_verifies_itself_elsewhere_and_is_listed(tmp_path: Path) -> None:
    store = Store(tmp_path / "home").open()
    with store.building("f" * 64) as work:
        (work / "model").mkdir()
        (work / "model" / "README.md").write_text("# card\n")
        metadata = {"rows_released": 1200, "scores": {"STS": 0.5, "Retrieval": 0.7}}
        made = store.seal("release", "f" * 64, work, partition=None, metadata=metadata, lineage={})
    listed = speed(tmp_path / "home", "releases")
    assert listed.returncode == 0
    assert "1,200 rows  0.6 on 2 tasks" in listed.stdout
    assert str(made.path) in listed.stdout
    (entry,) = json.loads(speed(tmp_path / "home", "releases", "--json").stdout)
    assert entry["digest"] == made.digest

    begun = speed(tmp_path / "home", "verify", "fff")
    assert made.digest in begun.stdout, begun.stderr
    assert_clear_failure(speed(tmp_path / "home", "verify", "abc"), "0 releases are called 'abc'")
    moved = tmp_path / "elsewhere"
    shutil.move(made.path, moved)
    whole = speed(tmp_path / "none", "verify", str(moved))
    assert whole.returncode == 0, whole.stderr
    assert made.digest in whole.stdout
    (moved / "model" / "README.md").write_text("# cord\n")
    broken = speed(tmp_path / "none", "verify", str(moved))
    assert broken.returncode == 1
    assert broken.stderr == "damaged: model/README.md has changed since it was written\n"
    assert_clear_failure(speed(tmp_path / "none", "verify", str(tmp_path)), "is no release")
    assert not (tmp_path / "none").exists()


def test_a_recipe_without_the_loop_is_not_studied(tmp_path: Path) -> None:
    result = speed(tmp_path / "home", "study", "--recipe", "teacher_only")
    assert_clear_failure(result, "leaves out a part of the loop", "final_triplets.source=revised_data")
    assert result.returncode == 2


def released(home: Path, name: str, *, recipe: str = "tiny", licence: str | None = "mit") -> Artifact:
    """A release in little, whose fingerprint is one letter."""
    store = Store(home).open()
    with store.building(name * 64) as work:
        for part in ("model", "data"):
            (work / part).mkdir()
            front = f"license: {licence}\n" if licence else ""
            (work / part / "README.md").write_text(f"---\nlanguage: en\n{front}---\n\n# {part} {name}\n")
        scores = {"fingerprint": name * 64, "digest": name * 64}
        (work / "manifest.json").write_text(json.dumps({"artifacts": {"mteb_scores": scores}, "rows": {}}))
        recipe_json = {"seed": 1, "topics": {"limit": ord(name)}, "checks": {"superior": {}}}
        (work / "recipe.json").write_text(json.dumps(recipe_json))
        lineage = {"recipe": {"name": recipe}, "inputs": {"mteb_scores": name}}
        return store.seal("release", name * 64, work, partition=None, metadata={"rows_released": 7}, lineage=lineage)


def test_rollback_moves_the_link_and_never_to_a_damaged_release(tmp_path: Path) -> None:
    made = [released(tmp_path, name) for name in "abc"]
    released(tmp_path, "d", recipe="other")
    assert speed(tmp_path, "releases").stdout.count("(current)") == 2, "one of each recipe"
    recipe = write_recipe(tmp_path, tiny_data())
    back = speed(tmp_path, "rollback", "--recipe", str(recipe))
    assert back.returncode == 0, back.stderr
    assert back.stdout.startswith("release bbbbbbbbbbbb of recipe tiny is current")
    link = tmp_path / "releases" / "current" / "tiny"
    assert (link / "model" / "README.md").read_text() == (made[1].path / "model" / "README.md").read_text()
    listed = {e["digest"]: e for e in json.loads(speed(tmp_path, "releases", "--json").stdout)}
    assert [listed[m.digest]["current"] for m in made] == [False, True, False]
    (made[0].path / "model" / "README.md").write_text("other")
    assert_clear_failure(speed(tmp_path, "rollback", "aaaa"), "is damaged: model/README.md has ")
    assert link.resolve() == made[1].path
    assert speed(tmp_path, "rollback", "c").returncode == 0
    assert link.resolve() == made[2].path
    assert_clear_failure(speed(tmp_path, "rollback", "9"), "0 releases are called '9'", "cccccccccccc")
    assert_clear_failure(
        speed(tmp_path / "none", "rollback", "--recipe", str(recipe)), "no release of recipe tiny before"
    )


def test_diff_tells_what_is_known_of_releases_without_samples(tmp_path: Path) -> None:
    for name in "ab":
        released(tmp_path, name)
    shown = speed(tmp_path, "diff", "a", "b")
    assert shown.returncode == 0, shown.stderr
    assert "recipe: 1 changed" in shown.stdout
    assert "topics.limit" in shown.stdout
    assert "97 -> 98" in shown.stdout
    assert "scores cannot be compared: one of the two holds no samples" in shown.stdout
    assert json.loads(speed(tmp_path, "diff", "a", "b", "--json").stdout)["made_of"] == {
        "mteb_scores": ["a" * 64, "b" * 64]
    }
    assert_clear_failure(speed(tmp_path, "diff", "a", "x"), "0 releases are called 'x'")
    file = write_recipe(tmp_path, tiny_data())
    assert_clear_failure(speed(tmp_path, "diff", "a", "--now", "--recipe", str(file)), "is not materialized")
    neither = speed(tmp_path, "diff", "a")
    assert neither.returncode == 2
    assert "--now" in neither.stderr


def test_a_field_that_does_not_exist_is_named_before_anything_is_made(tmp_path: Path) -> None:
    for name in ("run", "plan"):
        failed = speed(tmp_path, name, "--set", "embedding_model.learning_rte=1")
        assert_clear_failure(failed, "embedding_model.learning_rte: unknown field")
    assert not (tmp_path / "artifacts").exists()


class Hub(ThreadingHTTPServer):
    """As much of a hub as an upload of small files needs; it keeps what it was asked and sent."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Hub)
        self.status = status
        self.calls: list[tuple[str, str]] = []
        self.files: dict[str, set[str]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Hub(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append((self.path, self.headers.get("Authorization") or ""))
        if self.server.status != 200:
            return self._say({"error": f"no, {self.headers.get('Authorization')}"}, self.server.status)
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._say({"files": files})
        if "/commit/main" in self.path:
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            kind = self.path.split("/")[2]
            held = self.server.files.setdefault(kind, set())
            held |= {line["value"]["path"] for line in lines if line["key"] == "file"}
            held -= {line["value"]["path"] for line in lines if line["key"] == "deletedFile"}
            return self._say({"commitUrl": f"{self.server.url}/o/n/commit/1", "commitOid": "1", "hookOutput": ""})
        return self._say({"url": f"{self.server.url}/o/n", "name": "o/n", "id": "o/n"})

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            held = sorted(self.server.files.get(self.path.split("/")[2], ()))
            return self._say([{"type": "file", "path": name, "oid": "0" * 40, "size": 1} for name in held])
        return self._say({"id": "o/n", "sha": "0" * 40, "siblings": []})

    def _say(self, answer: Any, status: int = 200) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


TOKEN = "hf_SecretOfTheOwner"


def push(home: Path, hub: Hub, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hf")}
    done = speed(home, "push", *arguments, **environment)
    assert TOKEN not in done.stdout + done.stderr
    return done


def test_push_says_what_it_would_send_and_sends_it_only_with_yes(tmp_path: Path, hub: Hub) -> None:
    released(tmp_path, "a")
    dry = push(tmp_path, hub, "a", "--to", "owner/name")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("(card)") == 2
    assert "release/manifest.json" in dry.stdout
    assert "nothing was sent: say --yes" in dry.stdout
    assert hub.calls == []
    sent = push(tmp_path, hub, "a", "--to", "owner/name", "--yes")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.count("sent: ") == 2
    evidence = {f"release/{name}" for name in ("artifact.json", "manifest.json", "recipe.json")}
    assert hub.files == {"models": {"README.md", *evidence}, "datasets": {"README.md"}}
    assert {key for _, key in hub.calls} == {f"Bearer {TOKEN}"}
    hub.files["models"] |= {"pytorch_model.bin", ".gitattributes"}  # an older push, and the hub's own file
    assert push(tmp_path, hub, "a", "--to", "owner/name", "--yes").returncode == 0
    assert hub.files["models"] == {"README.md", ".gitattributes", *evidence}, "what the release lacks is deleted"


def test_push_refuses_what_is_damaged_or_has_no_licence(tmp_path: Path, hub: Hub) -> None:
    bare = released(tmp_path, "a", licence=None)
    refused = push(tmp_path, hub, "a", "--to", "nobody", "--yes")
    assert refused.returncode == 1
    for words in (
        "the card of model states no licence: set release.model_licence",
        "'nobody' is no name of a repository",
    ):
        assert words in refused.stderr
    (bare.path / "manifest.json").write_text('{"artifacts": {}}')
    assert "damaged: manifest.json" in push(tmp_path, hub, "a", "--to", "owner/name", "--yes").stderr
    assert hub.calls == []


def test_a_hub_that_refuses_is_reported_without_the_token(tmp_path: Path, hub: Hub) -> None:
    released(tmp_path, "a")
    hub.status = 403
    assert_clear_failure(push(tmp_path, hub, "a", "--to", "owner/name", "--yes"), hub.url, "did not take owner/name")
