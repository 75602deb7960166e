"""Topics from topic files, the one input that users write by hand; every line is checked, and no line is lost.

Every line ends as a `Topic`, as a `RefusedLine` with its reason, or is a comment or the header of a table.

Belongs here: formats, normal form, shortening, refusals. Not here: the disk, limits (the recipe's),
how few topics are too few (the recipe's), the phrase that a prompt or a language makes of a topic.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

COLUMNS = ("path", "topic", "name", "category")
"""Columns of a table that may hold the topics; the first of these that a table has is read."""

SHOWN_CHARACTERS = 200
"""Characters of a refused line that are kept to show it."""

_LINE_END = re.compile(r"\r\n|\r|\n")
# Control characters, bytes that are not UTF-8 (as surrogateescape leaves them), what is not UTF-16 (as "replace" does).
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\udc80-\udcff\ufffd]")
_JOINERS = "\u200c\u200d"  # invisible, but Persian, Indic scripts and emoji are spelt with them

Separator = Literal["/", ">"]


class TopicError(ValueError):
    """A topic file without a usable line; the message states why, and what to do."""


class _Refusal(Exception):
    """Why one line is no topic."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `line` counts from 1; `path` holds all levels, `topic` those kept, both joined by `/`."""

    line: int
    path: str
    topic: str


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that is no topic: its number from 1, its text (printable, cut to 200 characters) and why."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class TopicReading:
    """What a topic file holds, in the order of its lines."""

    topics: tuple[Topic, ...]
    refused: tuple[RefusedLine, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """A line that is neither comment nor header; `cell` is what should be a topic, None if its column is missing."""

    line: int
    text: str
    cell: str | None


def read_topics(raw: bytes, *, max_levels: int, max_characters: int) -> TopicReading:
    """Read a topic file in any of its formats, detected by content; time is linear in the bytes.

    Paths are Open Directory style (`Top/Arts/Music/Chamber_Music`), IAB style (`Arts > Music > Chamber Music`)
    or plain phrases, one a line. They are in a text file, where `#` opens a comment line, or in a table separated
    by tabs (no quoting) whose header has one of `COLUMNS`. UTF-8, or UTF-16 with a byte order mark.

    `max_levels` >= 1: deeper paths are shortened (see `shorten`). `max_characters`: longer ones are refused.
    Of topics that are equal but for case, the first line wins.

    Raises `TopicError` when the file is empty or binary or has no usable topic.

    >>> read_topics(b"Top/Arts/Chamber_Music", max_levels=4, max_characters=200).topics
    (Topic(line=1, path='Arts/Chamber Music', topic='Arts/Chamber Music'),)
    """
    rows = list(_rows(_decode(raw)))
    separator = _separator(row.cell for row in rows if row.cell)
    topics: list[Topic] = []
    refused: list[RefusedLine] = []
    first_line: dict[str, int] = {}
    for row in rows:
        try:
            levels = _levels(row, separator, max_characters)
            topic = "/".join(shorten(levels, max_levels))
            first = first_line.setdefault(topic.casefold(), row.line)
            if first != row.line:
                raise _Refusal(f"duplicate of line {first}")
            topics.append(Topic(row.line, "/".join(levels), topic))
        except _Refusal as refusal:
            refused.append(RefusedLine(row.line, _printable(row.text), str(refusal)))
    if not topics:
        example = next((line for line in refused if line.reason != "blank"), None)
        why = f"; line {example.line} is refused: {example.reason}" if example else ""
        raise TopicError(f"no usable topic{why}. Write one topic a line, such as Arts/Music/Violins")
    return TopicReading(tuple(topics), tuple(refused))


def shorten(levels: Sequence[str], max_levels: int) -> tuple[str, ...]:
    """The first and the last half of a deep path, `max_levels` in all (SPEED, arXiv 2410.18634, section 3.2).

    An odd number leaves the larger half at the end, where a path is specific.

    >>> shorten(("Arts", "Movies", "Titles", "3", "36 Hours", "Cast"), 4)
    ('Arts', 'Movies', '36 Hours', 'Cast')
    """
    if max_levels < 1:
        raise ValueError(f"max_levels is {max_levels}: at least one level must be kept")
    if len(levels) <= max_levels:
        return tuple(levels)
    first = max_levels // 2
    return (*levels[:first], *levels[first - max_levels :])


def _decode(raw: bytes) -> str:
    """The file's text; bytes that do not fit the encoding become marks that `_check_characters` finds."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", "replace")
    else:
        text = raw.decode("utf-8-sig", "surrogateescape")
    if not text.strip():
        raise TopicError("the file is empty. Write one topic a line, such as Arts/Music/Violins")
    if "\0" in text:
        raise TopicError(
            "the file holds NUL characters: it is binary, or in UTF-16 or UTF-32 without a usable byte order mark. "
            "Save it as plain text in UTF-8"
        )
    if 2 * sum(1 for _ in _NOT_TEXT.finditer(text)) > len(text):
        raise TopicError(
            "most of the file is not text: it is binary or compressed, or in another encoding than UTF-8. "
            "Save it as plain text in UTF-8"
        )
    return text


def _rows(text: str) -> Iterator[_Row]:
    """Every line but comments and the header. Line ends are LF, CRLF and CR; the last one opens no line."""
    lines = _LINE_END.split(text)
    if not lines[-1]:
        lines.pop()
    column: int | None = None
    may_be_header = True
    for number, line in enumerate(lines, 1):
        plain = line.strip()
        if column is not None:
            cells = line.split("\t")
            yield _Row(number, line, cells[column].strip() if column < len(cells) else None)
        elif not plain:
            yield _Row(number, line, plain)
        elif not plain.startswith("#"):
            column = _topic_column(line) if may_be_header else None
            may_be_header = False
            if column is None:
                yield _Row(number, line, plain)


def _topic_column(header: str) -> int | None:
    """Which column of a table to read; None when the line is no header of a table."""
    names = [name.strip().casefold() for name in header.split("\t")]
    return next((names.index(name) for name in COLUMNS if name in names), None) if len(names) > 1 else None


def _separator(cells: Iterable[str]) -> Separator:
    """What parts the levels throughout the file: the separator that more of its lines show."""
    votes = 0
    for cell in cells:
        if " > " in cell:
            votes += 1
        elif "/" in cell:
            votes -= 1
    return ">" if votes > 0 else "/"


def _levels(row: _Row, separator: Separator, max_characters: int) -> tuple[str, ...]:
    """The levels of a line in normal form: NFC, single spaces, no underscores, no `/`, no root `Top`."""
    if not row.text.strip():
        raise _Refusal("blank")
    if not row.cell:
        raise _Refusal("empty column" if row.cell is not None else "missing column")
    _check_length(row.cell, max_characters)  # first of all: later steps may not be linear in one line's length
    _check_characters(row.cell)
    text = unicodedata.normalize("NFC", row.cell).replace("_", " ")
    levels = [" ".join(level.split()).replace("/", "-") for level in text.split(separator)]
    if not all(levels):
        raise _Refusal(f"empty level {levels.index('') + 1} of {len(levels)}")
    if separator == "/" and levels[0] == "Top":
        del levels[0]
    if not levels:
        raise _Refusal("only the root of the Open Directory: no level below Top")
    if not any(character.isalnum() for character in levels[-1]):
        raise _Refusal("no letter or digit in the last level")
    _check_length("/".join(levels), max_characters)  # NFC may have added some
    return tuple(levels)


def _check_length(text: str, max_characters: int) -> None:
    if len(text) > max_characters:
        raise _Refusal(f"too long: {len(text)} characters, {max_characters} are allowed")


def _check_characters(text: str) -> None:
    for character in text:
        if "\udc80" <= character <= "\udcff":
            raise _Refusal(f"not UTF-8: byte 0x{ord(character) - 0xDC00:02X}")
        if character == "\ufffd":
            raise _Refusal("damaged text: U+FFFD stands where a character was lost")
        if character == "\t":
            raise _Refusal(f"a tab, but the file's first line names no column {', '.join(COLUMNS)}")
        if not (character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"):
            raise _Refusal(f"control, invisible or unassigned character U+{ord(character):04X}")


def _printable(text: str) -> str:
    """The beginning of a line, safe to print: what is not printable is written as an escape."""
    shown = text[:SHOWN_CHARACTERS]
    if shown.isprintable():
        return shown
    shown = shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    safe = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return "".join(safe)[:SHOWN_CHARACTERS]
