# ruff: noqa: RUF001 - the ends of sentences in several scripts
"""Documents -> passages: what of a corpus rows are written from, and no word of it lost without a reason.

A document is a list of blocks, a heading or a paragraph each. Boilerplate (lines that many documents share) goes first. The
rest is cut at headings, then between paragraphs, then between sentences, then between words or characters, so that a
passage with its title has at most so many tokens. Languages without spaces have their own sentence ends.

Belongs here: cutting, boilerplate, ids, which documents are held out. Not here: files (`resources/inputs/corpus_files.py`), a
tokenizer (`workers/cut_passages.py`), repeats (`near_duplicates.py`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from speed_assets.domain.fingerprints import digest, short_id

Count = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, without the special tokens at its ends."""

_SPACES = re.compile(r"\s+")
_DIGITS = re.compile(r"\d+")
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])[\"'”’»)\]]*\s+(?=[^\s\Wa-z]|[\"'“‘«(\[¿¡])"  # Latin, Cyrillic, Greek: an end, a space, no small letter
    r"|(?<=[。！？｡])[」』”’）]*\s*"  # Chinese and Japanese: no space needed
    r"|(?<=[।॥؟۔።])\s*"  # Devanagari, Arabic, Urdu, Ethiopic
    r"|(?<=[.!?])\s+(?=[\u0900-\u0dff\u0e00-\u0fff\u0590-\u06ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|[Ss]t|e\.g|i\.e|cf|vs|[Nn]o|[Ff]ig|[Ee]q|[Vv]ol|pp|al)\.$"
)
_JOINT = " > "
_TIES = 1
"""Tokens that joining two pieces may add: a tokenizer may read a space as one of its own."""


@dataclass(frozen=True, slots=True)
class Block:
    """A heading (its level, 1 to 6) or a paragraph (0) of a document. Line breaks of the source are still there."""

    text: str
    heading: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """One document as it was read."""

    document_id: str
    file: str
    title: str
    date: str | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, as it is embedded. `place` counts the passages of a document from 0."""

    passage_id: str
    document_id: str
    place: int
    title: str
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A piece of a document that is in no passage."""

    document_id: str
    file: str
    reason: str
    detail: str
    text: str


@dataclass(frozen=True, slots=True)
class Cut:
    """How documents are cut. Fields as in the recipe's section `corpus`."""

    tokens_max: int
    tokens_min: int
    titled: bool = True
    """A passage begins with the title of its document and the headings above it."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that is not cut further, its tokens, and what joins it to the piece before."""

    text: str
    tokens: int
    joint: str


def line_key(line: str) -> str:
    """What makes two lines the same for boilerplate: letters without case, any number for any other.

    >>> line_key("  Page 3 of 12 ") == line_key("page 4 of 12")
    True
    """
    return _DIGITS.sub("0", _SPACES.sub(" ", line).strip().casefold())


def boilerplate_lines(documents: Iterable[Document], share: float, documents_min: int) -> set[str]:
    """Keys of the lines that stand in at least this share of the documents, and in at least `documents_min` of them.

    Args:
        documents: all documents of the corpus.
        share: 0..1, of the documents.
        documents_min: fewest documents, so that a small corpus loses no sentence for standing in two of three.
    """
    counts: Counter[str] = Counter()
    total = 0
    for document in documents:
        total += 1
        lines = (line for block in document.blocks for line in block.text.splitlines())
        counts.update({key for line in lines if (key := line_key(line))})
    least = max(documents_min, math.ceil(share * total))
    return {key for key, count in counts.items() if count >= least}


def without_boilerplate(document: Document, lines: set[str]) -> tuple[Document, list[Dropped]]:
    """The document without these lines, and what was taken out. A title is never boilerplate."""
    blocks: list[Block] = []
    dropped: list[str] = []
    for block in document.blocks:
        kept: list[str] = []
        for line in block.text.splitlines():
            (dropped if line_key(line) in lines else kept).append(line)
        if text := "\n".join(kept).strip():
            blocks.append(Block(text, block.heading))
    taken = [
        Dropped(document.document_id, document.file, "boilerplate", "stands in many documents", line)
        for line in dropped
    ]
    return Document(document.document_id, document.file, document.title, document.date, tuple(blocks)), taken


def cut(document: Document, by: Cut, count: Count) -> tuple[list[Passage], list[Dropped]]:
    """The passages of a document in their order, and what is in none of them.

    Args:
        document: as it was read, without boilerplate.
        by: the budget.
        count: tokens of texts.

    Returns:
        Passages of at most `by.tokens_max` tokens, title included, and of at least `by.tokens_min`, but for what stands
        alone under a heading of a document that ends there; pieces too short for a passage.
    """
    passages: list[Passage] = []
    dropped: list[Dropped] = []
    there: set[str] = set()
    for head, pieces in _sections(document, by, count):
        room = by.tokens_max - head.tokens
        for text, tokens in _packed(pieces, room, by.tokens_min):
            if tokens < by.tokens_min:
                detail = f"{tokens} tokens, corpus.tokens_min is {by.tokens_min}"
                dropped.append(Dropped(document.document_id, document.file, "too_short", detail, text))
                continue
            wording = f"{head.text}\n{text}" if head.text else text
            passage_id = short_id("passage", document.document_id, wording)
            if passage_id in there:
                detail = "stands in the same document before"
                dropped.append(Dropped(document.document_id, document.file, "duplicate", detail, text))
                continue
            there.add(passage_id)
            passages.append(
                Passage(passage_id, document.document_id, len(passages), document.title, wording, head.tokens + tokens)
            )
    return passages, dropped


