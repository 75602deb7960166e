"""Imports the heavy libraries once, then forks a worker for each job: `python -m speed_assets.workers.zygote`.

Speaks lines. In: the folder of a job. Out: `{"folder", "code"}` when that job's process has ended
(`code` as in `subprocess`: negative for a signal), and once `{"ready", "threads"}` when all is imported. Jobs that come
while others run are forked at once. When stdin closes or the parent is gone, running workers are killed and the zygote ends.

A forked process keeps only the thread that forked, so nothing here may start a thread pool: no tensor
is touched, no table read. Imports alone leave only threads that do not matter to a child (`threads`
in the ready line counts them).

Belongs here: importing, forking, waiting. Not here: what a job does (`host.py`).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from speed_assets.workers import host

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies."""


class Zygote:
    """The event loop: a job is forked as soon as its own worker module is imported, others follow meanwhile."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers, self._parent = orders, answers, os.getppid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(orders, selectors.EVENT_READ)
        self._unread = b""
        self._waiting: list[Path] = []
        self._running: dict[int, tuple[int, Path]] = {}
        """By the descriptor of a worker's process: its id and the folder of its job."""
        self._to_import = list(host.KINDS)

    def serve(self) -> NoReturn:
        """Until stdin closes, the parent is gone or SIGTERM comes; the last two need not wait for an import to end."""
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGALRM, lambda *_: None if os.getppid() == self._parent else self._end())
        signal.setitimer(signal.ITIMER_REAL, 1, 1)  # no fork inherits it
        started = time.monotonic()
        while True:
            while self._waiting:
                self._fork(self._waiting.pop(0))
            for key, _ in self._selector.select(0 if self._to_import else None):
                if key.fd == self._orders:
                    if not self._read_orders():
                        self._end()
                else:
                    self._reap(key.fd)
            if self._to_import and not self._waiting:
                self._import(self._to_import[0])
                if not self._to_import:
                    seconds = round(time.monotonic() - started, 1)
                    self._answer({"ready": seconds, "threads": len(os.listdir("/proc/self/task"))})

    def _read_orders(self) -> bool:
        data = os.read(self._orders, 65536)
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._waiting += [Path(os.fsdecode(line)) for line in lines if line]
        return bool(data)

    def _answer(self, line: dict[str, object]) -> None:
        os.write(self._answers, (json.dumps(line) + "\n").encode())

    def _import(self, kind: str) -> None:
        """A module that fails to import is left to its own job, which then reports why."""
        self._to_import.remove(kind)
        try:
            host.worker_module(kind)
        except Exception:
            traceback.print_exc()

    def _fork(self, folder: Path) -> None:
        try:
            kind = json.loads((folder / "job.json").read_text())["kind"]
        except (OSError, ValueError, KeyError):
            kind = ""  # the job itself reports what is wrong with it
        if kind in self._to_import:
            self._import(kind)
        gc.collect()
        gc.freeze()  # a collection in the child would touch, and so copy, every page of the imports
        zygote = os.getpid()
        process = os.fork()
        if process == 0:
            self._be_worker(folder, zygote)
        descriptor = os.pidfd_open(process)
        self._running[descriptor] = process, folder
        self._selector.register(descriptor, selectors.EVENT_READ)

    def _be_worker(self, folder: Path, zygote: int) -> NoReturn:
        code = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != zygote:  # it died before the line above
                os._exit(1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), self._orders)
            os.close(self._answers)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            host.run_job(folder)
            code = 0
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # the zygote's exit handlers are not the worker's

    def _reap(self, descriptor: int) -> None:
        process, folder = self._running.pop(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(process, 0)
        self._answer({"folder": str(folder), "code": os.waitstatus_to_exitcode(status)})

    def _end(self) -> NoReturn:
        for process, _ in self._running.values():
            os.kill(process, signal.SIGKILL)
        for process, _ in self._running.values():
            os.waitpid(process, 0)
        os._exit(0)


def main() -> None:
    """Import, then fork a worker for each job that stdin names."""
    host.prepare_process(host.cores())
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    Zygote(sys.stdin.fileno(), answers).serve()


if __name__ == "__main__":
    main()
