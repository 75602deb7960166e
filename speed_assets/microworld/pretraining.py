"""Text that the shipped base model is trained on: records, edits, labels and copies on endless topics.

A general base model knows language, JSON, how to copy a phrase and how to edit a draft, but not the
tasks that fine-tuning teaches. So the practice here has other keys and other wording than the prompts
of the product (`speed_assets/domain/prompt_sets/`), over topics drawn afresh for every example.

Belongs here: what is practised, in which mixture. Not here: the training loop (`scripts/pretrain.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from speed_assets.microworld import toy_language as lang

KEYS: dict[str, tuple[str, ...]] = {
    "ask": ("ask", "question", "wish"),
    "text": ("text", "article", "entry"),
    "same": ("same", "twin", "echo"),
    "near": ("near", "rival", "contrast"),
    "name": ("name", "kind"),
    "other": ("other", "wrong"),
}
_NOISE = (
    "brief", "full", "clear", "plain", "common", "rare", "5 words", "20 words", "200 words", "school", "college",
    "easy", "hard", "with effort", "one line", "score 4", "score 3", "long tail", "at least 10 words", "vague",
)  # fmt: skip
# Pieces of which real keys are made: the base knows how to spell them, but not which of them mean what.
_KEY_PIECES = [
    "user",
    "query",
    "positive",
    "hard",
    "negative",
    "document",
    "input",
    "text",
    "label",
    "misleading",
    "reason",
    "revision",
    "S",
]
_ONSETS = [
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "r",
    "s",
    "sh",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
]
_NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ie", "oo", "ou"]
_CODAS = ["", "", "n", "r", "l", "s", "t", "m", "ck", "nd", "st", "rm"]


@dataclass(frozen=True, slots=True)
class Example:
    """One training text: `given` is context without loss, `learn` carries it; `topic` is what it must copy."""

    topic: str
    given: str
    learn: str


@dataclass(frozen=True, slots=True)
class Practice:
    """Weights of the kinds of example, and the share of records with invented keys."""

    mixture: tuple[int, ...]
    invented_keys: float = 0.3


def pseudo_word(rng: random.Random) -> str:
    """A pronounceable word that is in no dictionary."""
    parts = (rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(rng.choice((1, 2, 2, 3))))
    return "".join(parts)[:12]


def draw_topic(words: Sequence[str], rng: random.Random) -> str:
    """One to four words; one word in six invented, one topic in thirty with a number."""
    count = rng.choices((1, 2, 3, 4), (35, 40, 18, 7))[0]
    drawn = [pseudo_word(rng) if rng.random() < 1 / 6 else rng.choice(words) for _ in range(count)]
    if rng.random() < 1 / 30:
        drawn.append(str(rng.randint(1, 2030)))
    return " ".join(drawn)


def _write(role: str, topic: str, aspect: str, rng: random.Random) -> str:
    sibling = lang.SIBLING[aspect]
    if role == "ask":
        return lang.write_query(topic, aspect, rng)
    if role == "name":
        return aspect
    if role == "other":
        return sibling
    writer = lang.write_short if rng.random() < 0.25 else lang.write_document
    return writer(topic, sibling if role == "near" else aspect, rng)


def _head(topic: str, aspect: str, rng: random.Random) -> tuple[str, bool]:
    """What is asked for, and whether that is one aspect only."""
    style = rng.random()
    if style < 0.65:
        return f"{aspect} of {topic}", True
    if style < 0.85:
        pair = [aspect, lang.SIBLING[aspect]]
        rng.shuffle(pair)
        return f"{pair[0]} or {pair[1]} of {topic}", False
    return f"any: {topic}", False


def _header(topic: str, aspect: str, rng: random.Random) -> str:
    head, _ = _head(topic, aspect, rng)
    noise = ", ".join(rng.sample(_NOISE, rng.randint(1, 4))) + "\n" if rng.random() < 0.6 else ""
    return f"{head}\n{noise}"


def _roles(rng: random.Random) -> list[str]:
    return rng.sample(list(KEYS), rng.choices((1, 2, 3, 4), (10, 30, 50, 10))[0])


def _dump(record: dict[str, str]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _invented_key(rng: random.Random) -> str:
    parts = rng.choice((1, 2, 2, 3))
    words = rng.sample(_KEY_PIECES, parts) if rng.random() < 0.6 else [pseudo_word(rng) for _ in range(parts)]
    return "_".join(words) + rng.choice(("", "", "", "1", "2", "3"))


def _record(topic: str, aspect: str, invented: float, rng: random.Random) -> tuple[dict[str, str], dict[str, str]]:
    """A right record, as {key: text}, and the role of each key. A share `invented` of records has unknown keys."""
    unknown = rng.random() < invented
    keys = {_invented_key(rng) if unknown else rng.choice(KEYS[role]): role for role in _roles(rng)}
    return {key: _write(role, topic, aspect, rng) for key, role in keys.items()}, keys


def record_example(topic: str, other_topic: str, practice: Practice, rng: random.Random) -> Example:
    """Write a record of the asked keys.

    Args:
        topic: What the record is about.
        other_topic: Not used: all examples are made by one signature.
        practice: Gives the share of records with invented keys.
        rng: Draws everything else.
    """
    aspect = rng.choice(lang.ASPECTS)
    record, roles = _record(topic, aspect, practice.invented_keys, rng)
    return Example(topic, f"{_header(topic, aspect, rng)}{_asked_for(roles)}\n", _dump(record))


def _asked_for(roles: dict[str, str]) -> str:
    """The keys in quotes, as they stand in the answer; an invented one with its role."""
    return ", ".join(f'"{key}"' if key in KEYS[role] else f'"{key}" {role}' for key, role in roles.items())


def edit_example(topic: str, other_topic: str, practice: Practice, rng: random.Random) -> Example:
    """Say of each field what it is about and whether that is off, then write those fields again; half the drafts are right.

    A mark after each reading makes every verdict a comparison of two words, and each draft several of them.

    Args:
        topic: What the record is about.
        other_topic: What a fault may be about instead.
        practice: Gives the share of records with invented keys.
        rng: Draws everything else.
    """
    aspect = rng.choice(lang.ASPECTS)
    record, roles = _record(topic, aspect, practice.invented_keys, rng)
    for key, role in roles.items():
        if role in ("near", "other") and rng.random() < 0.15:  # any other aspect contrasts, not the sibling alone
            record[key] = _write("name" if role == "other" else "text", topic, _another(aspect, rng), rng)
    head, single = _head(topic, aspect, rng)
    if not single and roles[next(iter(roles))] in ("near", "other"):  # a contrast cannot tell what it contrasts with
        head, single = f"{aspect} of {topic}", True
    faulty = list(roles)[0 if single else 1 :]  # without one aspect in the head, the first field sets it
    count = rng.choices((0, 1, 2), (50, 40, 10))[0]
    draft = dict(record)
    for key in rng.sample(faulty, min(count, len(faulty))):
        draft[key] = _fault(topic, other_topic, aspect, key, record, roles, rng)
    readings = {key: lang.word_for_reading(text, topic) for key, text in draft.items()}
    changes = {key: record[key] for key, reading in readings.items() if not _right(roles[key], reading, aspect)}
    marked = ", ".join(reading + (" off" if key in changes else "") for key, reading in readings.items())
    listed = "" if all(key in KEYS[role] for key, role in roles.items()) else _asked_for(roles) + "\n"
    verdict = _dump(changes) if changes else "fine"
    return Example(topic, f"{head}\n{listed}{_dump(draft)}\nmend:", f" {marked}; {verdict}")


def _another(aspect: str, rng: random.Random) -> str:
    return rng.choice([a for a in lang.ASPECTS if a != aspect])


def _right(role: str, reading: str, aspect: str) -> bool:
    """Whether a field of this role may read so in a record under `aspect`."""
    if role in ("near", "other"):
        return reading in lang.SIBLING and reading != aspect
    return reading == (f"{aspect}?" if role == "ask" else aspect)


def _fault(
    topic: str,
    other_topic: str,
    aspect: str,
    key: str,
    record: dict[str, str],
    roles: dict[str, str],
    rng: random.Random,
) -> str:
    """A text that is wrong in this place: another aspect, another topic or half of it, a bare one, or another field's text."""
    role = roles[key]
    contrast = role in ("near", "other")
    plain = {"near": "text", "other": "name"}.get(role, role)
    off_aspect = [aspect] if contrast else [lang.SIBLING[aspect], lang.SIBLING[aspect], _another(aspect, rng)]
    words = topic.split()
    astray = rng.choice(
        (other_topic, " ".join(words[:-1]) or "it", " ".join([*words[:-1], other_topic.split()[-1]]), f"{topic}s")
    )
    faults: list[Callable[[], str]] = [
        lambda: _write(plain, topic, rng.choice(off_aspect), rng),
        lambda: _write(plain, topic, rng.choice(off_aspect), rng),
        lambda: topic,
        lambda: _write(plain, astray, lang.SIBLING[aspect] if contrast else aspect, rng),
        lambda: rng.choice([text for other, text in record.items() if other != key] or [topic]),
    ]
    while _right(role, lang.word_for_reading(text := rng.choice(faults)(), topic), aspect):
        pass
    return text


