"""Generation in shards: the rows of an undivided run, whatever machine does them and whatever is killed meanwhile."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.compute import cluster, generator
from resources.compute.cluster import ClusterError, RayShards, Shard, run_shards
from resources.compute.generator import ModelSource, generate
from resources.compute.runner import Runner
from resources.store import storage_errors
from speed_assets.recipe import PROJECT, Runtime, Sampling, load_recipe
from speed_assets.recipe import Cluster as ClusterSettings
from tests.support.ray_nodes import CONNECTING, Nodes

pytestmark = pytest.mark.faults

SETTINGS = load_recipe("offline").generator.model_copy(update={"batch_rows": 4})
SAMPLING = Sampling(temperature=1.0, max_new_tokens=40)
ROWS = 30
PROMPTS = pl.DataFrame(
    [
        {"row_id": f"r{row}", "candidate": candidate, "prompt": "about " + "violin " * (row * 7 % 5) + f"{row}\n"}
        for row in range(ROWS // 2)
        for candidate in range(2)
    ]
)
LOCAL = ClusterSettings(kind="local", shard_rows=7)  # 8 rows: whole batches


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.support.tiny_text import write_model  # loads torch, which a driver does not

    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("home"), threads=1)
    yield runner
    runner.close()


def generated(
    runner: Runner,
    model: str,
    folder: Path,
    settings: ClusterSettings | None,
    progress: Callable[[int, int, str], None] | None = None,
    prompts: pl.DataFrame = PROMPTS,
) -> pl.DataFrame:
    return generate(
        runner,
        SETTINGS,
        Runtime(threads=1, cluster=settings),
        ModelSource(model, None, None),
        prompts,
        SAMPLING,
        1,
        folder,
        progress,
    )


@pytest.fixture(scope="module")
def undivided(runner: Runner, model: str, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return generated(runner, model, tmp_path_factory.mktemp("undivided"), None)


class Counting:
    """The work of the local twin, counted; the n-th shard fails."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.shards: list[int] = []
        self._fails_at = fails_at

    def __call__(self, job: Any, runner: Runner, rows: pl.DataFrame, *rest: Any) -> pl.DataFrame:
        if len(self.shards) + 1 == self._fails_at:
            raise KeyboardInterrupt
        self.shards.append(rows.height)
        return ANSWERS(job, runner, rows, *rest)


ANSWERS = generator.generate_locally


# The local twin


