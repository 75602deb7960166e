"""Topics from topic files, the one input that users write by hand; every line is checked, and no line is lost.

Every line ends as a `Topic`, as a `RefusedLine` with its reason, or is a comment or the header of a table.

Belongs here: formats, normal form, shortening, refusals. Not here: the disk, limits (the recipe's),
how few topics are too few (the recipe's), the phrase that a prompt or a language makes of a topic.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

COLUMNS = ("path", "topic", "name", "category")
"""Columns of a table that may hold the topics; the first of these that a table has is read."""

SHOWN_CHARACTERS = 200
"""Characters of a refused line that are kept to show it."""

BYTES_MAX = 200_000_000
"""Maximum bytes of a topic file, unpacked (ours: the Open Directory has 80 MB)."""

LINES_MAX = 5_000_000
"""Maximum lines of a topic file (ours: five times the Open Directory's; a million take about 3 seconds)."""

_TOO_MANY = f"the file has more than {LINES_MAX:,} lines. Split it, or choose topics"
_LINE_END = re.compile(r"\r\n|\r|\n")
# Control characters, bytes that are not UTF-8 (as surrogateescape leaves them), what is not UTF-16 (as "replace" does).
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\udc80-\udcff\ufffd]")
_HASHTAG = re.compile(r"#\w+")
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
    comments: int = 0
    """Lines that are comments."""
    summary: str = ""
    """How the file was read, in words: its form, and what separates levels."""


@dataclass(slots=True)
class _Form:
    """How a file is read."""

    delimiter: str = ""
    """Of a table; empty for a file with one topic a line."""
    column: int = 0
    comments: int = 0
    special: set[str] = field(default_factory=set)
    """What distinguishes the file from one that all versions of this reader read alike."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A line that is neither comment nor header; `cell` is what should be a topic, None if its column is missing."""

    line: int
    text: str
    cell: str | None


def read_topics(raw: bytes, *, max_levels: int, max_characters: int) -> TopicReading:
    """Read a topic file in any of its formats, detected by content; time is linear in the bytes.

    Paths are Open Directory style (`Top/Arts/Music/Chamber_Music`), IAB style (`Arts > Music > Chamber Music`)
    or plain phrases, one a line. They stand in a text, where `#` opens a comment line (`#MeToo`, one word, is a topic), or in
    a table separated by tabs, commas or semicolons whose header has one of `COLUMNS`. UTF-8, or UTF-16 with a byte order
    mark; also gzipped.

    What separates levels is decided for the file: ` > `, `/`, or nothing where few lines have a slash and no two of them
    share a first level (`AC/DC` among plain phrases); a slash is then written `-`.

    `max_levels` >= 1: deeper paths are shortened (see `shorten`). `max_characters`: longer ones are refused.
    Of topics that are equal but for case, the first line wins.

    Raises `TopicError` when the file is empty or binary or has no usable topic.

    >>> read_topics(b"Top/Arts/Chamber_Music", max_levels=4, max_characters=200).topics
    (Topic(line=1, path='Arts/Chamber Music', topic='Arts/Chamber Music'),)
    """
    form, rows = _read(raw)
    separator = _separator([row.cell for row in rows if row.cell])
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
        raise TopicError(f"no usable topic{why}. {_hint(refused)}Write one topic a line, such as Arts/Music/Violins")
    return TopicReading(tuple(topics), tuple(refused), form.comments, _summary(form, separator, refused))


def special_form(raw: bytes) -> str:
    """What distinguishes a topic file from one that all versions of this reader read alike; empty where nothing does."""
    try:
        form, rows = _read(raw)
    except TopicError:
        return ""
    cells = [row.cell for row in rows if row.cell]
    whole = _separator(cells) is None and any("/" in cell for cell in cells)
    return ", ".join(sorted(form.special | ({"whole"} if whole else set())))


def _summary(form: _Form, separator: Separator | None, refused: Sequence[RefusedLine]) -> str:
    kinds = {"": "one topic a line", "\t": "a table separated by tabs"}
    kind = kinds.get(form.delimiter, f"a table separated by {form.delimiter}")
    levels = f"levels separated by {separator}" if separator else "each line is one level"
    return f"{kind}; {levels}; {form.comments} comment lines. {_hint(refused)}".strip()


def _hint(refused: Sequence[RefusedLine]) -> str:
    """What to do about lines in another encoding."""
    foreign = sum(line.reason.startswith("not UTF-8") for line in refused)
    return (
        f"{foreign} lines are not UTF-8, perhaps Latin-1 or Windows-1252: save the file as UTF-8. " if foreign else ""
    )


