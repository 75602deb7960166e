"""A teacher that is cut off: asked again with more room, else quarantined under that name, and never taught."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.ledger.calls import Allowance, AnswerSink, CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.teacher.chat import read_reply
from resources.teacher.teacher import Teacher
from speed_assets.assets.junior import seed_data
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.answer_lengths import words_allowed
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.recipe import Recipe
from speed_assets.recipe import Teacher as TeacherSettings
from tests.support.tiny import ROWS, tiny_recipe

STAGE = next(stage for stage in ALL_STAGES if stage.name == "seed_data")
TOKENS_PER_WORD = 1.31  # of people's prose, JSON included


class ObedientTeacher:
    """Writes as many words as the prompt asks for, and is cut off at the limit as a server cuts."""

    def __init__(self, task_type: str, words: int) -> None:
        self._keys, self._words = TASK_TYPES[task_type].keys, words
        self.limits: list[int] = []

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        allowance.reserve(requests)
        sink([(request, self._answer(request)) for request in requests])

    def _answer(self, request: TeacherRequest) -> TeacherAnswer:
        limit = int(request.parameters["max_new_tokens"])
        self.limits.append(limit)
        texts = {key: " ".join(f"{key}{n}" for n in range(self._words)) + "." for key in self._keys}
        words = json.dumps(texts).split(" ")
        room = int(limit / TOKENS_PER_WORD)
        finished = math.ceil(len(words) * TOKENS_PER_WORD) <= limit
        return TeacherAnswer(" ".join(words[:room]), 10, min(len(words), limit), finished=finished)


class Tasks:
    """An artifact that is a table."""

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table

    def table(self) -> pl.DataFrame:
        return self._table


def run_of(recipe: Recipe, teacher: ObedientTeacher, task_type: str, home: Path) -> StageRun[Any]:
    home.mkdir(parents=True, exist_ok=True)
    out = home / "out"
    out.mkdir(exist_ok=True)
    names = [f"task {n} of the list" for n in range(4)]
    tasks = pl.DataFrame(
        {
            "task_id": names,
            "topic_id": names,
            "topic": ["Arts/Music"] * 4,
            "task_type": [task_type] * 4,
            "task": names,
            "alignment": [True] * 4,
        }
    )
    inputs: Any = {"task_list": {task_type: Tasks(tasks)}}
    nothing: Any = None
    return StageRun.of(
        recipe,
        STAGE,
        task_type,
        inputs=inputs,
        out=out,
        store=nothing,
        runner=nothing,
        teacher=Teacher(recipe, Ledger.at(home), teacher),
        context=CallContext("run", "seed_data", task_type),
        progress=lambda done, total, note: None,
    )


def recipe_with(limit: int | None, attempts: int = 1) -> Recipe:
    sampling = {"temperature": 1.0, "max_new_tokens": limit}
    return tiny_recipe(seed_data__sampling=sampling, seed_data__attempts=attempts, seed_data__rows=ROWS)


def test_what_was_cut_off_is_quarantined_under_that_name_and_never_taught(tmp_path: Path) -> None:
    teacher = ObedientTeacher("retrieval", words=100)
    run = run_of(recipe_with(200), teacher, "retrieval", tmp_path)
    told = seed_data(run)
    assert run.tables["data"].is_empty()
    aside = run.tables["quarantine"]
    assert (aside["reason"] == "cut_off").all()
    assert aside.height == told["asked"] == ROWS["retrieval"]
    assert told["problems"] == {"cut_off": ROWS["retrieval"]}


def test_it_is_asked_again_in_the_same_words_with_more_room(tmp_path: Path) -> None:
    teacher = ObedientTeacher("retrieval", words=150)
    run = run_of(recipe_with(200, attempts=4), teacher, "retrieval", tmp_path)
    told = seed_data(run)
    assert sorted({*teacher.limits}) == [200, 400, 800]
    assert [again["whole"] for again in told["asked_again"]] == [0, ROWS["retrieval"]]
    assert run.tables["data"].height == ROWS["retrieval"]
    # What was cut stays known: the next build asks nothing.
    asked = len(teacher.limits)
    (tmp_path / "out" / "data.parquet").unlink()
    seed_data(run_of(recipe_with(200, attempts=4), teacher, "retrieval", tmp_path))
    assert len(teacher.limits) == asked


@pytest.mark.parametrize("task_type", sorted(TOPIC_TYPES))
def test_a_writer_who_obeys_is_never_cut(task_type: str, tmp_path: Path) -> None:
    """Whatever length is drawn: the limit has room for all the words asked for."""
    recipe = recipe_with(None)
    lengths = recipe.answers.lengths()
    for attributes in (
        {"text_length": "at least 200 words"},
        {"text_length": "less than 10 words"},
        {"query_length": "5 to 15 words", "document_length": "500 words"},
        {"query_length": "at least 10 words", "document_length": "at least 500 words"},
        {"unit": "passage"},
    ):
        limit = lengths.limit(lengths.words("synthesis", task_type, attributes))
        least = [words_allowed(value)[0] for value in attributes.values()]
        fields = len(TASK_TYPES[task_type].keys)
        documents = 2 if task_type == "retrieval" else 1
        if {"classification": "text_length", "retrieval": "document_length"}.get(task_type) in attributes:
            assert limit >= TOKENS_PER_WORD * (documents * max(least) + 10 * fields)
    if task_type == "retrieval":  # the prompt names the fewest words of a document
        limit = lengths.limit(lengths.words("synthesis", task_type, {"document_length": "50 words"}))
        assert limit >= TOKENS_PER_WORD * (2 * 150 + 15)
    teacher = ObedientTeacher(task_type, words=8)
    run = run_of(recipe, teacher, task_type, tmp_path)
    seed_data(run)
    assert run.tables["quarantine"].is_empty()


def test_rules_are_kept_by_what_is_taught(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        seed_data__rules={"length_tolerance": 0.5}, seed_data__sampling={"temperature": 1.0, "max_new_tokens": 900}
    )
    run = run_of(recipe, ObedientTeacher("retrieval", words=30), "retrieval", tmp_path)
    seed_data(run)
    reasons = set(run.tables["quarantine"]["reason"])
    assert reasons
    assert all(reason.startswith("rule:") for reason in reasons)
    assert run.tables["data"].height + run.tables["quarantine"].height == ROWS["retrieval"]


@pytest.mark.parametrize(
    ("reason", "finished"), [("stop", True), ("length", False), ("MAX_TOKENS", False), (None, None), (3, None)]
)
def test_the_servers_word_for_the_end_is_kept(reason: Any, finished: bool | None) -> None:
    teacher = TeacherSettings(engine="openai", model="m", endpoint="http://127.0.0.1/v1")
    choice = {"message": {"content": "text", "reasoning": "thought", "reasoning_content": "t"}, "finish_reason": reason}
    outcome = read_reply(200, {"choices": [choice]}, teacher, None)
    assert outcome.answer is not None
    assert (outcome.answer.text, outcome.answer.finished) == ("text", finished)


def test_thoughts_alone_are_no_answer() -> None:
    teacher = TeacherSettings(engine="openai", model="m", endpoint="http://127.0.0.1/v1")
    choice = {"message": {"content": None, "reasoning": '{"best": 1}'}, "finish_reason": "length"}
    outcome = read_reply(200, {"choices": [choice]}, teacher, None)
    assert outcome.answer is not None
    assert (outcome.answer.text, outcome.answer.finished) == ("", False)


class SilentTeacher(ObedientTeacher):
    """Says how many tokens it wrote, and not how it ended."""

    def _answer(self, request: TeacherRequest) -> TeacherAnswer:
        limit = int(request.parameters["max_new_tokens"])
        texts = {key: f"The {key} is whole." for key in self._keys}
        return TeacherAnswer(json.dumps(texts), 10, limit)


def test_a_limit_that_is_filled_was_a_cut_where_the_server_does_not_say(tmp_path: Path) -> None:
    run = run_of(recipe_with(200), SilentTeacher("retrieval", words=1), "retrieval", tmp_path)
    assert seed_data(run)["problems"] == {"cut_off": ROWS["retrieval"]}
