"""Reading what a model wrote: hostile text in, values and short problem codes out, never an exception.

Every parser takes any string and ends in bounded time: longer texts than `MAX_CHARACTERS` are refused,
the scan for JSON is linear, and repair, which is not, is tried only where `_repairable` says it is cheap.

Belongs here: from one raw text to values. Not here: whole tables (`rows.py`), and whether the values are any good
(`rules.py`, the judge).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import json_repair
import msgspec

from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS

MAX_CHARACTERS = 200_000
"""Longer answers are refused unread (our choice: some fifty times what an answer of 800 tokens has)."""
MAX_REPAIRED = 20_000
"""Longer answers are not repaired (our choice: the repair is meant for slips, and slower than reading)."""
MAX_REPAIR_BRACKETS = 16
MAX_REPAIR_WORK = 2_000_000
"""Nor is what has more opening brackets, or more characters times punctuation marks: json_repair looks ahead to
the end of the text from each of them. 20,000 characters of `{a:` took it over a minute; within these limits the
worst of some 5,000 hostile texts took 1 s. An answer of 800 tokens has about 4,000 characters and 150 marks."""

QUERY_WORDS_LEAST = 4
"""A query of fewer words may well stand in its document."""

Problem = str
"""A short stable code to group by, e.g. `not_json`, `missing_key:label`, `out_of_range:best`."""

_UNREADABLE = ("not_json", "not_object", "too_long")
_BRACKETS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_MARK = re.compile(r"[^\w\s.]")
_FENCE = re.compile(r"```[\w-]*\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_INVISIBLE = re.compile(r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*")
_PUNCTUATION = re.compile(r"[\s!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f\uff01-\uff0f\uff1a-\uff20]+")


@dataclass(frozen=True, slots=True)
class ParsedRecord:
    """A record as far as it could be read. `problem` is the gravest one; None says that the record is whole."""

    record: dict[str, str]
    """Known keys with texts that are not empty, in the order of the task type."""
    problem: Problem | None
    repaired: bool
    """The text was no JSON, and a repair made it some. A cut-off answer looks like this too."""

    @property
    def unparseable(self) -> bool:
        """There is nothing to keep but the raw text."""
        return not self.record and self.problem in _UNREADABLE


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's choice: candidates counted from 0, never the same one twice."""

    best: int
    worst: int
    reason: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A revisor's answer: the fields to replace (none: the draft stands) and why."""

    reason: str
    changes: dict[str, str]
    problem: Problem | None


def parse_record(task_type: str, raw: str) -> ParsedRecord:
    """The record in a model's answer.

    Problems, gravest first: `too_long`, `not_json`, `not_object`; `missing_key:K`, `wrong_type:K`,
    `empty_value:K`; `same_positive_negative`, `copied_query` (the positive is the query, but for case,
    spacing and punctuation), `query_in_positive` (from four words on); `doubled_key` (the last one
    counts), `unknown_key`.
    """
    found = _read_object(raw)
    if isinstance(found, str):
        return ParsedRecord({}, found, repaired=False)
    values, repaired = found
    keys = TASK_TYPES[task_type].keys
    if repaired and not values.keys() & set(keys):
        return ParsedRecord({}, "not_json", repaired=False)  # a repair makes an object of nearly anything
    record, problems = _known_texts(keys, values)
    problems = [
        *(f"missing_key:{key}" for key in keys if key not in values),
        *problems,
        *_content_problems([record.get(key) for key in keys]),
        *_key_problems(keys, values),
    ]
    return ParsedRecord(record, problems[0] if problems else None, repaired)


@lru_cache(maxsize=16)
def _typed(task_type: str) -> msgspec.json.Decoder[msgspec.Struct]:
    fields = [(key, str) for key in TASK_TYPES[task_type].keys]
    return msgspec.json.Decoder(msgspec.defstruct(task_type, fields, forbid_unknown_fields=True))


