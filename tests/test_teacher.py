"""Teacher and ledger: nothing is asked twice, nothing is answered that is not durable."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_recipe

from resources.calls import Allowance, Sink, TeacherAnswer, TeacherRequest
from resources.ledger import Ledger
from resources.teacher import Teacher

BASE = TeacherRequest("prompt", "model", "1", None, {"temperature": 1.0})


class Counting:
    """An engine that counts, and dies after `limit` answers."""

    def __init__(self, limit: int | None = None) -> None:
        self.asked: list[str] = []
        self.limit = limit

    def answer(self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance) -> None:
        waiting = list(requests)
        while waiting:
            if self.limit is not None and len(self.asked) >= self.limit:
                raise ConnectionError("gone")
            block = waiting[: allowance.take(waiting[:2])]
            self.asked += [request.prompt for request in block]
            sink([(request, TeacherAnswer(f"answer to {request.prompt}", 3, None)) for request in block])
            waiting = waiting[len(block) :]


def teacher_with(home: Path, engine: Counting, batch: int = 2) -> Teacher:
    return Teacher(tiny_recipe(runtime={"teacher_batch": batch}), Ledger.at(home), engine)


def test_same_request_is_asked_once_and_answered_in_order(tmp_path: Path) -> None:
    engine = Counting()
    teacher = teacher_with(tmp_path, engine)
    sampling = tiny_recipe().seed_data.sampling
    requests = teacher.requests(["a", "b", "a", "c"], sampling)
    answers, use = teacher.ask("seed_data", requests)
    assert [a.text[-1] for a in answers] == ["a", "b", "a", "c"]
    assert (use.calls, use.reused) == (3, 0)
    _, again = teacher_with(tmp_path, engine).ask("seed_data", requests)
    assert (again.calls, again.reused) == (0, 3)
    assert engine.asked == ["a", "b", "c"]


def test_answers_before_a_failure_are_kept(tmp_path: Path) -> None:
    engine = Counting(limit=4)
    teacher = teacher_with(tmp_path, engine)
    requests = teacher.requests(map(str, range(10)), tiny_recipe().seed_data.sampling)
    with pytest.raises(ConnectionError):
        teacher.ask("seed_data", requests)
    healthy = Counting()
    _, use = teacher_with(tmp_path, healthy).ask("seed_data", requests)
    assert (use.calls, use.reused) == (6, 4)
    assert not set(healthy.asked) & set(engine.asked)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, prompt="other"),
        replace(BASE, model="other"),
        replace(BASE, revision="2"),
        replace(BASE, endpoint="http://127.0.0.1:1"),
        replace(BASE, parameters={"temperature": 0.5}),
        replace(BASE, schema={"type": "object"}),
        replace(BASE, sample=1),
    ],
)
def test_everything_that_shapes_an_answer_is_in_its_name(other: TeacherRequest) -> None:
    assert other.key != BASE.key


@given(st.text(), st.text())
def test_different_prompts_have_different_names(a: str, b: str) -> None:
    a, b = (text.encode("utf-8", "replace").decode() for text in (a, b))
    assert (replace(BASE, prompt=a).key == replace(BASE, prompt=b).key) == (a == b)


def test_unknown_usage_stays_unknown(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    ledger.record("seed_data", [(BASE, TeacherAnswer("text"))])
    assert ledger.find([BASE.key])[BASE.key] == TeacherAnswer("text", None, None, reused=True)


def _write(home: str, start: int) -> None:
    ledger = Ledger.at(Path(home))
    for i in range(start, start + 40):
        ledger.record("s", [(replace(BASE, prompt=str(i)), TeacherAnswer(str(i)))])


def test_several_processes_share_one_ledger(tmp_path: Path) -> None:
    Ledger.at(tmp_path)
    processes = [multiprocessing.get_context("spawn").Process(target=_write, args=(str(tmp_path), n)) for n in (0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert Ledger.at(tmp_path).count() == 60
