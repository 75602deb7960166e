"""Worker processes: heavy work in a process of its own, with progress, clear failures and no orphans.

Belongs here: starting, watching and ending workers. Not here: what they do (`speed_assets/workers`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from resources.redaction import secret
from speed_assets.errors import SpeedError
from speed_assets.recipe import PROJECT

Progress = Callable[[int, int, str], None]
POLL_SECONDS = 0.05
WITH_ENGINE = frozenset({"order"})
"""Kinds of job that need no memory to speak of: an engine stays loaded while they run."""
LAUNCHER = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--main_process_port", "0"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"),
)
"""Accelerate's launcher, on any free port of this machine; the number of processes follows."""
HUB_TOKENS = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
"""What workers need of what is secret: models that ask for consent are loaded by them."""
_CAUSES = {
    signal.SIGKILL: "killed, often for lack of memory",
    signal.SIGTERM: "told to end",
    signal.SIGSEGV: "crashed in native code",
}


class WorkerFailed(SpeedError, RuntimeError):
    """A worker that ended without a result; the message says how, why, and where its log is."""

    def __init__(self, kind: str, code: int | None, folder: Path) -> None:
        self.kind, self.code = kind, code
        self.error: str | None = None
        """Type of the exception that ended the worker; None when it could not say."""
        cause = _cause(code)
        try:
            error = json.loads((folder / "error.json").read_text())
            self.error = error["type"]
            cause = (
                error["message"]
                if error["type"] in ("ValueError", "RuntimeError", "EngineDied")
                else f"{error['type']}: {error['message']}"
            )
        except (OSError, ValueError, KeyError):
            pass
        self.cause = cause
        super().__init__(f"worker {kind} failed: {cause} (log: {folder / 'worker.log'})")


def _cause(code: int | None) -> str:
    if code is None:
        return "the process that starts workers ended"
    if code >= 0:
        return f"exit status {code}"
    number = signal.Signals(-code)
    return f"{number.name} ({_CAUSES.get(number, 'ended by a signal')})"


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of workers: without what looks like a secret, but for a model hub's token."""
    return {name: value for name, value in environment.items() if name in HUB_TOKENS or not secret(name, value)}


