"""The microworld's teacher: brainstorms, writes, judges and revises from the prompt text alone.

It has the interface of a real teacher and makes errors at adjustable rates. Every draw comes
from a seed named by the request, so the same request has the same answer in any order.

Belongs here: answering prompts. Not here: what is right (`toy_records.py`).
"""

from __future__ import annotations

import json
import random
from itertools import combinations

from speed_assets.domain.fingerprints import seed_for, short_id
from speed_assets.domain.parsing import parse_record
from speed_assets.domain.prompts import CompactPrompt, read_compact
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.microworld import toy_language as lang
from speed_assets.microworld.toy_records import (
    TaskRequest,
    read_task,
    record_as_json,
    truth_of_record,
    with_one_fault,
    write_record,
    write_task,
)

_LONG_WORDS = ("300 words", "400 words", "500 words", "100 words", "200 words")


class MicroworldTeacher:
    """Answers compact prompts. Error rates are shares of answers (0..1), one for each thing it does."""

    def __init__(self, brainstorm: float = 0.0, write: float = 0.0, judge: float = 0.0, revise: float = 0.0) -> None:
        self._rates = {"brainstorm": brainstorm, "synthesis": write, "judge": judge, "revise": revise}

    def answer(self, prompt: str, key: str) -> str:
        """Answer a prompt.

        Args:
            prompt: Of the compact set.
            key: Seeds the answer.

        Returns:
            The raw text of the answer.

        Raises:
            ValueError: The prompt is not of the compact set.
        """
        asked = read_compact(prompt)
        rng = random.Random(seed_for(0, "microworld-teacher", key))
        errs = rng.random() < self._rates[asked.kind]
        return {
            "brainstorm": self._brainstorm,
            "synthesis": self._write,
            "judge": self._judge,
            "revise": self._revise,
        }[asked.kind](asked, errs, rng)

    def _brainstorm(self, prompt: CompactPrompt, errs: bool, rng: random.Random) -> str:
        topic = lang.topic_phrase(prompt.task)
        tasks: list[str] = []
        for _ in range(20 * prompt.count):
            task = write_task(prompt.task_type, topic, rng)
            if task not in tasks:
                tasks.append(task)
            if len(tasks) == prompt.count:
                break
        return "I cannot think of any." if errs else json.dumps(tasks, ensure_ascii=False)

    def _write(self, prompt: CompactPrompt, errs: bool, rng: random.Random) -> str:
        asked = read_task(prompt.task_type, prompt.task)
        if prompt.task_type == "sts":
            asked = TaskRequest(lang.topic_phrase(prompt.task), lang.ASPECTS)
        long = any(f" {words}" in f" {prompt.attributes}" for words in _LONG_WORDS)
        record = write_record(prompt.task_type, asked, rng, long)
        return record_as_json(with_one_fault(prompt.task_type, asked, record, rng) if errs else record)

    def _judge(self, prompt: CompactPrompt, errs: bool, rng: random.Random) -> str:
        """Best and worst by how much is right. Among some equals a taste decides, that does not depend on their
        place; when all are equal the place does, a bias that two orders expose."""
        task = _task(prompt)
        scores = []
        for candidate in prompt.candidates:
            parsed = parse_record(prompt.task_type, candidate)
            truth = truth_of_record(prompt.task_type, task, parsed.record)
            parts = (truth.valid, truth.on_topic, truth.positive_right, truth.negative_right)
            scores.append(sum(parts) - (parsed.problem is not None))
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], short_id(prompt.candidates[i])))
        best, worst = (order[0], order[-1]) if max(scores) > min(scores) else (0, len(scores) - 1)
        if errs:
            best, worst = rng.sample(range(len(scores)), 2)
        verdict = {"reason": "more of it is right", "best": best + 1, "worst": worst + 1}
        return json.dumps(verdict)

    def _revise(self, prompt: CompactPrompt, errs: bool, rng: random.Random) -> str:
        """A patch of the fields that are wrong, or null. An erring teacher lets faults pass, or breaks what was right."""
        task = _task(prompt)
        asked = read_task(prompt.task_type, task)
        parsed = parse_record(prompt.task_type, prompt.draft or "")
        truth = truth_of_record(prompt.task_type, task, parsed.record)
        if errs:
            changes = (
                {} if not truth.all_right else dict([next(iter(write_record(prompt.task_type, asked, rng).items()))])
            )
        else:
            changes = smallest_patch(prompt.task_type, asked, parsed.record, rng)
        # What each field is about and whether that is off: each verdict is a comparison of words for whoever learns it.
        readings = [
            _reading(parsed.record.get(key), asked.topic) + (" off" if key in changes else "")
            for key in TASK_TYPES[prompt.task_type].keys
        ]
        return _revision(", ".join(readings), changes)


def _task(prompt: CompactPrompt) -> str:
    return lang.topic_phrase(prompt.task) if prompt.task_type == "sts" else prompt.task


def _reading(text: str | None, topic: str) -> str:
    return "gone" if text is None else lang.word_for_reading(text, topic)


def _revision(reason: str, changes: dict[str, str]) -> str:
    return json.dumps({"reason": reason, "revision": changes or None}, ensure_ascii=False)


def smallest_patch(task_type: str, asked: TaskRequest, record: dict[str, str], rng: random.Random) -> dict[str, str]:
    """The smallest patch that makes a record entirely right.

    Args:
        task_type: Of the row.
        asked: What its task asks for.
        record: Texts under the keys of model output; some may be missing.
        rng: Draws the texts of the patch.

    Returns:
        {key: new text} of the fields to change; empty when the record is right.
    """
    task = task_for_request(task_type, asked)
    if truth_of_record(task_type, task, record).all_right:
        return {}
    keys = TASK_TYPES[task_type].keys
    of_query = lang.read_text(record.get(keys[0], ""), asked.topic)
    meant = next(
        (
            r.aspect
            for r in (of_query, lang.read_text(record.get(keys[1], ""), asked.topic))
            if r.aspect in asked.aspects
        ),
        None,
    )
    fixed = write_record(task_type, TaskRequest(asked.topic, (meant,)) if meant else asked, rng)
    if of_query.on_topic and of_query.aspect in asked.aspects:  # the query stands: mend the rest to fit it
        fixed |= {keys[0]: record[keys[0]]}
    for size in (1, 2, 3):
        for subset in _subsets(keys, size):
            patched = record | {key: fixed[key] for key in subset}
            if truth_of_record(task_type, task, patched).all_right:
                return {key: fixed[key] for key in subset}
    return fixed


def task_for_request(task_type: str, asked: TaskRequest) -> str:
    """A task that asks exactly for `asked`."""
    return asked.topic if len(asked.aspects) > 2 else f"{' or '.join(asked.aspects)} of {asked.topic}"


def _subsets(keys: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return list(combinations(reversed(keys), size))