def test_shards_give_the_rows_of_an_undivided_run(
    runner: Runner, model: str, tmp_path: Path, undivided: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    monkeypatch.setattr(generator, "generate_locally", counting)
    told: list[tuple[int, int, str]] = []
    assert generated(runner, model, tmp_path, LOCAL, lambda *line: told.append(line)).equals(undivided)
    assert counting.shards == [8, 8, 8, 6]
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (ROWS, ROWS, "rows")


def test_rows_take_their_own_limits_with_them(runner: Runner, model: str, tmp_path: Path) -> None:
    limits = pl.Series("max_new_tokens", [3, 40] * (ROWS // 2), dtype=pl.Int64)
    rows = PROMPTS.with_columns(limits)
    here = generated(runner, model, tmp_path / "here", None, prompts=rows)
    assert here.filter(pl.col("max_new_tokens") == 3)["output_tokens"].max() == 3
    assert here["output_tokens"].max() > 3  # type: ignore[operator]
    assert generated(runner, model, tmp_path / "shards", LOCAL, prompts=rows).equals(here)


def test_a_run_that_ends_midway_resumes_at_the_shard(
    runner: Runner, model: str, tmp_path: Path, undivided: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = Counting(fails_at=3), Counting(), Counting()
    monkeypatch.setattr(generator, "generate_locally", first)
    with pytest.raises(KeyboardInterrupt):
        generated(runner, model, tmp_path, LOCAL)
    monkeypatch.setattr(generator, "generate_locally", second)
    assert generated(runner, model, tmp_path, LOCAL).equals(undivided)
    assert (first.shards, second.shards) == ([8, 8], [8, 6])
    monkeypatch.setattr(generator, "generate_locally", third)
    changed = PROMPTS.with_columns(prompt=pl.col("prompt") + "again\n")
    generated(runner, model, tmp_path, LOCAL, prompts=changed)
    assert sum(third.shards) == ROWS  # shards of other prompts are not taken


def test_the_model_stays_loaded_from_shard_to_shard(runner: Runner, model: str, tmp_path: Path) -> None:
    generated(runner, model, tmp_path / "a", LOCAL)
    resident = runner._resident
    assert resident is not None
    assert resident.alive
    generated(runner, model, tmp_path / "b", LOCAL)
    assert runner._resident is resident


def test_no_rows_need_no_shards(runner: Runner, model: str, tmp_path: Path) -> None:
    assert generated(runner, model, tmp_path, LOCAL, prompts=PROMPTS.clear()).is_empty()


DRIVER = """
import sys
from pathlib import Path
import test_cluster as t

runner = t.Runner(Path(sys.argv[2]) / "home", threads=1, warm=False)
t.generated(runner, sys.argv[1], Path(sys.argv[2]) / "job", t.ClusterSettings.model_validate_json(sys.argv[3]))
"""


def drive(model: str, folder: Path, settings: ClusterSettings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, model, str(folder), settings.model_dump_json()],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}"},
        start_new_session=True,
    )


def kill_after_shards(process: subprocess.Popen[bytes], folder: Path, shards: int) -> dict[Path, int]:
    """SIGKILL to a driver that has so many shards; its finished shards with the time of their writing."""
    end = time.monotonic() + 240  # a busy machine is no fault
    while len(list((folder / "job" / "generate" / "done").glob("*.parquet"))) < shards:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {file: file.stat().st_mtime_ns for file in (folder / "job" / "generate" / "done").glob("*.parquet")}


def test_a_killed_driver_resumes_at_the_shard(
    runner: Runner, model: str, tmp_path: Path, undivided: pl.DataFrame
) -> None:
    done = kill_after_shards(drive(model, tmp_path, LOCAL), tmp_path, 1)
    assert generated(runner, model, tmp_path / "job", LOCAL).equals(undivided)
    assert {file: file.stat().st_mtime_ns for file in done} == done


# On the machine that does a shard


def test_a_full_disk_of_a_node_is_reported_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> pl.DataFrame:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = cluster._on_a_node(full, PROMPTS, 1, False, cluster.project_digest())
    assert isinstance(said, str)
    assert re.search(r"^on \S+ /\S* cannot be used \(ENOSPC\): check that machine's disk", said)
    assert storage_errors.storage_problem(said, Path(".")) is None, "nobody is sent to his own disk"


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = cluster._common()
    folder.chmod(0o777)
    with pytest.raises(ClusterError, match="others may write there: remove it"):
        cluster._common()


# Ray


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    before = {name: os.environ.get(name) for name in CONNECTING}
    os.environ.update(CONNECTING)  # before anything imports Ray
    pytest.importorskip("ray")
    nodes = Nodes({"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}", "A_NODES_OWN": "1"})
    try:
        nodes.add()
        nodes.add()
        yield nodes
    finally:
        import ray

        ray.shutdown()
        nodes.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def on_ray(nodes: Nodes) -> ClusterSettings:
    return ClusterSettings(kind="ray", address=nodes.address, shard_rows=4)


def whereabouts(runner: Runner, rows: pl.DataFrame, folder: Path, _progress: Any) -> pl.DataFrame:
    """Where a shard is done, and what is known there."""
    time.sleep(0.5)
    import ray

    node = ray.get_runtime_context().get_node_id()
    known = [name for name in ("A_TEST_TOKEN", "A_NODES_OWN") if name in os.environ]
    return rows.with_columns(node=pl.lit(node), known=pl.lit(",".join(known)))


def test_on_two_nodes_rows_are_the_same_and_secrets_stay(
    runner: Runner, model: str, tmp_path: Path, undivided: pl.DataFrame, on_ray: ClusterSettings, monkeypatch: Any
) -> None:
    monkeypatch.setenv("A_TEST_TOKEN", "secret")
    monkeypatch.syspath_prepend(str(PROJECT / "tests"))
    assert generated(runner, model, tmp_path, on_ray).equals(undivided)
    shards = [Shard(f"{number}", PROMPTS[number : number + 1]) for number in range(8)]
    import test_cluster  # by its name, as nodes find it

    found = run_shards(RayShards(on_ray, runner, 1), test_cluster.whereabouts, shards, tmp_path / "where")
    assert found["node"].n_unique() == 2
    assert set(found["known"]) == {"A_NODES_OWN"}
    assert found.select(PROMPTS.columns).equals(PROMPTS[:8])  # in order


def test_a_killed_driver_on_ray_resumes_at_the_shard(
    runner: Runner, model: str, tmp_path: Path, undivided: pl.DataFrame, on_ray: ClusterSettings
) -> None:
    done = kill_after_shards(drive(model, tmp_path, on_ray), tmp_path, 2)
    assert generated(runner, model, tmp_path / "job", on_ray).equals(undivided)
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_a_folder_that_a_node_lacks_is_named(runner: Runner, tmp_path: Path, on_ray: ClusterSettings) -> None:
    job = generator.GenerationJob("transformers", {"model": "/nowhere/model", "adapter": None}, None, 0, kept=True)
    with pytest.raises(ClusterError, match=r"no model at /nowhere/model.*same path"):
        run_shards(
            RayShards(on_ray, runner, 1), generator.partial(ANSWERS, job), [Shard("0", PROMPTS)], tmp_path / "done"
        )


def test_another_version_on_a_node_is_named(
    runner: Runner, model: str, tmp_path: Path, on_ray: ClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "project_digest", lambda: "of another version")
    for number in range(3):  # the other shards end with it, in any state, and this process stays
        with pytest.raises(ClusterError, match=r"is another version of this project .*: install the same"):
            generated(runner, model, tmp_path / f"{number}", on_ray)


def test_more_than_any_machine_has_is_reported(
    runner: Runner, tmp_path: Path, on_ray: ClusterSettings, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.2)
    greedy = on_ray.model_copy(update={"cpus_per_shard": 64.0, "patience_minutes": 0.01})
    with pytest.raises(ClusterError, match=r"no machine .* had 64 CPUs .* has 1 CPUs and 0 GPUs, 1 CPUs"):
        run_shards(RayShards(greedy, runner, 1), ANSWERS, [Shard("0", PROMPTS)], tmp_path / "done")  # type: ignore[arg-type]


def attempted(log: str, *rest: Any) -> pl.DataFrame:
    """The outputs of a shard, after its attempt lies in `log` as NODE.ROW of its first row, and long enough to be killed."""
    import ray

    first = rest[2][0].select("row_id", "candidate").row(0)
    attempt = Path(log) / f"{ray.get_runtime_context().get_node_id()}.{first[0]}-{first[1]}.{time.time_ns()}"
    attempt.touch()
    time.sleep(1)
    found = ANSWERS(*rest)
    attempt.with_name(attempt.name + ".answered").touch()
    return found


def test_a_node_killed_in_the_middle_loses_only_what_was_under_way(
    runner: Runner,
    model: str,
    tmp_path: Path,
    undivided: pl.DataFrame,
    on_ray: ClusterSettings,
    nodes: Nodes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last test of this cluster: one node is gone after it. One that stalls: `python -m benchmarks.ray_scaling`."""
    monkeypatch.syspath_prepend(str(PROJECT / "tests"))
    import ray
    import test_cluster  # by its name, as nodes find it

    log = tmp_path / "attempts"
    log.mkdir()
    monkeypatch.setattr(generator, "generate_locally", generator.partial(test_cluster.attempted, str(log)))
    lost: list[str] = []

    def kill_while_it_works() -> None:
        """The node that is not the head, when it is at a shard."""
        end = time.monotonic() + 240
        while not lost and time.monotonic() < end:
            time.sleep(0.02)
            begun = [file.name for file in log.iterdir()]
            for node in {name.split(".")[0] for name in begun} if ray.is_initialized() else ():
                its = [name for name in begun if name.startswith(node)]
                answered = sum(name.endswith(".answered") for name in its)
                if node != _head(ray) and answered < len(its) - answered:
                    lost.append(node)
                    nodes.kill(1)

    killer = threading.Thread(target=kill_while_it_works)
    killer.start()
    try:
        found = generated(runner, model, tmp_path / "job", on_ray)
    finally:
        lost.append("")  # ends the thread, had it found nothing
        killer.join()
    assert found.equals(undivided)
    assert lost[0], "no node was killed"
    attempts = [file.name.split(".") for file in log.iterdir() if not file.name.endswith(".answered")]
    answered = {tuple(file.name.split(".")[:2]) for file in log.iterdir() if file.name.endswith(".answered")}
    again = {shard for shard, number in Counter(shard for _, shard, _ in attempts).items() if number > 1}
    cut = {shard for node, shard, _ in attempts if node == lost[0] and (node, shard) not in answered}
    assert len(cut) == 1, "one CPU, one shard"
    assert again == cut, "what was answered is not asked again, what was under way is"


def _head(ray: Any) -> str:
    return next(node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"])


def test_a_cluster_that_is_not_there_is_reported(runner: Runner, tmp_path: Path) -> None:
    pytest.importorskip("ray").shutdown()
    settings = ClusterSettings(kind="ray", address="127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"no Ray cluster at 127.0.0.1:1 .*ray start --head"):
        run_shards(RayShards(settings, runner, 1), ANSWERS, [Shard("0", PROMPTS)], tmp_path)  # type: ignore[arg-type]


def test_without_an_address_ray_starts_here_for_the_run_and_ends_with_it(
    runner: Runner, model: str, tmp_path: Path, undivided: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = ClusterSettings(kind="ray", shard_rows=8)
    try:
        assert generated(runner, model, tmp_path, settings).equals(undivided)
        (here,) = ray.nodes()
        assert here["NodeManagerAddress"] == "127.0.0.1"
        generated(runner, model, tmp_path / "without shards", None)
        assert not ray.is_initialized(), "the next job has the machine for itself"
    finally:
        ray.shutdown()


def test_ray_that_is_not_installed_is_reported(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match="install the extra `ray`"):
        run_shards(RayShards(ClusterSettings(kind="ray"), runner, 1), ANSWERS, [Shard("0", PROMPTS)], tmp_path)  # type: ignore[arg-type]