def _sections(document: Document, by: Cut, count: Count) -> Iterator[tuple[_Piece, list[_Piece]]]:
    """(what stands before each passage, its pieces) of every section; one that is too short for a passage goes with the next
    one, the last with the one before, under the headings that they share."""
    groups: list[list[tuple[list[str], list[_Piece]]]] = []
    full = True
    for headings, paragraphs in _by_heading(document.blocks):
        pieces = [piece for text in paragraphs for piece in _pieces(text, by, count)]
        if full:
            groups.append([])
        groups[-1].append((headings, pieces))
        full = sum(piece.tokens for _, own in groups[-1] for piece in own) >= by.tokens_min
    if not full and len(groups) > 1:
        last = groups.pop()
        groups[-1].extend(last)
    title = _line(document.title)
    for group in groups:
        above = list(group[0][0])
        for headings, _ in group[1:]:
            same = [a == b for a, b in zip(above, headings, strict=False)]
            above = above[: same.index(False) if False in same else len(same)]
        joined: list[_Piece] = []
        for headings, pieces in group:
            if below := headings[len(above) :]:
                joined += _pieces(_JOINT.join(below), by, count)
            joined += pieces
        yield _head(title, above, by, count), joined


def _by_heading(blocks: Sequence[Block]) -> Iterator[tuple[list[str], list[str]]]:
    """(headings above, paragraphs) of each stretch without a heading in it."""
    path: list[tuple[int, str]] = []
    paragraphs: list[str] = []
    for block in blocks:
        if not block.heading:
            paragraphs.append(block.text)
            continue
        if paragraphs:
            yield [text for _, text in path], paragraphs
            paragraphs = []
        path = [(level, text) for level, text in path if level < block.heading]
        path.append((block.heading, _line(block.text)))
    if paragraphs:
        yield [text for _, text in path], paragraphs


def _head(title: str, headings: Sequence[str], by: Cut, count: Count) -> _Piece:
    """The line before a passage: title and headings, each once; the deepest ones only where they would take half the room."""
    names = list(dict.fromkeys(name for name in (title, *headings) if name)) if by.titled else []
    while names:
        text = _JOINT.join(names)
        tokens = count([text])[0] + _TIES
        if 2 * tokens <= by.tokens_max:
            return _Piece(text, tokens, "")
        names.pop(1 if len(names) > 1 else 0)
    return _Piece("", 0, "")


def _line(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph, found by their ends; joined by spaces or nothing they are the paragraph again.

    >>> sentences("Dr. Ray came. He saw 3.5 m. 猫です。犬です。")
    ['Dr. Ray came.', 'He saw 3.5 m.', '猫です。', '犬です。']
    """
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        wording = text[start:end].strip()
        if not wording or _ABBREVIATION.search(wording):
            continue
        found.append(wording)
        start = end
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def _pieces(paragraph: str, by: Cut, count: Count) -> list[_Piece]:
    """A paragraph as pieces that each fit into half of the budget, sentences where possible. The first is joined by a line
    break, sentences by a space where their language has one."""
    text = _line(paragraph)
    if not text:
        return []
    most = max(1, by.tokens_max // 2)
    wording = sentences(text)
    pieces: list[_Piece] = []
    place = 0
    for sentence, tokens in zip(wording, count(wording), strict=True):
        at = text.index(sentence, place)
        joint = "\n" if not pieces else " " if at > place else ""
        place = at + len(sentence)
        if tokens <= most:
            pieces.append(_Piece(sentence, tokens, joint))
        else:
            parts = _halved(sentence, tokens, most, count)
            pieces += [
                _Piece(part.text, part.tokens, part.joint if number else joint) for number, part in enumerate(parts)
            ]
    return pieces


def _halved(text: str, tokens: int, most: int, count: Count) -> list[_Piece]:
    """A sentence without end, cut in the middle again and again: at the space that is nearest, else between characters."""
    if tokens <= most or len(text) < 2:
        return [_Piece(text, tokens, "")]
    middle = len(text) // 2
    spaces = [at for at in (text.rfind(" ", 1, middle), text.find(" ", middle, -1)) if at > 0]
    near = [at for at in spaces if abs(at - middle) <= len(text) // 4]
    at = min(near, key=lambda place: abs(place - middle)) if near else middle
    left, right = text[:at], text[at:].lstrip()
    joint = " " if near else ""
    sizes = count([left, right])
    first, second = _halved(left, sizes[0], most, count), _halved(right, sizes[1], most, count)
    return [*first, _Piece(second[0].text, second[0].tokens, joint), *second[1:]]


def _packed(pieces: Sequence[_Piece], room: int, least: int) -> Iterator[tuple[str, int]]:
    """(text, tokens) of passages of as many pieces as fit; they share out their pieces so that the last is no rest."""
    total = sum(piece.tokens + _TIES for piece in pieces)
    passages = max(1, math.ceil(total / room))
    wanted = min(room, max(least, math.ceil(total / passages)))
    texts: list[str] = []
    size = done = 0
    for piece in pieces:
        tokens = piece.tokens + _TIES
        left = total - done
        if texts and (size + tokens > room or (size >= wanted and left >= least)):
            yield "".join(texts), size
            texts, size = [], 0
        texts.append(f"{piece.joint}{piece.text}" if texts else piece.text)
        size += tokens
        done += tokens
    if texts:
        yield "".join(texts), size


def held_out(document_id: str, seed: int, share: float) -> bool:
    """Whether a document is kept for evaluation: by a hash of its id, so that other documents change nothing.

    Args:
        document_id: of the corpus.
        seed: of the recipe.
        share: 0..1, of the documents.
    """
    return int(digest([seed, "held out documents", document_id])[:13], 16) < share * 16**13