def label_example(topic: str, other_topic: str, practice: Practice, rng: random.Random) -> Example:
    """Name the aspect of texts, and whether two of them agree.

    Args:
        topic: What both texts are about.
        other_topic: Not used, as `practice`.
        practice: Not used: all examples are made by one signature.
        rng: Draws everything else.
    """
    first, second = rng.choice(lang.ASPECTS), rng.choice(lang.ASPECTS)
    if rng.random() < 0.4:
        second = first
    role_a, role_b = rng.choice(("ask", "text")), rng.choice(("ask", "text"))
    texts = f"{_write(role_a, topic, first, rng)}\n{_write(role_b, topic, second, rng)}\n"
    return Example(topic, texts, f"{first}, {second}, {'alike' if first == second else 'unlike'}")


def prose_example(topic: str, other_topic: str, practice: Practice, rng: random.Random) -> Example:
    """A few sentences on one topic and aspect.

    Args:
        topic: What they are about.
        other_topic: Not used, as `practice`.
        practice: Not used: all examples are made by one signature.
        rng: Draws everything else.
    """
    aspect = rng.choice(lang.ASPECTS)
    sentences = [lang.write_document(topic, aspect, rng, long=False) for _ in range(rng.randint(2, 4))]
    return Example(topic, sentences[0], " " + " ".join(sentences[1:]))


