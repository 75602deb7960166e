"""Troubles that `speed doctor` has to find, each planted in an otherwise healthy home, with real servers on loopback.

Belongs here: planting. Not here: what is found (`tests/test_doctor.py`), how servers of teachers behave (`zoo.py`).
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typing_extensions import override

from resources.instance import gpu_pool
from speed_assets.orchestration.doctor import engine_probes, machine_probes
from speed_assets.recipe import Recipe
from tests.support.http_messages import write_reply
from tests.support.tiny import tiny_data, tiny_recipe
from tests.support.zoo import SPECIES, Zoo

KEY = "sk-planted-0123456789abcdef"


class Teacher(Zoo):
    """A server of the zoo that lists its models, and answers the doctor's question as its species would."""

    def __init__(
        self,
        species: str = "vllm",
        *,
        listed: tuple[str, ...] | int = ("m",),
        status: int = 200,
        least: int = 1,
        **more: Any,
    ) -> None:
        """`listed` is the models, or the status with which they are refused; `least` the fewest tokens that a call may ask for."""
        super().__init__(_yes, SPECIES[species], **more)
        self.listed, self.status, self.least = listed, status, least
        self.asked = 0
        """Calls that were answered, and so are paid for."""

    @override
    def _batch_call(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        if (method, target) == ("GET", "/v1/models"):
            if isinstance(self.listed, int):
                return self.listed, {"error": {"message": "Missing scopes: api.model.read"}}
            return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.listed]}
        return super()._batch_call(method, target, headers, body)

    @override
    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        tokens = body.get("max_tokens", body.get("max_completion_tokens"))
        assert tokens in (1, self.least)
        if tokens < self.least:
            words = f"Invalid 'max_tokens': integer below minimum value. Expected a value >= {self.least}, but got {tokens} instead."
            return 400, {"error": {"message": words, "param": "max_tokens", "code": "integer_below_min_value"}}
        if self.status != 200:
            return self.status, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
        status, value = super()._chat(body)
        self.asked += status == 200
        if status == 200:
            value["choices"][0]["finish_reason"] = "length"
        return status, value


def _yes(body: dict[str, Any]) -> str:
    """A word where it is free, the begin of a record where it is held to a schema."""
    return '{"' if "response_format" in body else "yes"


@dataclass
class Case:
    """A healthy home, and what a trouble changes of it."""

    folder: Path
    patch: pytest.MonkeyPatch
    teacher: Callable[[], Teacher] = Teacher
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe, by their path with `__`."""
    endpoint: str | None = None
    """Address in place of the server's."""
    teacher_fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe's teacher."""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def recipe(self, url: str) -> Recipe:
        teacher = {**tiny_data()["teacher"], "engine": "openai", "model": "m", "endpoint": self.endpoint or url}
        return tiny_recipe(**{"teacher": {**teacher, **self.teacher_fields}, "money": {}, **self.changes})

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def hub(self, replies: dict[str, tuple[int, Any, dict[str, str]]]) -> None:
        """A model hub that gives these replies by path, and 404 for others."""
        from huggingface_hub import constants

        self.patch.setattr(constants, "HF_HUB_OFFLINE", False)
        url = self.served(replies)
        self.patch.setenv("HF_ENDPOINT", url)
        self.patch.setattr(constants, "ENDPOINT", url)

    def served(self, replies: dict[str, tuple[int, Any, dict[str, str]]]) -> str:
        """The address of a server that gives these replies by path."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(replies))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.closing.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    closing: list[ThreadingHTTPServer] = field(default_factory=list)


@contextmanager
def planted(folder: Path, patch: pytest.MonkeyPatch, plant: Callable[[Case], None]) -> Iterator[tuple[Case, Teacher]]:
    """A case with its trouble, while its servers run."""
    case = Case(folder, patch)
    case.home.mkdir()
    patch.setenv("SPEED_HOME", str(case.home))
    with_disk(case, 10**13)
    plant(case)
    try:
        with case.teacher() as server:
            assert isinstance(server, Teacher)
            yield case, server
    finally:
        for other in case.closing:
            other.shutdown()
            other.server_close()


def _handler(replies: dict[str, tuple[int, Any, dict[str, str]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            status, value, headers = replies.get(
                path, (404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            )
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        @override
        def log_message(self, *_: object) -> None:
            pass

    return Handler


GENERATOR = "owner/Model-7B"


def of_hub(*files: str, gated: bool = False) -> dict[str, Any]:
    """What a hub says of a repository with these files."""
    siblings = [{"rfilename": name, "size": 14_000_000_000} for name in files]
    more = {"gated": "manual" if gated else False, "cardData": {"license": "mit"}, "sha": "0" * 40}
    return {"id": GENERATOR, "modelId": GENERATOR, "private": False, "tags": [], "siblings": siblings, **more}


def from_hub(case: Case, revision: str = "main") -> None:
    """The generators' base is a hub's."""
    case.changes |= {"generator__base": GENERATOR, "generator__revision": revision}


def with_vllm(case: Case, version: str | None) -> None:
    """The generators' engine is vLLM, in an environment that has this version of it."""
    python = case.folder / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    if version:
        (case.folder / "env" / "lib" / "python3.12" / "site-packages" / f"vllm-{version}.dist-info").mkdir(parents=True)
    case.patch.setenv("SPEED_ENGINE_PYTHON", str(python))
    case.changes["generator__engine"] = "vllm"


def with_card(case: Case, free_mib: int, driver: str = "580.65.06") -> None:
    """This machine shows a card, and torch was built for it."""
    tool = case.folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho 'NVIDIA H200, {driver}, 143771, {free_mib}'\n")
    tool.chmod(0o755)
    case.patch.setenv("PATH", f"{case.folder}:/usr/bin:/bin")
    case.patch.setattr(gpu_pool, "gpu_visible", lambda: True)
    case.patch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130")
    engine_probes._smi.cache_clear()


def with_disk(case: Case, free: int) -> None:
    case.patch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))


def memory_of(case: Case, kilobytes: int) -> None:
    case.patch.setattr(
        machine_probes, "MEMINFO", Path(case.file("meminfo", f"MemAvailable: {kilobytes} kB\n".encode()))
    )


def dated(case: Case, seconds: float) -> None:
    """The teacher's server has another clock."""
    date = {"date": formatdate(time.time() + seconds, usegmt=True)}

    def later(writer: Any, status: int, value: Any, headers: Any = None, announced: int | None = None) -> None:
        write_reply(writer, status, value, {**(headers or {}), **date}, announced)

    case.patch.setattr("tests.support.teacher_server.write_reply", later)
