"""Model text is hostile: any of it is parsed into a record, a named problem, or both; never a crash."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_assets.domain import answers
from speed_assets.domain.answers import UNREADABLE
from speed_assets.domain.parsing import (
    Verdict,
    parse_record,
    parse_revision,
    parse_tasks,
    parse_verdict,
)
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES

RETRIEVAL = {"user_query": "price of oboes", "positive_document": "an invoice", "hard_negative_document": "prestige"}
ANYTHING = st.one_of(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*RETRIEVAL, "x"]), inner),
    ).map(json.dumps),
)


@settings(max_examples=300)
@given(ANYTHING, st.sampled_from(sorted(TOPIC_TYPES)))
def test_no_text_breaks_a_parser(raw: str, task_type: str) -> None:
    parsed = parse_record(task_type, raw)
    assert set(parsed.record) <= set(TASK_TYPES[task_type].keys)
    assert all(isinstance(v, str) and v.strip() for v in parsed.record.values())
    assert parsed.problem is not None or set(parsed.record) == set(TASK_TYPES[task_type].keys)
    parse_revision(task_type, raw)
    parse_verdict(raw, 3)
    tasks = parse_tasks(raw, 2)
    assert tasks in UNREADABLE if isinstance(tasks, str) else len(tasks) <= 2


MARKUP = st.sampled_from(
    [*"{}[]\"'`,:\\/#(\n\x00\ud800\u202e", "```json", "null", "1e999", "user_query", '{"revision":', "S1"]
)


@settings(max_examples=300)
@given(st.lists(MARKUP, max_size=60).map("".join), st.sampled_from(sorted(TOPIC_TYPES)))
def test_no_heap_of_markup_breaks_a_parser(raw: str, task_type: str) -> None:
    for text in (*parse_record(task_type, raw).record.values(), *parse_revision(task_type, raw).changes.values()):
        assert text.isprintable() or "\n" in text or "\u202e" in text
        text.encode()
    assert isinstance(parse_verdict(raw, 3), Verdict | str)
    parse_tasks(raw, 3)


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30))
def test_a_dumped_record_comes_back(text: str) -> None:
    record = {"user_query": "q", "positive_document": f"p {text}", "hard_negative_document": f"n {text}"}
    parsed = parse_record("retrieval", json.dumps(record))
    assert (parsed.record, parsed.problem) == (record, None)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (json.dumps(RETRIEVAL), None),
        ("```json\n" + json.dumps(RETRIEVAL) + "\n```", None),
        ("Sure! Here it is: " + json.dumps(RETRIEVAL), None),
        (json.dumps({k: v for k, v in RETRIEVAL.items() if k != "user_query"}), "missing_key:user_query"),
        (json.dumps(RETRIEVAL | {"user_query": "  "}), "empty_value:user_query"),
        (json.dumps(RETRIEVAL | {"user_query": None}), "wrong_type:user_query"),
        (json.dumps(RETRIEVAL | {"user_query": ["a"]}), "wrong_type:user_query"),
        (json.dumps(RETRIEVAL | {"more": "x"}), "unknown_key"),
        ('{"user_query": "x", ' + json.dumps(RETRIEVAL)[1:], "doubled_key"),
        (json.dumps(RETRIEVAL | {"positive_document": "prestige"}), "same_positive_negative"),
        (json.dumps(RETRIEVAL | {"positive_document": "price of  oboes"}), "copied_query"),
        (json.dumps(RETRIEVAL | {"positive_document": "Price of OBOES!"}), None),
        (json.dumps({"example": RETRIEVAL}), None),
        (json.dumps([RETRIEVAL]), None),
        ("I cannot help with that.", "not_json"),
        ("[1, 2]", "not_object"),
        ("", "not_json"),
        ("x" * 300_000, "too_long"),
    ],
)
def test_problems_have_names(raw: str, problem: str | None) -> None:
    assert parse_record("retrieval", raw).problem == problem


@pytest.mark.parametrize("unit", ["[", '{"a":', "\\u0000\ud800", '"'])
def test_time_is_linear_in_the_characters_of_a_hostile_text(unit: str) -> None:
    sizes = (6_000, 96_000)
    best = dict.fromkeys(sizes, float("inf"))
    for _ in range(5):  # in turns, so that a busy machine slows both
        for size in sizes:
            raw = ('{"user_query": "' + unit * size)[:size] if unit.startswith("\\") else (unit * size)[:size]
            started = time.process_time()
            assert parse_record("retrieval", raw).problem
            best[size] = min(best[size], time.process_time() - started)
    # 16 times the characters: n log n takes 22 times as long, n ** 1.5 takes 64 times, n ** 2 takes 256 times.
    assert best[96_000] < 40 * best[6_000] + 0.05


@pytest.mark.parametrize(
    "unit", ["{a:", '{"', "{'", "[{", "1'", "```", '"a" ', '{"a":[', "'a' 'b ", "*/", "\u0300\u0323"]
)
def test_repair_is_tried_only_where_it_is_cheap(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repaired: list[str] = []
    repair = answers._repaired

    def spy(text: str) -> Any:
        repaired.append(text)
        return repair(text)

    monkeypatch.setattr(answers, "_repaired", spy)
    for size in (19_000, 190_000):
        for raw in (
            '{"user_query": "' + unit * (size // len(unit)),
            '{"user_query": "' + unit * 16 + "x y " * (size // 4),
        ):
            parse_record("retrieval", raw[:size])
    for text in repaired:
        assert len(text) <= answers.MAX_REPAIRED
        assert text.count("{") + text.count("[") <= answers.MAX_REPAIR_BRACKETS
        assert len(text) * len(re.findall(r"[^\w\s.]", text)) <= answers.MAX_REPAIR_WORK


@pytest.mark.parametrize(
    ("raw", "problem", "keys"),
    [
        ('{"user_query": "a", "positive_document": "b", "hard_negative_document": "c",}', None, 3),
        ("{'user_query': 'a', 'positive_document': 'b', 'hard_negative_document': 'c'}", None, 3),
        ('{"user_query": "a", "positive_document": "b\nb", "hard_negative_document": "c"}', None, 3),
        ('{"user_query": "a", "positive_document": "b", "hard_negative_document": "c"', None, 3),
        ('{"user_query": "a", "positive_document": "b", "hard_negative_document": "c and', "cut_off", 0),
        ("{a, b} is a set", "not_json", 0),
    ],
)
def test_slips_of_a_finished_answer_are_repaired(raw: str, problem: str | None, keys: int) -> None:
    parsed = parse_record("retrieval", raw, finished=True)
    assert (parsed.problem, len(parsed.record)) == (problem, keys)
    assert parsed.repaired == bool(keys)
    assert parsed.unparseable == (not keys)


def test_values_are_cleaned() -> None:
    text = "\x00a\x1b\ud800 b\r\nc "
    raw = json.dumps({"input": text, "positive_document": "\u200b\u202e"})
    parsed = parse_record("matching_short", raw)
    assert (parsed.record, parsed.problem) == ({"input": "a b\nc"}, "empty_value:positive_document")
    assert not parsed.unparseable


def test_labels_may_differ_by_punctuation_alone() -> None:
    raw = json.dumps({"input_text": "templates and classes", "label": "C++", "misleading_label": "C"})
    assert parse_record("classification", raw).problem is None


def test_a_query_may_stand_in_its_positive() -> None:
    """That is a rule's business (`rules.py`): many a guide begins with the question that it answers."""
    raw = json.dumps(RETRIEVAL | {"positive_document": "This guide names the price of oboes."})
    assert parse_record("retrieval", raw).problem is None