def shorten(levels: Sequence[str], max_levels: int) -> tuple[str, ...]:
    """The first and the last half of a deep path, `max_levels` in all (SPEED, arXiv 2410.18634, section 3.2).

    An odd number leaves the larger half at the end, where a path is specific.

    Raises:
        ValueError: `max_levels` is below 1.

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
    if len(raw) > BYTES_MAX:
        raise TopicError(f"the file has more than {BYTES_MAX:,} bytes. Split it, or choose topics")
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


def _read(raw: bytes) -> tuple[_Form, list[_Row]]:
    """The form of a file, and every line but comments and the header."""
    form = _Form()
    if raw.startswith(b"\x1f\x8b"):
        form.special.add("gzip")
        raw = _unpacked(raw)
    return form, list(_rows(_decode(raw), form))


def _unpacked(raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            return packed.read(BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TopicError(
            f"the gzip file is cut or damaged ({error}). Save it as plain text, or pack it again"
        ) from None


def _rows(text: str, form: _Form) -> Iterator[_Row]:
    """Every line but comments and the header. Line ends are LF, CRLF and CR; the last one opens no line."""
    if text.count("\n") + text.count("\r") > 2 * LINES_MAX:  # a CRLF counts as two
        raise TopicError(_TOO_MANY)
    lines = _LINE_END.split(text)
    if len(lines) > LINES_MAX + 1:
        raise TopicError(_TOO_MANY)
    if not lines[-1]:
        lines.pop()
    may_be_header = True
    for number, line in enumerate(lines, 1):
        plain = line.strip()
        if form.delimiter:
            yield _Row(number, line, _cell(line, form))
        elif not plain:
            yield _Row(number, line, plain)
        elif plain.startswith("#") and not _HASHTAG.fullmatch(plain):
            form.comments += 1
        else:
            is_header = may_be_header and _find_column(line, form)
            may_be_header = False
            if not is_header:
                if plain.startswith("#"):
                    form.special.add("hashtag")
                yield _Row(number, line, plain)


def _cell(line: str, form: _Form) -> str | None:
    """The cell of the topic in a line of a table; None where the line is too short."""
    cells = line.split(form.delimiter)
    if '"' in line:
        try:
            quoted = next(csv.reader([line], delimiter=form.delimiter, strict=True), [])
        except csv.Error:
            quoted = cells  # an open quote, or one within a cell: as it is written
        if form.delimiter == "\t" and quoted != cells:
            form.special.add("quoted")
        cells = quoted
    return cells[form.column].strip() if form.column < len(cells) else None


def _find_column(header: str, form: _Form) -> bool:
    """Whether a line is the header of a table; `form` then has its delimiter and the column to read."""
    for delimiter in ("\t", ",", ";"):
        names = [name.strip().strip('"').strip().casefold() for name in header.split(delimiter)]
        found = next((names.index(name) for name in COLUMNS if name in names), None)
        if found is None:
            continue
        if len(names) == 1:
            form.special.add("header")
        else:
            form.delimiter, form.column = delimiter, found
            if delimiter != "\t" or '"' in header:
                form.special.add("table")
        return True
    return False


def _separator(cells: Sequence[str]) -> Separator | None:
    """What separates the levels throughout the file: the separator that more of its lines have; None where slashes are part
    of names."""
    arrows = sum(" > " in cell for cell in cells)
    slashes = [cell for cell in cells if "/" in cell and " > " not in cell]
    if arrows > len(slashes):
        return ">"
    return None if slashes and not _is_tree(slashes, cells) else "/"


def _is_tree(slashes: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether lines with slashes are paths: half of all lines, or a line with several, or with a first level that recurs."""
    if 2 * len(slashes) >= len(cells) or any(cell.count("/") > 1 or cell.startswith("Top/") for cell in slashes):
        return True
    firsts = [cell.partition("/")[0].strip().casefold() for cell in slashes]
    return len(set(firsts)) < len(firsts) or not {cell.casefold() for cell in cells}.isdisjoint(firsts)


def _levels(row: _Row, separator: Separator | None, max_characters: int) -> tuple[str, ...]:
    """The levels of a line in normal form: NFC, single spaces, no underscores, no `/`, no root `Top`."""
    if not row.text.strip():
        raise _Refusal("blank")
    if not row.cell:
        raise _Refusal("empty column" if row.cell is not None else "missing column")
    _check_length(row.cell, max_characters)  # first of all: later steps may not be linear in one line's length
    _check_characters(row.cell)
    text = unicodedata.normalize("NFC", row.cell).replace("_", " ")
    levels = [" ".join(level.split()).replace("/", "-") for level in (text.split(separator) if separator else [text])]
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
