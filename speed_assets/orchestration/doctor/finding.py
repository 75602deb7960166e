"""One finding of `speed doctor`, and findings as text and JSON.

Belongs here: the value and how it is shown. Not here: finding (the probes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any, Literal

Status = Literal["ok", "warning", "error"]
WIDTH = 80
_NAME = 19
"""Columns of the longest name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found: `mend` is the command or the field of the recipe that mends it, empty where nothing is wrong."""

    name: str
    status: Status
    line: str
    mend: str = ""


def ok(name: str, line: str) -> Finding:
    return Finding(name, "ok", line)


def warning(name: str, line: str, mend: str) -> Finding:
    return Finding(name, "warning", line, mend)


def error(name: str, line: str, mend: str) -> Finding:
    return Finding(name, "error", line, mend)


def as_text(findings: Sequence[Finding]) -> list[str]:
    """Lines of at most 80 columns: one for each finding (wrapped where it is longer), what mends it below, and the sum."""
    lines: list[str] = []
    for finding in findings:
        head = f"{finding.status:<8} {finding.name:<{_NAME}} "
        lines += wrap(head + _printable(finding.line), WIDTH, subsequent_indent=" " * 9)
        if finding.mend:
            lines += wrap(f"-> {_printable(finding.mend)}", WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 12)
    counts = [f"{sum(f.status == status for f in findings)} {status}" for status in ("ok", "warning", "error")]
    return [*lines, ", ".join(counts)]


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Plain values: whether nothing is an error, and every finding."""
    return {
        "healthy": all(finding.status != "error" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def in_words(finding: Finding) -> str:
    """A finding in one sentence, as a run prints it."""
    return _printable(f"{finding.name}: {finding.line}" + (f" ({finding.mend})" if finding.mend else ""))


def _printable(text: str) -> str:
    """Text that a server may have written, on one line, for a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
