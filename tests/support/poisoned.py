"""A Python for worker processes that dies, as an engine does, when a certain row is under way.

`python -m tests.support.poisoned ROW_ID -m MODULE` runs MODULE so. Belongs here: that fault. Not here: which jobs meet it.
"""

from __future__ import annotations

import os
import runpy
import shlex
import signal
import sys
from pathlib import Path


def poisoned_python(python: str, row_id: str, folder: Path) -> str:
    """A program in `folder` that takes a Python's `-m MODULE` and dies in a job that begins the row."""
    script = folder / f"python-{row_id}"
    words = [python, "-m", "tests.support.poisoned", row_id]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    return str(script)


def poison(row_id: str) -> None:
    """Let this process kill itself when `row_id` is begun."""
    from speed_assets.workers.streaming import Stream

    usual = Stream._requests

    def requests(stream: Stream, positions: list[int]) -> list[object]:
        found = usual(stream, positions)
        if row_id in stream._rows[positions]["row_id"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(found)

    Stream._requests = requests  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _, row_id, option, module = sys.argv
    assert option == "-m"
    poison(row_id)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
