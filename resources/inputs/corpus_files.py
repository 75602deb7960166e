"""The documents of a corpus: files of texts in a folder, or tables with a document in each row.

Every file and row ends as a `Document`, or in the list of what was refused with its file and reason. Links are not followed,
sizes are bounded, and a file that cannot be read costs itself alone.

Hidden state of the process: digests of the last four corpora are cached by path, size and times of all their files.

Belongs here: finding files, encodings, tables, ids, titles and dates. Not here: what the text in one file is
(`document_formats.py`), cutting (`domain/passages.py`).
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.document_formats import READERS, Read, Unreadable
from resources.inputs.parquet_bounds import check_parquet
from resources.inputs.table_lines import Broken, read_json_lines, separated_fault
from resources.store.manifests import file_digest
from speed_assets.domain.fingerprints import digest, short_id
from speed_assets.domain.passages import Block, Document, Dropped
from speed_assets.recipe import RecipeError

TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of a table. Only `text` has to be there; several are joined as paragraphs."""

    text: tuple[str, ...] = ("text",)
    id: str = "id"
    title: str = "title"
    date: str = "date"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is read at most."""

    file_megabytes: float
    documents: int
    document_characters: int


@dataclass
class Reading:
    """What a corpus holds."""

    recipe_field: str = "corpus.path"
    """The field of the recipe that names it, for messages."""
    documents: list[Document] = field(default_factory=list)
    refused: list[Dropped] = field(default_factory=list)

    def refuse(self, file: str, reason: str, detail: str, document_id: str = "", text: str = "") -> None:
        """Record a file or row that is no document.

        Args:
            file: Its name below the corpus.
            reason: One word, by which refusals are counted.
            detail: What is wrong, and what to do where that is known.
            document_id: The row's id; without one, the file's name is used.
            text: Its text, of which 1,000 characters are kept.
        """
        self.refused.append(Dropped(document_id or file, file, reason, detail, text[:1000]))


def read_corpus(
    path: Path, columns: Columns, encoding: str, bounds: Bounds, field: str = "corpus.path", named: str | None = None
) -> Reading:
    """All documents below `path`, or in the one file that it is, in order of file and row.

    Args:
        path: a folder or a file.
        columns: of tables.
        encoding: of files of text without a byte order mark.
        bounds: what is read at most.
        field: of the recipe that names it, for messages.
        named: what the one file holds, such as the name of a data set; it stands for the file's name in documents and messages.

    Raises:
        RecipeError: when there is nothing at `path`, nothing that can be read, or more than `bounds.documents`.
    """
    if not path.exists():
        raise RecipeError(f"{field}: there is no file or folder {path}: correct the path")
    reading = Reading(field)
    seen: dict[str, str] = {}
    for file in corpus_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else named or file.name
        if not _is_text(name):
            reading.refuse(ascii(name)[1:-1], "bad_name", "its name is not UTF-8: rename the file")
            continue
        for document in _documents(file, name, columns, encoding, bounds, reading):
            if len(document.document_id) > 500:
                reading.refuse(name, "bad_id", "an id has 500 characters at most", document.document_id[:80])
            elif document.document_id in seen:
                detail = f"a document of this id is in {seen[document.document_id]} already"
                reading.refuse(name, "duplicate_id", detail, document.document_id)
            else:
                seen[document.document_id] = name
                reading.documents.append(document)
            _check_count(len(reading.documents), named or path, bounds, field)
    if not reading.documents:
        why = f"; {reading.refused[0].file} is refused: {reading.refused[0].detail}" if reading.refused else ""
        kinds = "" if named else f". Files that are read: {', '.join((*READERS, *TABLES))}"
        raise RecipeError(f"{field}: no document {'in' if named else 'below'} {named or path}{why}{kinds}")
    return reading


def read_file(file: Path, name: str, columns: Columns, encoding: str, bounds: Bounds) -> Reading:
    """The documents of one file of a corpus, however few.

    Args:
        file: to read.
        name: of the file below the corpus.
        columns: of tables.
        encoding: of a file of text without a byte order mark.
        bounds: what is read at most.

    Raises:
        RecipeError: it holds more than `bounds.documents`.
    """
    reading = Reading()
    reading.documents += _documents(file, name, columns, encoding, bounds, reading)
    return reading


def _check_count(documents: int, path: Path | str, bounds: Bounds, field: str) -> None:
    if documents > bounds.documents:
        raise RecipeError(
            f"{field}: {path} holds more than {bounds.documents:,} documents: raise corpus.documents_max, or "
            "name fewer documents"
        )


def _is_text(name: str) -> bool:
    """Whether a name can be written to a table: those that are not UTF-8 hold halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def corpus_files(path: Path) -> list[Path]:
    """The files below a folder in order of name, links among them; hidden ones are no part of a corpus."""
    if path.is_file():
        return [path]
    found = []
    for folder, folders, names in os.walk(path, followlinks=False):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        found += [Path(folder, name) for name in (*names, *links) if not name.startswith(".")]
    return sorted(found)


