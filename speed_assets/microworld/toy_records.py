"""Records of the five task types in the microworld: right ones, faulty ones, and which parts of one are right.

A task names its aspect: `cost of violins` asks for one aspect of a topic, `cost or worth of violins`
(classification) for either of two siblings, a bare topic (STS) for any aspect.

Belongs here: what is right. Not here: answers to prompts (`simulated_teacher.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.microworld import toy_language as lang

FLAWS = ("wrong_aspect", "easy_negative", "copied_query", "missing_field", "too_short", "off_topic")
"""Faults that real generators show too, planted by an erring teacher and learned by the junior from it."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The content of a task: the topic phrase, and the aspects that query and positive may have."""

    topic: str
    aspects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """Which parts of a row are right. For task types without negatives `negative_right` is true."""

    valid: bool
    on_topic: bool
    positive_right: bool
    negative_right: bool

    @property
    def all_right(self) -> bool:
        """Whether every part of the row is right."""
        return self.valid and self.on_topic and self.positive_right and self.negative_right


NOTHING_RIGHT = Truth(False, False, False, False)


def write_task(task_type: str, topic: str, rng: random.Random) -> str:
    """A task of this type on a topic phrase."""
    if task_type == "sts":
        return topic
    aspect = rng.choice(lang.ASPECTS)
    if task_type == "classification":
        pair = [aspect, lang.SIBLING[aspect]]
        rng.shuffle(pair)
        return f"{pair[0]} or {pair[1]} of {topic}"
    return f"{aspect} of {topic}"


def read_task(task_type: str, task: str) -> TaskRequest:
    """What a task asks for. A task in other words than `write_task`'s asks for any aspect of itself."""
    if task_type != "sts" and " of " in task:
        head, topic = task.split(" of ", 1)
        aspects = tuple(part for part in head.split(" or "))
        if all(aspect in lang.SIBLING for aspect in aspects):
            return TaskRequest(topic, aspects)
    return TaskRequest(task, lang.ASPECTS)


def write_record(task_type: str, asked: TaskRequest, rng: random.Random, long: bool | None = None) -> dict[str, str]:
    """A record that is entirely right.

    Args:
        task_type: Of the row.
        asked: What its task asks for.
        rng: Draws the aspect among those asked for, and the texts.
        long: Whether texts that may have either length are long; None draws it for each text.

    Returns:
        Texts under the keys of model output.
    """
    aspect = rng.choice(asked.aspects)
    return {
        key: _write_field(task_type, field, asked.topic, aspect, rng, long)
        for key, field in zip(TASK_TYPES[task_type].keys, ("query", "positive", "negative"), strict=False)
    }


def _write_field(task_type: str, field: str, topic: str, aspect: str, rng: random.Random, long: bool | None) -> str:
    sibling = lang.SIBLING[aspect]
    if task_type == "classification":
        if field == "query":
            return lang.write_document(topic, aspect, rng, long)
        return aspect if field == "positive" else sibling
    if task_type == "sts":
        return lang.write_document(topic, sibling if field == "negative" else aspect, rng, long=False)
    if task_type == "matching_short":
        return (
            lang.write_query(topic, aspect, rng, long=False)
            if field == "query"
            else lang.write_short(topic, aspect, rng)
        )
    if task_type == "matching_long":
        return lang.write_document(topic, aspect, rng, long=True)
    if field == "query":
        return lang.write_query(topic, aspect, rng, long)
    return lang.write_document(topic, sibling if field == "negative" else aspect, rng, long)


def with_one_fault(task_type: str, asked: TaskRequest, record: Mapping[str, str], rng: random.Random) -> dict[str, str]:
    """The record with one fault in it, of a kind that the task type can have.

    Args:
        task_type: Of the row.
        asked: What its task asks for.
        record: An entirely right one; it is not changed.
        rng: Draws the fault.
    """
    keys = TASK_TYPES[task_type].keys
    query, positive = keys[0], keys[1]
    spoiled = dict(record)
    aspect = aspect_of(task_type, asked, record)
    kinds = [k for k in FLAWS if not (k == "easy_negative" and len(keys) < 3)]
    if task_type == "classification":
        kinds = ["wrong_aspect", "easy_negative", "missing_field", "too_short", "off_topic"]
    kind = rng.choice(kinds)
    if kind == "wrong_aspect":
        other = lang.SIBLING[aspect] if rng.random() < 0.6 else rng.choice([a for a in lang.ASPECTS if a != aspect])
        spoiled[positive] = _write_field(task_type, "positive", asked.topic, other, rng, None)
        if task_type == "classification" and spoiled[positive] == record.get(keys[2]):
            spoiled[keys[2]] = aspect
    elif kind == "easy_negative":  # a negative that is right, so no negative at all
        spoiled[keys[2]] = _write_field(task_type, "positive", asked.topic, aspect, rng, None)
    elif kind == "copied_query":
        spoiled[positive] = record[query]
    elif kind == "missing_field":
        del spoiled[keys[-1]]
    elif kind == "too_short":
        spoiled[query if task_type == "classification" else positive] = asked.topic
    else:
        field = query if task_type == "classification" else positive
        words = asked.topic.split()
        spoiled[field] = record[field].replace(asked.topic, " ".join(words[:-1]) or "it")
    return spoiled


def aspect_of(task_type: str, asked: TaskRequest, record: Mapping[str, str]) -> str:
    """The aspect that the record is to be about: the asked one, or among several what its query says."""
    if len(asked.aspects) == 1:
        return asked.aspects[0]
    readings = lang.read_text(record.get(TASK_TYPES[task_type].keys[0], ""), asked.topic).aspect
    return readings if readings in asked.aspects else asked.aspects[0]


def truth_of_record(task_type: str, task: str, record: Mapping[str, str | None] | None) -> Truth:
    """Which parts of a record are right.

    Args:
        task_type: Of the row.
        task: Its task.
        record: Texts under the keys of model output; None when there is no record.
    """
    asked = read_task(task_type, task)
    keys = TASK_TYPES[task_type].keys
    texts = [(record or {}).get(key) for key in keys]
    if record is None or not all(isinstance(text, str) and text.strip() for text in texts):
        return NOTHING_RIGHT
    readings = [lang.read_text(str(text), asked.topic) for text in texts]
    query, positive = texts[0], texts[1]
    about = readings[0].aspect
    about_right = about in asked.aspects
    if task_type == "classification":
        return Truth(
            valid=True,
            on_topic=readings[0].on_topic,
            positive_right=about_right and positive == about,
            negative_right=texts[2] in lang.SIBLING and texts[2] != positive and texts[2] != about,
        )
    expected_documents = {about} if about else set()
    positive_right = (
        about_right and readings[1].document_aspects == expected_documents and not readings[1].query_aspects
    )
    if task_type in ("retrieval", "matching_short"):
        positive_right = positive_right and not readings[0].document_aspects
    negative_right = True
    if len(keys) == 3:
        other = readings[2].aspect
        negative_right = other is not None and other != about and not readings[2].query_aspects
    return Truth(
        valid=True,
        on_topic=all(reading.on_topic for reading in readings),
        positive_right=positive_right and positive != query,
        negative_right=negative_right,
    )


def record_as_json(record: Mapping[str, str]) -> str:
    """The record on one line of JSON."""
    return json.dumps(dict(record), ensure_ascii=False)
