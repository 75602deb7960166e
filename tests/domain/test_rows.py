"""Whole tables of outputs: read as each row would be alone, at any number of rows, and nothing is lost."""

from __future__ import annotations

import json
import random
import time
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.parsing import parse_record
from speed_assets.domain.rows import ask_until_valid, draw_tasks, drawn_topics, parse_outputs
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from tests.support.hostile import mutated, words


@pytest.mark.parametrize("task_type", sorted(TOPIC_TYPES))
def test_a_table_is_read_as_its_rows_are(task_type: str) -> None:
    rng = random.Random(f"rows {task_type}")
    raws = [mutated(task_type, rng, longest=250_000) for _ in range(1_000)]
    # A frame holds no lone surrogate: what writes it has replaced them.
    raws = [raw.encode("utf-8", "replace").decode() for raw in raws]
    started = time.process_time()
    read = parse_outputs(pl.DataFrame({"output": raws, "row_id": range(len(raws))}), task_type)
    assert time.process_time() - started < 30
    assert read["row_id"].to_list() == list(range(len(raws)))
    for raw, row in zip(raws, read.iter_rows(named=True), strict=True):
        alone = parse_record(task_type, raw)
        assert TASK_TYPES[task_type].triplet(alone.record) == {f: row[f] for f in ("query", "positive", "negative")}
        assert (row["problem"], row["valid"]) == (alone.problem, alone.problem is None)
    assert set(read["read_as"]) == {"typed", "json", "repaired", "unread"}
    assert read.filter(read_as="unread")["query"].null_count() == read.filter(read_as="unread").height


TYPED = {"user_query": "price of old oboes", "positive_document": "an invoice", "hard_negative_document": "Prestige"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"positive_document": "on the PRICE of old, oboes today"}, None),
        ({"positive_document": " price of old  oboes"}, "copied_query"),
        ({"positive_document": "prestige"}, "same_positive_negative"),
        ({"positive_document": "straße", "hard_negative_document": "STRASSE"}, "same_positive_negative"),
        ({"user_query": "   "}, "empty_value:user_query"),
        ({"user_query": "user_query"}, None),
    ],
)
def test_the_typed_way_sees_every_problem(changes: dict[str, str], problem: str | None) -> None:
    raw = json.dumps(TYPED | changes, ensure_ascii=False)
    assert parse_outputs(pl.DataFrame({"output": [raw]}), "retrieval")["problem"].to_list() == [problem]


def test_a_doubled_key_is_seen_even_in_escapes() -> None:
    for key in ('"user_query"', '"\\u0075ser_query"', '"user_quer\\u0079"'):
        raw = "{" + key + ': "x", ' + json.dumps(TYPED)[1:]
        assert parse_outputs(pl.DataFrame({"output": [raw]}), "retrieval")["problem"].to_list() == ["doubled_key"]


def test_an_empty_table_and_null_outputs() -> None:
    empty = parse_outputs(pl.DataFrame(schema={"output": pl.String}), "sts")
    assert (empty.height, empty.schema["valid"]) == (0, pl.Boolean)
    nulls = parse_outputs(pl.DataFrame({"output": [None, ""]}, schema={"output": pl.String}), "sts")
    assert nulls["problem"].to_list() == ["not_json", "not_json"]


def test_typed_rows_take_little_time() -> None:
    rng = random.Random(1)
    raws = [json.dumps({"input": words(rng, 40), "positive_document": words(rng, 40)}) for _ in range(500)] * 20
    started = time.process_time()
    read = parse_outputs(pl.DataFrame({"output": raws}), "matching_long")
    assert read["valid"].all()
    assert set(read["read_as"]) == {"typed"}
    assert time.process_time() - started < 1.5, "10,000 rows; a first trial took 0.1 s"