def corpus_digest(path: Path, field: str = "corpus.path") -> str:
    """sha256 over names and content of all files, and over the names of links, which are refused by name.

    Args:
        path: a folder or a file.
        field: of the recipe that names it, for messages.

    Raises:
        RecipeError: There is nothing at `path`.
    """
    if not path.exists():
        raise RecipeError(f"{field}: there is no file or folder {path}: correct the path")
    states, links = [], []
    for file in corpus_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if file.is_symlink() or not file.is_file():
            links.append(name)
            continue
        stat = file.stat()
        states.append((str(file), name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    content = content_digest(tuple(states))
    return digest([content, links]) if links else content


@lru_cache(maxsize=4)
def content_digest(states: tuple[tuple[str, str, int, int, int], ...]) -> str:
    """The digest of files in this state: a plan asks several times, and a corpus is large."""
    return digest([[name, file_digest(Path(file))] for file, name, *_ in states])


def _documents(
    file: Path, name: str, columns: Columns, encoding: str, bounds: Bounds, reading: Reading
) -> Iterator[Document]:
    """The documents of one file; what is none is noted as refused."""
    kind = file.suffix.lower()
    if file.is_symlink():
        reading.refuse(name, "link", "links are not followed: copy the file into the folder")
        return
    if not file.is_file() or (kind not in READERS and kind not in TABLES):
        reading.refuse(name, "unknown_kind", f"no reader of {kind or 'files without an ending'}")
        return
    size = file.stat().st_size
    if size > bounds.file_megabytes * MEGABYTE:
        detail = f"{size / MEGABYTE:.1f} MB, corpus.file_megabytes_max is {bounds.file_megabytes:g}"
        reading.refuse(name, "too_large", detail)
        return
    try:
        if kind in TABLES:
            if kind == ".parquet":
                check_parquet(file)
            broken = partial(_refuse_line, reading, name)
            yield from _rows(read_table(file, kind, encoding, broken), name, columns, bounds, reading)
        else:
            raw = file.read_bytes()
            read = READERS[kind](raw if kind == ".pdf" else decoded(raw, encoding))
            yield from _checked(name, name, read, bounds, reading)
    except RecipeError:
        raise
    except (ValueError, OSError, pl.exceptions.PolarsError) as error:
        reading.refuse(name, "unreadable", " ".join(str(error).split())[:500])


def _checked(document_id: str, name: str, read: Read, bounds: Bounds, reading: Reading) -> Iterator[Document]:
    size = sum(len(block.text) for block in read.blocks)
    if size > bounds.document_characters:
        detail = f"{size:,} characters, corpus.document_characters_max is {bounds.document_characters:,}"
        reading.refuse(name, "too_large", detail, document_id)
    elif not any(not block.heading and block.text.strip() for block in read.blocks):
        reading.refuse(name, "no_text", "there is no paragraph of text", document_id)
    else:
        title = " ".join(read.title.split())[:300]
        yield Document(document_id, name, title, read.date, tuple(read.blocks))


def decoded(raw: bytes, encoding: str, *, cut: bool = False) -> str:
    """The text of a file.

    Args:
        raw: its bytes.
        encoding: of a file without a byte order mark.
        cut: whether these are its first bytes only, whose last character may lack some.

    Raises:
        Unreadable: a byte is not in the encoding; the message names it and says what to do.
    """
    for mark, named in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if raw.startswith(mark):
            encoding = named
            break
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(raw) if cut else raw.decode(encoding)
    except UnicodeDecodeError as error:
        byte = raw[error.start : error.start + 1].hex()
        raise Unreadable(
            f"byte 0x{byte} at {error.start} is not {encoding}: save the file as UTF-8, or set the field `encoding` of its section"
        ) from None
    if "\0" in text:
        raise Unreadable(
            "the file holds NUL characters: it is no text, or not in the encoding that the field `encoding` of its section names"
        )
    return text


def read_table(file: Path, kind: str, encoding: str, broken: Broken | None = None) -> pl.DataFrame:
    """A table with every cell as it stands in the file.

    Args:
        file: to read, in full.
        kind: its ending, one of `TABLES`.
        encoding: of a file of text without a byte order mark.
        broken: takes every line of a JSONL file that is no row; with None the first such line refuses the file.

    Raises:
        Unreadable: its bytes are not in the encoding, it is empty, or a line is broken, whose number the message has.
        polars.exceptions.PolarsError: it is no table of that kind.
    """
    if kind == ".parquet":
        return pl.read_parquet(file)
    text = decoded(file.read_bytes(), encoding)
    if not text.strip():
        raise Unreadable("the file is empty")
    if kind == ".jsonl":
        return read_json_lines(text, broken)
    plain: dict[str, Any] = {} if kind == ".csv" else {"separator": "\t", "quote_char": None}
    try:
        return pl.read_csv(io.BytesIO(text.encode()), infer_schema=False, **plain)
    except pl.exceptions.PolarsError:
        settings = {} if kind == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
        if fault := separated_fault(text, settings):
            raise Unreadable(fault) from None
        raise


def _refuse_line(reading: Reading, name: str, why: str, line: str) -> None:
    reading.refuse(name, "unreadable", why, text=line)


def _rows(table: pl.DataFrame, name: str, columns: Columns, bounds: Bounds, reading: Reading) -> Iterator[Document]:
    missing = [column for column in columns.text if column not in table.columns]
    if missing:
        raise Unreadable(f"no column {', '.join(missing)}: it has {', '.join(table.columns)} (see corpus.columns.text)")
    named = {role: getattr(columns, role) for role in ("id", "title", "date")}
    there = {role: column for role, column in named.items() if column in table.columns}
    _check_kinds(table.schema, columns.text, there)
    _check_count(table.height, name, bounds, reading.recipe_field)
    wanted = table.select(list(dict.fromkeys((*columns.text, *there.values()))))
    for number, row in enumerate(wanted.iter_rows(named=True), 1):
        values = {role: "" if row[column] is None else str(row[column]).strip() for role, column in there.items()}
        try:
            texts = [text for column in columns.text for text in _texts(row[column], column)]
        except Unreadable as error:
            reading.refuse(name, "unreadable", f"row {number}: {error}", values.get("id", ""))
            continue
        document_id = values.get("id") or short_id("document", values.get("title", ""), *texts)
        paragraphs = [part for text in texts for part in text.split("\n\n")]
        blocks = [Block(part.strip()) for part in paragraphs if part.strip()]
        yield from _checked(
            document_id, name, Read(values.get("title", ""), values.get("date") or None, blocks), bounds, reading
        )


def _check_kinds(schema: pl.Schema, texts: Sequence[str], there: Mapping[str, str]) -> None:
    """Raise Unreadable for a column whose values are no texts, or no ids, titles or dates: what is printed of them is none."""
    for column in texts:
        kind = schema[column]
        if isinstance(kind, pl.List | pl.Array):
            if kind.inner not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
                raise Unreadable(_no_text(column, str(kind)))
        elif kind.is_nested() or kind == pl.Binary:
            raise Unreadable(_no_text(column, str(kind)))
    for role, column in there.items():
        if (kind := schema[column]).is_nested() or kind == pl.Binary:
            raise Unreadable(
                f"column {column} holds {kind}, which is no {role}: name another column in corpus.columns.{role}"
            )


def _texts(value: Any, column: str) -> list[str]:
    """The texts of a cell: one, or a list of them. Raises Unreadable where it is something else."""
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and any(not isinstance(one, str | None) for one in value):
        raise Unreadable(_no_text(column, "a list of other values than strings"))
    if isinstance(value, bytes | dict):
        raise Unreadable(_no_text(column, "a JSON object"))
    return [str(one) for one in values if one is not None]


def _no_text(column: str, kind: str) -> str:
    return f"column {column} holds {kind}, and a text is a string or a list of strings: name another column in corpus.columns.text"
