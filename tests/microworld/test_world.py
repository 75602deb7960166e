"""The microworld: what its writers write is read back, and its teacher knows what is true."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.parsing import Verdict, parse_record, parse_revision, parse_tasks, parse_verdict
from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.microworld import toy_language as lang
from speed_assets.microworld.simulated_teacher import MicroworldTeacher
from speed_assets.microworld.toy_records import (
    TaskRequest,
    read_task,
    record_as_json,
    truth_of_record,
    with_one_fault,
    write_record,
    write_task,
)

PROMPTS = PromptSet.load("compact")
TOPICS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=40).map(
    lambda text: lang.topic_phrase("x " + text.replace("/", " "))
)
TYPES = st.sampled_from(sorted(TOPIC_TYPES))


def test_every_cue_has_one_aspect_and_no_template_holds_one() -> None:
    cues = [cue for table in (lang.QUERY_CUES, lang.DOCUMENT_CUES) for group in table.values() for cue in group]
    assert len(cues) == len(set(cues)) == 288
    assert not set(cues) & set(lang.ASPECTS)


@given(TOPICS, st.sampled_from(lang.ASPECTS), st.integers(0, 999))
def test_what_is_written_is_read_back(topic: str, aspect: str, seed: int) -> None:
    rng = random.Random(seed)
    for write in (lang.write_query, lang.write_document, lang.write_short):
        reading = lang.read_text(write(topic, aspect, rng), topic)
        assert reading.on_topic
        assert reading.aspect == aspect


@given(TYPES, TOPICS, st.integers(0, 9999))
def test_written_records_are_right_and_spoiled_ones_are_not(task_type: str, topic: str, seed: int) -> None:
    rng = random.Random(seed)
    task = write_task(task_type, topic, rng)
    asked = read_task(task_type, task)
    if asked.topic != topic:  # a topic like "cost of x" reads as a task of its own
        return
    record = write_record(task_type, asked, rng)
    assert truth_of_record(task_type, task, record).all_right
    spoiled = with_one_fault(task_type, asked, record, rng)
    if spoiled != record:
        truth = truth_of_record(task_type, task, spoiled)
        assert not truth.all_right or parse_record(task_type, record_as_json(spoiled)).problem


@pytest.mark.parametrize("task_type", TOPIC_TYPES)
def test_the_teacher_answers_from_the_prompt_alone(task_type: str) -> None:
    teacher = MicroworldTeacher()
    task = "oboes"
    if TASK_TYPES[task_type].has_brainstorm:
        (task,) = parse_tasks(teacher.answer(PROMPTS.brainstorm(task_type, "Arts/Music/Oboes", 1), "k"), 1)
    raw = teacher.answer(PROMPTS.synthesis(task_type, task, draw_attributes(task_type, 3)), "k")
    record = parse_record(task_type, raw).record
    assert truth_of_record(task_type, task, record).all_right
    assert teacher.answer(PROMPTS.synthesis(task_type, task, draw_attributes(task_type, 3)), "k") == raw
    worse = record_as_json(with_one_fault(task_type, read_task(task_type, task), record, random.Random(2)))
    for candidates, best in (([raw, worse], 0), ([worse, raw], 1)):
        verdict = parse_verdict(teacher.answer(PROMPTS.judge(task_type, task, candidates), "k"), 2)
        assert isinstance(verdict, Verdict)
        assert verdict.best == best
    assert parse_revision(task_type, teacher.answer(PROMPTS.revise(task_type, task, raw), "k")).changes == {}
    patch = parse_revision(task_type, teacher.answer(PROMPTS.revise(task_type, task, worse), "k")).changes
    mended = parse_record(task_type, json.dumps(json.loads(worse) | patch)).record
    assert truth_of_record(task_type, task, mended).all_right


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_error_rates_are_what_they_say(rate: float) -> None:
    teacher = MicroworldTeacher(write=rate)
    prompt = PROMPTS.synthesis("retrieval", "cost of oboes", draw_attributes("retrieval", 1))
    answers = [teacher.answer(prompt, str(i)) for i in range(600)]
    wrong = sum(
        not truth_of_record("retrieval", "cost of oboes", parse_record("retrieval", a).record).all_right
        for a in answers
    )
    assert wrong / 600 == pytest.approx(rate, abs=0.06)


def test_among_equals_the_judge_leans_on_the_place() -> None:
    teacher = MicroworldTeacher()
    asked = TaskRequest("oboes", ("cost",))
    equal = [record_as_json(write_record("retrieval", asked, random.Random(i))) for i in range(2)]
    verdicts = [
        parse_verdict(teacher.answer(PROMPTS.judge("retrieval", "cost of oboes", order), "k"), 2)
        for order in (equal, equal[::-1])
    ]
    assert all(isinstance(v, Verdict) and v.best == 0 for v in verdicts)