@given(st.sets(st.text("abcdef", min_size=1), min_size=1), st.integers(0, 40))
def test_rows_go_round_the_tasks_in_an_order_of_their_own(ids: set[str], rows: int) -> None:
    pairs = [(f"topic of {i}", i) for i in sorted(ids)]
    drawn = draw_tasks(pairs, rows, 1, "stage")
    assert len(drawn) == rows == len(set(drawn))
    assert drawn == draw_tasks(pairs[::-1], rows, 1, "stage")
    reworded = draw_tasks([(topic, task.upper()) for topic, task in pairs], rows, 1, "stage")
    assert [(task.upper(), draw) for task, draw in drawn] == reworded


@pytest.mark.parametrize("per_topic", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 20, 50, 400])
def test_the_topics_that_rows_will_be_about_are_known_before_their_tasks(per_topic: int, rows: int) -> None:
    topics = [f"t{number}" for number in range(50)]
    pairs = [(topic, f"{topic} {place}") for topic in topics for place in range(per_topic)]
    by_task = {task: topic for topic, task in pairs}
    about = drawn_topics(topics, per_topic, rows, 1, "stage")
    assert about == {by_task[task] for task, _ in draw_tasks(pairs, rows, 1, "stage")}
    left = [pair for pair in pairs if pair[0] in about]
    assert draw_tasks(left, rows, 1, "stage")[: len(left)] == draw_tasks(pairs, rows, 1, "stage")[: len(left)]
    more = drawn_topics([*topics, "one more"], per_topic, rows, 1, "stage")
    assert len(more - about - {"one more"}) == 0
    assert len(about - more) <= per_topic


def test_only_what_is_not_whole_is_asked_again_and_takes_its_own_place() -> None:
    asked: list[tuple[int, list[int]]] = []

    def ask(attempt: int, pending: pl.DataFrame) -> pl.DataFrame:
        """Row 1 is refused for good, row 2 is whole at the second attempt, row 3 never."""
        asked.append((attempt, pending["row"].to_list()))
        good = [row == 0 or (row == 2 and attempt == 1) for row in pending["row"]]
        problem = [
            None if ok else "teacher_refused" if row == 1 else "not_json"
            for ok, row in zip(good, pending["row"], strict=True)
        ]
        return pending.select("row").with_columns(
            output=pl.lit(f"attempt {attempt}"), valid=pl.Series(good), problem=pl.Series(problem, dtype=pl.String)
        )

    rows, again = ask_until_valid(pl.DataFrame({"row": range(4)}), 3, ask)
    assert asked == [(0, [0, 1, 2, 3]), (1, [2, 3]), (2, [3])]
    assert again == [{"rows": 2, "whole": 1}, {"rows": 1, "whole": 0}]
    assert rows["row"].to_list() == [0, 1, 2, 3]
    assert rows["output"].to_list() == ["attempt 0", "attempt 0", "attempt 1", "attempt 2"]
    assert ask_until_valid(pl.DataFrame({"row": [0]}), 1, ask)[1] == []


def problems(
    task_type: str, prompt: str, record: dict[str, str], task: str = "decide", topic: str = "bees"
) -> list[str | None]:
    row = {"output": [json.dumps(record)], "prompt": [prompt], "task": [task], "topic": [topic]}
    return parse_outputs(pl.DataFrame(row), task_type)["problem"].to_list()


FORM = 'Answer as JSON.\n- "S1": one thing that people know about {}.\n- "S2": the very same thing, said otherwise.\n- "S3": one more thing.'


def test_words_of_the_form_are_no_text() -> None:
    """Rows that a small model wrote, found among the rows that `make natural` kept."""
    echo = {
        "S1": "Bees dance to show where food is.",
        "S2": "The very same thing, said otherwise.",
        "S3": "Bees have five eyes.",
    }
    assert problems("sts", FORM.format("bees"), echo) == ["prompt_echo"]
    assert problems("sts", FORM.format("bees"), echo | {"S2": "S2: one more thing"}) == [None], (
        "three words may be chance"
    )
    assert problems("sts", FORM.format("bees"), echo | {"S2": "Food is shown by a dance."}) == [None]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One thing People Know About bees", "prompt_echo"),  # a word left out
        ("One thing that people know about bees, too", "prompt_echo"),  # a word put in at its end
        ("People know that bees dance.", None),
        ("One thing bees do in winter", None),
    ],
)
def test_nearly_the_words_of_the_form_are_no_text(text: str, found: str | None) -> None:
    """Rows that the same model wrote, and that the rule let through when every word had to agree."""
    record = {"S1": text, "S2": "Food is shown by a dance.", "S3": "Bees have five eyes."}
    assert problems("sts", FORM.format("bees"), record) == [found]


