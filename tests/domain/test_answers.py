"""What an answer is: never a draft, never a thought, never what was cut off."""

from __future__ import annotations

import json
import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.answers import without_thoughts
from speed_assets.domain.parsing import Verdict, parse_record, parse_revision, parse_tasks, parse_verdict
from speed_assets.domain.rows import parse_outputs
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES

STS = {"S1": "A real one.", "S2": "One that is real.", "S3": "Another one."}
DRAFT = '{"S1":"a b","S2":"c d","S3":"e f"}'
ANSWER = json.dumps(STS)


@pytest.mark.parametrize(
    "raw",
    [
        f"<think>First try {DRAFT} too short.</think>{ANSWER}",
        f"<THINK>{DRAFT}</THINK>\n\n```json\n{ANSWER}\n```",
        f"First try {DRAFT}, too short.</think>{ANSWER}",  # the chat template had opened the thought
        f"<think>a <think> b {DRAFT}</think> c {DRAFT}</think>{ANSWER}",
        f"[THINK]{DRAFT}[/THINK]{ANSWER}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
        f"<seed:think>{DRAFT}</seed:think>{ANSWER}",
        f'<think step="1">{DRAFT}</think>{ANSWER}',
        f"\u25c1think\u25b7{DRAFT}\u25c1/think\u25b7{ANSWER}",
        f"<|START_THINKING|>{DRAFT}<|END_THINKING|>{ANSWER}",
        f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{ANSWER}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final <|constrain|>json<|message|>{ANSWER}",
        f"{DRAFT} <think>better</think> {ANSWER}",
        f"Draft: {DRAFT}\nFinal: {ANSWER}",
        f'Partial: {{"S1": "a"}} and then {ANSWER}',
        f"{ANSWER}\nI left nothing out: {{}}",
        f'<think>an unclosed {{"S1": "a b </think>{ANSWER}',
        json.dumps({"answer": STS}),
    ],
)
def test_the_last_whole_object_outside_every_thought_is_the_answer(raw: str) -> None:
    parsed = parse_record("sts", raw)
    assert (parsed.record, parsed.problem) == (STS, None)


@pytest.mark.parametrize(
    "raw",
    [
        f"<think>First try {DRAFT}",
        f"<think>{ANSWER}",
        "<think>",
        f"ok <thinking> {DRAFT}",
        f"<seed:think>{ANSWER}",
        f"\u25c1think\u25b7{ANSWER}",
        f"<|START_THINKING|>{ANSWER}",
        f"<|begin_of_thought|>{ANSWER}",
        f"<|channel|>analysis<|message|>{ANSWER}<|end|>",
    ],
)
@pytest.mark.parametrize("finished", [True, None])
def test_a_thought_that_never_ends_is_no_answer(raw: str, finished: bool | None) -> None:
    assert parse_record("sts", raw, finished).problem == "cut_off"
    assert parse_verdict(raw, 3, finished) == "cut_off"
    assert parse_revision("sts", raw, finished).problem == "cut_off"


@pytest.mark.parametrize("end", ["He said no.", "He said 'no'", "He sa"])
def test_a_text_that_never_closes_is_cut_whatever_the_server_says(end: str) -> None:
    raw = f'{{"S1": "a b", "S2": "c d", "S3": "{end}'
    for finished in (True, None):
        assert parse_record("sts", raw, finished).problem == "cut_off"
        assert parse_verdict(f'{{"best": 1, "worst": 2, "reason": "{end}', 2, finished) == "cut_off"
    assert parse_record("sts", raw + '"', True).problem is None, "only its bracket is missing"


def test_a_tag_within_a_text_is_text() -> None:
    record = STS | {"S1": "Close <think> with </think>, or <think> stays open."}
    for raw in (
        json.dumps(record),
        f"Here: {json.dumps(record)}",
        f"<think>x</think> Here: {json.dumps(record)} Done.",
    ):
        assert parse_record("sts", raw).record == record


def test_a_drafted_verdict_does_not_count() -> None:
    raw = '<think>{"best": 1, "worst": 2}? No.</think>{"reason": "r", "best": 2, "worst": 1}'
    assert parse_verdict(raw, 2) == Verdict(1, 0, "r")
    assert parse_verdict('{"best": 1} hm {"reason": "r", "best": 2, "worst": 1}', 2) == Verdict(1, 0, "r")


def test_what_the_server_says_was_cut_is_cut_however_whole_it_looks() -> None:
    assert parse_record("sts", ANSWER, finished=False).problem == "cut_off"
    assert parse_verdict('{"best": 1, "worst": 2}', 2, finished=False) == "cut_off"
    assert parse_revision("sts", '{"reason": "r", "revision": null}', finished=False).problem == "cut_off"
    assert parse_tasks('["a"]', 1, finished=False) == "cut_off"
    assert parse_tasks('["Find a text", "Retr', 2, finished=None) == "cut_off", "a list that never closes"
    table = pl.DataFrame({"output": [ANSWER] * 3, "finished": [True, False, None]})
    read = parse_outputs(table, "sts")
    assert read["problem"].to_list() == [None, "cut_off", None]
    assert read["query"].to_list() == ["A real one.", None, "A real one."]


WORDS = [
    "the",
    "a",
    "viola's",
    '"quoted"',
    "{braces}",
    "[lists]",
    "price:",
    '5"',
    "\\",
    "tab\t",
    "line\n",
    "éü",
    "日本",
    "</think>",
    "```",
    ",",
    ".",
    "of",
    "in",
    "it",
]


def answers(rng: random.Random) -> tuple[str, str]:
    """(task type, an answer to it as models write them): thoughts, fences, prose, escapes."""
    task_type = rng.choice(sorted(TOPIC_TYPES))
    record = {
        key: " ".join(rng.choices(WORDS, k=rng.randint(1, 40))) + f" {key}." for key in TASK_TYPES[task_type].keys
    }
    text = json.dumps(record, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 2]))
    if rng.random() < 0.3:
        text = f"```json\n{text}\n```"
    if rng.random() < 0.3:
        text = f"Here it is:\n{text}"
    if rng.random() < 0.4:
        text = f"<think>Say {json.dumps(record)}? Rather not.</think>\n{text}"
    return task_type, text


def test_ten_thousand_answers_cut_at_random_places() -> None:
    """None counts as whole, whether the server says that it was cut or says nothing."""
    rng = random.Random("cuts")
    for number in range(10_000):
        task_type, text = answers(rng)
        assert parse_record(task_type, text).problem is None, text
        end = text.rindex("}")  # behind it nothing of the answer is left to cut
        cut = text[: rng.randint(0, end)]
        assert parse_record(task_type, cut, finished=False).problem == "cut_off"
        parsed = parse_record(task_type, cut)
        assert parsed.problem is not None, (number, cut)
        assert not parsed.record, (number, cut)


@given(st.text("<>/think{}[]\"' a\\", max_size=80))
def test_thoughts_are_left_out_of_any_text(text: str) -> None:
    left = without_thoughts(text)
    assert left is None or len(left) <= len(text)
