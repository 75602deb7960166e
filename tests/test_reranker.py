"""Distillation from a reranker: its scores, what is learnt from them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer

from resources.inputs.external_digests import external_digest
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets.reranking import negatives_of
from speed_assets.assets.trained_rows import margin_figures, trained_rows
from speed_assets.orchestration import runs, study_arms
from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.rehearse import rehearsal_of
from speed_assets.recipe import RecipeError, load_recipe, shipped_recipes
from speed_assets.workers import embed
from speed_assets.workers.ranking_loss import NO_MARGIN, RankingLoss
from tests.support.embedding_jobs import settings_of
from tests.support.given import COLUMNS, rows_file, with_given
from tests.support.tiny import tiny_data, write_recipe
from tests.support.tiny_reranker import POSITIONS, distilling, write_reranker


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("reranker") / "my-reranker")


# The recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reranker_scores": None}, "`reranker_scores` is missing: embedding_model.distil.source=reranker"),
        ({"embedding_model.distil": None}, "reranker_scores is of no use: set embedding_model.distil.source=reranker"),
        ({"reranker_scores.task_types": ["grounded"]}, "no such row has a negative"),
        ({"reranker_scores.task_types": []}, "reranker_scores.task_types"),
        ({"embedding_model.distil.source": "teacher"}, "embedding_model.distil.source"),
        (
            {"embedding_model.distil": {"logits_per_cosine": 20.0}, "reranker_scores": None},
            "is the scale of a reranker's logits",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_the_recipe_is_read(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write_recipe(tmp_path, with_reranker()), None, changes)


def with_reranker() -> dict[str, Any]:
    data = tiny_data()
    data["reranker_scores"] = {"model": "org/name"}
    data["embedding_model"]["distil"] = {"source": "reranker"}
    return data


# The graph, fingerprints, arms


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_without_it_have_nothing_of_it_in_a_fingerprint(name: str) -> None:
    recipe = load_recipe(name)
    assert "reranker_scores" not in recipe.model_dump()
    assert "reranker_scores" not in recipe.published()
    for stage in recipe.graph().values():
        assert "reranker" not in stage.externals
        assert "reranker_scores" not in (*stage.reads, *stage.inputs, stage.name)


def test_a_distillation_from_an_embedder_has_the_fields_that_it_had(tmp_path: Path) -> None:
    data = tiny_data()
    data["mined_negatives"] = {"embedder": {"model": "x/y"}, "sampling": {"temperature": 0.0, "max_new_tokens": 9}}
    data["embedding_model"]["distil"] = {"weight": 0.5}
    recipe = load_recipe(write_recipe(tmp_path, data))
    assert recipe.part(recipe.graph()["embedding_model"])["embedding_model"]["distil"] == {"weight": 0.5}


def test_the_reranker_and_how_it_reads_are_in_the_fingerprint_and_its_place_is_not(
    reranker: Path, tmp_path: Path
) -> None:
    recipe = distilling(tmp_path, str(reranker))
    stage = recipe.graph()["reranker_scores"]
    assert stage.inputs == ("final_triplets", "mined_negatives")[: len(stage.inputs)]
    assert set(recipe.part(stage)) == {"reranker_scores"}
    assert set(recipe.part(stage)["reranker_scores"]) == {"task_types", "max_length", "dtype"}
    assert "reranker_scores" in recipe.graph()["embedding_model"].inputs
    assert "reranker_scores" in recipe.graph()["quarantine"].inputs
    assert recipe.published()["reranker_scores"]["model"] == "my-reranker"
    assert "reranker" in recipe.graph()["release"].externals
    moved = distilling(tmp_path, str(shutil.copytree(reranker, tmp_path / "other")))
    assert external_digest(moved, "reranker", None) == external_digest(recipe, "reranker", None)
    assert set(explain_field(recipe, "reranker_scores.max_length").stale) >= {"reranker_scores", "release"}
    assert explain_field(recipe, "reranker_scores.batch_size").stale == []


def test_the_arm_without_distillation_scores_nothing(tmp_path: Path) -> None:
    data = with_reranker()
    data["study"] = {"seeds": [3], "teacher_multiples": [], "ablations": ["no_distil"], "scaling": []}
    arms = study_arms.arms(load_recipe(write_recipe(tmp_path, data)), 7)
    with_it, without = arms["speed_0.25"], arms["no_distil"]
    assert "reranker_scores" in with_it.graph()
    assert "reranker_scores" not in without.graph()
    assert without.embedding_model == with_it.embedding_model.model_copy(update={"distil": None})


def test_a_rehearsal_scores_its_few_rows(tmp_path: Path) -> None:
    small = rehearsal_of(load_recipe(write_recipe(tmp_path, with_reranker())))
    assert "reranker_scores" in small.graph()


def test_a_plan_says_how_many_pairs_are_scored_at_most(reranker: Path, tmp_path: Path) -> None:
    recipe = distilling(tmp_path, str(reranker))
    steps = {step.name: step for step in plan(recipe, tmp_path / "home").steps}
    assert recipe.senior_data is not None
    assert steps["reranker_scores"].rows == recipe.senior_data.rows.retrieval
    assert (steps["reranker_scores"].action, steps["reranker_scores"].calls) == ("make", 0)
    assert steps["reranker_scores"].gpu


# Margins


def test_each_negative_of_a_row_is_a_pair() -> None:
    rows = pl.DataFrame(
        {
            "row_id": ["a", "b", "c"], "task_type": ["retrieval"] * 3, "query": ["q1", "q2", "q3"], "positive": ["p1", "p2", "p3"],
            "negative": ["n1", "n2", None], "negative_2": ["m1", None, None], "negative_3": ["o1", None, None],
        }
    )  # fmt: skip
    assert negatives_of(rows).select("row_id", "negative", "number").rows() == [
        ("a", "n1", 1), ("a", "m1", 2), ("a", "o1", 3), ("b", "n2", 1),
    ]  # fmt: skip


def run_with(scores: pl.DataFrame, distil: Any, temperature: float = 0.02) -> Any:
    rows = pl.DataFrame(
        [["a", "q", "p", "n", "t", "retrieval"], ["b", "q2", "p2", "n2", "t", "sts"]],
        schema=["row_id", "query", "positive", "negative", "task", "task_type"],
        orient="row",
    )
    more = pl.DataFrame({"row_id": ["a"], "negative": ["m"], "number": [2]})
    tables = {"final_triplets": {"data": rows, "more_negatives": more}, "reranker_scores": {"data": scores}}
    section = tiny_embedding(distil, temperature)
    return SimpleNamespace(
        inputs=tables,
        input=lambda name: SimpleNamespace(table=lambda table="data": tables[name].get(table, pl.DataFrame())),
        recipe=SimpleNamespace(embedding_model=section),
    )


def tiny_embedding(distil: Any, temperature: float) -> Any:
    from speed_assets.recipe import EmbeddingModel

    return EmbeddingModel.model_validate(
        tiny_data()["embedding_model"] | {"distil": distil, "temperature": temperature}
    )


@pytest.mark.parametrize(("stated", "scale"), [(None, 0.02), (10.0, 0.1)])
def test_margins_of_logits_become_margins_of_cosines(stated: float | None, scale: float) -> None:
    scores = pl.DataFrame(
        {"row_id": ["a", "a"], "number": [1, 2], "positive_score": [6.0, 6.0], "negative_score": [-2.0, 7.0]}
    )
    rows = trained_rows(run_with(scores, {"source": "reranker", "logits_per_cosine": stated}))
    assert rows.columns[-3:] == ["margin", "margin_2", "negative_2"]
    assert rows["margin"].to_list() == [pytest.approx(8 * scale), None]
    assert rows["margin_2"].to_list() == [pytest.approx(-1 * scale), None]
    assert margin_figures(rows) == {"margins": {"known": 2, "unreachable": 0}}
    assert margin_figures(rows.with_columns(margin=pl.lit(2.5)))["margins"]["unreachable"] == 2


def test_labels_hold_the_margin_of_every_negative() -> None:
    rows = pl.DataFrame(
        {
            "task_type": ["retrieval"] * 3, "task": ["t"] * 3, "query": ["a", "b", "c"], "positive": ["A", "B", "C"],
            "negative": ["x", "y", None], "negative_2": ["z", None, None], "margin": [0.5, None, None], "margin_2": [-0.25, None, None],
        }
    )  # fmt: skip
    found = embed.datasets_of(
        rows, settings_of(distil={"weight": 1.0, "source": "reranker", "logits_per_cosine": None})
    )
    assert found["retrieval-2"]["label"][0][-2:] == [500_000, -250_000]
    assert [row[-1] for row in found["retrieval-1"]["label"]] == [NO_MARGIN]
    assert len(found["retrieval-1"]["label"][0]) == 4
    assert found["retrieval-0"]["label"][0][-1] == NO_MARGIN


def test_margins_of_several_negatives_are_learnt() -> None:
    draws = torch.Generator().manual_seed(0)
    vectors = [torch.randn(2, 8, generator=draws) for _ in range(4)]
    ids = [[0, 1, 2, 3], [4, 5, 6, 7]]
    loss = RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 10.0, None, 2.0)
    plain = RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 10.0)
    unit = [torch.nn.functional.normalize(vector) for vector in vectors]
    own = [[float(unit[0][row] @ (unit[1][row] - unit[column][row])) for column in (2, 3)] for row in range(2)]
    labels = torch.tensor([[*ids[0], 500_000, -250_000], [*ids[1], NO_MARGIN, 100_000]])
    error = ((own[0][0] - 0.5) ** 2 + (own[0][1] + 0.25) ** 2 + (own[1][1] - 0.1) ** 2) / 3
    expected = float(plain.compute_loss_from_embeddings(vectors, torch.tensor(ids))) + 2 * error
    assert float(loss.compute_loss_from_embeddings(vectors, labels)) == pytest.approx(expected, rel=1e-4)


# The loop


def test_a_reranker_changes_the_model_that_is_trained(
    reranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the user's triplets to a release, with a reranker and without: only what learns from it is made again."""
    home = tmp_path / "home"
    monkeypatch.setenv("SPEED_HOME", str(home))
    given = {"final_triplets": {"file": str(rows_file(tmp_path)), "columns": COLUMNS, "task": "Find the text."}}
    data = tiny_data()
    data["embedding_reruns"] = {"count": 0}
    data["embedding_model"]["epochs"] = 30
    plain = with_given(tmp_path, data, **given)
    assert runs.run(plain, home).errors == []
    data["embedding_model"]["distil"] = {"source": "reranker", "weight": 20.0, "logits_per_cosine": 10.0}
    data["reranker_scores"] = {"model": str(reranker), "max_length": POSITIONS, "batch_size": 8}
    recipe = with_given(tmp_path, data, **given)
    planned = plan(recipe, home)
    assert set(planned.as_json()["make"]) == {
        "reranker_scores",
        "quarantine",
        "embedding_model",
        "mteb_scores",
        "release",
    }
    report = runs.run(recipe, home)
    assert report.errors == []
    artifacts = Artifacts(recipe, Store(home))
    scores, model = artifacts.get("reranker_scores"), artifacts.get("embedding_model")
    table, told = scores.table(), scores.metadata
    assert (table.height, set(table["number"]), set(table["task_type"])) == (60, {1, 2}, {"retrieval"})
    assert told["reranker"]["name"] == "my-reranker"
    assert told["reranker"]["digest"] == external_digest(recipe, "reranker", None)
    assert (told["asked"], told["unscored"]) == (60, 30), "rows without a negative have none to score"
    assert model.metadata["margins"]["known"] == 60
    assert (table["positive_score"] - table["negative_score"]).std() > 0.5, "margins that can be learnt"
    # The trained margins are nearer to the reranker's.
    rows = artifacts.get("final_triplets").table().join(table.filter(number=1), on="row_id")
    wanted = torch.tensor((rows["positive_score"] - rows["negative_score"]).to_numpy() / 10, dtype=torch.float32)
    errors = []
    for of_recipe in (plain, recipe):
        encoder = SentenceTransformer(str(Artifacts(of_recipe, Store(home)).get("embedding_model").path / "model"))
        query, positive, negative = (
            encoder.encode(rows[field].to_list(), normalize_embeddings=True, convert_to_tensor=True)
            for field in ("query", "positive", "negative")
        )
        errors.append(float((((query * positive).sum(1) - (query * negative).sum(1) - wanted) ** 2).mean()))
    assert errors[1] < 0.5 * errors[0], errors
    release = artifacts.get("release").path
    assert json.loads((release / "manifest.json").read_text())["models"]["reranker"] == "my-reranker"
    assert "| reranker | `my-reranker` |" in (release / "model" / "README.md").read_text()
    assert str(tmp_path) not in (release / "recipe.json").read_text()
    assert plan(recipe, home).as_json()["make"] == []
    data["embedding_model"]["distil"]["logits_per_cosine"] = 20.0
    assert "reranker_scores" in plan(with_given(tmp_path, data, **given), home).as_json()["reuse"]
