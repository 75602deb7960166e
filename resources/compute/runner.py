"""Worker processes: heavy work outside this process, with progress, clear failures and no orphans.

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

from resources.progress import Progress
from resources.redaction import MORE_VARIABLES, is_secret_variable, is_worker_variable
from speed_assets.errors import SpeedError
from speed_assets.recipe import INSTALLED, PROJECT

POLL_SECONDS = 0.05
KEEPS_ENGINE_LOADED = frozenset({"order"})
"""Kinds of job that need little memory: an engine stays loaded while they run."""
ACCELERATE_LAUNCHER = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--main_process_port", "0"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"),
)
"""Accelerate's launcher, on any free port of this machine; the number of processes follows."""
HUB_TOKENS = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
"""Secret variables that workers get: they load models that need the user's consent."""
_CAUSES = {
    signal.SIGKILL: "killed, often for lack of memory",
    signal.SIGTERM: "terminated",
    signal.SIGSEGV: "crashed in native code",
}


class WorkerFailed(SpeedError, RuntimeError):
    """A worker ended without a result; the message says how, why, and where its log is.

    Attributes:
        kind: Kind of job.
        code: Exit code as `subprocess` gives it; None when the process that starts workers ended.
        cause: The reason in words.
    """

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


KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""For a process with an engine: the C library keeps memory that was freed. An engine on a CPU takes megabytes at each step; giving them
back and taking them again was 30 % of its CPU time (145 million page faults in 25 minutes; docs/benchmarks.md)."""


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of workers: the variables on a list, and none that holds a secret, except for a model hub's token."""
    more = frozenset(environment.get(MORE_VARIABLES, "").replace(",", " ").split())
    return {
        name: value
        for name, value in environment.items()
        if name in HUB_TOKENS or (is_worker_variable(name, more) and not is_secret_variable(name, value))
    }


