"""A release of which no row may be published: written, verified, pushed, compared and served as any other."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from resources.releases.hub import planned_uploads, push_objections
from resources.releases.releases import Release
from resources.releases.served import sampled
from resources.store.manifests import load_manifest
from resources.store.store import Artifact, Store
from speed_assets.orchestration.diff import diff
from speed_assets.orchestration.release_list import verified
from speed_assets.recipe import Recipe
from tests.support.tiny import tiny_recipe
from tests.test_release_card import TEACHER, stated_under


def own_examples() -> pl.DataFrame:
    """The one row of `stated_under`, as an example of the user."""
    return pl.DataFrame({"row_id": ["r"], "query": ["q"], "positive": ["p"], "negative": ["n"]})


def recipe_of(folder: Path, *, released: bool) -> Recipe:
    (folder / "own.csv").write_text("query,positive,negative\nq,p,n\n")
    examples = {"file": str(folder / "own.csv"), "released": released}
    return tiny_recipe(teacher=TEACHER | {"model": "m"}, examples=examples, release__model_licence="mit")


def sealed(folder: Path, *, released: bool) -> Artifact:
    """The release as it stands in a home."""
    folder.mkdir()
    recipe = recipe_of(folder, released=released)
    stated_under(recipe, folder, own_examples())
    store = Store(folder / "sealed").open()
    with store.building("c" * 64) as work:
        (folder / "out").rename(work / "release")
        for file in (work / "release").iterdir():
            file.rename(work / file.name)
        (work / "release").rmdir()
        metadata = {"rows_released": int(released)}
        return store.seal("release", "c" * 64, work, partition=None, metadata=metadata, lineage={"recipe": {}})


def test_a_release_without_rows_has_no_data_and_says_why(tmp_path: Path) -> None:
    release = sealed(tmp_path / "a", released=False)
    assert not (release.path / "data").exists()
    assert pl.read_parquet(release.path / "quarantine.parquet").is_empty(), "the rejected row is an example, too"
    assert json.loads((release.path / "manifest.json").read_text())["rows"] == {}
    card = (release.path / "model" / "README.md").read_text()
    assert "The rows that the model was trained on are kept back: all are the user's own examples" in card
    assert "synthetic-data" not in card.split("---")[1]
    assert verified(release.path)["damaged"] == []
    with_rows = sealed(tmp_path / "b", released=True)
    assert (with_rows.path / "data" / "retrieval" / "train.parquet").is_file()


def test_it_is_pushed_without_a_data_set(tmp_path: Path) -> None:
    path = sealed(tmp_path / "a", released=False).path
    release = Release(path, load_manifest(path))
    assert push_objections(release, "owner/name") == []
    uploads = planned_uploads(release, "owner/name")
    assert {upload.kind for upload in uploads} == {"model"}
    assert "quarantine.parquet" not in [name for upload in uploads for name, _ in upload.sizes()]
    front = yaml.safe_load(uploads[0].content("README.md").decode().split("---\n")[1])
    assert "datasets" not in front


@pytest.mark.parametrize("other", [True, False])
def test_it_is_compared_with_others_by_what_it_states(
    tmp_path: Path, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speed_assets.orchestration.diff._compared", lambda *_: {})  # of scores, which are none here
    paths = [sealed(tmp_path / name, released=of).path for name, of in (("a", False), ("b", other))]
    releases = [Release(path, load_manifest(path)) for path in paths]
    # Two releases that state that they have no rows do not differ, whatever their metadata say.
    releases[0].manifest["metadata"]["rows_released"] = None
    assert diff(*releases)["rows"] == ({"retrieval": [None, 1], "all": [0, 1]} if other else {})


def test_a_server_is_compared_with_it_on_plain_sentences(tmp_path: Path) -> None:
    path = sealed(tmp_path / "a", released=False).path
    texts = sampled(Release(path, load_manifest(path)), 3)
    assert len(texts) == 3
    assert {side for _, side in texts} == {"query", "document"}
