"""The gpu pool: stages that use a GPU take turns, no dead run holds a slot, and without a GPU nothing waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from resources.instance import gpu_pool, run_liveness
from resources.store.home import prepare_home
from speed_assets.build import build_defs
from speed_assets.orchestration import runs
from speed_assets.recipe import PROJECT
from tests.support.tiny import tiny_recipe

RUN = """
import sys, time
from pathlib import Path
import dagster as dg
from resources.instance import gpu_pool
from resources.instance import run_liveness

home, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
instance = dg.DagsterInstance.get()
run_liveness.mark_dead_runs_failed(instance)
gpu_pool.free_slots_of_ended_runs(instance)

@dg.asset(pool=gpu_pool.GPU_POOL)
def model() -> None:
    (home / f"{name}.began").write_text(str(time.time()))
    time.sleep(seconds)
    (home / f"{name}.ended").write_text(str(time.time()))

job = dg.define_asset_job("all")
defs = dg.Definitions(assets=[model], jobs=[job], executor=dg.in_process_executor)
defs.resolve_job_def("all").execute_in_process(instance=instance, tags=run_liveness.liveness_tags(instance))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on a machine that seems to have a GPU."""
    monkeypatch.setattr(gpu_pool, "gpu_visible", lambda: True)
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_home(tmp_path)))
    gpu_pool.limit_gpu_pool(dg.DagsterInstance.get())
    return tmp_path


def start(home: Path, name: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", RUN, str(home), name, str(seconds)], cwd=PROJECT)


def wait_for(file: Path) -> float:
    end = time.monotonic() + 60
    while not file.exists() or not file.read_text():
        assert time.monotonic() < end, f"waited in vain for {file.name}"
        time.sleep(0.05)
    return float(file.read_text())


@pytest.mark.faults
def test_two_runs_take_turns_and_a_killed_one_leaves_its_turn(home: Path) -> None:
    first = start(home, "first", 4)
    wait_for(home / "first.began")
    second = start(home, "second", 60)
    assert wait_for(home / "second.began") >= wait_for(home / "first.ended")
    assert first.wait() == 0
    second.send_signal(signal.SIGKILL)
    second.wait()
    slots = dg.DagsterInstance.get().event_log_storage.get_concurrency_info(gpu_pool.GPU_POOL)
    assert slots.active_slot_count == 1  # nobody has freed it
    third = start(home, "third", 0)
    wait_for(home / "third.ended")
    assert third.wait() == 0
    states = sorted(run.status.value for run in dg.DagsterInstance.get().get_runs())
    assert states == ["FAILURE", "SUCCESS", "SUCCESS"]  # the killed one is reported as failed


def test_slots_of_living_runs_and_of_a_daemon_are_left_alone(home: Path) -> None:
    instance = dg.DagsterInstance.get()
    elsewhere = {run_liveness.LOCK_TAG: "1" * 32}
    tags = {
        "living": run_liveness.liveness_tags(instance),
        "daemon": {},
        "elsewhere": elsewhere,
        "dead": {run_liveness.LOCK_TAG: "0" * 32},
    }
    (home / "dagster" / "processes" / ("0" * 32)).touch()
    job = dg.Definitions(assets=[dg.asset(lambda: None, name="a")], jobs=[dg.define_asset_job("all")])
    runs = {
        name: instance.create_run_for_job(
            job.resolve_job_def("all"), tags=tag, status=dg.DagsterRunStatus.STARTED
        ).run_id
        for name, tag in tags.items()
    }
    for run_id in runs.values():
        instance.event_log_storage.claim_concurrency_slot(gpu_pool.GPU_POOL, run_id, "a")
    assert gpu_pool.free_slots_of_ended_runs(instance) == []
    assert run_liveness.mark_dead_runs_failed(instance) == [runs["dead"]]
    assert gpu_pool.free_slots_of_ended_runs(instance) == [runs["dead"]]
    assert instance.event_log_storage.get_concurrency_run_ids() == {runs[n] for n in ("living", "daemon", "elsewhere")}


def test_a_limit_of_the_users_own_is_kept(home: Path) -> None:
    storage = dg.DagsterInstance.get().event_log_storage
    storage.set_concurrency_slots(gpu_pool.GPU_POOL, 2)
    gpu_pool.limit_gpu_pool(dg.DagsterInstance.get())
    assert storage.get_concurrency_info(gpu_pool.GPU_POOL).slot_count == 2


def test_without_a_gpu_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_home(tmp_path)))
    assert not gpu_pool.gpu_visible()
    gpu_pool.limit_gpu_pool(dg.DagsterInstance.get())
    assert gpu_pool.GPU_POOL not in dg.DagsterInstance.get().event_log_storage.get_concurrency_keys()


def test_models_generation_and_scores_use_the_pool_and_nothing_else_does(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    graph = recipe.graph()
    using = {name for name, stage in graph.items() if stage.gpu}
    assert using == {
        *(name for name, stage in graph.items() if stage.kind in ("model", "scores")),
        *("junior_data", "senior_data", "revised_data", "row_scores"),
    }
    for definition in build_defs(recipe, tmp_path).resolve_all_asset_keys():
        name = definition.path[0]
        pool = build_defs(recipe, tmp_path).resolve_assets_def(definition).op.pool
        assert pool == (gpu_pool.GPU_POOL if name in using else None)


@pytest.mark.faults
def test_a_run_is_gone_only_if_its_lock_can_be_taken(home: Path) -> None:
    instance = dg.DagsterInstance.get()
    tags = run_liveness.liveness_tags(instance)
    assert run_liveness.liveness_tags(instance) == tags
    assert os.listdir(home / "dagster" / "processes") == [tags[run_liveness.LOCK_TAG]]
    lock = home / "dagster" / "processes" / ("0" * 32)
    for name, gone in ((tags[run_liveness.LOCK_TAG], False), (lock.name, True), ("../../ledger", False), (None, False)):
        lock.touch()
        run = dg.DagsterRun("job", tags={} if name is None else {run_liveness.LOCK_TAG: name})
        assert run_liveness.is_process_gone(instance, run) == gone, name


UNFINISHED = """
import dagster as dg
from resources.instance import run_liveness

