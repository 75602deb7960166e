"""What the first bytes of a table or of a model's weights show, so that a file of gigabytes is refused within a second.

Belongs here: files that are empty, cut, pointers of Git LFS, or no table at all. Not here: reading a table (`corpus_files.py`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.corpus_files import decoded
from resources.inputs.document_formats import Unreadable
from resources.inputs.table_lines import json_row

HEAD_BYTES = 1_000_000
"""Bytes of a table that are read (ours: some milliseconds)."""
_PARQUET = b"PAR1"
"""First and last bytes of a Parquet file."""
_POINTER = b"version https://git-lfs"
_POINTER_TEXT = "it is a pointer of Git LFS, and the file itself is not here: run `git lfs pull`"


def table_columns(file: Path, kind: str, encoding: str) -> list[str] | None:
    """The columns of a table, by its first `HEAD_BYTES` alone; of a Parquet file by its own description.

    Args:
        file: to look into.
        kind: its ending: .jsonl, .csv, .tsv or .parquet.
        encoding: of a file of text without a byte order mark.

    Returns:
        Names of columns; None where later lines may have others (JSON lines in a larger file).

    Raises:
        Unreadable: it is empty, or no table of that kind.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    cut = file.stat().st_size > len(head)
    if not head.strip() and not cut:
        raise Unreadable("the file is empty")
    if head.startswith(_POINTER):
        raise Unreadable(_POINTER_TEXT)
    if kind == ".parquet":
        return _of_parquet(file, head)
    text = decoded(head, encoding, cut=cut)
    return _of_json_lines(text, cut) if kind == ".jsonl" else _of_header(text, kind)


def _of_parquet(file: Path, head: bytes) -> list[str]:
    with file.open("rb") as opened:
        opened.seek(-len(_PARQUET), 2) if len(head) > len(_PARQUET) else None
        tail = opened.read(len(_PARQUET))
    if not head.startswith(_PARQUET) or tail != _PARQUET:
        raise Unreadable("it is no complete Parquet file (PAR1 at both ends)")
    try:
        schema = pl.read_parquet_schema(file)
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise Unreadable(" ".join(str(error).split())[:200]) from None
    if not rows:
        raise Unreadable("the table has no rows")
    return list(schema)


def list_columns(file: Path, kind: str, encoding: str) -> frozenset[str]:
    """The columns that hold lists, as far as the first `HEAD_BYTES` show it.

    Args:
        file, kind, encoding: as `table_columns` takes them, which this table has passed.
    """
    if kind == ".parquet":
        schema = pl.read_parquet_schema(file)
        return frozenset(name for name, of in schema.items() if isinstance(of, (pl.List, pl.Array)))
    if kind != ".jsonl":
        return frozenset()
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    cut = file.stat().st_size > len(head)
    rows = _json_lines(decoded(head, encoding, cut=cut), cut)
    return frozenset(str(name) for row in rows for name, value in row.items() if isinstance(value, list))


def _of_json_lines(text: str, cut: bool) -> list[str] | None:
    keys: dict[str, None] = {}
    for row in _json_lines(text, cut):
        keys |= dict.fromkeys(map(str, row))
    return None if cut else list(keys)


def _json_lines(text: str, cut: bool) -> Iterator[dict[str, Any]]:
    lines = text.split("\n")
    for number, line in enumerate(lines[:-1] if cut else lines, 1):
        if not line.strip():
            continue
        yield json_row(line, number)


def _of_header(text: str, kind: str) -> list[str]:
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines) if kind == ".csv" else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        header = next((row for row in rows if row), [])
    except csv.Error as error:
        raise Unreadable(f"its first line cannot be read ({error})") from None
    if not lines.read(HEAD_BYTES).strip():
        raise Unreadable("the table has a first line, for the names of columns, and no rows below it")
    return header


def weights_problem(file: Path, size: int) -> str | None:
    """Why a file of weights holds none, in words; None where its first bytes show nothing.

    Args:
        file: of safetensors.
        size: its bytes.
    """
    if not size:
        return f"{file.name} is empty: copy it again"
    with file.open("rb") as opened:
        return f"{file.name}: {_POINTER_TEXT}" if opened.read(len(_POINTER)) == _POINTER else None