def test_text_is_never_evaluated() -> None:
    assert parse_record("sts", "__import__('os').abort()").record == {}


def test_verdicts() -> None:
    assert parse_verdict('{"reason": "r", "best": 2, "worst": 1}', 2) == Verdict(1, 0, "r")
    for raw in ('{"best": 3, "worst": 1}', '{"best": 1, "worst": 1}', '{"best": 0, "worst": 1}', "none", '{"best": 1}'):
        assert isinstance(parse_verdict(raw, 2), str)


def test_revisions() -> None:
    assert parse_revision("retrieval", '{"reason": "fine", "revision": null}').changes == {}
    patch = parse_revision("retrieval", '{"reason": "r", "revision": {"user_query": "new", "x": 1}}')
    assert patch.changes == {"user_query": "new"}
    assert parse_revision("retrieval", "rubbish").problem
    for raw, problem in (
        ('{"reason": "r"}', "missing_key:revision"),
        ('{"foo": 1}', "missing_key:revision"),
        (f"The draft {json.dumps(RETRIEVAL)} is bad.", "missing_key:revision"),
        ('{"reason": "the query is wrong", "revision": {}}', "empty_revision"),
        ('{"revision": "null"}', None),
        ('{"reason": "<what is wrong, or that nothing is>", "revision": null}', "template_echo"),
        ('{"revision": {"user_query": null}}', None),
        ('{"revision": "x"}', "wrong_type:revision"),
    ):
        assert (parse_revision("retrieval", raw).changes, parse_revision("retrieval", raw).problem) == ({}, problem)
    for raw in (
        json.dumps({"reason": "r", "revision": RETRIEVAL}),
        json.dumps({"reason": "r"} | RETRIEVAL),  # a patch at the top level
        json.dumps({"reason": "r", "revision": None} | RETRIEVAL),
    ):
        whole = parse_revision("retrieval", raw)
        assert (whole.changes, whole.problem, whole.reason) == (RETRIEVAL, None, "r")


def test_tasks() -> None:
    assert parse_tasks('{"tasks": ["Find a text."], "notes": ["short"]}', 3) == ("Find a text.",)
    assert parse_tasks('["a", "b", "a", "c"]', 2) == ("a", "b")
    assert parse_tasks('{"tasks": ["a"]}', 2) == ("a",)
    assert parse_tasks("no list", 2) == "not_json"
