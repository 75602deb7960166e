"""Parsers of model answers: any text in, values or short problem codes out, never an exception.

Belongs here: from one raw text to a record, a verdict, a revision, tasks. Not here: finding JSON in a text
(`answers.py`), tables (`rows.py`), and whether the values are any good (`rules`, the judge).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from speed_assets.domain.answers import UNREADABLE, Doubled, Problem, begins_with_object, read_answer
from speed_assets.domain.prompts import RELEVANCE_KEYS
from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS

QUERY_WORDS_LEAST = 4
"""A query of fewer words may occur in its document."""

_NOTHING = frozenset(("", "null", "none", "nothing", "no change", "no changes", "n/a"))
"""Texts that a model writes where null was asked for."""
_NO_TEXT = frozenset(("null", "no change", "no changes", "n/a", "unchanged", "...", "\u2026"))
"""Texts that a model writes for a field that it leaves alone; `none` may be a label."""
_TEMPLATE_WORDS = re.compile(
    r"<[^<>]*(?:what is wrong|nothing is|an object that holds|new text|new query|what decides|one short sentence)[^<>]*>"
)
"""The words in angle brackets of the prompt sets: an answer that repeats them is no answer."""
_TEMPLATE_REASON = re.compile(r"(?i)\W*what is wrong(?:,? or that nothing is)?\W*")
"""The same without their brackets, as the whole of a reason."""
_YES_OR_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_INVISIBLE = re.compile(r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*")
ENTRY_NUMBER = r"^\s*(?:[0-9]{1,3}[.)]|\((?:[0-9]{1,3}|[A-Za-z])\)|[A-Za-z]\))\s+"
"""The number or letter of an entry in a list, before its text. A letter before a point may be a name's: "J. Smith"."""
_ENTRY_NUMBER = re.compile(ENTRY_NUMBER)
_PUNCTUATION = re.compile(r"[\s!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f\uff01-\uff0f\uff1a-\uff20]+")


@dataclass(frozen=True, slots=True)
class ParsedRecord:
    """A record as far as it could be read. `problem` is the gravest one; None: the record is valid."""

    record: dict[str, str]
    """Known keys with texts that are not empty, in the order of the task type."""
    problem: Problem | None
    repaired: bool
    """The text was no JSON, and a repair made it some."""

    @property
    def unparseable(self) -> bool:
        """Whether no field could be read."""
        return not self.record and self.problem in UNREADABLE


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's choice: candidates counted from 0, never the same one twice."""

    best: int
    worst: int
    reason: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A revisor's answer: the fields to replace (none: the draft does not change) and why."""

    reason: str
    changes: dict[str, str]
    problem: Problem | None


def parse_record(task_type: str, raw: str, finished: bool | None = None) -> ParsedRecord:
    """The record in a model's answer.

    Problems, gravest first: `cut_off`, `too_long`, `not_json`, `not_object`; `missing_key:K`, `wrong_type:K`,
    `empty_value:K`; `same_positive_negative`, `copied_query` (the positive is the query, but for spacing);
    `doubled_key` (the last one counts), `unknown_key`.

    Args:
        task_type: the task type whose keys are asked for.
        raw: the model's text.
        finished: True when the model ended by itself, False when it was cut off, None when that is unknown.
    """
    keys = TASK_TYPES[task_type].keys

    def has_every_text(values: dict[str, Any]) -> bool:
        return all(isinstance(values.get(key), str) and values[key].strip() for key in keys)

    found = read_answer(raw, "{", _mapping, has_every_text, finished)
    if isinstance(found, str):
        return ParsedRecord({}, found, repaired=False)
    values, repaired = found
    if repaired and not values.keys() & set(keys):
        return ParsedRecord({}, "not_json", repaired=False)  # a repair makes an object of nearly anything
    record, problems = _known_texts(keys, values)
    problems = [
        *(f"missing_key:{key}" for key in keys if key not in values),
        *problems,
        *_content_problems(TASK_TYPES[task_type].triplet(record)),
        *_key_problems(keys, values),
    ]
    return ParsedRecord(record, problems[0] if problems else None, repaired)


