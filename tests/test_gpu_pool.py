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
from tiny import tiny_recipe

from resources import gpu, living
from resources.home import prepare
from speed_assets import runs
from speed_assets.build import build_defs
from speed_assets.recipe import PROJECT

RUN = """
import sys, time
from pathlib import Path
import dagster as dg
from resources import gpu, living

home, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
instance = dg.DagsterInstance.get()
living.bury(instance)
gpu.free_slots(instance)

@dg.asset(pool=gpu.POOL)
def model() -> None:
    (home / f"{name}.began").write_text(str(time.time()))
    time.sleep(seconds)
    (home / f"{name}.ended").write_text(str(time.time()))

job = dg.define_asset_job("all")
defs = dg.Definitions(assets=[model], jobs=[job], executor=dg.in_process_executor)
defs.resolve_job_def("all").execute_in_process(instance=instance, tags=living.run_tags(instance))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on a machine that seems to have a GPU."""
    monkeypatch.setattr(gpu, "visible", lambda: True)
    monkeypatch.setenv("DAGSTER_HOME", str(prepare(tmp_path)))
    gpu.limit(dg.DagsterInstance.get())
    return tmp_path


def start(home: Path, name: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", RUN, str(home), name, str(seconds)], cwd=PROJECT)


def wait_for(file: Path) -> float:
    end = time.monotonic() + 60
    while not file.exists() or not file.read_text():
        assert time.monotonic() < end, f"waited in vain for {file.name}"
        time.sleep(0.05)
    return float(file.read_text())


def test_two_runs_take_turns_and_a_killed_one_leaves_its_turn(home: Path) -> None:
    first = start(home, "first", 4)
    wait_for(home / "first.began")
    second = start(home, "second", 60)
    assert wait_for(home / "second.began") >= wait_for(home / "first.ended")
    assert first.wait() == 0
    second.send_signal(signal.SIGKILL)
    second.wait()
    slots = dg.DagsterInstance.get().event_log_storage.get_concurrency_info(gpu.POOL)
    assert slots.active_slot_count == 1  # nobody has freed it
    third = start(home, "third", 0)
    wait_for(home / "third.ended")
    assert third.wait() == 0
    states = sorted(run.status.value for run in dg.DagsterInstance.get().get_runs())
    assert states == ["FAILURE", "SUCCESS", "SUCCESS"]  # the killed one is told so


def test_slots_of_living_runs_and_of_a_daemon_are_left_alone(home: Path) -> None:
    instance = dg.DagsterInstance.get()
    elsewhere = {living.LOCK_TAG: "1" * 32}
    tags = {
        "living": living.run_tags(instance),
        "daemon": {},
        "elsewhere": elsewhere,
        "dead": {living.LOCK_TAG: "0" * 32},
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
        instance.event_log_storage.claim_concurrency_slot(gpu.POOL, run_id, "a")
    assert gpu.free_slots(instance) == []
    assert living.bury(instance) == [runs["dead"]]
    assert gpu.free_slots(instance) == [runs["dead"]]
    assert instance.event_log_storage.get_concurrency_run_ids() == {runs[n] for n in ("living", "daemon", "elsewhere")}


def test_a_limit_of_the_users_own_is_kept(home: Path) -> None:
    storage = dg.DagsterInstance.get().event_log_storage
    storage.set_concurrency_slots(gpu.POOL, 2)
    gpu.limit(dg.DagsterInstance.get())
    assert storage.get_concurrency_info(gpu.POOL).slot_count == 2


def test_without_a_gpu_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("DAGSTER_HOME", str(prepare(tmp_path)))
    assert not gpu.visible()
    gpu.limit(dg.DagsterInstance.get())
    assert gpu.POOL not in dg.DagsterInstance.get().event_log_storage.get_concurrency_keys()


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
        assert pool == (gpu.POOL if name in using else None)


def test_a_run_is_gone_only_if_its_lock_can_be_taken(home: Path) -> None:
    instance = dg.DagsterInstance.get()
    tags = living.run_tags(instance)
    assert living.run_tags(instance) == tags
    assert os.listdir(home / "dagster" / "processes") == [tags[living.LOCK_TAG]]
    lock = home / "dagster" / "processes" / ("0" * 32)
    for name, gone in ((tags[living.LOCK_TAG], False), (lock.name, True), ("../../ledger", False), (None, False)):
        lock.touch()
        run = dg.DagsterRun("job", tags={} if name is None else {living.LOCK_TAG: name})
        assert living.is_gone(instance, run) == gone, name


UNFINISHED = """
import dagster as dg
from resources import living

instance = dg.DagsterInstance.get()
job = dg.Definitions(assets=[dg.asset(lambda: None, name="a")], jobs=[dg.define_asset_job("all")])
tags = living.run_tags(instance)
instance.create_run_for_job(job.resolve_job_def("all"), tags=tags, status=dg.DagsterRunStatus.STARTED)
"""


def test_a_process_that_ends_in_order_and_leaves_a_run_under_way_is_gone(home: Path) -> None:
    """As where the end of a run cannot be written down: on a full disk, or without the database."""
    instance = dg.DagsterInstance.get()
    mine = living.run_tags(instance)[living.LOCK_TAG]
    (home / "dagster" / "processes" / ("0" * 32)).touch()  # of a process that has left nothing
    subprocess.run([sys.executable, "-W", "ignore", "-c", UNFINISHED], cwd=PROJECT, check=True)
    (run,) = instance.get_runs()
    assert living.bury(instance) == [run.run_id]
    assert os.listdir(home / "dagster" / "processes") == [mine]


def test_speed_run_frees_what_a_dead_run_holds(home: Path) -> None:
    instance = dg.DagsterInstance.get()
    instance.event_log_storage.claim_concurrency_slot(gpu.POOL, "gone", "junior_model")  # of a run nobody knows
    report = runs.run(tiny_recipe(), home, select="topics")
    assert list(report.made) == ["topics"]
    assert instance.event_log_storage.get_concurrency_run_ids() == set()
    assert instance.get_runs()[0].tags.items() >= living.run_tags(instance).items()
