"""Does jobs one after another in one process, so that an engine stays loaded: `python -m speed_assets.workers.resident`.

Speaks lines, as the zygote does. In: the folder of a job. Out: `{"folder", "code"}` when the job has ended. It ends
after a job that failed, since an engine may then be half broken, at SIGTERM, and when stdin closes, which happens
however its parent ends. It leads a process group of its own, and whatever it has started ends with it.

Belongs here: taking jobs and ending. Not here: what a job does (`host.py`), or when an engine has to go (the runner).
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from speed_assets.workers import host

PATIENCE_SECONDS = 15
"""Time to end in order, which frees shared memory, before the process group is killed."""


def orders() -> queue.SimpleQueue[str]:
    """The lines of stdin; when it closes, this process gets SIGTERM, in the middle of a job too."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        unread = b""
        while data := os.read(0, 65536):  # not sys.stdin: a fork would inherit its lock as this thread holds it
            *complete, unread = (unread + data).split(b"\n")
            for line in complete:
                lines.put(os.fsdecode(line))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_SECONDS)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return lines


def hold_card() -> IO[str] | None:
    """Hold the lock that SPEED_CARD_LOCK names until this process and all it forked are gone; wait for whoever has it."""
    path = os.environ.get("SPEED_CARD_LOCK")
    if not path:
        return None
    file = open(path, "a+")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(f"{os.getppid()} {os.getpid()}")
    file.flush()
    return file


def main() -> None:
    """Do the jobs that stdin names until one fails, SIGTERM comes or stdin closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # exit handlers run
    folders = orders()
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    prepared = False
    card = hold_card()  # noqa: F841 - held as long as this process lives
    while True:
        folder = Path(folders.get())
        if not prepared:
            threads = json.loads((folder / "job.json").read_text())["params"].get("threads")
            host.prepare_process(threads or host.cores())
            prepared = True
        code = 0
        try:
            host.run_job(folder)
        except SystemExit:
            code = 1
        os.write(answers, (json.dumps({"folder": str(folder), "code": code}) + "\n").encode())
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
