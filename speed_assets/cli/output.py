"""Printing: tables that fit the terminal without cutting a name, text of others escaped, secrets masked, JSON.

Belongs here: the shape of output. Not here: what is printed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from resources.redaction import masked, masked_values
from speed_assets.domain.escaping import for_terminal

GAP = "  "
_TEXT_LEAST = 20
"""Columns that a wrapped text gets at least."""
_WIDE = 10_000
"""Columns of a pipe, in which no table is broken."""


def width() -> int:
    """Columns to fit: those of `COLUMNS` or of the terminal; unlimited in a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return max(40, shutil.get_terminal_size((80, 24)).columns)
    return _WIDE


def printable(text: Any) -> str:
    """Text that a model, a server or a file holds, safe for a terminal: control characters are escaped."""
    return "-" if text is None else for_terminal(text)


def number(value: float | None) -> str:
    """A number with its thousands separated; `-` for None."""
    return "-" if value is None else f"{value:,}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> list[str]:
    """Lines of a table, the first of them a header.

    A last column of text is wrapped. Other columns that do not fit go into further tables, with the first column repeated. So
    no cell is ever cut.

    Args:
        header: names of the columns.
        rows: cells, as many as there are names.
        text: columns that are aligned left; the others are numbers.
    """
    cells = [list(header), *(list(map(for_terminal, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    last = len(header) - 1
    if last in text and last:
        room = max(_TEXT_LEAST, width() - sum(widths[:-1]) - len(GAP) * last)
        widths[last] = min(widths[last], room)
    lines: list[str] = []
    for columns in _blocks(widths, width()):
        lines += [""] if lines else []
        lines += [line for row in cells for line in _row_lines(row, columns, widths, text)]
    return lines


def _blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns by table: the first column is in each, the others in order."""
    blocks = [[0]]
    used = widths[0]
    for column in range(1, len(widths)):
        if used + len(GAP) + widths[column] > room and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += len(GAP) + widths[column]
    return blocks


def _row_lines(cells: Sequence[str], columns: Sequence[int], widths: Sequence[int], text: Sequence[int]) -> list[str]:
    """A row, on several lines where a text is longer than its column."""
    parts = {
        column: wrap(cells[column], widths[column], break_long_words=False, break_on_hyphens=False) or [""]
        if column in text and len(cells[column]) > widths[column]
        else [cells[column]]
        for column in columns
    }
    lines = []
    for at in range(max(map(len, parts.values()))):
        line = [part[at] if at < len(part) else "" for part in parts.values()]
        aligned = (
            cell.ljust(widths[column]) if column in text else cell.rjust(widths[column])
            for column, cell in zip(columns, line, strict=True)
        )
        lines.append(GAP.join(aligned).rstrip())
    return lines


def out(text: object = "") -> None:
    """Print a text to standard output. All that commands print goes through here, `note` or `show_json`."""
    print(for_terminal(masked(str(text)), lines=True))


def note(text: object) -> None:
    """Print a text to standard error."""
    print(for_terminal(masked(str(text)), lines=True), file=sys.stderr, flush=True)


def show(lines: Iterable[str]) -> None:
    """Print lines to standard output."""
    for line in lines:
        out(line)


def show_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = (0,), best: bool = False
) -> None:
    """Print a table; its header is bold on a terminal.

    Args:
        header, rows, text: as `table` takes them.
        best: on a terminal, print the highest number of each row in green.
    """
    lines = table(header, rows, text)
    if not sys.stdout.isatty():
        show(lines)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)  # no colours where NO_COLOR is set
    headers = {0, *(at + 1 for at, line in enumerate(lines) if not line)}
    highest = {row[0]: max(row[1:]) for row in rows} if best else {}
    for at, line in enumerate(lines):
        styled = Text(masked(line), style="bold" if at in headers else "")
        number = highest.get(line.split(GAP)[0])
        if number and at not in headers:
            styled.highlight_words([number], "green")
        console.print(styled)


def show_json(values: Any, indent: int | None = None) -> None:
    """Print one JSON value, on one line unless `indent` is given."""
    # DEL is the one control character that JSON does not escape.
    print(json.dumps(masked_values(values), indent=indent).replace("\x7f", "\\u007f"), flush=True)


def fail(message: str) -> None:
    """Print an error line to standard error."""
    note(f"error: {message}")
