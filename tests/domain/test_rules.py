"""Rules on single rows: each catches what it is for, and none catches rows that are right."""

from __future__ import annotations

import random

import polars as pl
import pytest

from speed_assets.domain.rules import RULE_CODES, RULES_ACROSS_ROWS, first_broken_rules
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.microworld.toy_records import read_task, write_record, write_task
from tests.support.planted_rows import PLANTED

RIGHT = {
    "row_id": "r",
    "task_type": "retrieval",
    "topic": "Arts/Music/Oboes",
    "task": "find repair shops for old oboes",
    "query": "who can fix the keys of my old oboe",
    "positive": "Our workshop restores woodwinds, replaces worn pads and adjusts bent keys within two weeks.",
    "negative": "An oboe from the last century may be worth more than one that was made this year.",
}
DOCUMENT = RIGHT["positive"]
GERMAN = (
    "Unsere Werkstatt restauriert Holzblasinstrumente, ersetzt abgenutzte Polster und richtet verbogene Klappen "
    "binnen zwei Wochen, auch bei sehr alten Instrumenten aus privaten Sammlungen."
)


LABELLED = {"task_type": "classification", "query": "My oboe needs new pads.", "positive": "repair", "negative": "sale"}
FORM = {"task_type": "classification", "positive": "battery", "negative": "screen"}
STEPS = "Heat the oven and line a tray with paper. Spread the vegetables in one layer, add oil and salt, and turn them once."
OPTIONS = {"label_too_long": {"label_words_max": 3}, "topic_not_named": {"topic_words_min": 1.0}}


def broken(*changes: dict[str, str | None], **options: object) -> list[tuple[str | None, str | None]]:
    rows = pl.DataFrame([RIGHT | change for change in changes], schema=dict.fromkeys(RIGHT, pl.String))
    settings = {"language_confidence": 0.98, "other_script_max": 0.3} | options
    return first_broken_rules(rows, **settings).rows()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "field", "change"),
    [
        ("refusal", "positive", {"positive": "I'm sorry, but I can't help with writing this document."}),
        ("refusal", "query", {"query": "I cannot provide an example for this task"}),
        ("refusal", "query", {"query": "I'm not able to create this query."}),
        ("refusal", "query", {"query": "I'm afraid I can't generate such a text."}),
        ("markup", "positive", {"positive": f"## Restoring oboes\n{DOCUMENT}"}),
        ("markup", "positive", {"positive": f"{DOCUMENT} See [our price list](https://example.com/prices)."}),
        ("markup", "positive", {"positive": f"| part | price |\n|---|---|\n| pad | 4 |\n{DOCUMENT}"}),
        ("markup", "positive", {"positive": f"* **Pads**: {DOCUMENT}"}),
        ("refusal", "negative", {"negative": "Unfortunately, I am unable to generate the text. Ask again."}),
        ("as_an_ai", "positive", {"positive": f"{DOCUMENT} As an AI language model, I have no oboe."}),
        ("template_echo", "query", {"query": "user_query: oboe repair"}),
        ("template_echo", "query", {"query": "S1"}),
        ("template_echo", "query", {"query": "S1 is known for its reefs."}),
        ("template_echo", "query", {"query": "3. S3 is known for its reefs."}),
        ("template_echo", "query", {"query": "a short sentence"}),
        ("template_echo", "query", {"query": "This is a [TASK] to [ACTION]"}),
        ("template_echo", "query", {"query": "from [task1] to [task2] by tram"}),
        ("as_an_ai", "query", {"query": "I'm a helpful AI, and I can help with a wide range of tasks."}),
        ("template_echo", "negative", {"negative": "This is a [TASK_RESULT], and it is long."}),
        ("template_echo", "positive", LABELLED | {"positive": "Right class of the text"}),
        ("template_echo", "positive", {"positive": "old_bridges_damaged_by_recent_construction_document"}),
        ("same_positive_negative", "negative", {"positive": f"1. {DOCUMENT}", "negative": f"2. {DOCUMENT}"}),
        ("template_echo", "positive", {"positive": f"{DOCUMENT} Yours, [Your Name]"}),
        ("template_echo", "negative", {"negative": "A document on {topic} that does not answer."}),
        ("task_echo", "query", {"query": "Find repair shops for old oboes"}),
        ("other_script", "positive", {"positive": "Наша мастерская чинит старые гобои"}),
        ("other_language", "positive", {"positive": GERMAN}),
        (
            "label_in_text",
            "query",
            {"task_type": "classification", "query": "This text is about: Repair-work.", "positive": "repair work"},
        ),
        ("query_in_negative", "negative", {"negative": f"They ask: Who can fix the keys of my OLD oboe? {DOCUMENT}"}),
        ("same_query_negative", "negative", {"query": "oboe", "negative": "Oboe!"}),
        ("label_too_long", "negative", LABELLED | {"negative": "the player who asks for other reeds"}),
        ("topic_not_named", "query", {"topic": "Arts/Music/Old_Óboes", "query": "who can fix the keys of an oboe"}),
        ("topic_not_named", "positive", {"topic": "Arts/Music/Oboe", "positive": "We restore woodwinds, oboes too."}),
        ("same_positive_negative", "negative", LABELLED | {"negative": "Repair."}),
        ("template_echo", "positive", LABELLED | {"positive": "Label: repair"}),
        ("template_echo", "query", {"query": "S1: who can fix an oboe"}),
        ("template_echo", "positive", {"positive": f"**Document:** {DOCUMENT}"}),
        ("template_echo", "query", LABELLED | {"query": "Text to be classified"}),
        ("about_the_document", "query", {"query": "Sure! Here is a query: who can fix an oboe"}),
        ("about_the_document", "positive", {"positive": f"Certainly! Here's a text on oboes: {DOCUMENT}"}),
        ("about_the_document", "negative", {"negative": "The document describes how an oboe is tuned."}),
        ("repetition", "positive", {"positive": "An oboe is a fine thing. " * 4, "negative": "a reed"}),
        ("repetition", "negative", {"negative": f"{DOCUMENT} And then" + " we play and we play on" * 5 + "."}),
        ("repetition", "query", {"query": "how how how how how"}),
        ("repetition", "positive", {"positive": "The oboe is old. Its keys are new. " * 3, "negative": "a reed"}),
        ("noise", "query", {"query": "48 65 6c 6c 6f 20 77 6f 72 6c 64"}),
        ("noise", "query", {"query": "3f786850e387550fdab836ed7e6dc881de23001b"}),
        ("noise", "query", {"query": "caf\u00c3\u00a9 cr\u00c3\u00a8me near me"}),
        ("noise", "positive", {"positive": DOCUMENT.replace("e", "\u00c3\u00a9"), "negative": "a reed"}),
        ("personal_data", "negative", {"negative": "My number is 212-800-1234, or +61 2 8001 2345."}),
        ("unfinished", "positive", {"positive": f"{STEPS} Bake at 230 °C for"}),
        ("same_positive_negative", "negative", {"negative": DOCUMENT.upper().replace(",", ";")}),
    ],
)
def test_each_rule_catches_what_it_is_for(code: str, field: str, change: dict[str, str]) -> None:
    options = OPTIONS.get(code, {})
    right = {"topic": "A/Oboe", "positive": f"An oboe? {DOCUMENT}"}
    assert broken(right, change, right, **options) == [(None, None), (code, field), (None, None)]
    assert broken(change, skip=(code,), **options)[0][0] != code


