"""Worker processes: heavy work in a process of its own, with progress, clear failures and no orphans.

Belongs here: starting, watching and ending workers. Not here: what they do (`speed_assets/workers`).
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

Progress = Callable[[int, int, str], None]
POLL_SECONDS = 0.05
LAUNCHER = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--main_process_port", "0"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"),
)
"""Accelerate's launcher, on any free port of this machine; the number of processes follows."""
_SECRET = re.compile(r"(_KEY|_TOKEN|_SECRET|PASSWORD)$")
_CAUSES = {
    signal.SIGKILL: "killed, often for lack of memory",
    signal.SIGTERM: "told to end",
    signal.SIGSEGV: "crashed in native code",
}


class WorkerFailed(RuntimeError):
    """A worker that ended without a result; the message says how, why, and where its log is."""

    def __init__(self, kind: str, code: int | None, folder: Path) -> None:
        self.kind, self.code = kind, code
        cause = _cause(code)
        try:
            error = json.loads((folder / "error.json").read_text())
            cause = (
                error["message"]
                if error["type"] in ("ValueError", "RuntimeError")
                else f"{error['type']}: {error['message']}"
            )
        except (OSError, ValueError, KeyError):
            pass
        super().__init__(f"worker {kind} failed: {cause} (log: {folder / 'worker.log'})")


def _cause(code: int | None) -> str:
    if code is None:
        return "the process that starts workers ended"
    if code >= 0:
        return f"exit status {code}"
    number = signal.Signals(-code)
    return f"{number.name} ({_CAUSES.get(number, 'ended by a signal')})"


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of workers: without what looks like a secret, which no worker needs."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name.upper())}


class Runner:
    """Runs jobs one at a time, in forks of a process that has imported the libraries, or each afresh."""

    def __init__(self, home: Path, threads: int | None = None, warm: bool = True) -> None:
        self._home = home
        self._threads = threads
        self._warm = warm and hasattr(os, "pidfd_open")  # forking after these imports is safe on Linux only
        self._zygote: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def warm_up(self) -> None:
        """Begin to import the heavy libraries, without waiting for them."""
        if self._warm and (self._zygote is None or self._zygote.poll() is not None):
            log = self._home / "work" / "zygote.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as errors:
                self._zygote = self._start("speed_assets.workers.zygote", stdout=subprocess.PIPE, stderr=errors)
            self._unread = b""

    def run(
        self,
        kind: str,
        params: Mapping[str, Any],
        folder: Path,
        progress: Progress | None = None,
        *,
        processes: int = 1,
    ) -> dict[str, Any]:
        """Do one job in `folder`, in as many processes as asked for, and return its result. Raises WorkerFailed."""
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("result.json", "error.json", "progress.jsonl"):
            (folder / stale).unlink(missing_ok=True)
        job = {"kind": kind, "params": {**params, "threads": self._threads}}
        (folder / "job.json").write_text(json.dumps(job))
        with _followed(folder / "progress.jsonl", progress) as follow:
            if processes == 1 and self._warm:
                code = self._fork(folder, follow)
            else:
                code = self._spawn(folder, follow, processes)
            follow()
        try:
            result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        except (OSError, ValueError):
            raise WorkerFailed(kind, code, folder) from None
        return result

    def close(self) -> None:
        """End the process that starts workers, and with it a worker that still runs."""
        if self._zygote is not None:
            assert self._zygote.stdin is not None
            assert self._zygote.stdout is not None
            self._zygote.terminate()  # it takes its worker with it
            try:
                self._zygote.wait(10)
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                self._zygote.wait()
            with suppress(BrokenPipeError):
                self._zygote.stdin.close()
            self._zygote.stdout.close()
            self._zygote = None

    def _start(self, module: str, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            env=worker_environment(os.environ),
            start_new_session=True,  # an interrupt from the keyboard is for this process, which then ends its workers
            **streams,
        )

    def _spawn(self, folder: Path, follow: Callable[[], None], processes: int = 1) -> int:
        launcher = (*LAUNCHER, str(processes), "-m") if processes > 1 else ()
        command = (*launcher, "speed_assets.workers.host", str(folder))
        with (folder / "worker.log").open("ab") as log:
            process = self._start(*command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            while process.poll() is None:
                follow()
                time.sleep(POLL_SECONDS)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            if process.poll() is None:
                process.kill()
            process.wait()
        return process.returncode

    def _fork(self, folder: Path, follow: Callable[[], None]) -> int | None:
        """The exit code of the job's fork; a zygote that died is started once more, since its jobs resume."""
        for _attempt in range(2):
            self.warm_up()
            assert self._zygote is not None
            assert self._zygote.stdin is not None
            try:
                self._zygote.stdin.write(os.fsencode(f"{folder}\n"))
                self._zygote.stdin.flush()
                code = self._await(folder, follow)
            except BrokenPipeError:
                code = None
            except BaseException:
                self.close()
                raise
            if code is not None:
                return code
            self.close()
        return None

    def _await(self, folder: Path, follow: Callable[[], None]) -> int | None:
        """Wait for the line that says how `folder`'s job ended; None when the zygote ended instead."""
        assert self._zygote is not None
        assert self._zygote.stdout is not None
        descriptor = self._zygote.stdout.fileno()
        while True:
            follow()
            if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
                continue
            data = os.read(descriptor, 65536)
            if not data:
                return None
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if answer.get("folder") == str(folder):
                    return int(answer["code"])


@contextmanager
def _followed(path: Path, progress: Progress | None) -> Iterator[Callable[[], None]]:
    """A function that hands on what has been written to a progress file since it was last called."""
    stream: list[IO[str]] = []

    def follow() -> None:
        if progress is None:
            return
        if not stream and path.exists():
            stream.append(path.open())
        line = (stream[0].readlines() or [""])[-1] if stream else ""
        if line.startswith("{") and line.endswith("}\n"):  # the newest whole line says it all
            entry = json.loads(line)
            progress(entry["done"], entry["total"], entry["note"])

    try:
        yield follow
    finally:
        for handle in stream:
            handle.close()
