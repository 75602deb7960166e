"""The files under `deploy/`: what Dagster and Kubernetes ask of them, as far as that can be told without either running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from speed_assets.build import build_defs, executor_named
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.recipe import PROJECT, RECIPES, RecipeError, load_recipe, parse_recipe
from tests.support.tiny import tiny_data

DEPLOY = PROJECT / "deploy"
NEEDED = {
    "ConfigMap": "v1",
    "PersistentVolumeClaim": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "RayCluster": "ray.io/v1",
}


def manifests() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "kuberay").glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def configurations() -> dict[str, tuple[str, str]]:
    """dagster.yaml and workspace.yaml of both ways."""
    box = DEPLOY / "multi-gpu"
    data = next(m for m in manifests() if m["metadata"]["name"] == "speed-dagster")["data"]
    return {
        "multi-gpu": ((box / "dagster.yaml").read_text(), (box / "workspace.yaml").read_text()),
        "kuberay": (data["dagster.yaml"], data["workspace.yaml"]),
    }


def pods() -> list[dict[str, Any]]:
    found = []
    for manifest in manifests():
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Deployment":
            found.append(spec["template"]["spec"])
        elif manifest["kind"] == "RayCluster":
            found.append(spec["headGroupSpec"]["template"]["spec"])
            found += [group["template"]["spec"] for group in spec["workerGroupSpecs"]]
    return found


@pytest.mark.parametrize("way", ["multi-gpu", "kuberay"])
def test_dagster_takes_the_configuration(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_ray")
    from dagster._config import process_config, resolve_to_config_type
    from dagster._core.instance.ref import InstanceRef
    from dagster_postgres import DagsterPostgresStorage
    from dagster_ray import RayRunLauncher

    for name in ("DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_PASSWORD", "DAGSTER_PG_DB"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("RAY_DASHBOARD", "http://127.0.0.1:8265")
    text = configurations()[way][0].replace("/data/dagster", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(text)
    reference = InstanceRef.from_dir(str(tmp_path))
    launcher = reference.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    assert (launcher.address, launcher.num_cpus) == ("http://127.0.0.1:8265", 1)
    config = yaml.safe_load(text)
    storage = process_config(
        resolve_to_config_type(DagsterPostgresStorage.config_type()), config["storage"]["postgres"]
    )
    assert storage.success, storage.errors
    assert storage.value["postgres_db"]["password"] == "x"
    assert config["concurrency"]["pools"] == {"granularity": "op"}  # steps of one run take turns, too


@pytest.mark.parametrize("way", ["multi-gpu", "kuberay"])
def test_the_workspace_names_our_definitions(way: str, tmp_path: Path) -> None:
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    (tmp_path / "workspace.yaml").write_text(configurations()[way][1])
    (origin,) = WorkspaceFileTarget(paths=[str(tmp_path / "workspace.yaml")]).create_origins()
    assert origin.location_name == "speed_assets"
    assert origin.loadable_target_origin.module_name == "speed_assets.definitions"


def test_every_manifest_has_what_kubernetes_demands() -> None:
    kinds = {manifest["kind"] for manifest in manifests()}
    assert kinds == set(NEEDED)
    for manifest in manifests():
        assert manifest["apiVersion"] == NEEDED[manifest["kind"]]
        assert manifest["metadata"]["name"]
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Deployment":
            labels = spec["selector"]["matchLabels"]
            assert labels.items() <= spec["template"]["metadata"]["labels"].items()
        elif manifest["kind"] == "PersistentVolumeClaim":
            assert spec["accessModes"] == ["ReadWriteMany"]
            assert spec["resources"]["requests"]["storage"]
        elif manifest["kind"] == "ConfigMap":
            assert all(isinstance(value, str) for value in manifest["data"].values())


def test_pods_name_what_is_there() -> None:
    named = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests()}
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in named
            else:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in named
        for container in pod["containers"]:
            assert {"name", "image", "resources"} <= set(container)
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            sources = {kind: source["name"] for entry in container["envFrom"] for kind, source in entry.items()}
            assert sources == {"configMapRef": "speed-environment", "secretRef": "speed-secrets"}


def test_no_secret_stands_in_a_manifest() -> None:
    environment = next(m for m in manifests() if m["metadata"]["name"] == "speed-environment")["data"]
    assert not [name for name in environment if name.endswith(("_KEY", "_TOKEN", "_SECRET", "PASSWORD", "_LEDGER_URL"))]
    assert not [m for m in manifests() if m["kind"] == "Secret"]


def test_cards_are_reserved_for_trainings_and_not_for_stages_that_send_shards(tmp_path: Path) -> None:
    pytest.importorskip("dagster_ray")
    data = tiny_data()
    data["runtime"] = {"cluster": {"kind": "ray", "gpus_per_step": 2}}
    recipe = parse_recipe(data, RECIPES / "tiny.yaml")
    defs = build_defs(recipe, tmp_path, executor="ray")
    reserving = {
        key.to_user_string()
        for key in defs.resolve_all_asset_keys()
        if defs.resolve_assets_def(key).op.tags.get("dagster-ray/config") == '{"num_gpus": 2.0}'
    }
    gpu = {stage.name for stage in ALL_STAGES if stage.gpu} & set(recipe.graph())
    assert reserving == gpu - {"junior_data", "senior_data", "revised_data"}
    assert defs.executor is not None
    assert defs.executor.name == "ray"


def test_an_unknown_executor_is_reported() -> None:
    with pytest.raises(RecipeError, match="SPEED_EXECUTOR=celery"):
        executor_named("celery", load_recipe())


def test_the_image_has_what_the_package_needs() -> None:
    """Parsed only: no Docker is here. Every file that it copies exists, and all that a wheel is built from is copied."""
    lines = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    assert steps[0][0] == "FROM"
    assert {"RUN", "USER", "ENTRYPOINT"} <= {name for name, _ in steps}
    copied = {word for name, rest in steps if name == "COPY" for word in rest.split()[:-1]}
    assert not [name for name in copied if not (PROJECT / name).exists()]
    assert copied >= {"speed_assets", "resources", "checks", "recipes", "setup.py", "pyproject.toml", "dagster.yaml"}
    users = [at for at, (name, _) in enumerate(steps) if name == "USER"]
    assert users
    assert users[-1] < next(at for at, (name, _) in enumerate(steps) if name == "ENTRYPOINT"), "it does not run as root"


def test_compose_names_what_there_is() -> None:
    """Parsed only: services, volumes and dependencies exist, the command is one of ours, and no password is written down."""
    text = (PROJECT / "compose.yaml").read_text()
    found = yaml.safe_load(text)
    services = found["services"]
    assert {"database", "speed", "ui", "ui-cuda"} == set(services)
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(found["volumes"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert services["ui"]["command"][0] == "ui"
    assert services["ui-cuda"]["build"]["args"] == {"TORCH_INDEX_URL": ""}, "the default registry has the CUDA build"
    assert "${SPEED_DB_PASSWORD:?" in services["database"]["environment"]["POSTGRES_PASSWORD"]
