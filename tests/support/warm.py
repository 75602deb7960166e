"""Warm worker processes that outlive a run: importing the libraries costs every run of the small recipe some ten CPU seconds.

Belongs here: that sharing, within one test process. Not here: tests of the processes themselves, which start their own
(`own_workers`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from resources.compute.runner import Host, Runner, worker_environment

_OWN = {"warm_up": Runner.warm_up, "_end_zygote": Runner._end_zygote}
"""What a runner does outside of tests."""
KEPT_MAX = 2
"""Idle processes with imported libraries, 0.5 GB each."""


class KeptHost(Host):
    """A process that runs jobs, and whether the next runner may have it."""

    def __init__(self, module: str, log: Path) -> None:
        super().__init__(module, log)
        self.key = _surroundings()
        self.idle = True
        """False from when a job starts until it has ended in an orderly way."""
        self._jobs = 0

    @override
    def run_job(self, folder: Path, follow: Callable[[], None]) -> int | None:
        self._jobs += 1
        self.idle = False
        code = super().run_job(folder, follow)  # whoever is interrupted here leaves a job behind
        self._jobs -= 1
        self.idle = self._jobs == 0
        return code


class Pool:
    """Processes with imported libraries that no runner uses."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._idle = folder, list[KeptHost]()

    def take(self) -> KeptHost:
        """One that was started in surroundings like these, or a new one."""
        found = [host for host in self._idle if host.alive and host.key == _surroundings()]
        if not found:
            return KeptHost("speed_assets.workers.zygote", self._folder / "zygote.log")
        self._idle.remove(found[-1])
        return found[-1]

    def give_back(self, host: Host) -> None:
        """Keep a process for the next runner, or end it where a job was left in it."""
        if isinstance(host, KeptHost) and host.alive and host.idle:
            self._idle.append(host)
        else:
            host.close()
        while len(self._idle) > KEPT_MAX:
            self._idle.pop(0).close()

    def close(self) -> None:
        """End all of them."""
        while self._idle:
            self._idle.pop().close()


def _surroundings() -> tuple[str, frozenset[tuple[str, str]]]:
    """What a process inherits when it starts."""
    return os.getcwd(), frozenset(worker_environment(os.environ).items())


@contextmanager
def kept_workers(folder: Path) -> Iterator[None]:
    """Within it, runners hand the process with the imported libraries on to the next one instead of ending it."""
    pool = Pool(folder)

    def warm_up(runner: Runner) -> Host | None:
        with runner._turn:
            if runner._warm and (runner._zygote is None or not runner._zygote.alive):
                runner._zygote = pool.take()
            return runner._zygote

    def end_zygote(runner: Runner) -> None:
        with runner._turn:
            zygote, runner._zygote = runner._zygote, None
        if zygote is not None:
            pool.give_back(zygote)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Runner, "warm_up", warm_up)
            patch.setattr(Runner, "_end_zygote", end_zygote)
            yield
    finally:
        pool.close()


@contextmanager
def own_workers() -> Iterator[None]:
    """Within it, every runner starts and ends its own processes, as outside of tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in _OWN.items():
            patch.setattr(Runner, name, method)
        yield