class Host:
    """A process that does jobs: the folder of a job goes in, a line with its exit code comes out."""

    def __init__(self, module: str, log: Path, python: str = sys.executable) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = _start(python, module, stdout=subprocess.PIPE, stderr=errors)
        self._unread = b""
        self._answers: dict[str, int] = {}
        """Exit codes of jobs, by their folders, until whoever asked for one has taken it."""
        self._turn = threading.Lock()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, folder: Path, follow: Callable[[], None]) -> int | None:
        """The exit code of the job in `folder`; None when this process ended before it could say. Any thread may ask."""
        assert self._process.stdin is not None
        try:
            with self._turn:
                self._process.stdin.write(os.fsencode(f"{folder}\n"))
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it is gone, or another thread has closed it
            return None
        while True:
            follow()
            ended = not self.alive  # asked first: what it said before it ended is still read
            with self._turn:
                said = self._read()
                code = self._answers.pop(str(folder), None)
            if code is not None:
                return code
            if ended and not said:  # a child of its own may hold the pipe open
                return None
            if not said:
                time.sleep(POLL_SECONDS)

    def _read(self) -> bool:
        """Take in what the process has said; whether it said anything."""
        assert self._process.stdout is not None
        try:
            if not select.select([self._process.stdout.fileno()], [], [], 0)[0]:
                return False
            data = os.read(self._process.stdout.fileno(), 65536)
        except (OSError, ValueError):  # closed by another thread
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "folder" in answer:
                self._answers[answer["folder"]] = int(answer["code"])
        return bool(data)

    def close(self) -> int:
        """End this process and all that it has started; returns its exit code, as `subprocess` gives it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for stop, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, stop)  # it leads its group, which may outlive it
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        return self._process.returncode


class Runner:
    """Runs jobs: in forks of a process that has imported the libraries, each afresh and several at a time, or in a
    resident process that keeps its engine loaded, one at a time. Any thread may run one."""

    def __init__(self, home: Path, threads: int | None = None, warm: bool = True) -> None:
        self._home = home
        self._threads = threads
        self._warm = warm and hasattr(os, "pidfd_open")  # forking after these imports is safe on Linux only
        self._zygote: Host | None = None
        self._resident: Host | None = None
        self._resident_for: tuple[str, str] | None = None  # the Python and the kind that it serves
        self._elsewhere: Callable[[], None] | None = None
        self._turn = threading.RLock()
        """Held while a process that does jobs is started or ended."""
        self._engine_used = threading.RLock()
        """Held while the resident process does a job: no other job may end it then."""

    def warm_up(self) -> Host | None:
        """Begin to import the heavy libraries, without waiting for them; the process that does, if there is to be one."""
        with self._turn:
            if self._warm and (self._zygote is None or not self._zygote.alive):
                self._zygote = Host("speed_assets.workers.zygote", self._home / "work" / "zygote.log")
            return self._zygote

    def until_another_job(self, end: Callable[[], None]) -> None:
        """Call `end` before the next job of another kind, or at the close: it ends engines that run elsewhere."""
        self._elsewhere = end

    def run(
        self,
        kind: str,
        params: Mapping[str, Any],
        folder: Path,
        progress: Progress | None = None,
        *,
        processes: int = 1,
        resident: str | None = None,
    ) -> dict[str, Any]:
        """Do one job in `folder`, in as many processes as asked for, and return its result. Raises WorkerFailed.

        `resident` names the Python of the environment that has the job's engine. Its process stays, with the engine
        loaded, for the next job of this kind; any other job ends it first, which gives the engine's memory back.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("result.json", "error.json", "progress.jsonl"):
            (folder / stale).unlink(missing_ok=True)
        job = {"kind": kind, "params": {**params, "threads": self._threads}}
        (folder / "job.json").write_text(json.dumps(job))
        with _followed(folder / "progress.jsonl", progress) as follow:
            if resident:
                with self._engine_used:
                    code = self._ask_resident(resident, kind, folder, follow)
            else:
                if kind not in WITH_ENGINE:
                    self._release_idle()
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
        """End the processes that do jobs, and with them jobs that still run."""
        self._release()
        self._end_zygote()

    def _end_zygote(self) -> None:
        with self._turn:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    def _release_idle(self) -> None:
        """End engines that no job uses now."""
        if self._engine_used.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._engine_used.release()

    def _release(self) -> int | None:
        """End the resident process, and engines elsewhere; returns the exit code of the former."""
        with self._turn:
            end, self._elsewhere = self._elsewhere, None
            resident, self._resident = self._resident, None
        if end is not None:
            end()
        return resident.close() if resident is not None else None

    def _ask_resident(self, python: str, kind: str, folder: Path, follow: Callable[[], None]) -> int | None:
        if self._resident is None or not self._resident.alive or self._resident_for != (python, kind):
            self._release()
            log = self._home / "work" / "resident.log"
            self._resident = Host("speed_assets.workers.resident", log, python)
            self._resident_for = python, kind
        try:
            code = self._resident.ask(folder, follow)
        except BaseException:
            self._release()
            raise
        if code is None:
            return self._release()
        if code:
            self._release()
        return code

    def _spawn(self, folder: Path, follow: Callable[[], None], processes: int = 1) -> int:
        launcher = (*LAUNCHER, str(processes), "-m") if processes > 1 else ()
        command = (*launcher, "speed_assets.workers.host", str(folder))
        with (folder / "worker.log").open("ab") as log:
            process = _start(sys.executable, *command, stdout=subprocess.DEVNULL, stderr=log)
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
            zygote = self.warm_up()
            assert zygote is not None
            try:
                code = zygote.ask(folder, follow)
            except BaseException:
                self._end_zygote()
                raise
            if code is not None:
                return code
            if self._zygote is zygote:
                self._end_zygote()
        return None


def _start(python: str, module: str, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    environment = worker_environment(os.environ)
    path = [str(PROJECT)]  # wherever this process found the project, its workers find it
    if python == sys.executable:
        path += filter(None, [environment.get("PYTHONPATH")])
    else:  # another environment, with this project's code and nothing else of this one's
        environment.pop("PYTHONHOME", None)
    environment["PYTHONPATH"] = os.pathsep.join(path)
    return subprocess.Popen(
        [python, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # an interrupt from the keyboard is for this process, which then ends its workers
        **streams,
    )


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
