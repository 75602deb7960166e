"""Tables of text that are broken somewhere: which line it is, and what is wrong with it.

polars reads a table whole and fast. Where it refuses one, its message is about its own insides, so the lines are read again here.

Belongs here: lines of JSONL, CSV and TSV. Not here: reading a table that is whole (`corpus_files.py`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from resources.inputs.document_formats import Unreadable

Broken = Callable[[str, str], None]
"""Takes what is wrong with a line, its number included, and the line."""


_JSON = r"^[\[{]"
"""How a list or an object begins."""


def json_row(line: str, number: int) -> dict[str, Any]:
    """The row that a line of a JSONL file holds.

    Args:
        line: of the file, not blank.
        number: of the line, from 1, for the message.

    Raises:
        Unreadable: it is no JSON object, or holds half of a character.
    """
    try:
        value = json.loads(line, parse_constant=_no_number)
        if "\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {number} is no JSON ({error.msg} at its character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"line {number} cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise Unreadable(f"line {number} is no JSON object, and each line is to be one row")
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def read_json_lines(text: str, broken: Broken | None) -> pl.DataFrame:
    """The rows of a JSONL file, of which some lines may be broken.

    polars writes a list or an object into a column of strings as its JSON. Where a column may hold such a cell, the lines are read
    one by one, so that nobody takes it for a text.

    Args:
        text: of the file.
        broken: takes every line that is no row; with None the first such line refuses the file.

    Returns:
        The rows that can be read; a column with values of several kinds holds Python objects.

    Raises:
        Unreadable: no line is a row, or one is not and `broken` is None; the message names the first.
    """
    try:
        table = pl.read_ndjson(io.BytesIO(text.encode()), infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return _lines(text, broken)
    strings = [pl.col(name).str.contains(_JSON) for name, kind in table.schema.items() if kind == pl.String]
    if strings and table.select(pl.any_horizontal(strings).any()).item():
        try:
            return _lines(text, None)
        except Unreadable:  # polars reads more than the standard allows, and it has read this file
            return table
    return table


def _lines(text: str, broken: Broken | None) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    first: Unreadable | None = None
    faults: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json_row(line.strip(), number))
        except Unreadable as error:
            if broken is None:
                raise
            first = first or error
            faults.append((str(error), line.strip()))
    if first and not rows:
        raise first  # one reason for the file says more than one for each of its lines
    for fault in faults:
        assert broken is not None
        broken(*fault)
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in names])


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, values, dtype=pl.Object)


def separated_fault(text: str, settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the first row of a CSV or TSV file that has more fields than the first line, or an open quote.

    Args:
        text: of the file.
        settings: of `csv.reader`: what separates and quotes fields.

    Returns:
        One sentence with the number of the line; None where every row can be read.
    """
    limit = csv.field_size_limit(len(text) + 1)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, **settings)
        header: list[str] = []
        begins = 1
        try:
            for row in rows:
                header = header or row
                if len(row) > len(header):
                    return (
                        f"line {begins} has {len(row)} fields, and the first line names {len(header)}: quote a text that holds the "
                        "separator, or remove what is too much"
                    )
                begins = rows.line_num + 1
        except csv.Error as error:
            return (
                f"the row at line {begins} cannot be read ({error}): close its quotes, and double those inside a text"
            )
    finally:
        csv.field_size_limit(limit)
    return None
