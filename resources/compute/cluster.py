"""Work in shards: one function over many tables, on this machine or on a Ray cluster, each result durable as it arrives.

A shard is done when its complete result is in `folder`; a later run, also after a kill, reads it there. On Ray each shard is
a task; a lost machine costs the shards that were on it. The process that runs shards keeps its engine (a resident worker,
see `runner.py`) for the next shard, so that a model is loaded once.

Rows travel as data, models as paths: a folder must be at the same path on every machine. No environment variable travels; a
machine gets what it needs (tokens of a hub, for instance) where it is started.

Hidden state of the process, on a machine of the Ray cluster: its runner in `_RUNNERS`, the locks of its scratch folders in
`_LOCKS`, the cached digest of the project, and the variable `SPEED_CARD_LOCK` of its environment.

Belongs here: sending shards out and collecting results. Not here: what is done to a shard (`generator.py`), and Dagster's own
use of Ray (`build.py`, `deploy/`).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import polars as pl

from resources.compute.runner import Runner, WorkerFailed
from resources.file_locks import create_locked_file
from resources.progress import Progress
from resources.store.manifests import file_digest
from resources.store.store import PARQUET_OPTIONS
from speed_assets.domain.fingerprints import digest, short_id
from speed_assets.errors import SpeedError
from speed_assets.recipe import PROJECT, Runtime
from speed_assets.recipe import Cluster as ClusterSettings

ShardWork = Callable[[Runner, pl.DataFrame, Path, Progress | None], pl.DataFrame]
"""From a runner, the rows of a shard, a scratch folder and progress to the result. For Ray it is a function of a module, or
a partial of one."""
POLL_SECONDS = 5.0
"""Seconds, the longest wait between two checks whether any machine has room. Ours."""
CONNECT_SECONDS = 10.0
CARD_LOCK = "SPEED_CARD_LOCK"
"""Environment variable that names the lock of a GPU to the resident worker that uses it."""


class ClusterError(SpeedError, RuntimeError):
    """A cluster cannot be used, or a shard failed on it; the message says what to do."""


@dataclass(frozen=True)
class Shard:
    """Some rows of a job. Its name is that of its result file, so shards of different content need different names."""

    name: str
    rows: pl.DataFrame


class Cluster(Protocol):
    """Where shards run."""

    def results(
        self, work: ShardWork, shards: Iterable[Shard], inside: Progress
    ) -> Generator[tuple[Shard, pl.DataFrame], None, None]:
        """Run shards.

        Args:
            work: What is done to a shard.
            shards: Read as machines have room.
            inside: Progress within a shard, where it is available.

        Yields:
            Each shard with its result, in any order. Closing the generator ends shards that are under way.

        Raises:
            WorkerFailed: A worker ended without a result.
            ClusterError: The cluster cannot be used, or lost a shard too often.
        """
        ...


def cluster_for(runtime: Runtime, runner: Runner, scratch: Path) -> Cluster:
    """The cluster that a recipe names; the local one runs its shards with `runner` in `scratch`."""
    assert runtime.cluster is not None
    if runtime.cluster.kind == "local":
        return ShardsOnThisMachine(runner, scratch)
    return RayShards(runtime.cluster, runner, runtime.threads or max(1, int(runtime.cluster.cpus_per_shard)))


def run_shards(
    cluster: Cluster, work: ShardWork, shards: Sequence[Shard], folder: Path, progress: Progress | None = None
) -> pl.DataFrame:
    """Run the shards that have no result in `folder` yet.

    Args:
        cluster: Where they run.
        work: What is done to a shard.
        shards: All shards, with different names.
        folder: Where results are stored, one Parquet file each.
        progress: Shows rows done of all.

    Returns:
        The results of all shards, in their order.

    Raises:
        WorkerFailed: A worker ended without a result.
        ClusterError: The cluster cannot be used, or lost a shard too often.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(shard.rows.height for shard in shards)
    files = {shard.name: folder / f"{shard.name}.parquet" for shard in shards}
    left = [shard for shard in shards if not files[shard.name].exists()]
    done = total - sum(shard.rows.height for shard in left)

    def report(more: int) -> None:
        if progress is not None:
            progress(done + more, total, "rows")

    results = cluster.results(work, left, lambda more, _total, _note: report(more))
    try:
        for shard, result in results:
            _write(result, files[shard.name])
            done += shard.rows.height
            report(0)
    finally:
        results.close()
    return pl.concat([pl.read_parquet(file) for file in files.values()])