instance = dg.DagsterInstance.get()
job = dg.Definitions(assets=[dg.asset(lambda: None, name="a")], jobs=[dg.define_asset_job("all")])
tags = run_liveness.liveness_tags(instance)
instance.create_run_for_job(job.resolve_job_def("all"), tags=tags, status=dg.DagsterRunStatus.STARTED)
"""


def test_a_process_that_ends_in_order_and_leaves_a_run_under_way_is_gone(home: Path) -> None:
    """As where the end of a run cannot be written down: on a full disk, or without the database."""
    instance = dg.DagsterInstance.get()
    mine = run_liveness.liveness_tags(instance)[run_liveness.LOCK_TAG]
    (home / "dagster" / "processes" / ("0" * 32)).touch()  # of a process that has left nothing
    subprocess.run([sys.executable, "-W", "ignore", "-c", UNFINISHED], cwd=PROJECT, check=True)
    (run,) = instance.get_runs()
    assert run_liveness.mark_dead_runs_failed(instance) == [run.run_id]
    assert os.listdir(home / "dagster" / "processes") == [mine]


@pytest.mark.faults
def test_speed_run_frees_what_a_dead_run_holds(home: Path) -> None:
    instance = dg.DagsterInstance.get()
    instance.event_log_storage.claim_concurrency_slot(
        gpu_pool.GPU_POOL, "gone", "junior_model"
    )  # of a run nobody knows
    report = runs.run(tiny_recipe(), home, select="topics")
    assert list(report.made) == ["topics"]
    assert instance.event_log_storage.get_concurrency_run_ids() == set()
    assert instance.get_runs()[0].tags.items() >= run_liveness.liveness_tags(instance).items()


def test_the_dagster_file_of_an_older_home_names_the_module_that_holds_its_launcher_now(tmp_path: Path) -> None:
    config = prepare_home(tmp_path) / "dagster.yaml"
    older = config.read_text().replace("resources.instance.run_liveness", "resources.living") + "\n# the user's own\n"
    config.write_text(older)
    prepare_home(tmp_path)
    assert config.read_text() == older.replace("resources.living", "resources.instance.run_liveness")
    with dg.DagsterInstance.from_config(str(config.parent)) as instance:
        assert isinstance(instance.run_launcher, run_liveness.Launcher)
