"""Printing: tables that fit the terminal without cutting a name, text of others escaped, JSON.

Belongs here: the shape of output. Not here: what is printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

GAP = "  "
_WIDE = 10_000
"""Columns of a pipe, in which no table is broken."""


def width() -> int:
    """Columns to fit: those of `COLUMNS` or of the terminal; unlimited in a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return max(40, shutil.get_terminal_size((80, 24)).columns)
    return _WIDE


def printable(text: Any) -> str:
    """Text that a model, a server or a file holds, safe for a terminal: control characters are escaped."""
    return "-" if text is None else "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def number(value: float | None) -> str:
    """A number with its thousands separated; `-` for None."""
    return "-" if value is None else f"{value:,}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> list[str]:
    """Lines of a table, the first of them a header.

    Columns that do not fit go into further tables with the first column repeated, so no cell is ever cut.

    Args:
        header: names of the columns.
        rows: cells, as many as there are names.
        text: columns that are aligned left; the others are numbers.
    """
    body = [list(map(str, row)) for row in rows]
    cells = [list(header), *body]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines: list[str] = []
    for columns in _blocks(widths, width()):
        lines += [""] if lines else []
        lines += [_row(row, columns, widths, text) for row in cells]
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


def _row(cells: Sequence[str], columns: Sequence[int], widths: Sequence[int], text: Sequence[int]) -> str:
    return GAP.join(
        cells[column].ljust(widths[column]) if column in text else cells[column].rjust(widths[column])
        for column in columns
    ).rstrip()


def show(lines: Iterable[str]) -> None:
    """Print lines to standard output."""
    for line in lines:
        print(line)


def show_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,), best: bool = False
) -> None:
    """Print a table. On a terminal its header is bold and, with `best`, the highest score of each row is green."""
    lines = table(header, rows, text)
    if not sys.stdout.isatty():
        show(lines)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)  # no colours where NO_COLOR is set
    headers = {0, *(at + 1 for at, line in enumerate(lines) if not line)}
    for at, line in enumerate(lines):
        styled = Text(line, style="bold" if at in headers else "")
        scores = re.findall(r"(?<![\w.])\d\.\d{3}(?!\d)", line)
        if best and at not in headers and scores:
            styled.highlight_words([max(scores)], "green")
        console.print(styled)


def show_json(values: Any) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(values), flush=True)


def fail(message: str) -> None:
    """Print an error line to standard error."""
    print(f"error: {message}", file=sys.stderr)