@pytest.mark.parametrize(
    "change",
    [
        {"positive": "I'm sorry for the delay; the pads will come on Monday. We cannot thank you enough."},
        {"positive": "As an AI lab, it studies instruments. The model is used in a library of tools."},
        {"positive": "Use <input> and list[int] for the keys, and write {name} where it matters to you."},
        {"positive": "Café Zürich, naïve façade \u2013 “très bien”, αβγ: the keys of an oboe in 5 °C."},
        {"query": "an oboe, it\u00e2\u20ac\u2122s old and very, very, very dear"},
        {"positive": f"The commit 3f786850e387550fdab836ed7e6dc881de23001b describes it. {DOCUMENT}"},
        {"positive": f"NÃO, SÃO PAULO: the address of the shop is 00:1a:2b:3c:4d:5e. {DOCUMENT}"},
        {"negative": None},
        {"task_type": "classification", "positive": "C++", "negative": "C", "query": "the compiler is slow today"},
        {"query": "oboe keys", "negative": "On oboe keys, and on what an oboe costs."},
    ],
)
def test_what_is_right_passes(change: dict[str, str | None]) -> None:
    assert broken(change) == [(None, None)]


def test_lengths_are_those_the_prompt_asked_for() -> None:
    this, that = (" ".join(f"{word} {place}" for place in range(31)) for word in ("this", "that"))
    rows = [{"row_id": f"r{i}", "positive": this, "negative": that} for i in range(40)]
    found = broken(*rows, length_tolerance=0.5)
    assert {why for why, _ in found} >= {None, "too_short"}
    again = broken(*reversed(rows), length_tolerance=0.5)
    assert again == found[::-1], "the length asked for belongs to the row"
    assert broken(*rows) == [(None, None)] * 40
    assert broken(*rows, length_tolerance=0.5, skip=("too_short", "too_long")) == [(None, None)] * 40


def test_a_document_may_be_longer_than_the_fewest_words_asked_for() -> None:
    this, that = (" ".join(f"{word} {place}" for place in range(600)) for word in ("this", "that"))
    rows = [{"row_id": f"r{i}", "positive": this, "negative": that} for i in range(40)]
    assert {found for found in broken(*rows, length_tolerance=0.5) if found[1] != "query"} == {(None, None)}