def _write(frame: pl.DataFrame, file: Path) -> None:
    unfinished = file.with_suffix(".tmp")
    with unfinished.open("wb") as stream:
        frame.write_parquet(stream, **PARQUET_OPTIONS)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)


class ShardsOnThisMachine:
    """One shard after the other on this machine."""

    def __init__(self, runner: Runner, scratch: Path) -> None:
        self._runner, self._scratch = runner, scratch

    def results(
        self, work: ShardWork, shards: Iterable[Shard], inside: Progress
    ) -> Generator[tuple[Shard, pl.DataFrame], None, None]:
        """See `Cluster`."""
        for shard in shards:
            folder = self._scratch / shard.name  # stays when this process is killed, so that the shard resumes
            yield shard, work(self._runner, shard.rows, folder, inside)
            shutil.rmtree(folder, ignore_errors=True)


class RayShards:
    """Each shard is a task of a Ray cluster, whose engines end before `runner` does another job."""

    def __init__(self, settings: ClusterSettings, runner: Runner, threads: int) -> None:
        self._settings, self._runner, self._threads = settings, runner, threads

    def results(
        self, work: ShardWork, shards: Iterable[Shard], inside: Progress
    ) -> Generator[tuple[Shard, pl.DataFrame], None, None]:
        """See `Cluster`.

        Raises:
            ClusterError: Also when no machine has had room for `patience_minutes`.
        """
        waiting = iter(shards)
        first = next(waiting, None)
        if first is None:
            return
        settings = self._settings
        ray = _connected(settings.address, self._runner)
        task = ray.remote(
            num_cpus=settings.cpus_per_shard,
            num_gpus=settings.gpus_per_shard,
            max_retries=settings.retries,
            scheduling_strategy="SPREAD",  # else one node may take all short shards while others have loaded nothing
            max_calls=0,  # the process stays, and with it the engine; Ray ends it after each task that uses a GPU
        )(_on_a_node)
        whole_card = settings.gpus_per_shard >= 1
        under_way = {task.remote(work, first.rows, self._threads, whole_card, project_digest()): first}
        seen = time.monotonic()
        try:
            while under_way:
                for shard in islice(waiting, settings.in_flight - len(under_way)):
                    reference = task.remote(work, shard.rows, self._threads, whole_card, project_digest())
                    under_way[reference] = shard
                ready, _ = ray.wait(list(under_way), timeout=POLL_SECONDS)
                if ready or self._room(ray):
                    seen = time.monotonic()
                elif time.monotonic() - seen > settings.patience_minutes * 60:
                    raise ClusterError(
                        f"for {settings.patience_minutes:g} minutes no machine of the Ray cluster had {self._asked()}: add one, "
                        f"or ask for less in runtime.cluster. The cluster has {_has(ray)}"
                    )
                for reference in ready:
                    result = _fetched(ray, reference, settings.retries)
                    shard = under_way.pop(reference)
                    yield shard, result
        finally:
            # A caller that closes this early needs no more results. Shards end with the connection: `ray.cancel` of a task that
            # ends at the same time aborts this process (Ray 2.60: "Tried to complete task that was not pending").
            if under_way:
                ray.shutdown()

    def _room(self, ray: Any) -> bool:
        """Whether some live machine is large enough for a shard."""
        cpus, gpus = self._settings.cpus_per_shard, self._settings.gpus_per_shard
        return any(
            node["Alive"] and node["Resources"].get("CPU", 0) >= cpus and node["Resources"].get("GPU", 0) >= gpus
            for node in ray.nodes()
        )

    def _asked(self) -> str:
        return f"{self._settings.cpus_per_shard:g} CPUs and {self._settings.gpus_per_shard:g} GPUs for a shard"


def _has(ray: Any) -> str:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "no machine"


def _fetched(ray: Any, reference: Any, retries: int) -> pl.DataFrame:
    try:
        result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        missing = re.search(r"No module named '[\w.]+'", str(error))
        if missing:
            raise ClusterError(
                f"a machine of the Ray cluster cannot import this project ({missing[0]}): install it there, or start "
                "Ray there with the project on PYTHONPATH"
            ) from None
        raise
    except ray.exceptions.RayError as error:
        words = " ".join(str(error).split())[:500]
        raise ClusterError(f"a shard was lost {retries + 1} times with its machine or process: {words}") from None
    if isinstance(result, str):
        raise ClusterError(result)
    frame: pl.DataFrame = result
    return frame