def test_a_passage_is_no_query_of_its_own() -> None:
    passage = "The old boiler heats three rooms."
    answers = [json.dumps({"user_query": text}) for text in ("The old  boiler heats three rooms.", "old boiler")]
    rows = parse_outputs(pl.DataFrame({"output": answers, "passage": [passage] * 2}), "grounded")
    assert rows["problem"].to_list() == ["copied_query", None]


def test_of_a_passage_a_copy_is_an_echo_and_a_rewording_is_not() -> None:
    passage = "the hive is kept warm by the bees that shiver in turn all winter"
    row = {"prompt": [f"Reword a sentence of: {passage}"], "task": ["reword"], "topic": ["bees"], "passage": [passage]}

    def problem_of(positive: str) -> str | None:
        record = {"S2": positive, "S3": "Bees fly out in spring."}
        read = parse_outputs(pl.DataFrame(row | {"output": [json.dumps(record)]}), "grounded_sts")
        return str(read["problem"][0]) if read["problem"][0] else None

    assert problem_of("the bees that shiver in turn") == "prompt_echo"
    assert problem_of("the hive is kept warm by the bees that shiver in turn the whole winter") is None


@pytest.mark.parametrize(
    ("positive", "negative", "found"),
    [
        ("1. Old bridges", "2. Old bridges", "same_positive_negative"),
        ("a) old bridges", "(2) Old bridges", "same_positive_negative"),
        ("Old bridges", "12) Old bridges", "same_positive_negative"),
        ("1. Old bridges", "2. New bridges", None),
        ("J. Smith wrote it.", "K. Smith wrote it.", None),
        ("2.5 million bridges", "3.5 million bridges", None),
        ("1945", "1946", None),
    ],
)
def test_entries_of_a_list_that_differ_in_their_number_alone_are_the_same(
    positive: str, negative: str, found: str | None
) -> None:
    record = {"S1": "What spans a river", "S2": positive, "S3": negative}
    assert problems("sts", "Write three texts.", record) == [found]


def test_texts_may_have_words_of_task_and_topic() -> None:
    topic = "the honey bees of europe"
    record = {"S1": "The honey bees of Europe.", "S2": "European honey bees.", "S3": "Bees of Asia."}
    assert problems("sts", FORM.format(topic), record, task=topic, topic=topic) == [None]
    labels = {
        "input_text": "My card is gone.",
        "label": "lost or stolen bank card",
        "misleading_label": "a card that is late",
    }
    prompt = "Sort into: lost or stolen bank card, a card that is late, a card that does not work."
    assert problems("classification", prompt, labels, task="sort") == [None], "the prompt may name the labels"
    assert problems("classification", prompt, labels | {"input_text": "a card that does not work"}, task="sort") == [
        "prompt_echo"
    ]


@given(st.text("ab ,.", max_size=40), st.text("ab ,.", max_size=20))
def test_every_long_part_of_a_prompt_is_an_echo(prompt: str, text: str) -> None:
    folded = " ".join(prompt.replace(",", " ").replace(".", " ").split())
    own = " ".join(text.replace(",", " ").replace(".", " ").split())
    found = problems("sts", prompt, {"S1": text or "x", "S2": "c d", "S3": "e f"}, task="z", topic="z")
    if found != [None] and found != ["prompt_echo"]:
        return  # an empty or doubled text is another problem
    stands = len(own.split()) >= 4 and f" {own} " in f" {folded} "
    assert found == ["prompt_echo"] or not stands
    pairs = list(pairwise(own.split()))
    strange = [pair for pair in pairs if f" {' '.join(pair)} " not in f" {folded} "]
    assert (found == ["prompt_echo"]) == (len(own.split()) >= 4 and len(strange) <= 0.2 * len(pairs))