def decode_typed(task_type: str, raws: Iterable[str | None]) -> list[tuple[str, ...] | None]:
    """The texts of answers that are one JSON object with all the keys, only the keys, and texts under them.

    None for every other answer, and for None. A doubled key is not seen here, and no text is cleaned.
    """
    decode = _typed(task_type).decode
    texts = msgspec.structs.astuple
    found: list[tuple[str, ...] | None] = []
    for raw in raws:
        try:
            found.append(None if raw is None else texts(decode(raw)))
        except (ValueError, RecursionError):  # malformed, of the wrong type, a lone surrogate, nested too deep
            found.append(None)
    return found


def parse_verdict(raw: str, count: int) -> Verdict | Problem:
    """A judge's verdict on `count` candidates, or the code of what is wrong with it.

    Codes: those of an unreadable record, `missing_key:K`, `wrong_type:K`, `out_of_range:K`, `same_best_worst`.
    Numbers may come as text; a reason that is no text is left empty.
    """
    found = _read_object(raw)
    if isinstance(found, str):
        return found
    values, _ = found
    chosen = {}
    for key in ("best", "worst"):
        if key not in values:
            return f"missing_key:{key}"
        number = _whole_number(values[key])
        if number is None:
            return f"wrong_type:{key}"
        if not 1 <= number <= count:
            return f"out_of_range:{key}"
        chosen[key] = number - 1
    if chosen["best"] == chosen["worst"]:
        return "same_best_worst"
    return Verdict(chosen["best"], chosen["worst"], _reason(values))


def parse_revision(task_type: str, raw: str) -> Revision:
    """A revisor's patch. No revision, null, or null for a field leaves things as they are.

    Codes: those of an unreadable record, `wrong_type:revision`, `wrong_type:K`, `empty_value:K`,
    `doubled_key`, `unknown_key`. Changes that can be read are returned in spite of a problem.
    """
    found = _read_object(raw)
    if isinstance(found, str):
        return Revision("", {}, found)
    values, _ = found
    reason = _reason(values)
    patch = values.get("revision")
    if patch is None:
        return Revision(reason, {}, None)
    if not isinstance(patch, dict):
        return Revision(reason, {}, "wrong_type:revision")
    keys = TASK_TYPES[task_type].keys
    changes, problems = _known_texts(keys, {key: value for key, value in patch.items() if value is not None})
    problems += _key_problems(keys, patch)
    return Revision(reason, changes, problems[0] if problems else None)


def parse_tasks(raw: str, count: int) -> tuple[str, ...]:
    """At most `count` different tasks, each on one line, from a JSON list of texts or an object that holds one list."""
    found = _read(raw, "[{", _task_list)
    if isinstance(found, str):
        return ()
    tasks: dict[str, str] = {}
    for item in found[0]:
        if isinstance(item, str) and (task := " ".join(_clean(item).split())):
            tasks.setdefault(task.casefold(), task)
    return tuple(tasks.values())[:count]


