"""The JSON value in a model's answer: thoughts and drafts are skipped, small errors are repaired.

An answer that was cut off has no value: a repair would close half a text, and the generator would learn half texts. The
server's report (`finished`) counts first; without one, brackets that never close show it.

Every reader takes any string and ends in bounded time: texts longer than `MAX_CHARACTERS` are rejected, the scans are linear
or bounded in number, and repair, which is not, is tried only where `_repairable` says it is cheap.

Belongs here: finding and decoding JSON in a text. Not here: what the value means (`parsing.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

MAX_CHARACTERS = 200_000
"""Longer answers are rejected unread (our choice: some fifty times what an answer of 800 tokens has)."""
MAX_REPAIRED = 20_000
"""Longer answers are not repaired (our choice: the repair is meant for slips, and slower than reading)."""
MAX_REPAIR_BRACKETS = 16
MAX_REPAIR_WORK = 2_000_000
"""Texts with more than `MAX_REPAIR_BRACKETS` opening brackets, or with a larger product of characters and punctuation
marks than `MAX_REPAIR_WORK`, are not repaired: json_repair reads ahead to the end of the text from each mark. 20,000 characters of `{a:` took it over a minute; within these limits the
worst of some 5,000 hostile texts took 1 s. An answer of 800 tokens has about 4,000 characters and 150 marks."""
MAX_STARTS = 64
"""Opening brackets from which a value is looked for in a text whose brackets do not match (our choice)."""

Problem = str
"""A short stable code to group by, e.g. `not_json`, `missing_key:label`, `out_of_range:best`."""
CUT_OFF = "cut_off"
"""Problem of an answer that ends before its end: at a token limit, within a thought, within an object."""
UNREADABLE = ("not_json", "not_object", "too_long", CUT_OFF)

_T = TypeVar("_T")
_INVALID = object()
_BRACKETS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_MARK = re.compile(r"[^\w\s.]")
_FENCE = re.compile(r"```[\w-]*\s*")
_CLOSERS = {"{": "}", "[": "]"}
_THOUGHT = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_TAG = re.compile(
    rf"<\s*(/?)\s*(?:\w+:)?(?:{_THOUGHT})(?:\s+\w+=[^<>]{{0,80}})?\s*>|\[(/?)THINK\]|\u25c1(/?)think\u25b7"
    r"|<\|(?:START|(END))_THINKING\|>|<\|(?:begin|(end))_of_thought\|>",
    re.IGNORECASE,
)
"""Where a thought begins or, with any of the groups, ends: tags of most families, Mistral's, Kimi's, Cohere's, OpenThinker's."""
_FINAL_CHANNEL = re.compile(r"<\|channel\|>final[^<>]{0,40}(?:<\|constrain\|>[^<>]{0,40})?<\|message\|>")
"""What precedes the answer in OpenAI's harmony format (gpt-oss) when its special tokens are left in."""
_CHANNEL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>")
"""How a text in that format begins; without a final channel all of it is thought."""
_TEXT_ENDS = "\"'\u201d\u2019}]`"
"""Last characters of an object that lacks no more than brackets; after any other one its last text was cut off."""


