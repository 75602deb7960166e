"""Progress of long work: the share done and an estimate of the time left.

Belongs here: turning (done, total) into a line that a person reads. Not here: counting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from resources.redaction import masked
from speed_assets.domain.escaping import for_terminal

Progress = Callable[[int, int, str], None]
ProgressFor = Callable[[str], Progress]


def no_progress(_label: str) -> Progress:
    """Shows no progress, for runs whose log is Dagster's."""
    return lambda _done, _total, _note: None


class ProgressLines:
    """Progress on a stream: one line that is rewritten on a terminal, or a new line every `every` seconds in a log."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = 0.2 if self._terminal else every
        self._last = 0.0
        self._shown = ""

    def print_line(self, text: str) -> None:
        """Print a line that is not rewritten."""
        self._clear()
        print(for_terminal(masked(text), lines=True), file=self._stream, flush=True)

    def __call__(self, label: str) -> Progress:
        started = time.monotonic()

        def report(done: int, total: int, note: str) -> None:
            now = time.monotonic()
            if now - self._last < self._every:
                return
            self._last = now
            counted = f" {done:,}/{total:,}" if total else ""
            line = for_terminal(masked(f"  {label}: {note}{counted}" + eta(done, total, now - started)))
            if self._terminal:
                self._clear()
                self._shown = line
                self._stream.write(line)
                self._stream.flush()
            else:
                print(line, file=self._stream, flush=True)

        return report

    def _clear(self) -> None:
        if self._shown:
            self._stream.write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""


def eta(done: int, total: int, seconds: float) -> str:
    """` (40 %, 12 s left)`, or an empty text while nothing is done.

    >>> eta(40, 100, 8.0)
    ' (40 %, 12 s left)'
    """
    if not done or not total:
        return ""
    return f" ({100 * done // total} %, {seconds * (total - done) / done:.0f} s left)"
