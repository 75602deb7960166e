"""Whole loops with something of the user's own in the place of an artifact: to releases, rehearsals, a trained adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.inputs.external_digests import external_digest
from resources.releases.hub import planned_uploads, push_objections
from resources.releases.releases import Release
from resources.store.artifacts import Artifacts
from resources.store.manifests import load_manifest
from resources.store.store import Store
from speed_assets.orchestration import runs
from speed_assets.orchestration.doctor import input_probes, model_probes, teacher_probes
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_text import as_text
from speed_assets.orchestration.rehearse import rehearsal_of, rehearse
from speed_assets.recipe import Recipe, RecipeError
from tests.support.given import COLUMNS, a_generator, rows_file, with_given
from tests.support.static_embedder import write_embedder
from tests.support.tiny import tiny_data


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.faults
def test_a_given_embedding_model_is_scored_and_released(home: Path, tmp_path: Path) -> None:
    write_embedder(tmp_path / "my-embedder")
    recipe = with_given(tmp_path, embedding_model={"model": "./my-embedder"})
    assert set(recipe.graph()) == {"embedding_model", "mteb_scores", "release"}
    planned = plan(recipe, home)
    assert (planned.as_json()["calls"], planned.as_json()["given"]) == (0, ["embedding_model"])
    assert any(line.startswith("embedding_model") and " given " in line for line in as_text(planned))
    assert "why 1: not made yet in this home (given: my-embedder)" in as_text(planned)
    report = runs.run(recipe, home)
    assert report.errors == []
    release = Artifacts(recipe, Store(home)).get("release")
    manifest = json.loads((release.path / "manifest.json").read_text())
    told = manifest["given"]["embedding_model"]
    assert (told["name"], told["revision"]) == ("my-embedder", None)
    assert told["digest"] == external_digest(recipe, "given:embedding_model", None)
    assert manifest["models"] == {"teacher": None, "generator_base": None, "embedding_base": None}
    card = (release.path / "model" / "README.md").read_text()
    assert "This model was given, and only scored here" in card
    assert told["digest"][:16] in card
    assert not (release.path / "data").exists()
    for file in release.path.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".md"):
            assert str(tmp_path) not in file.read_text(), file.name
    found = Release(release.path, load_manifest(release.path))
    assert {upload.kind for upload in planned_uploads(found, "o/n")} == {"model"}
    assert not [line for line in push_objections(found, "o/n") if "data" in line]
    again = plan(recipe, home)
    assert again.as_json()["make"] == []
    assert any(line.startswith("embedding_model") and line.endswith(" given") for line in as_text(again))


@pytest.mark.faults
def test_given_triplets_are_filtered_and_trained_on(home: Path, tmp_path: Path) -> None:
    recipe = with_given(
        tmp_path, final_triplets={"file": str(rows_file(tmp_path)), "columns": COLUMNS, "task": "Find the text."}
    )
    (found,) = input_probes.given_rows(recipe)
    assert (found.status, found.line) == ("ok", "62 of 63 rows have a query and a positive")
    report = runs.run(recipe, home)
    assert report.errors == []
    artifacts = Artifacts(recipe, Store(home))
    final = artifacts.get("final_triplets")
    rows, removed = final.table(), final.table("quarantine")
    assert rows.height + removed.height == final.metadata["rows_in"] == 63
    assert set(removed["detail"]) >= {"duplicate", "no_positive", "unknown_task_type"}
    assert dict(rows["task_type"].value_counts().iter_rows()) == {"grounded": 30, "retrieval": 30}
    assert set(rows["task"]) == {"Find the text."}
    more = final.table("more_negatives")
    assert (more.height, set(more["number"])) == (30, {2})
    assert set(more["row_id"]) == set(rows.filter(task_type="retrieval")["row_id"])
    assert final.metadata["given"]["name"] == "own.jsonl"
    assert artifacts.get("embedding_model").metadata["rows"] == rows.height
    release = artifacts.get("release")
    manifest = json.loads((release.path / "manifest.json").read_text())
    assert manifest["rows"] == {}
    assert (
        "The rows are the user's own, and not part of this release"
        in (release.path / "model" / "README.md").read_text()
    )
    assert not list(release.path.rglob("train.parquet"))
    assert not (release.path / "quarantine.parquet").exists()
    data = recipe.model_dump()
    data["given"]["final_triplets"]["released"] = True
    released = Recipe.model_validate(data)
    assert plan(released, home).as_json()["make"] == ["release"]
    assert runs.run(released, home).errors == []
    folder = Artifacts(released, Store(home)).get("release").path
    assert pl.read_parquet(folder / "data" / "grounded" / "train.parquet").height == 30
    card = (folder / "data" / "README.md").read_text()
    assert "own.jsonl" in card
    assert "synthetic training triplets" not in card


def test_given_triplets_that_hold_evaluation_text_are_quarantined(home: Path, tmp_path: Path) -> None:
    text = "the long sentence of an evaluation set which nobody may train on at all today"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "texts.jsonl").write_text(json.dumps({"text": text}) + "\n")
    data = tiny_data()
    data["evaluation"]["local"] = [str(tmp_path / "set")]
    file = tmp_path / "own.csv"
    pl.DataFrame({"query": ["what is it", "a lamp"], "positive": [text, "a lamp burns"]}).write_csv(file)
    recipe = with_given(tmp_path, data, final_triplets={"file": str(file)})
    report = runs.run(recipe, home, select="final_triplets")
    assert report.errors == []
    final = Artifacts(recipe, Store(home)).get("final_triplets")
    assert final.table()["query"].to_list() == ["a lamp"]
    assert final.table("quarantine")["reason"].str.starts_with("contamination").to_list() == [True]


@pytest.mark.faults
def test_given_generators_write_and_the_rest_is_made(home: Path, tmp_path: Path) -> None:
    a_generator(tmp_path / "mine")
    own = {"model": "./mine"}
    data = tiny_data()
    data["mteb_scores"]["baselines"] = []
    recipe = with_given(tmp_path, data, senior_model=own, revisor_model=own)
    report = runs.run(recipe, home)
    assert report.errors == []
    artifacts = Artifacts(recipe, Store(home))
    senior = artifacts.get("senior_model")
    assert (senior.path / "model" / "model.safetensors").is_file()
    assert senior.metadata["given"]["name"] == "mine"
    assert "junior_model" not in artifacts.graph
    card = (artifacts.get("release").path / "data" / "README.md").read_text()
    assert "## Given by the user" in card
    assert str(tmp_path) not in card


@pytest.mark.faults
def test_a_rehearsal_takes_what_is_given(home: Path, tmp_path: Path) -> None:
    a_generator(tmp_path / "mine")
    recipe = with_given(tmp_path, junior_model={"model": "./mine"})
    data = recipe.model_dump()
    data["mteb_scores"]["baselines"] = []
    recipe = Recipe.model_validate(data)
    small = rehearsal_of(recipe)
    assert "seed_data" not in small.graph()
    done = rehearse(recipe, home)
    made = Artifacts(done.recipe, Store(done.home))
    assert made.get("junior_model").metadata["given"]["name"] == "mine"
    assert made.fetch("preference_pairs", "retrieval") is not None


def test_a_rehearsal_of_given_triplets_takes_a_few(tmp_path: Path) -> None:
    recipe = with_given(tmp_path, final_triplets={"file": str(rows_file(tmp_path)), "columns": COLUMNS})
    small = rehearsal_of(recipe)
    assert small.graph()["final_triplets"].reads == ("seed", "evaluation", "rehearsal")


def test_a_folder_that_cannot_be_used_is_reported_before_anything_is_made(home: Path, tmp_path: Path) -> None:
    recipe = with_given(tmp_path, junior_model={"model": "./mine"})
    with pytest.raises(RecipeError, match=r"given\.junior_model\.model: there is no folder"):
        plan(recipe, home)
    found = {finding.status for finding in model_probes.models(recipe, home, network=False)}
    assert "error" in found
    a_generator(tmp_path / "mine")
    findings = model_probes.models(recipe, home, network=False)
    assert [line.status for line in findings] == ["ok"] * len(findings)
    assert any(line.line.startswith("mine: given for junior_model, model of") for line in findings)
    planned = plan(recipe, home)
    step = next(step for step in planned.steps if step.asset == "junior_model")
    assert (step.given, step.calls, step.gpu) == (True, 0, False)


def test_a_teacher_that_nobody_asks_need_not_be_there(tmp_path: Path) -> None:
    data = tiny_data()
    data["teacher"] = {
        "engine": "openai",
        "model": "m",
        "endpoint": "http://127.0.0.1:1/v1",
        "key_variable": "SPEED_NO_KEY",
    }
    data["prompts"]["set"] = "full"
    recipe = with_given(tmp_path, data, embedding_model={"model": "org/name"})
    assert [line.line for line in teacher_probes.key(recipe)] == ["no stage asks the teacher"]
    assert teacher_probes.endpoint(recipe, tmp_path) == []


def lora_data() -> dict[str, Any]:
    data = tiny_data()
    for name in ("junior_model", "senior_model"):
        data[name]["lora"] = {"r": 4, "alpha": 8}
    data["mteb_scores"]["baselines"] = []
    return data


@pytest.mark.faults
def test_an_adapter_of_this_project_is_trained_further(home: Path, tmp_path: Path) -> None:
    before = with_given(tmp_path, lora_data())
    assert runs.run(before, home, select="*junior_model").errors == []
    shutil.copytree(Artifacts(before, Store(home)).get("junior_model").path / "adapter", tmp_path / "mine")
    recipe = with_given(tmp_path, lora_data(), junior_model={"model": "./mine"})
    assert runs.run(recipe, home, select="*senior_model").errors == []
    artifacts = Artifacts(recipe, Store(home))
    assert (artifacts.get("junior_model").path / "adapter" / "base.json").is_file()
    assert (artifacts.get("senior_model").path / "adapter").is_dir()
    told = tmp_path / "mine" / "base.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"digest": "0" * 64}))
    report = runs.run(recipe, home, select="junior_model")
    assert "of other content than generator.base microworld" in report.errors[0]
