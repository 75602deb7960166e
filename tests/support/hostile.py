"""Model outputs gone wrong in every way we know, and records to spoil: seeded, for the fuzz tests and benchmarks.

Belongs here: making hostile text. Not here: judging what becomes of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from speed_assets.domain.task_types import TASK_TYPES

_ODD = [
    "\x00",
    "\ud800",
    "\udfff",
    "\u202e",
    "\u200f",
    "\ufeff",
    "\u0085",
    "\r\n",
    "\x1b[31m",
    "ß",
    "İ",
    "\U0001d4b3",
    "\u0301",
]
_MARKUP = ["```json\n", "```", "<script>alert(1)</script>", "<b>", "&lt;", "](javascript:x)", "{{", "}}", "\\", "\\u00"]
_VALUES: list[Any] = [None, True, 0, -1e400, 10**400, [], {}, [["x"]], {"x": {}}, "", " ", "\u200b", "NaN"]


def words(rng: random.Random, count: int) -> str:
    """That many made-up words."""
    return " ".join("".join(rng.choices("abcdefghilmnoprstu", k=rng.randint(2, 9))) for _ in range(count))


def record(task_type: str, rng: random.Random) -> dict[str, object]:
    """A complete record."""
    return {key: words(rng, rng.randint(1, 30)).capitalize() for key in TASK_TYPES[task_type].keys}


def mutated(task_type: str, rng: random.Random, *, longest: int = 1_000_000) -> str:
    """One output with zero to three things wrong with it; rarely a text of `longest` characters."""
    values = record(task_type, rng)
    keys = list(values)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        values = _changed_record(values, keys, rng)
    text = json.dumps(values, ensure_ascii=rng.random() < 0.3, indent=rng.choice([None, None, 2]))
    for _ in range(rng.choice([0, 0, 0, 1, 2, 3])):
        text = _changed_text(text, keys, rng, longest)
    return text


def _changed_record(values: dict[str, object], keys: list[str], rng: random.Random) -> dict[str, object]:
    kind = rng.randrange(7)
    key = rng.choice(keys)
    match kind:
        case 0:
            values.pop(key, None)
        case 1:
            values[key] = rng.choice(_VALUES)
        case 2:
            values["extra"] = words(rng, 3)
        case 3:
            values[key] = values.get(rng.choice(keys), "x")
        case 4:
            values[key] = f"{values.get(key)}{rng.choice(_ODD)}{rng.choice(_MARKUP)}"
        case 5:
            values[key] = f"{rng.choice(_ODD)}{values.get(key)} {values.get(keys[0])} {rng.choice(_ODD)}"
        case _:
            return {"data": [values]} if rng.random() < 0.5 else {name.upper(): value for name, value in values.items()}
    return values


def _changed_text(text: str, keys: list[str], rng: random.Random, longest: int) -> str:
    kind = rng.randrange(11)
    at = rng.randrange(len(text) + 1)
    changes: list[Callable[[], str]] = [
        lambda: text[:at],
        lambda: text[at:],
        lambda: text[:at] + rng.choice([*_ODD, *_MARKUP]) + text[at:],
        lambda: f"```json\n{text}\n```",
        lambda: f"Sure! Here it is:\n{text}\nI hope that helps {{}}.",
        lambda: text.replace("{", f'{{"{rng.choice(keys)}": "twice", ', 1),
        lambda: text.replace('"', "'"),
        lambda: text.replace('":', '",', 1),
        lambda: _deep(text, rng),
        lambda: text + text,
        lambda: _filled(text, at, rng, longest) if rng.random() < 0.02 else text,
    ]
    return changes[kind]()


def _deep(text: str, rng: random.Random) -> str:
    depth = rng.choice([3, 50, 2_000])
    return rng.choice(["[", '{"a":', "(["]) * depth + text + "]" * rng.randrange(depth)


def _filled(text: str, at: int, rng: random.Random, longest: int) -> str:
    filler = rng.choice(["x", "{", '"', "\\", "[1,", "\u202e", "a b "])
    return text[:at] + (filler * longest)[:longest] + text[at:]
