"""Progress of a run and of slow commands: bars on a terminal, plain lines in a pipe.

Belongs here: showing progress. Not here: measuring it (stages report done and total).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from typing_extensions import override

from resources.progress import Progress, ProgressLines
from resources.redaction import masked
from speed_assets.domain.escaping import for_terminal

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task, TaskID


class ProgressDisplay(Protocol):
    """What runs report to: `say` gets lines that stay, a call gets the progress of one stage."""

    def say(self, text: str) -> None: ...

    def __call__(self, label: str) -> Progress: ...


@contextmanager
def progress_display() -> Iterator[ProgressDisplay]:
    """A display on standard error for as long as a command runs: bars on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    display = LiveBars()
    with display:
        yield display


@contextmanager
def busy_with(what: str) -> Iterator[None]:
    """On a terminal, say on standard error what a command is busy with, and for how long, until it is done.

    For commands that know no total. The line goes away at the end; a pipe gets nothing.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        bars.add_task(for_terminal(masked(what)), total=None)
        yield


class PlainLines(ProgressLines):
    """Progress as plain lines, for a pipe."""

    def say(self, text: str) -> None:
        """A line that stays."""
        self.print_line(text)


def _rate_column() -> ProgressColumn:
    """Steps a second, or seconds a step where they are slow; nothing until two steps are done."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        @override
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")

    return Rate()


def _terminal_itself() -> IO[str]:
    """Standard error as it is now, under a number of its own.

    During a run Dagster sends standard error into the log of the steps, from where it comes back to the terminal: no bar moves in a file.
    """
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a stream without a number, such as one of a test
        return sys.stderr


class LiveBars:
    """A bar for each stage in progress with done, total, rate and time left, and the latest warning below them."""

    def __init__(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _rate_column(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._warning = Text("", style="yellow", no_wrap=True, overflow="ellipsis")
        self.renderable = Group(self._bars, self._warning)
        self._live = Live(self.renderable, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveBars:
        self._console.file = _terminal_itself()
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()
        terminal, self._console.file = self._console.file, sys.stderr
        if terminal is not sys.stderr:
            terminal.close()

    def say(self, text: str) -> None:
        """A line that stays, above the bars; a warning also stays below them until the next one."""
        text = for_terminal(masked(text), lines=True)
        finished = self._tasks.get(text.split()[1]) if text.startswith(("made ", "reused ")) else None
        if finished is not None:
            self._bars.update(finished, visible=False)
        style = "red" if text.startswith("FAILED") else "yellow" if text.startswith("warning") else None
        self._console.print(text, style=style, markup=False, soft_wrap=True)
        if text.startswith("warning"):
            self._warning.plain = text

    def __call__(self, label: str) -> Progress:
        def report(done: int, total: int, note: str) -> None:
            if label not in self._tasks:  # no bar before the first report: the stage may be cached
                self._tasks[label] = self._bars.add_task(label, total=None)
            self._bars.update(
                self._tasks[label],
                description=for_terminal(masked(f"{label} {note}".strip())),
                completed=done,
                total=total or None,
                visible=not total or done < total,
            )

        return report
