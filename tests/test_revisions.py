"""Branches of a model hub become commits at their first use, and stay those."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from resources.inputs import base_models, external_digests, hub_revisions
from resources.inputs.hub_revisions import cached_commit, resolve_commit
from speed_assets.orchestration import doctor, runs
from speed_assets.orchestration.doctor.beginning import Beginning
from speed_assets.orchestration.plan import Plan, plan
from speed_assets.recipe import RecipeError, load_recipe
from tests.support.tiny import tiny_recipe

FIRST, SECOND = "a" * 40, "b" * 40


def test_a_branch_means_what_it_meant_first(tmp_path: Path) -> None:
    asked = []

    def hub(name: str, revision: str | None) -> str:
        asked.append((name, revision))
        return FIRST if len(asked) == 1 else SECOND

    assert cached_commit("owner/name", "main", tmp_path) is None
    assert resolve_commit("owner/name", "main", tmp_path, hub) == FIRST
    assert resolve_commit("owner/name", "main", tmp_path, hub) == FIRST  # the branch has moved, this home has not
    assert resolve_commit("owner/name", "v2", tmp_path, hub) == SECOND
    assert asked == [("owner/name", "main"), ("owner/name", "v2")]
    assert json.loads((tmp_path / "revisions.json").read_text()) == {"owner/name@main": FIRST, "owner/name@v2": SECOND}


def test_a_commit_is_not_asked_about(tmp_path: Path) -> None:
    assert resolve_commit("owner/name", FIRST, tmp_path) == FIRST
    assert not (tmp_path / "revisions.json").exists()


def test_without_a_hub_one_message_says_what_to_do(tmp_path: Path) -> None:
    def hub(name: str, revision: str | None) -> str:
        raise ConnectionError("Network is unreachable")

    with pytest.raises(RecipeError, match=r"owner/name, revision main: .*Network is unreachable.*HF_TOKEN") as told:
        resolve_commit("owner/name", "main", tmp_path, hub)
    assert "\n" not in str(told.value)
    (tmp_path / "revisions.json").write_text("{")
    with pytest.raises(RecipeError, match="is no JSON"):
        resolve_commit("owner/name", "main", tmp_path, hub)


def test_a_run_resolves_every_hub_model_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path))
    monkeypatch.setattr(hub_revisions, "query_hub", lambda name, revision: SECOND)
    recipe = load_recipe("gpu")
    before = external_digests.external_digest(recipe, "generator_base", None)
    base_models.pin_revisions(recipe)
    kept = json.loads((tmp_path / "revisions.json").read_text())
    assert recipe.generator is not None
    assert set(kept) == {
        f"{recipe.generator.base}@{recipe.generator.revision}",
        f"{recipe.embedding_model.base}@{recipe.embedding_model.revision}",
    }
    assert external_digests.external_digest(recipe, "generator_base", None) != before
    assert base_models.generator_revision(recipe.generator) == SECOND


@pytest.mark.parametrize("check_first", [False, True])
def test_what_the_first_use_of_a_hub_model_launches_knows_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_first: bool
) -> None:
    """A selection needs definitions, and the doctor a plan, before a hub is asked."""
    monkeypatch.setattr(hub_revisions, "query_hub", lambda name, revision: SECOND)
    recipe = tiny_recipe(embedding_model__base="owner/name")
    early = Beginning(plan=plan(recipe, tmp_path))
    monkeypatch.setattr(doctor, "begin", lambda *_recipe_home_say, **_of_run: early)
    launched: dict[str, str | None] = {}

    def launch(job: dg.JobDefinition, *_others: object) -> None:
        nodes = job.asset_layer.asset_graph.asset_nodes
        launched.update({node.key.to_user_string(): node.code_version for node in nodes})

    monkeypatch.setattr(runs, "_launch", launch)
    planned: list[Plan] = []
    monkeypatch.setattr(runs, "plan", lambda *of_run: planned.append(plan(*of_run)) or planned[-1])
    runs.run(recipe, tmp_path, select="topics", check_first=check_first)
    now = dict(planned[-1].own_versions)
    assert now["embedding_model"] != early.plan.own_versions["embedding_model"]  # type: ignore[union-attr]
    assert launched == now
    runs.run(recipe, tmp_path, select="topics", check_first=check_first)
    assert len(planned) == (1 if check_first else 2), "the second run has the doctor's plan, where there is one"


def test_other_words_in_a_models_card_make_nothing_stale(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "README.md").write_text("a card")
    recipe = tiny_recipe(generator__base=str(base))
    before = external_digests.external_digest(recipe, "generator_base", None)
    (base / "README.md").write_text("a better card")
    assert external_digests.external_digest(recipe, "generator_base", None) == before
    (base / "config.json").write_text('{"a": 1}')
    assert external_digests.external_digest(recipe, "generator_base", None) != before
