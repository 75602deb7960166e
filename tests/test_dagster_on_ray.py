"""Dagster's runs as jobs of a real Ray cluster: launched by dagster-ray, materialized there, the pool `gpu` respected."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from resources.instance import gpu_pool
from speed_assets.build import build_defs
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.ray_nodes import CONNECTING, Nodes
from tests.support.tiny import tiny_data, write_recipe

SECONDS = 240
"""Longest that a run may take: its process imports Dagster first, on a machine that may be busy."""


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Nodes, Path, dg.DagsterInstance]]:
    """A Ray cluster with a job server, a home, and an instance that launches its runs there, with the executor named."""
    for name, value in CONNECTING.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("dagster_ray")
    pytest.importorskip("aiohttp_cors", reason="Ray's job server needs ray[default]")
    recipe = write_recipe(tmp_path, tiny_data())
    own = {"SPEED_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path / "dagster"), "SPEED_RECIPE": str(recipe)}
    own["SPEED_EXECUTOR"] = request.param
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    nodes = Nodes({**own, **CONNECTING, "PATH": path}, dashboard=True)
    try:
        nodes.add(cpus=2)
        takes_jobs(nodes.dashboard)
        config: dict[str, Any] = {
            "telemetry": {"enabled": False},
            "run_launcher": {
                "module": "dagster_ray",
                "class": "RayRunLauncher",
                "config": {"ray": {"address": nodes.dashboard, "num_cpus": 1}},
            },
            "concurrency": {"pools": {"granularity": "op"}},
        }
        (tmp_path / "dagster").mkdir()
        (tmp_path / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(config))
        with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
            yield nodes, recipe, instance
    finally:
        nodes.close()


def takes_jobs(dashboard: str) -> None:
    """Wait until the job server does not only answer but has an agent for jobs."""
    from ray.job_submission import JobSubmissionClient

    end = time.monotonic() + SECONDS
    while True:
        try:
            JobSubmissionClient(dashboard).submit_job(entrypoint="true")
            return
        except RuntimeError:
            assert time.monotonic() < end
            time.sleep(0.5)


def launch(instance: dg.DagsterInstance, recipe: Path, workspace: Any, assets: list[str]) -> str:
    (location,) = workspace.code_locations
    job = location.get_repository("__repository__").get_full_job("everything")
    run = instance.create_run_for_job(
        build_defs(load_recipe(recipe)).resolve_job_def("everything"),
        asset_selection=frozenset(dg.AssetKey(name) for name in assets),
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
    )
    instance.launch_run(run.run_id, workspace)
    return run.run_id


def wait_for(instance: dg.DagsterInstance, run_id: str) -> str:
    end = time.monotonic() + SECONDS
    while True:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        if run.is_finished or time.monotonic() > end:
            return run.status.value
        time.sleep(0.5)


@contextmanager
def loaded(instance: dg.DagsterInstance) -> Iterator[Any]:
    """The workspace of the definitions as a server of their own loads them."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget

    os.environ["PYTHONPATH"] = str(PROJECT)  # of the server of definitions that is started here
    target = ModuleTarget(
        module_name="speed_assets.definitions",
        attribute=None,
        working_directory=str(PROJECT),
        location_name="speed_assets",
    )
    with WorkspaceProcessContext(instance, target) as context:
        yield context.create_request_context()


@pytest.mark.parametrize("world", ["ray"], indirect=True)
def test_with_ray_as_executor_each_step_is_a_job_of_its_own(world: tuple[Nodes, Path, dg.DagsterInstance]) -> None:
    _nodes, recipe, instance = world
    with loaded(instance) as workspace:
        run_id = launch(instance, recipe, workspace, ["topics"])
        assert wait_for(instance, run_id) == "SUCCESS", [e.message for e in instance.all_logs(run_id)]
    said = [entry.message or "" for entry in instance.all_logs(run_id)]
    assert [line for line in said if "Ray run job created" in line]
    assert [line for line in said if "step" in line.lower() and "ray" in line.lower()], said
    assert instance.get_latest_materialization_event(dg.AssetKey("topics")) is not None


@pytest.mark.parametrize("world", ["lanes"], indirect=True)
def test_a_run_is_a_job_of_the_cluster_and_waits_for_its_pool(
    world: tuple[Nodes, Path, dg.DagsterInstance],
) -> None:
    _nodes, recipe, instance = world
    with loaded(instance) as workspace:
        run_id = launch(instance, recipe, workspace, ["topics"])
        assert wait_for(instance, run_id) == "SUCCESS"
        assert [e for e in instance.all_logs(run_id) if e.message and "Ray run job created" in e.message]
        assert instance.get_latest_materialization_event(dg.AssetKey("topics")) is not None

        instance.event_log_storage.set_concurrency_slots(gpu_pool.GPU_POOL, 1)
        instance.event_log_storage.claim_concurrency_slot(gpu_pool.GPU_POOL, "another", "step")
        waiting = launch(instance, recipe, workspace, ["mteb_scores"])
        end = time.monotonic() + SECONDS
        while not instance.event_log_storage.get_concurrency_info(gpu_pool.GPU_POOL).pending_steps:
            assert time.monotonic() < end
            time.sleep(0.5)
        started = [e for e in instance.all_logs(waiting) if e.dagster_event and e.dagster_event.is_step_start]
        assert not started
        instance.event_log_storage.free_concurrency_slots_for_run("another")
        assert wait_for(instance, waiting) == "FAILURE"  # it began, and lacks what it is made from
        assert [e for e in instance.all_logs(waiting) if e.dagster_event and e.dagster_event.is_step_start]