def copy_example(topic: str, other_topic: str, practice: Practice, rng: random.Random) -> Example:
    """Repeat phrases that have been seen once: plain practice in copying.

    Args:
        topic: A phrase to repeat.
        other_topic: Another one.
        practice: Not used: all examples are made by one signature.
        rng: Draws everything else.
    """
    phrases = [topic, other_topic]
    rng.shuffle(phrases)
    line = f"see {phrases[0]}, {phrases[1]}"
    repeats = [f"{rng.choice(('again', 'once more', 'and'))}: {rng.choice(phrases)}" for _ in range(rng.randint(2, 4))]
    return Example(topic, line + "\n", "\n".join([line, *repeats]))


_MAKERS = (record_example, edit_example, label_example, prose_example, copy_example)
EARLY_MIXTURE = (40, 5, 5, 10, 40)  # copying is the bottleneck, so it comes first
LATE_MIXTURE = (48, 38, 4, 4, 6)
CURRICULUM = ((0.10, Practice(EARLY_MIXTURE)), (1.00, Practice(LATE_MIXTURE)))
"""What is practised up to which share of the tokens: copying, then content and editing."""


def practice_examples(words: Sequence[str], rng: random.Random, practice: Practice) -> Iterator[Example]:
    """An endless stream of practice, each example on a fresh topic."""
    while True:
        maker = rng.choices(_MAKERS, practice.mixture)[0]
        yield maker(draw_topic(words, rng), draw_topic(words, rng), practice, rng)