class Doubled(dict[str, Any]):
    """A JSON object in which a key stood twice; the last value counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else Doubled(values)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_answer(
    raw: str,
    openers: str,
    accept: Callable[[Any], _T | None],
    is_complete: Callable[[_T], bool],
    finished: bool | None = None,
) -> tuple[_T, bool] | Problem:
    """The value that an answer ends in, and whether it took a repair to read it.

    Tried in turn: the complete text, the pieces in it that begin with one of `openers`, a repair. Of several pieces the last
    complete one counts, since models draft before they answer; without a complete one, the last that is accepted.

    Args:
        raw: the model's text.
        openers: the brackets that a value may begin with, `{` or `[{`.
        accept: the value as the caller wants it, None for one that is nothing of the kind.
        is_complete: Whether an accepted value has all the keys that the prompt asks for.
        finished: True when the model ended by itself, False when it was cut off at a limit, None when that is unknown.

    Returns:
        (value, repaired), or a problem: `cut_off`, `too_long`, `not_json`, `not_object`.
    """
    if finished is False:
        return CUT_OFF
    if len(raw) > MAX_CHARACTERS:
        return "too_long"
    text = _unfenced(raw)
    decoded = _strict(text)
    if decoded is _INVALID:
        answer = without_thoughts(text)
        if answer is None:
            return CUT_OFF
        text = _unfenced(answer)
        decoded = _strict(text)
    if decoded is not _INVALID:
        found = _inside(decoded, accept, is_complete)
        return "not_object" if found is None else (found, False)
    return _read_pieces(raw, text, openers, accept, is_complete, finished)


def _read_pieces(
    raw: str,
    text: str,
    openers: str,
    accept: Callable[[Any], _T | None],
    is_complete: Callable[[_T], bool],
    finished: bool | None,
) -> tuple[_T, bool] | Problem:
    """As `read_answer`, of a `text` that is `raw` without its thoughts and is not JSON itself."""
    pieces, closed, in_text = _balanced(text, openers)
    if not closed and (finished is None or in_text or text.rstrip()[-1:] not in _TEXT_ENDS):
        return CUT_OFF  # a server may say `stop` where its own context, or a proxy, cut the text
    partial: _T | None = None
    for piece in reversed(pieces):
        accepted = _inside(_strict(piece), accept, is_complete)
        if accepted is not None and is_complete(accepted):
            return accepted, False
        if partial is None and accepted:  # an empty one is more likely a stray {} in prose
            partial = accepted
    for value in _from_any_start(text, openers):
        if (accepted := accept(value)) is not None and is_complete(accepted):
            return accepted, False
    if partial is not None:
        return partial, False
    if finished is None and _TAG.search(raw):
        return CUT_OFF  # a tag may have stood in a text that was cut: what is left of it is not to be repaired
    start = min((at for opener in openers if (at := text.find(opener)) >= 0), default=None)
    if start is None or len(text) > MAX_REPAIRED or not _repairable(text[start:]):
        return "not_json"
    repaired = _repaired(text[start:])
    for item in (repaired, *(repaired if isinstance(repaired, list) else ())):
        if accepted := accept(item):
            return accepted, True
    return "not_json"


def without_thoughts(text: str) -> str | None:
    """The text without the parts in thought tags; None where a thought never ends.

    A tag within a JSON value is text, not a thought. A closing tag without an opening one ends a thought that the chat
    template had begun.

    >>> without_thoughts('<think>{"a": 1}? No.</think>{"a": 2}')
    '{"a": 2}'
    """
    if final := list(_FINAL_CHANNEL.finditer(text)):
        text = text[final[-1].end() :]
    elif _CHANNEL.match(text):
        return None
    kept: list[str] = []
    at = 0
    while tag := _TAG.search(text, at):
        start = _first_bracket(text, at, tag.start())
        if start is not None and (end := _end_of_value(text, start)) > tag.start():
            kept.append(text[at:end])
            at = end
            continue
        if any(tag.groups()):  # a closing tag: all before it was thought
            kept, at = [], tag.end()
            continue
        closing = next((other for other in _TAG.finditer(text, tag.end()) if any(other.groups())), None)
        if closing is None:
            return None
        kept.append(text[at : tag.start()])
        at = closing.end()
    return "".join([*kept, text[at:]])


def begins_with_object(raw: str) -> bool:
    """Whether an answer, without fences and thoughts, begins with a JSON object. An object after prose may be a quotation."""
    return _unfenced(without_thoughts(_unfenced(raw)) or "").startswith("{")


def _first_bracket(text: str, start: int, end: int) -> int | None:
    found = [at for opener in "{[" if (at := text.find(opener, start, end)) >= 0]
    # `[THINK]` itself begins with a bracket, and is none of a value's: `end` is where the tag begins.
    return min(found, default=None)


def _end_of_value(text: str, start: int) -> int:
    """Where the JSON value that begins at `start` ends; -1 where none does."""
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return -1


def _unfenced(raw: str) -> str:
    text = raw.strip("\ufeff \t\r\n")
    if fence := _FENCE.match(text):
        text = text[fence.end() :].removesuffix("```").rstrip()
    return text


def _strict(text: str) -> Any:
    """The value of a JSON text, or `_INVALID`. A number too long to convert and too deep a nesting are invalid too."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _INVALID


def _inside(decoded: Any, accept: Callable[[Any], _T | None], is_complete: Callable[[_T], bool]) -> _T | None:
    """The value itself, or the last complete one that it merely wraps (`{"example": {...}}`, `[{...}]`)."""
    accepted = None if decoded is _INVALID else accept(decoded)
    if accepted is not None and is_complete(accepted):
        return accepted
    wrapped = decoded.values() if isinstance(decoded, dict) else decoded if isinstance(decoded, list) else ()
    for item in reversed(list(wrapped)):
        inner = accept(item)
        if inner is not None and is_complete(inner):
            return inner
    return accepted


def _balanced(text: str, openers: str) -> tuple[list[str], bool, bool]:
    """Pieces from an opening bracket to its closing one, outermost only; whether every bracket is closed; whether the end is in a string.

    Brackets in strings do not count.
    """
    closers = [_CLOSERS[opener] for opener in openers]
    pieces: list[str] = []
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
                pieces.append(text[start : match.end()])
    return pieces, depth == 0, quoted


def _from_any_start(text: str, openers: str) -> Iterator[Any]:
    """Values that begin at one of the last `MAX_STARTS` opening brackets, the last one first."""
    starts = [match.start() for match in re.finditer(f"[{re.escape(openers)}]", text)]
    for start in reversed(starts[-MAX_STARTS:]):
        try:
            yield _DECODER.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue


def _repairable(text: str) -> bool:
    return (
        text.count("{") + text.count("[") <= MAX_REPAIR_BRACKETS
        and len(text) * len(_MARK.findall(text)) <= MAX_REPAIR_WORK
    )


def _repaired(text: str) -> Any:
    import json_repair  # with the first damaged answer only: definitions load without it

    try:
        return json_repair.repair_json(text, return_objects=True, skip_json_loads=True)
    except Exception:  # a third party's parser on hostile text: whatever it trips over, there is no record in it
        return None
