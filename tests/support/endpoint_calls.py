"""Requests to a teacher over HTTP, and a sink with a budget that remembers what it received."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resources.ledger.calls import CapReached, TeacherAnswer, TeacherRequest
from resources.teacher.endpoint import OpenAIEngine
from speed_assets.recipe import Calls, Teacher
from tests.support.teacher_server import Faults, TeacherServer

KEY = "sk-planted-0123456789"
FAST = Calls(backoff_s=0.01, backoff_max_s=0.05, timeout_s=2, breaker_s=5, concurrency_start=8, concurrency_max=64)


def echo(body: dict[str, Any]) -> str:
    return f"answer to {body['messages'][-1]['content']}"


def teacher_at(url: str, **changes: Any) -> Teacher:
    return Teacher(engine="openai", model="model", endpoint=url, **changes)


def requests(count: int, word: str = "prompt", **changes: Any) -> list[TeacherRequest]:
    base = TeacherRequest("", "model", None, "here", {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 100})
    return [replace(base, prompt=f"{word} {i}", **changes) for i in range(count)]


class Keeper:
    """A sink and an allowance that remember; `cap` is the most that may be taken."""

    def __init__(self, cap: int | None = None, commit_s: float = 0.0) -> None:
        self.cap, self.commit_s = cap, commit_s
        self.kept: dict[str, TeacherAnswer] = {}
        self.handed: Counter[str] = Counter()
        self.groups: list[int] = []
        self.taken: Counter[str] = Counter()
        self.back: Counter[str] = Counter()
        self.threads: set[int] = set()

    def sink(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        self.threads.add(threading.get_ident())
        time.sleep(self.commit_s)
        self.groups.append(len(answered))
        for request, answer in answered:
            assert self.taken[request.key] == 1
            self.handed[request.key] += 1
            self.kept[request.key] = answer

    def reserve(self, requests: Sequence[TeacherRequest]) -> int:
        self.threads.add(threading.get_ident())
        room = len(requests) if self.cap is None else self.cap - self.taken.total() + self.back.total()
        if room < 1:
            raise CapReached("cap")
        taken = min(room, len(requests))
        self.taken.update(request.key for request in requests[:taken])
        return taken

    def release(self, requests: Sequence[TeacherRequest]) -> None:
        self.back.update(request.key for request in requests)


def ask(
    faults: Faults,
    asked: list[TeacherRequest],
    keeper: Keeper,
    calls: Calls = FAST,
    key: str | None = None,
    **teacher: Any,
) -> TeacherServer:
    with TeacherServer(echo, faults) as server:
        OpenAIEngine(teacher_at(server.url, **teacher), calls, key).answer(asked, keeper.sink, keeper)
    return server