class Host:
    """A process that runs jobs: it reads folders of jobs, and writes a line with the exit code of each."""

    def __init__(self, module: str, log: Path, python: str = sys.executable) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            code = PROJECT if python == sys.executable else code_alone(log.parent)
            self._process = _start(python, module, code=code, stdout=subprocess.PIPE, stderr=errors)
        self._unread = b""
        self._answers: dict[str, int] = {}
        """Exit codes of jobs by folder, until `run_job` returns them."""
        self._turn = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def run_job(self, folder: Path, follow: Callable[[], None]) -> int | None:
        """Run the job in a folder; any thread may call this.

        Args:
            folder: Has `job.json`.
            follow: Called again and again while the job runs.

        Returns:
            The job's exit code; None when the process ended before it wrote one.
        """
        assert self._process.stdin is not None
        try:
            with self._turn:
                self._process.stdin.write(os.fsencode(f"{folder}\n"))
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it is gone, or another thread has closed it
            return None
        while True:
            follow()
            ended = not self.alive  # checked first: what the process wrote before it ended is still read
            with self._turn:
                received = self._read()
                code = self._answers.pop(str(folder), None)
            if code is not None:
                return code
            if ended and not received:  # a child of the process may hold the pipe open
                return None
            if not received:
                time.sleep(POLL_SECONDS)

    def _read(self) -> bool:
        """Read what the process has written; returns whether there was anything."""
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
        """End the process and all that it has started; returns its exit code, as `subprocess` gives it."""
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
    """Runs jobs in worker processes; any thread may call it.

    A job runs in a fork of a process that has imported the libraries (several at a time), or in a resident process that keeps
    its engine loaded (one at a time).

    Args:
        home: Where logs of these processes are written.
        threads: Threads of a worker; None leaves it to the libraries.
        warm: Fork from a process with imported libraries, where the system allows it.
        at_once: Jobs of one stage that run at the same time (`parallel_jobs.py`).
    """

    def __init__(self, home: Path, threads: int | None = None, warm: bool = True, at_once: int = 1) -> None:
        self._home, self._threads, self.at_once = home, threads, at_once
        self.slots = threading.Semaphore(at_once)
        self._warm = warm and hasattr(os, "pidfd_open")  # forking after these imports is safe on Linux only
        self._zygote: Host | None = None
        self._resident: Host | None = None
        self._resident_for: tuple[str, str] | None = None  # the Python and the kind that it serves
        self._elsewhere: Callable[[], None] | None = None
        self._turn = threading.RLock()
        """Held while a process that runs jobs is started or ended."""
        self._engine_used = threading.RLock()
        """Held while the resident process runs a job: no other job may end it then."""

    def warm_up(self) -> Host | None:
        """Start the process that imports the heavy libraries, without waiting for it; returns it, or None without `warm`."""
        with self._turn:
            if self._warm and (self._zygote is None or not self._zygote.alive):
                self._zygote = Host("speed_assets.workers.zygote", self._home / "work" / "zygote.log")
            return self._zygote

    def call_before_other_job(self, end: Callable[[], None]) -> None:
        """Call `end` before the next job of another kind, or at `close`: it ends engines on other machines."""
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
        check: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Run one job.

        Args:
            kind: Kind of job, a key of `speed_assets.workers.host.KINDS`.
            params: The job's parameters, as JSON values.
            folder: For the job's files and log.
            progress: Shows the job's progress.
            processes: How many processes share the job.
            resident: The Python of the environment with the job's engine. Its process stays, with the engine loaded, for the
                next job of this kind; any other job ends it first, which frees the engine's memory.
            check: Called again and again; what it raises ends the job.

        Returns:
            The job's result, as JSON values.

        Raises:
            WorkerFailed: The worker ended without a result.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("result.json", "error.json", "progress.jsonl"):
            (folder / stale).unlink(missing_ok=True)
        job = {"kind": kind, "params": {**params, "threads": self._threads}}
        (folder / "job.json").write_text(json.dumps(job))
        with _followed(folder / "progress.jsonl", progress, check) as follow:
            if resident:
                with self._engine_used:
                    code = self._ask_resident(resident, kind, folder, follow)
            else:
                if kind not in KEEPS_ENGINE_LOADED:
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
        """End the processes that run jobs, and with them jobs that are under way."""
        self._release()
        self._end_zygote()

    def _end_zygote(self) -> None:
        with self._turn:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    def _release_idle(self) -> None:
        """End engines that no job uses."""
        if self._engine_used.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._engine_used.release()

    def _release(self) -> int | None:
        """End the resident process, and engines on other machines; returns the exit code of the former."""
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
            code = self._resident.run_job(folder, follow)
        except BaseException:
            self._release()
            raise
        if code is None:
            return self._release()
        if code:
            self._release()
        return code

    def _spawn(self, folder: Path, follow: Callable[[], None], processes: int = 1) -> int:
        launcher = (*ACCELERATE_LAUNCHER, str(processes), "-m") if processes > 1 else ()
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
        """The exit code of the job's fork; a zygote that died is started once more, since jobs resume."""
        for _attempt in range(2):
            zygote = self.warm_up()
            assert zygote is not None
            try:
                code = zygote.run_job(folder, follow)
            except BaseException:
                self._end_zygote()
                raise
            if code is not None:
                return code
            if self._zygote is zygote:
                self._end_zygote()
        return None


def code_alone(folder: Path) -> Path:
    """A folder from which another environment's Python imports this project and nothing else of this environment.

    That is the checkout. An installed package is among others, so it gets links in `folder`.
    """
    if not INSTALLED:
        return PROJECT
    links = folder / "code"
    links.mkdir(exist_ok=True)
    for name in ("speed_assets", "resources", "checks"):
        with suppress(FileExistsError):
            (links / name).symlink_to(PROJECT / name)
    return links


def _start(python: str, module: str, *arguments: str, code: Path = PROJECT, **streams: Any) -> subprocess.Popen[bytes]:
    environment = worker_environment(os.environ)
    path = [str(code)]  # wherever this process found the project, its workers find it
    if python == sys.executable:
        path += filter(None, [environment.get("PYTHONPATH")])
    else:  # another environment, with this project's code and nothing else of this one's
        environment.pop("PYTHONHOME", None)
        environment = KEPT_MEMORY | environment
    environment["PYTHONPATH"] = os.pathsep.join(path)
    return subprocess.Popen(
        [python, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # an interrupt from the keyboard is for this process, which then ends its workers
        **streams,
    )


@contextmanager
def _followed(path: Path, progress: Progress | None, check: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """A function that checks, and reports the last line that was added to a progress file since its last call."""
    stream: list[IO[str]] = []

    def follow() -> None:
        check()
        if progress is None:
            return
        if not stream and path.exists():
            stream.append(path.open())
        line = (stream[0].readlines() or [""])[-1] if stream else ""
        if line.startswith("{") and line.endswith("}\n"):  # a complete line; earlier ones are obsolete
            entry = json.loads(line)
            progress(entry["done"], entry["total"], entry["note"])

    try:
        yield follow
    finally:
        for handle in stream:
            handle.close()