def test_all_rules_may_be_left_out() -> None:
    assert broken({"query": "Find repair shops for old oboes"}, {}, skip=RULE_CODES) == [(None, None)] * 2


def test_no_rule_catches_right_rows_of_the_microworld() -> None:
    rng = random.Random(4)
    rows = []
    for i in range(2_000):
        for task_type in TOPIC_TYPES:
            task = write_task(
                task_type, rng.choice(["chamber music", "garden tools", "the law", "history of jazz"]), rng
            )
            record = write_record(task_type, read_task(task_type, task), rng)
            rows.append(
                {"row_id": f"{i}", "task_type": task_type, "task": task, **TASK_TYPES[task_type].triplet(record)}
            )
    found = first_broken_rules(pl.DataFrame(rows), other_script_max=0.3)
    assert found["reason"].null_count() >= 0.999 * len(rows)


def test_hostile_text_is_only_text() -> None:
    odd = {"query": "(((" * 1000, "positive": "\\p{" * 1000, "negative": "\u202e\u0301" * 1000}
    assert broken(odd)[0][0] in (None, *RULE_CODES)


@pytest.mark.parametrize("rule", sorted(PLANTED))
def test_planted_rows_are_found(rule: str) -> None:
    rows = pl.DataFrame(
        [{"row_id": f"{number:04d}", **row} for number, row in enumerate(PLANTED[rule])], infer_schema_length=None
    )
    others = {*RULES_ACROSS_ROWS} - {rule}
    found = first_broken_rules(rows, skip=tuple(others), language_confidence=0.98, other_script_max=0.3)["reason"]
    if "right" in rows.columns:
        found = found.filter(~rows["right"])
    assert found.count() >= 0.9 * len(found)


@pytest.mark.parametrize(
    "change",
    [
        {"query": "Unfortunately I cannot complete my order because the payment page will not load on my phone."},
        {"query": "I can't create an account with my work address, the form says that it is taken."},
        {"query": "I cannot write to the disk any more since the update of last night."},
        {"query": "I'm sorry, but I can't help noticing that the soup was cold."},
        {"query": "lorem ipsum meaning"},
        {"positive": 'The sound of a chatbot that says "As an AI language model, I cannot feel" is flat.'},
        {"task_type": "classification", "query": "There is no hurry", "positive": "no", "negative": "yes"},
        {"task_type": "classification", "query": "A 54-year-old man fell", "positive": "A", "negative": "B"},
        {"task_type": "classification", "query": "tell me whats on my shopping list", "positive": "shopping list"},
        {"query": "how to tune a violin", "positive": "This guide explains how to tune a violin with the pegs."},
        {"positive": "Write to info@example.com or call 555-0123 for the keys of an oboe."},
        {"positive": f"{STEPS} Bake at 230 °C for 40 minutes"},
        {"positive": f"{STEPS} Season to taste and serve with rice"},
        {"positive": f"{STEPS} Thanks and best wishes"},
        {"positive": "Questions about the keys? Call 1-800-356-9377, or 0800 1234567 from Leeds."},
        {"positive": "From abroad dial +49 800 1234567 or +1 (888) 356-9377, at the cost of a local call."},
        {"positive": "The document describes the founding of the abbey. It was sealed by the bishop in 1124."},
        {"positive": "The text describes a flood. It stands on eleven clay tablets, most of which are in London."},
        {"positive": "The document outlines the rights of the barons. King John put his seal under the charter."},
        FORM | {"query": "Battery: swollen"},
        FORM | {"query": "Problem: battery"},
        FORM | {"query": "Battery - swollen since May"},
        FORM | {"query": "Battery: swollen; screen: cracked; buttons: all of them work as they did when it was new"},
        {"query": "omg soooo funnyyyy hahahaha lmao yessss", "positive": "lol idk tbh kinda wanna go home now, smh"},
        {"query": "ʿAbd al-Raḥmān al-Ṣūfī and the fixed stars"},
        {"positive": "Sure, an oboe can be mended. Okay, here is what to do: take it to a workshop in town."},
        {"positive": "Input: 230 V at 50 Hz. Output: 12 V, as the label on the back of the case says it."},
        {"positive": "Holy, holy, holy, Lord God of hosts. Heaven and earth are full of your glory. Hosanna."},
        FORM | {"query": "Which language is it?", "positive": "C", "negative": "C++"},
        FORM | {"query": "Which mark did she get?", "positive": "A-", "negative": "A"},
        FORM | {"query": "send a note to my sister", "positive": "text", "negative": "none"},
    ],
)
def test_rows_about_such_things_pass(change: dict[str, str | None]) -> None:
    assert broken(change) == [(None, None)]


@pytest.mark.parametrize("text", ["." * 40, "? ! " * 20])
def test_a_text_of_marks_alone_is_rejected_at_once(text: str) -> None:
    assert broken({"positive": text}, skip=("other_language", "noise", "template_echo")) == [("repetition", "positive")]
    assert broken({"positive": text})[0][0] is not None