@lru_cache(maxsize=16)
def _typed(task_type: str) -> msgspec.json.Decoder[msgspec.Struct]:
    fields = [(key, str) for key in TASK_TYPES[task_type].keys]
    return msgspec.json.Decoder(msgspec.defstruct(task_type, fields, forbid_unknown_fields=True))


def decode_typed(task_type: str, raws: Iterable[str | None]) -> list[tuple[str, ...] | None]:
    """Read answers that are exactly one JSON object with all keys of the task type and a text under each.

    A doubled key is not detected here, and no text is cleaned.

    Args:
        task_type: Of the rows.
        raws: Answers.

    Returns:
        The texts of each answer in the order of the keys; None for every other answer, and for None.
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


def parse_verdict(raw: str, count: int, finished: bool | None = None) -> Verdict | Problem:
    """Read a judge's verdict.

    Numbers may come as text; a reason that is no text is left empty.

    Args:
        raw: The answer.
        count: Candidates that the judge saw.
        finished: Whether the model ended by itself; None when that is unknown.

    Returns:
        The verdict, or the code of its problem: those of an unreadable record, `missing_key:K`, `wrong_type:K`,
        `out_of_range:K`, `same_best_worst`.
    """
    found = read_answer(raw, "{", _mapping, lambda values: {"best", "worst"} <= values.keys(), finished)
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


def parse_relevance(raw: str, finished: bool | None = None) -> tuple[bool, bool] | Problem:
    """Read whether the first and the second passage answer a query.

    `yes` and `no`, 1 and 0, and the words of JSON as text are read as well.

    Args:
        raw: The answer.
        finished: Whether the model ended by itself; None when that is unknown.

    Returns:
        The verdicts, or the code of their problem: those of an unreadable record, `missing_key:K`, `wrong_type:K`.
    """
    found = read_answer(raw, "{", _mapping, lambda values: set(RELEVANCE_KEYS) <= values.keys(), finished)
    if isinstance(found, str):
        return found
    values, _ = found
    verdicts = []
    for key in RELEVANCE_KEYS:
        if key not in values:
            return f"missing_key:{key}"
        said = _YES_OR_NO.get(str(values[key]).strip().casefold())
        if said is None:
            return f"wrong_type:{key}"
        verdicts.append(said)
    return verdicts[0], verdicts[1]


def parse_revision(task_type: str, raw: str, finished: bool | None = None) -> Revision:
    """A revisor's answer: a patch under `revision`, null for nothing to mend, or a patch at the top level.

    Codes: those of an unreadable record, `missing_key:revision` (an object that says neither, or a draft quoted in prose),
    `empty_revision` (a fault was found, and nothing put in its place), `template_echo` (the words of the prompt's template), `wrong_type:revision`, `wrong_type:K`, `empty_value:K`, `doubled_key`, `unknown_key`.
    Changes that can be read are returned in spite of a problem; whoever applies them asks for the problem first.
    """
    keys = TASK_TYPES[task_type].keys

    def names_a_field(values: dict[str, Any]) -> bool:
        return "revision" in values or any(key in values for key in keys)

    # An object with `revision` counts before a draft that is quoted after it.
    found = read_answer(raw, "{", _mapping, lambda values: "revision" in values, finished)
    if isinstance(found, tuple) and "revision" not in found[0]:
        found = read_answer(raw, "{", _mapping, names_a_field, finished)
    if isinstance(found, str):
        return Revision("", {}, found)
    values, repaired = found
    reason = _reason(values)
    if _TEMPLATE_WORDS.search(reason) or _TEMPLATE_REASON.fullmatch(reason):
        return Revision(reason, {}, "template_echo")
    patch = values.get("revision")
    at_top_level = {key: value for key, value in values.items() if key in keys and value is not None}
    if at_top_level and patch is None and not repaired and ("reason" in values or begins_with_object(raw)):
        patch = {key: value for key, value in values.items() if key not in ("reason", "revision")}
    elif "revision" not in values:  # a draft quoted in prose is no revision
        return Revision(reason, {}, "missing_key:revision")
    if patch == {}:
        return Revision(reason, {}, "empty_revision")
    if patch is None or (isinstance(patch, str) and patch.strip().casefold() in _NOTHING):
        return Revision(reason, {}, None)
    if not isinstance(patch, dict):
        return Revision(reason, {}, "template_echo" if _is_template(patch) else "wrong_type:revision")
    changes, problems = _known_texts(keys, {key: value for key, value in patch.items() if not _is_no_text(value)})
    if any(_TEMPLATE_WORDS.fullmatch(text.strip()) for text in changes.values()):
        return Revision(reason, {}, "template_echo")
    problems += _key_problems(keys, patch)
    return Revision(reason, changes, problems[0] if problems else None)


def parse_tasks(raw: str, count: int, finished: bool | None = None) -> tuple[str, ...] | Problem:
    """Read tasks from a JSON list of texts, or from an object that holds one list.

    A list that never closes counts as cut off, whatever the server reports.

    Args:
        raw: The answer.
        count: Most tasks.
        finished: Whether the model ended by itself; None when that is unknown.

    Returns:
        At most `count` different tasks, each on one line, or the code of the problem: `cut_off`, `too_long`, `not_json`,
        `not_object`.
    """
    found = read_answer(raw, "[{", _task_list, lambda items: True, finished)
    if isinstance(found, str):
        return found
    tasks: dict[str, str] = {}
    for item in found[0]:
        if isinstance(item, str) and (task := " ".join(_clean(item).split())):
            tasks.setdefault(task.casefold(), task)
    return tuple(tasks.values())[:count]


def _task_list(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        lists = {key: item for key, item in value.items() if isinstance(item, list)}
        value = lists.get("tasks", next(iter(lists.values())) if len(lists) == 1 else None)
    return value if isinstance(value, list) and any(isinstance(item, str) for item in value) else None


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _is_no_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().casefold() in _NO_TEXT)


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and bool(_TEMPLATE_WORDS.search(value))


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
    doubled = ["doubled_key"] if isinstance(values, Doubled) else []
    return doubled + (["unknown_key"] if values.keys() - set(keys) else [])


def _content_problems(fields: Mapping[str, str | None]) -> list[Problem]:
    """What is wrong between the fields of a record."""
    query, positive, negative = (fields.get(name) for name in TRIPLET_FIELDS)
    problems = []
    # Punctuation counts here, for labels such as C, C# and C++ are different answers.
    if positive and negative and lower_case_text(without_number(positive)) == lower_case_text(without_number(negative)):
        problems.append("same_positive_negative")
    if query and positive and without_number(query).split() == without_number(positive).split():
        problems.append("copied_query")
    return problems


def words_stand_in(part: str, text: str, words_least: int) -> bool:
    """Whether the words of `part`, if there are enough of them, occur in `text` one after the other."""
    part = words_only(part)
    return part.count(" ") + 1 >= words_least and f" {part} " in f" {words_only(text)} "


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


def without_number(text: str) -> str:
    """Without the number or letter of an entry in a list: of two entries that differ in it alone, one repeats the other.

    >>> without_number("2. Old bridges"), without_number("(b) Old bridges"), without_number("2.5 million bridges")
    ('Old bridges', 'Old bridges', '2.5 million bridges')
    """
    return _ENTRY_NUMBER.sub("", text)


def lower_case_text(text: str) -> str:
    """Lower case, single spaces; punctuation stays."""
    return " ".join(text.casefold().split())


def words_only(text: str) -> str:
    """Lower case words between single spaces; of a text without words, its characters."""
    return _PUNCTUATION.sub(" ", text.casefold()).strip() or lower_case_text(text)
