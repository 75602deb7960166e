"""A teacher that writes plain English of the lengths asked for, and is cut where a real one would be.

It reads prompts of the set `full` as a model does: the keys come from the JSON schema or from the prompt, the number of words
from the prompt. The same body gets the same answer. Its sentences are drawn from word lists of this project, so they are
English and mean little: what it tests is the way of the rows, not their worth.

Belongs here: what such a teacher says. Not here: the server (`teacher_server.py`).
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from speed_assets.domain.fingerprints import digest, seed_for
from tests.support.teacher_server import Answer, Cut

TOKENS_PER_WORD = 1.31
"""Tokens of an English word, JSON included (measured on XQuAD's paragraphs)."""
_SUBJECTS = (
    "The old gardener",
    "My younger sister",
    "A patient teacher",
    "The night nurse",
    "Our new neighbour",
    "The ferry captain",
    "A tired courier",
    "The village baker",
    "One careful surveyor",
    "The museum guide",
    "Her former coach",
    "A retired engineer",
    "The youngest violinist",
    "That quiet librarian",
    "The harbour pilot",
    "A visiting botanist",
)
_VERBS = (
    "repaired",
    "described",
    "carried",
    "photographed",
    "measured",
    "borrowed",
    "sold",
    "remembered",
    "painted",
    "compared",
    "collected",
    "examined",
    "delivered",
    "cleaned",
    "sketched",
    "replaced",
)
_OBJECTS = (
    "a heavy wooden crate",
    "two maps of the valley",
    "the broken pump",
    "a basket of early apples",
    "the letters from abroad",
    "an unusual copper kettle",
    "three seedlings of wild thyme",
    "the clock above the door",
    "a bundle of wet ropes",
    "the ledger of the harvest",
    "a set of small brass weights",
    "the curtains of the stage",
    "an atlas of northern rivers",
    "the bicycle with the bent wheel",
    "a jar of amber honey",
    "the cable of the lift",
)
_PLACES = (
    "behind the railway station",
    "near the southern gate",
    "on a windy afternoon",
    "before the first snow",
    "during the long meeting",
    "at the edge of the forest",
    "in the upper workshop",
    "after the market had closed",
    "next to the canal",
    "while the rain went on",
    "under the stone bridge",
    "in the middle of the week",
    "along the coast road",
    "with the help of a friend",
    "for nearly an hour",
    "without saying a word",
)
_LABELS = ("gardening", "travel", "household", "music lessons", "weather report", "repair work")
_KEY = re.compile(r'^\s*- "(\w+)":', re.MULTILINE)
_TOPIC = re.compile(r"Topic: (.+)")
_NUMBER = re.compile(r"(at least|less than|about)? ?(\d+)(?: to (\d+))? words")


def natural(cut: bool = True) -> Answer:
    """Such a teacher; `cut` False lets every answer end, whatever the limit."""

    def answer(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        rng = random.Random(seed_for(1, "natural teacher", digest([prompt, body.get("seed"), body.get("temperature")])))
        text = json.dumps(_said(prompt, _properties(body), rng), ensure_ascii=False)
        words, limit = text.split(" "), body.get("max_tokens") or body.get("max_completion_tokens") or 2**31
        if cut and len(words) * TOKENS_PER_WORD > limit:
            return Cut(" ".join(words[: int(limit / TOKENS_PER_WORD)]))
        return text

    return answer


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    form = body.get("response_format") or {}
    if form.get("type") != "json_schema":
        return {}
    return dict(form["json_schema"]["schema"]["properties"])


def _said(prompt: str, properties: dict[str, Any], rng: random.Random) -> Any:
    keys = list(properties) or _KEY.findall(prompt)
    if '"best"' in prompt:
        count = max((int(number) for number in re.findall(r'<candidate number="(\d+)"', prompt)), default=2)
        best, worst = rng.sample(range(1, count + 1), 2)
        return {"reason": _sentence(rng), "best": best, "worst": worst}
    if '"revision"' in prompt:
        return {"reason": "Nothing is wrong with it.", "revision": None}
    if len(keys) == 1 and properties.get(keys[0], {}).get("type") == "array":
        return {keys[0]: _tasks(prompt, rng)}
    if not keys:
        return _tasks(prompt, rng)
    if set(keys) <= {"faulty", "problem", "reason", "good", "wrong"}:  # a verdict on one row
        return {key: _of_type(properties.get(key, {}), rng) for key in keys}
    return _record(prompt, keys, rng)


def _of_type(schema: dict[str, Any], rng: random.Random) -> Any:
    return {"boolean": False, "integer": 1}.get(str(schema.get("type")), _sentence(rng))


def _tasks(prompt: str, rng: random.Random) -> list[str]:
    named = _TOPIC.search(prompt)
    topic = named.group(1).strip().split("/")[-1].split(" > ")[-1].replace("_", " ").lower() if named else "daily life"
    one, two = rng.sample(_LABELS, 2)
    if "classif" in prompt:
        return [f"Classify a note about {topic} by its subject: {one}, {two} or something else."]
    if "retrieval" in prompt or ("query" in prompt and "matching" not in prompt):
        return [f"Given a question about {topic}, retrieve passages that answer it."]
    return [f"Given a remark about {topic}, find a text that tells what happened afterwards."]


def _record(prompt: str, keys: list[str], rng: random.Random) -> dict[str, str]:
    long = _words(prompt, rng)
    record: dict[str, str] = {}
    for key in keys:
        if key in ("label", "misleading_label"):
            record[key] = rng.choice([label for label in _LABELS if label not in record.values()])
        elif key == "user_query":
            record[key] = _query(rng, _words(_line_of(prompt, "quer"), rng) or 6)
        elif key in ("S1", "S2", "S3", "input", "positive_document", "input_text", "hard_negative_document"):
            short = key.startswith("S") or "short texts" in prompt
            record[key] = _text(rng, 9 if short else long or 60)
        else:
            record[key] = _sentence(rng)
    return record


def _line_of(prompt: str, word: str) -> str:
    return next((line for line in prompt.splitlines() if word in line.lower() and "words" in line), "")


def _words(text: str, rng: random.Random) -> int:
    """Words asked for: the largest number that the text names, a little more where it says `at least`."""
    found = []
    for bound, first, last in _NUMBER.findall(text):
        most = int(last or first)
        found.append(most + rng.randint(0, most // 3) if bound == "at least" else max(1, most - 1))
    return max(found, default=0)


def _query(rng: random.Random, words: int) -> str:
    text = f"{rng.choice(_OBJECTS)} {rng.choice(_PLACES)} {rng.choice(_VERBS)} by whom and why exactly then"
    return " ".join(text.split()[: max(2, words)])


def _text(rng: random.Random, words: int) -> str:
    """Whole sentences of about so many words."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < words:
        sentences.append(_sentence(rng))
    return " ".join(sentences)


def _sentence(rng: random.Random) -> str:
    return f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)} {rng.choice(_PLACES)}."
