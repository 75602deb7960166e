"""Dagster's helper processes that mirror the log of a step: an interrupt from the keyboard is not for them.

Dagster starts `tail` and `watch_orphans.py` for each step, in the terminal's process group. A Ctrl-C reached them, too, and the
second died with a traceback before the command could end in its own words. With SIGINT blocked they end when Dagster ends them,
or when the process that started them is gone.

Hidden state of the process: Dagster's function that starts these helpers is replaced once.

Belongs here: those helpers. Not here: what a command does about an interrupt (`speed_assets/cli/entry.py`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from resources.dagster_internals import compute_logs

_Mirror = Callable[[str, Any], AbstractContextManager[Any]]


def shield_log_helpers() -> None:
    """Let this process start those helpers with SIGINT blocked."""
    start: _Mirror = compute_logs.execute_posix_tail
    if not getattr(start, "shielded", False):
        compute_logs.execute_posix_tail = _shielded(start)  # type: ignore[assignment]


def _shielded(start: _Mirror) -> _Mirror:
    @contextmanager
    def mirror(path: str, stream: Any) -> Iterator[Any]:
        helpers = start(path, stream)
        # Per thread, and inherited by a process that this thread starts: no handler of this process changes.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            started = helpers.__enter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with _left(helpers):
            yield started

    mirror.shielded = True  # type: ignore[attr-defined]
    return mirror


@contextmanager
def _left(entered: AbstractContextManager[Any]) -> Iterator[None]:
    """Leave a context that is entered already, with the error of the block if there is one."""
    try:
        yield
    except BaseException as error:
        if not entered.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        entered.__exit__(None, None, None)
