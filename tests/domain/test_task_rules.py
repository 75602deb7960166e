"""Rules on brainstormed tasks: what could stand above examples passes, what could not has a code."""

from __future__ import annotations

import pytest

from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.task_rules import TASK_RULE_CODES, broken_task_rule
from tests.domain.task_examples import BAD, GOOD


def asked(task_type: str, topic: str) -> str:
    return PromptSet.load("full").brainstorm(task_type, topic, 2)


def found(examples: tuple[tuple[str, str, str], ...]) -> list[str | None]:
    return [broken_task_rule(task, topic, kind, asked(kind, topic)) for kind, topic, task in examples]


def test_there_are_sixty_different_ones_of_each() -> None:
    assert len({task for *_, task in GOOD}) == len({task for *_, task in BAD}) == 60


@pytest.mark.parametrize("half", [0, 1], ids=["chosen on", "reported"])
def test_good_tasks_pass_and_bad_ones_have_a_code(half: int) -> None:
    good, bad = found(GOOD[half::2]), found(BAD[half::2])
    passed = [task for (*_, task), code in zip(BAD[half::2], bad, strict=True) if code is None]
    refused = [(task, code) for (*_, task), code in zip(GOOD[half::2], good, strict=True) if code]
    assert len(refused) <= half, refused
    assert len(passed) <= half, passed
    assert {*bad} - {None} <= {*TASK_RULE_CODES}


@pytest.mark.parametrize(
    ("task", "code"),
    [
        ("Identify the type(s) of artwork '", "fragment"),
        ("Given a long text about naps, find a text that explains the topic of", "fragment"),
        ("Given a short text, find a text that describes the chemistry behind it. The text is", "fragment"),
        ("Invent Task 1:", "too_short"),
        ("Title: Science/Chemistry/Crystals Description: What classification does the topic refer to?", "heading"),
        ("What is the goal of this task? Is it to list science-fiction?", "prompt_echo"),
        ("Understand the structure of生物学 descriptions", "other_script"),
        ("1.swfswaprapsandjavajImagineinreal-zmJn", "noise"),
        ("write document", "too_short"),
        ("Klassifiziere die Nachrichten der Kunden nach ihrem Anliegen", "other_language"),
        ("Write a 500-word essay about the history of malls.", "asks_to_write"),
        ("Tennis players and their rankings", "no_instruction"),
    ],
)
def test_the_code_says_what_is_wrong(task: str, code: str) -> None:
    assert broken_task_rule(task, "Science/Chemistry/Crystals", "classification") == code


def test_of_sts_only_characters_are_asked_for_its_task_is_a_topic() -> None:
    assert broken_task_rule("Arts/Music/Oboes", "Arts/Music/Oboes", "sts") is None
    assert broken_task_rule("LIFAddingAscendablassamSearchVBA", "Arts/Music/Oboes", "sts") == "noise"


def test_a_task_that_the_prompt_shows_is_an_echo_and_words_of_the_topic_are_none() -> None:
    task = "Given a question about a drug, retrieve passages that name its side effects."
    assert broken_task_rule(task, "Health", "retrieval", f"For example: {task}\nTopic: Health") == "prompt_echo"
    topic = "Society/Law/Services for tenants who look for a lawyer in a large city"
    task = "Find law services for tenants who look for a lawyer in a large city"
    assert broken_task_rule(task, topic, "retrieval", f"Topic: {topic}") is None


def test_a_task_of_the_other_kind_is_reported() -> None:
    assert broken_task_rule("Classify reviews of hotels by sentiment", "Travel", "retrieval") == "other_kind"
    assert broken_task_rule("Retrieve reviews of hotels near the sea", "Travel", "classification") == "other_kind"
