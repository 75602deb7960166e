"""What a release states is in its fingerprint: two recipes that differ in it never share a release."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard

from resources.releases import hub
from resources.releases.cards import dataset_card
from resources.releases.hub import hub_card, push_objections
from resources.releases.releases import Release
from resources.store.store import Store
from speed_assets.assets.release import release
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import Recipe, RecipeView
from tests.support.static_embedder import write_embedder
from tests.support.tiny import tiny_recipe

TEACHER = {"engine": "openai", "endpoint": "https://host/v1"}
EVALUATION: dict[str, Any] = {"tasks": ["STS12", "STS13"]}


def stated_under(recipe: Recipe, folder: Path, own: pl.DataFrame | None = None) -> dict[str, str]:
    """{file: text} of the texts of a release under a recipe, from inputs that are always the same, and the user's own examples.

    The release is in `folder/out`; its model is that of `folder/input/model`, which may be empty.
    """
    (folder / "input" / "model").mkdir(parents=True, exist_ok=True)
    (folder / "out").mkdir()
    names = ("row_id", "task_type", "topic", "task", "query", "positive", "negative")
    triplet = pl.DataFrame([["r", "retrieval", "t", "k", "q", "p", "n"]], schema=names, orient="row")
    samples = {"model": ["embedding_model"] * 4, "task": ["STS"] * 4, "part": [""] * 4, "statistic": ["mean"] * 4}
    samples |= {"sample": [0, 1, 2, 3], "score": [0.1, 0.4, 0.6, 0.9]}
    tables = {
        "final_triplets": {"data": triplet, "quarantine": triplet.with_columns(raw=pl.lit("q | p"))},
        "embedding_model": {},
        "mteb_scores": {"data": pl.DataFrame({"task": ["STS"]}), "samples": pl.DataFrame(samples)},
        **({} if own is None else {"examples": {"data": own}}),
    }
    scores = {"scores": {"embedding_model": {"STS": 0.5}}, "trainings": 1, "sd_between_seeds": None}
    metadata = {"rows": 1, "removed": {}, "contamination": [], **scores}
    made = {
        name: cast(
            Any,
            SimpleNamespace(
                table=lambda table="data", found=found: found[table],
                path=folder / "input",
                metadata=metadata,
                fingerprint="f" * 64,
                digest="d" * 64,
            ),
        )
        for name, found in tables.items()
    }
    stage = recipe.graph()["release"]
    run = StageRun.of(
        recipe,
        stage,
        None,
        inputs={name: {None: artifact} for name, artifact in made.items()},
        out=folder / "out",
        store=Store(folder / "home").open(),
        runner=cast(Any, None),
        teacher=cast(Any, None),
        context=cast(Any, None),
        progress=lambda *_: None,
        lineage={"recipe": recipe.part(stage)},
        upstream=lambda: [(recipe.graph()[name], None, artifact) for name, artifact in made.items()],
    )
    release(run)
    return {
        str(path.relative_to(folder / "out")): path.read_text()
        for path in (folder / "out").rglob("*")
        if path.suffix in (".md", ".json")
    }


@pytest.mark.parametrize(
    ("changes", "stated_in"),
    [
        ({"name": "other"}, "model/README.md"),
        ({"description": "Other words."}, "model/README.md"),
        ({"teacher": TEACHER | {"model": "another"}}, "model/README.md"),
        ({"teacher": TEACHER | {"model": "m", "revision": "2"}}, "model/README.md"),
        ({"evaluation": EVALUATION | {"unsearched": ["STS12"]}}, "model/README.md"),
        ({"evaluation": EVALUATION | {"unsearched": ["STS12", "STS13"]}}, "data/README.md"),
        ({"generator__base": "some/model", "generator__revision": "a"}, "model/README.md"),
        ({"embedding_model__base": "some/model", "embedding_model__dimensions": None}, "model/README.md"),
        ({"release__model_licence": "apache-2.0"}, "model/README.md"),
        ({"release__data_licence": "apache-2.0"}, "data/README.md"),
        ({"seed": 8}, "manifest.json"),
        ({"checks__superior__alpha": 0.2}, "model/README.md"),
        ({"checks__superior__resamples": 100}, "manifest.json"),
        ({"seed_data__attempts": 3}, "data/README.md"),
        ({"topics__limit": 9, "topics__at_least": 3}, "recipe.json"),
    ],
)
def test_recipes_that_differ_in_what_a_release_states_never_share_it(
    changes: dict[str, Any], stated_in: str, tmp_path: Path
) -> None:
    plain, other = tiny_recipe(), tiny_recipe(**changes)
    one, two = stated_under(plain, tmp_path / "a"), stated_under(other, tmp_path / "b")
    assert one[stated_in] != two[stated_in], "the release states it"
    assert plain.part(plain.graph()["release"]) != other.part(other.graph()["release"]), "and so its fingerprint has it"


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": {"threads": 3}},
        {"calls": {"timeout_s": 9.0}},
        {"money__run": {"calls": 10**6}},
        {"study": {"resamples": 5000}},
        {"embedding_model__micro_batch_size": 8},
        {"topics__rows_per_prompt_max": 9.0},
        {"teacher__key_variable": "OTHER_KEY"},
    ],
)
def test_pace_and_price_make_no_other_release(changes: dict[str, Any], tmp_path: Path) -> None:
    plain, other = tiny_recipe(), tiny_recipe(**changes)
    assert plain.part(plain.graph()["release"]) == other.part(other.graph()["release"])
    assert stated_under(plain, tmp_path / "a") == stated_under(other, tmp_path / "b")


def test_the_recipe_of_a_release_loads_and_makes_the_same(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    stated = json.loads(stated_under(recipe, tmp_path / "a")["recipe.json"])
    again = Recipe.model_validate(stated)
    graph = recipe.graph()
    assert {name: digest(again.part(stage)) for name, stage in graph.items()} == {
        name: digest(recipe.part(stage)) for name, stage in graph.items()
    }


def test_the_fingerprint_of_a_release_knows_all_that_those_above_it_know_of_the_outside() -> None:
    graph = tiny_recipe().graph()
    above = {external for stage in graph.values() if not stage.gathers for external in stage.externals}
    assert set(graph["release"].externals) == above


def test_a_release_states_no_path_of_this_machine(tmp_path: Path) -> None:
    own = tmp_path / "secret-folder"
    (own / "set").mkdir(parents=True)
    (own / "topics.txt").write_text("".join(f"Arts/Topic {number}\n" for number in range(30)))
    recipe = tiny_recipe(
        topics__file=str(own / "topics.txt"),
        topics__alignment=str(own / "topics.txt"),
        generator__base=str(own / "set"),
        embedding_model__base=str(own / "set"),
        embedding_model__dimensions=None,
        evaluation={"local": [str(own / "set")]},
        prompts={"set": "compact", "file": str(own / "prompts.yaml")},
    )
    for name, text in stated_under(recipe, tmp_path / "a").items():
        assert "secret-folder" not in text, name
        assert str(tmp_path) not in text, name
    assert "topics.txt" in (tmp_path / "a" / "out" / "recipe.json").read_text()


def test_a_release_with_credentials_or_paths_of_this_machine_is_not_pushed(tmp_path: Path) -> None:
    recipe = {
        "teacher": {"endpoint": "https://user:s3cret@host/v1"},
        "topics": {"file": "/home/ann/topics.txt"},
        "fine": ["a/b", "https://host/v1", "one\n/two/three"],
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "artifact.json").write_text(json.dumps({"files": {}}))
    found = [line for line in push_objections(Release(tmp_path, {}), "owner/name") if line.startswith("recipe.json")]
    assert len(found) == 2
    assert "teacher.endpoint is an address with credentials" in found[0]
    assert "topics.file is a path of this machine" in found[1]
    assert "s3cret" not in str(found)


def test_hubs_read_the_model_card(tmp_path: Path) -> None:
    recipe = tiny_recipe(embedding_model__base="some/model", embedding_model__dimensions=None)
    card = ModelCard(stated_under(recipe, tmp_path / "a")["model/README.md"], ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert data["base_model"] == "some/model"
    assert data["language"] == ["en"]
    results = [(one.dataset_name, one.metric_value) for one in card.data.eval_results]
    assert results == [("STS", 0.5)]
    assert "arxiv.org/abs/2410.18634" in card.text
    assert card.text.strip().splitlines()[0].startswith("**This is a demonstration in a toy language")


def test_hubs_read_the_data_card(tmp_path: Path) -> None:
    data = DatasetCard(stated_under(tiny_recipe(), tmp_path / "a")["data/README.md"]).data.to_dict()
    assert data["size_categories"] == ["n<1K"]
    (config,) = data["configs"]
    assert (config["config_name"], config["data_files"]) == ("retrieval", "retrieval/train.parquet")
    assert "toy-language" in data["tags"]
    real = stated_under(tiny_recipe(teacher=TEACHER | {"model": "m"}), tmp_path / "b")
    assert "toy language" not in real["data/README.md"]


def test_rows_of_two_releases_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    """`datasets` keeps a local folder's rows by the folder's name and configurations, and reads nothing of its files."""
    recipe = tiny_recipe()
    stated_under(recipe, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "out" / "manifest.json").read_text())
    view = RecipeView(recipe, "release", (*recipe.graph()["release"].reads, "release"))
    for name in ("one", "two"):
        folder = tmp_path / name / "data" / "retrieval"
        folder.mkdir(parents=True)
        pl.DataFrame({"query": [name]}).write_parquet(folder / "train.parquet")
        artifacts = manifest["artifacts"]
        of_rows = {"final_triplets": artifacts["final_triplets"] | {"digest": name}}
        card = dataset_card(view, manifest | {"artifacts": artifacts | of_rows})
        (folder.parent / "README.md").write_text(card)
        rows = load_dataset(str(folder.parent), "retrieval", split="train", cache_dir=str(tmp_path / "cache"))
        assert rows["query"][0] == name


def test_a_pushed_card_names_its_repositories(tmp_path: Path) -> None:
    stated = stated_under(tiny_recipe(), tmp_path / "a")
    model = ModelCard(hub_card(stated["model/README.md"], "model", "owner/name"))
    assert model.data.to_dict()["datasets"] == ["owner/name"]
    assert 'SentenceTransformer("owner/name")' in model.text
    data = hub_card(stated["data/README.md"], "dataset", "owner/name")
    assert 'load_dataset("owner/name", "retrieval", split="train")' in data


@pytest.mark.faults
def test_the_snippets_of_both_cards_run_as_they_stand(tmp_path: Path) -> None:
    """In a folder where OWNER/NAME is a copy of what a push sends; nothing else is there to be opened, and no network."""
    write_embedder(tmp_path / "a" / "input" / "model")
    stated_under(tiny_recipe(), tmp_path / "a")
    release = Release(tmp_path / "a" / "out", {})
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": ""}
    printed = {}
    for kind in ("model", "dataset"):
        copy = tmp_path / kind / "owner" / "name"
        hub._stage([one for one in hub.planned_uploads(release, "owner/name") if one.kind == kind], copy)
        (snippet,) = re.findall(r"```python\n(.*?)```", (copy / "README.md").read_text(), re.DOTALL)
        assert '"owner/name"' in snippet
        command = [sys.executable, "-c", snippet]
        done = subprocess.run(command, cwd=tmp_path / kind, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        printed[kind] = done.stdout
    assert re.match(r"tensor\(\[\[-?\d\.\d+, +-?\d\.\d+\]\]\)", printed["model"]), printed["model"]
    assert "'query': 'q', 'positive': 'p', 'negative': 'n'" in printed["dataset"]
