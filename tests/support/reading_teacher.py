"""A teacher that reads the passage it is shown: its query, and what it writes opposite a given passage, has words of that passage. Other
prompts get plain English.

Belongs here: what it says. Not here: the server (`teacher_server.py`), a small corpus of this project's own words.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from speed_assets.domain.fingerprints import digest, seed_for
from tests.support.natural_teacher import natural
from tests.support.teacher_server import Answer

_PASSAGE = re.compile(
    r"<passage>\n(.*?)\n</passage>|\Agrounded: [^\n]*\n([^\n]*)|\Agrounded_\w+: [^\n]*\n[^\n]*\n([^\n]*)", re.DOTALL
)
_CLASSES = re.compile(r"Classes: ([^.\n]*)\.")
_WORDS_ASKED = re.compile(r"(?:at least|document) (\d+) words")
_THINGS = [
    "kettle",
    "ladder",
    "compass",
    "lantern",
    "anchor",
    "bicycle",
    "hammer",
    "violin",
    "mirror",
    "pillow",
    "basket",
    "candle",
    "drawer",
    "carpet",
    "window",
    "saddle",
]
_PLACES = [
    "harbour",
    "attic",
    "garden",
    "cellar",
    "market",
    "bridge",
    "station",
    "orchard",
    "chapel",
    "library",
    "quarry",
    "meadow",
    "tunnel",
    "castle",
    "island",
    "mill",
]
_DEEDS = [
    "repair",
    "paint",
    "lift",
    "polish",
    "store",
    "measure",
    "hide",
    "sell",
    "carry",
    "clean",
    "borrow",
    "weigh",
    "mend",
    "fold",
    "stack",
    "wrap",
]


def reading() -> Answer:
    """Such a teacher. The same request gets the same answer."""
    other = natural(cut=False)

    def answer(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        asked = set(asked_keys(body))
        if {"first", "second"} <= asked:
            return _relevance(prompt)
        if {"best", "worst"} <= asked:
            return _verdict(prompt)
        if "revision" in asked:
            return json.dumps({"reason": "Nothing is wrong with it.", "revision": None})
        shown = _PASSAGE.search(prompt)
        if shown and (record := _opposite(prompt, shown[1] or shown[3] or "", digest([prompt, body.get("seed")]))):
            return json.dumps(record)
        if shown is None or '"user_query"' not in prompt or '"best"' in prompt or '"revision"' in prompt:
            return other(body)
        words = sorted({word.strip(".,").lower() for word in (shown[1] or shown[2]).split() if len(word) > 5})
        rng = random.Random(seed_for(1, "reader", digest([prompt, body.get("seed")])))
        return json.dumps({"user_query": " ".join(rng.sample(words, min(6, len(words))))})

    return answer


def _opposite(prompt: str, given: str, name: str) -> dict[str, str]:
    """What such a teacher writes opposite a given text: labels that the task names, sentences, or documents; nothing for other prompts."""
    if not given or '"best"' in prompt or '"revision"' in prompt:
        return {}
    rng = random.Random(seed_for(1, "opposite", name))
    words = sorted({word.strip(".,").lower() for word in given.splitlines()[-1].split() if len(word) > 5})
    if '"misleading_label"' in prompt and (classes := _CLASSES.search(prompt)):
        label, other = rng.sample(classes[1].split(", "), 2)
        return {"label": label, "misleading_label": other}
    if '"S2"' in prompt and '"input' not in prompt and ("is S1." in prompt or prompt.startswith("grounded_sts")):
        one, other, third = rng.sample(words, 3) if len(words) > 2 else ["weather", "evening", "country"]
        return {
            "S2": f"People say that there is {one} and {other} here, which is known of {third}.",
            "S3": f"Nobody knows about {third}, whatever {rng.choice(_DEEDS)}s a {rng.choice(_THINGS)}.",
        }
    if '"hard_negative_document"' in prompt and '"user_query"' not in prompt:
        asked = int(found[1]) if (found := _WORDS_ASKED.search(prompt)) else 50
        return {
            "positive_document": _document(rng, words, asked),
            "hard_negative_document": _document(rng, words, asked),
        }
    return {}


def _document(rng: random.Random, words: list[str], least: int) -> str:
    """Sentences that name words of a passage, until there are enough words."""
    found: list[str] = []
    while sum(len(one.split()) for one in found) < least:
        found.append(
            f"Whoever had to {rng.choice(_DEEDS)} the {rng.choice(_THINGS)} in a {rng.choice(_PLACES)} wrote of {rng.choice(words)} "
            f"on page {rng.randint(100, 999)}."
        )
    return " ".join(found)


def _relevance(prompt: str) -> str:
    """A passage answers a query when it has all of its words."""
    parts = {
        name: re.search(rf"<{name}>\n(.*?)\n</{name}>", prompt, re.DOTALL) for name in ("query", "first", "second")
    }
    texts = {name: set(re.findall(r"\w+", found[1].lower())) if found else set() for name, found in parts.items()}
    return json.dumps({name: texts["query"] <= texts[name] for name in ("first", "second")})


def _verdict(prompt: str) -> str:
    """The same candidates are best and worst in every order: by a hash of their texts."""
    candidates = re.findall(r"^(\d+): (.*)$", prompt, re.MULTILINE) or [("1", "a"), ("2", "b")]
    ranked = sorted(candidates, key=lambda candidate: digest(["liked", candidate[1]]))
    return json.dumps({"reason": "It is more specific.", "best": int(ranked[0][0]), "worst": int(ranked[-1][0])})


def asked_keys(body: dict[str, Any]) -> list[str]:
    """Keys of the answer's JSON schema."""
    form = body.get("response_format") or {}
    return list(form["json_schema"]["schema"]["properties"]) if form.get("type") == "json_schema" else []


def write_corpus(folder: Path, documents: int, first: int = 0) -> None:
    """Short texts in Markdown, each about things and places of its own, numbered from `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + documents):
        (folder / f"note{number:03}.md").write_text(note(number))


def note(number: int, more: str = "") -> str:
    """The text of one document."""
    rng = random.Random(number)
    lines = [f"# Note {number} on the {rng.choice(_THINGS)} in the {rng.choice(_PLACES)}", ""]
    for heading in ("Where it is", "What to do"):
        sentences = [
            f"The {rng.choice(_THINGS)} near the {rng.choice(_PLACES)} was there before we could {rng.choice(_DEEDS)} it "
            f"with {rng.choice(_THINGS)} number {rng.randint(100, 999)}."
            for _ in range(4)
        ]
        lines += [f"## {heading}", "", " ".join(sentences), ""]
    return "\n".join([*lines, more])