def _task_list(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else None
    return value if isinstance(value, list) and any(isinstance(item, str) for item in value) else None


# What a record consists of


def _known_texts(keys: tuple[str, ...], values: dict[str, Any]) -> tuple[dict[str, str], list[Problem]]:
    """The texts under known keys that are not empty, and what is wrong with the others."""
    texts: dict[str, str] = {}
    problems = []
    for key in keys:
        if key not in values:
            continue
        if not isinstance(values[key], str):
            problems.append(f"wrong_type:{key}")
        elif text := _clean(values[key]):
            texts[key] = text
        else:
            problems.append(f"empty_value:{key}")
    return texts, problems


def _key_problems(keys: tuple[str, ...], values: dict[str, Any]) -> list[Problem]:
    doubled = ["doubled_key"] if isinstance(values, _Doubled) else []
    return doubled + (["unknown_key"] if values.keys() - set(keys) else [])


def _content_problems(texts: list[str | None]) -> list[Problem]:
    """What is wrong between the fields of a record, given in the order of `TRIPLET_FIELDS`."""
    fields = dict(zip(TRIPLET_FIELDS, texts, strict=False))
    query, positive, negative = (fields.get(name) for name in TRIPLET_FIELDS)
    problems = []
    # Punctuation counts here, for labels such as C, C# and C++ are different answers.
    if positive and negative and caseless(positive) == caseless(negative):
        problems.append("same_positive_negative")
    if query and positive:
        if folded(query) == folded(positive):
            problems.append("copied_query")
        elif stands_in(query, positive, QUERY_WORDS_LEAST):
            problems.append("query_in_positive")
    return problems


def stands_in(part: str, text: str, words_least: int) -> bool:
    """Whether the words of `part`, if there are enough of them, stand in `text` one after the other."""
    part = folded(part)
    return part.count(" ") + 1 >= words_least and f" {part} " in f" {folded(text)} "


def _reason(values: dict[str, Any]) -> str:
    reason = values.get("reason")
    return _clean(reason) if isinstance(reason, str) else ""


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,6}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _clean(text: str) -> str:
    """Without control characters, lone surrogates and outer white space; empty if nothing visible is left."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return "" if _INVISIBLE.fullmatch(text) else text


def caseless(text: str) -> str:
    """Lower case, single spaces; punctuation stays."""
    return " ".join(text.casefold().split())


def folded(text: str) -> str:
    """Lower case words between single spaces; of a text without words, its characters."""
    return _PUNCTUATION.sub(" ", text.casefold()).strip() or caseless(text)


# From text to JSON


class _Doubled(dict[str, Any]):
    """A JSON object in which a key stood twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else _Doubled(values)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_INVALID = object()
_T = TypeVar("_T")


def _read_object(raw: str) -> tuple[dict[str, Any], bool] | Problem:
    return _read(raw, "{", lambda value: value if isinstance(value, dict) else None)


def _read(raw: str, openers: str, accept: Callable[[Any], _T | None]) -> tuple[_T, bool] | Problem:
    """The first value that `accept` does not answer with None, and whether it took a repair to read it.

    Tried in turn: the whole text, the balanced pieces in it that begin with one of `openers`, a repair.
    """
    if len(raw) > MAX_CHARACTERS:
        return "too_long"
    text = raw.strip("\ufeff \t\r\n")
    if fence := _FENCE.match(text):
        text = text[fence.end() :].removesuffix("```")
    whole = _strict(text)
    if whole is not _INVALID:
        accepted = accept(whole)
        return "not_object" if accepted is None else (accepted, False)
    for piece in _balanced(text, openers):
        if accepted := accept(_strict(piece)):  # an empty one is more likely a stray {} in prose
            return accepted, False
    start = min((at for opener in openers if (at := text.find(opener)) >= 0), default=None)
    if start is None or len(raw) > MAX_REPAIRED or not _repairable(text[start:]):
        return "not_json"
    value = _repaired(text[start:])
    for item in (value, *(value if isinstance(value, list) else ())):
        if accepted := accept(item):
            return accepted, True
    return "not_json"


def _strict(text: str) -> Any:
    """The value of a JSON text, or `_INVALID`. A number too long to convert and too deep a nesting are invalid too."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _INVALID


def _balanced(text: str, openers: str) -> Iterator[str]:
    """Pieces of `text` from an opening bracket to its closing one, outermost only; brackets in strings do not count."""
    closers = openers.translate(str.maketrans("[{", "]}"))
    depth, start, quoted = 0, 0, False
    for match in _BRACKETS.finditer(text):
        mark = match[0]
        if depth == 0:
            if mark in openers:
                depth, start = 1, match.start()
        elif mark == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif mark in openers:
            depth += 1
        elif mark in closers:
            depth -= 1
            if depth == 0:
                yield text[start : match.end()]


def _repairable(text: str) -> bool:
    return (
        text.count("{") + text.count("[") <= MAX_REPAIR_BRACKETS
        and len(text) * len(_MARK.findall(text)) <= MAX_REPAIR_WORK
    )


def _repaired(text: str) -> Any:
    try:
        return json_repair.repair_json(text, return_objects=True, skip_json_loads=True)
    except Exception:  # a third party's parser on hostile text: whatever it trips over, there is no record in it
        return None