def _connected(address: str | None, runner: Runner) -> Any:
    """The module `ray`, connected to a cluster until `runner` has other work. Raises ClusterError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {}
    if address == "local":  # read when Ray is imported: on loopback, for this process alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"runtime.cluster.kind=ray needs Ray, which {sys.executable} has not ({error}): install the extra `ray`, or "
            "set runtime.cluster to null"
        ) from None
    if ray.is_initialized():
        return ray
    _reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except Exception as error:  # Ray raises many kinds
        words = " ".join(str(error).split())[:500]
        raise ClusterError(
            f"no Ray cluster at {address}: {words}. Start one (`ray start --head`), run on a machine that belongs to it, or "
            "name its client port as ray://HOST:10001 in runtime.cluster.address or RAY_ADDRESS"
        ) from None
    runner.call_before_other_job(ray.shutdown)
    return ray


def _reachable(address: str) -> None:
    """Raise ClusterError when nothing listens at host:port, which Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster at {address} ({error}): start one (`ray start --head`), or correct runtime.cluster.address or "
            "RAY_ADDRESS"
        ) from None


@cache
def project_digest() -> str:
    """Digest of the source of this project, which must be the same on every machine of a cluster."""
    folders = ("speed_assets/domain", "speed_assets/workers", "resources")
    files = [file for folder in folders for file in sorted((PROJECT / folder).rglob("*.py"))]
    return digest({file.relative_to(PROJECT).as_posix(): file_digest(file) for file in files})


# On the machine that runs a shard.

_RUNNERS: dict[tuple[int, str], Runner] = {}
_LOCKS: list[IO[str]] = []


def _on_a_node(work: ShardWork, rows: pl.DataFrame, threads: int, whole_card: bool, project: str) -> pl.DataFrame | str:
    """The result of a shard, or a message why there is none."""
    here = f"on {socket.gethostname()}"
    if project != project_digest():
        return f"{here} is another version of this project ({PROJECT}): install the same one on every machine"
    try:
        runner = _runner(threads, whole_card)
        folder = Path(tempfile.mkdtemp(prefix="shard-", dir=_scratch()))
        result = work(runner, rows, folder, None)
    except (WorkerFailed, ClusterError, ValueError) as failure:
        return f"{here}: {failure}"
    except OSError as failure:  # worded so that it is not taken for a problem of the driver's disk
        what = errno.errorcode.get(failure.errno or 0, type(failure).__name__)
        return f"{here} {tempfile.gettempdir()} cannot be used ({what}): check that machine's disk, then run again"
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _runner(threads: int, whole_card: bool) -> Runner:
    """The runner of this process, whose engine is on the GPU that Ray has assigned for this task."""
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    key = threads, card
    if key not in _RUNNERS:
        while _RUNNERS:
            _RUNNERS.popitem()[1].close()
        _RUNNERS[key] = Runner(_scratch(), threads, warm=False)
    os.environ.pop(CARD_LOCK, None)
    if whole_card and card:
        lock = _common() / f"card-{short_id('card', card)}"
        _end_engine_of_another(lock)
        os.environ[CARD_LOCK] = str(lock)
    return _RUNNERS[key]


def _end_engine_of_another(lock: Path) -> None:
    """End the engine that another process has left on a GPU that is now assigned to this one."""
    try:
        with lock.open("r+") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                parent, engine = map(int, file.read().split())
                if parent != os.getpid():
                    os.kill(engine, signal.SIGTERM)  # the next engine waits for the lock, so for the memory
    except (FileNotFoundError, ProcessLookupError, ValueError):
        pass


def _common() -> Path:
    folder = Path(tempfile.gettempdir()) / f"speed-shards-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode) or state.st_mode & 0o077:
        raise ClusterError(f"{folder} belongs to somebody else, or others may write there: remove it, or set TMPDIR")
    return folder


@cache
def _scratch() -> Path:
    """A folder for this process; removes those of dead processes."""
    for lock in _common().glob("*/lock"):
        with suppress(OSError), lock.open("r+") as file:
            flock(file, LOCK_EX | LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=_common()))
    _LOCKS.append(create_locked_file(folder / "lock"))
    return folder
