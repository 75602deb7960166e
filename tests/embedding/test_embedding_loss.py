"""Worker `embed`: what is in a batch, what is no negative, and how a batch is embedded."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer

from speed_assets.microworld import toy_language as lang
from speed_assets.workers import embed, embedding_base, ranking_loss
from speed_assets.workers.training_jobs import PretrainedBase, StaticBase
from tests.support.embedding_jobs import (
    right_triplets,
    settings_of,
)


def test_batches_hold_one_task_type_or_all_that_have_the_same_columns() -> None:
    rows = right_triplets(50).with_columns(
        negative=pl.when(pl.int_range(pl.len()) == 1).then(None).otherwise(pl.col("negative"))
    )
    by_type = embed.datasets_of(rows, settings_of())
    assert {kind: len(part) for kind, part in by_type.items()} == {
        "classification-True": 10,
        "retrieval-False": 1,
        "retrieval-True": 9,
        "sts-True": 10,
        "matching_short-False": 10,
        "matching_long-False": 10,
    }
    assert by_type["sts-True"].column_names == ["query", "positive", "negative", "label"]
    assert by_type["matching_long-False"].column_names == ["query", "positive", "label"]
    mixed = embed.datasets_of(rows, settings_of(homogeneous=False))
    assert {kind: len(part) for kind, part in mixed.items()} == {"True": 29, "False": 21}


def test_equal_texts_have_equal_ids() -> None:
    labels = embed.datasets_of(right_triplets(100), settings_of())["classification-True"]
    ids = {text: row[1] for text, row in zip(labels["positive"], labels["label"], strict=True)}
    assert len(set(ids.values())) == len(ids) <= len(lang.ASPECTS)
    assert all(ids.get(text, row[2]) == row[2] for text, row in zip(labels["negative"], labels["label"], strict=True))


def test_instruction_goes_before_queries_and_before_every_text_of_sts() -> None:
    rows = right_triplets(5).with_columns(task=pl.lit("find {query}"))
    prompts = {embedding_base.INSTRUCTION: "Do: {task}\nQuery: ", "query": "", "document": ""}
    plain, shown = embed.datasets_of(rows, settings_of()), embed.datasets_of(rows, settings_of(), prompts)
    before = "Do: find {query}\nQuery: "
    for kind in ("classification-True", "retrieval-True", "matching_short-False", "matching_long-False"):
        bare = plain[kind][0]
        assert shown[kind][0] == {**bare, "query": before + bare["query"]}, kind
    bare, same = plain["sts-True"][0], shown["sts-True"][0]
    assert same == {
        **{field: before + bare[field] for field in ("query", "positive", "negative")},
        "label": bare["label"],
    }


def loss_of(ids: list[list[int]], seed: int = 0, margin: float | None = None) -> tuple[Any, list[Any]]:
    draws = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(len(ids), 8, generator=draws) for _ in ids[0]]
    loss = ranking_loss.RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 10.0, margin)
    return loss.compute_loss_from_embeddings(vectors, torch.tensor(ids)), vectors


def expected_loss(vectors: list[Any], negatives: list[list[tuple[int, int]]]) -> float:
    """Mean of -log softmax, each row over its positive and the (column, row) texts named as its negatives."""
    unit = [torch.nn.functional.normalize(v) for v in vectors]
    total = 0.0
    for row, others in enumerate(negatives):
        scores = [10 * float(unit[0][row] @ unit[column][at]) for column, at in [(1, row), *others]]
        total += float(torch.logsumexp(torch.tensor(scores), 0)) - scores[0]
    return total / len(negatives)


def test_distinct_texts_are_each_others_negatives() -> None:
    loss, vectors = loss_of([[0, 1, 2], [3, 4, 5]])
    assert float(loss) == pytest.approx(
        expected_loss(vectors, [[(1, 1), (2, 0), (2, 1)], [(1, 0), (2, 0), (2, 1)]]), rel=1e-5
    )


def test_the_same_label_is_no_negative() -> None:
    cost, worth = 10, 11
    loss, vectors = loss_of([[0, cost, worth], [1, cost, worth], [2, worth, cost]])
    worths, costs = [(1, 2), (2, 0), (2, 1)], [(1, 0), (1, 1), (2, 2)]
    assert float(loss) == pytest.approx(expected_loss(vectors, [worths, worths, costs]), rel=1e-5)


def test_another_answer_to_the_same_query_is_no_negative() -> None:
    loss, vectors = loss_of([[0, 1], [0, 2], [3, 4]])
    assert float(loss) == pytest.approx(expected_loss(vectors, [[(1, 2)], [(1, 2)], [(1, 0), (1, 1)]]), rel=1e-5)


def test_a_row_without_negatives_costs_nothing() -> None:
    assert float(loss_of([[0, 1]])[0]) == 0


def test_texts_of_other_rows_that_score_far_above_the_positive_are_no_negatives() -> None:
    ids = [[3 * row, 3 * row + 1, 3 * row + 2] for row in range(6)]
    margin = 0.1
    loss, vectors = loss_of(ids, margin=margin)
    unit = [torch.nn.functional.normalize(v) for v in vectors]
    kept, left_out = [], 0
    for row in range(6):
        most = float(unit[0][row] @ unit[1][row]) + margin
        others = [(column, at) for column in (1, 2) for at in range(6) if (column, at) != (1, row)]
        kept.append([(c, at) for c, at in others if at == row or float(unit[0][row] @ unit[c][at]) <= most])
        left_out += len(others) - len(kept[-1])
    own = [float(unit[0][row] @ unit[2][row]) > float(unit[0][row] @ unit[1][row]) + margin for row in range(6)]
    assert left_out > 5
    assert any(own), "a row's own negative above the margin is in the batch, and stays"
    assert float(loss) == pytest.approx(expected_loss(vectors, kept), rel=1e-5)
    assert float(loss) < float(loss_of(ids)[0])
    assert float(loss_of(ids, margin=2.0)[0]) == pytest.approx(float(loss_of(ids)[0])), "no cosine is so far above"


def test_margins_of_another_model_are_learnt_where_they_are_known() -> None:
    ids = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    plain, vectors = loss_of(ids)
    margins = [0.25, None, -0.5]
    labels = torch.tensor([[*row, ranking_loss.as_label(margin)] for row, margin in zip(ids, margins, strict=True)])
    loss = ranking_loss.RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 10.0, None, 2.0)
    unit = [torch.nn.functional.normalize(v) for v in vectors]
    own = [float(unit[0][row] @ unit[1][row] - unit[0][row] @ unit[2][row]) for row in range(3)]
    error = ((own[0] - 0.25) ** 2 + (own[2] + 0.5) ** 2) / 2
    assert float(loss.compute_loss_from_embeddings(vectors, labels)) == pytest.approx(
        float(plain) + 2 * error, rel=1e-4
    )
    unknown = torch.tensor([[*row, ranking_loss.as_label(None)] for row in ids])
    assert float(loss.compute_loss_from_embeddings(vectors, unknown)) == pytest.approx(float(plain), rel=1e-5)


def test_rows_carry_their_margin_as_the_last_label() -> None:
    rows = right_triplets(50).with_columns(margin=pl.lit(0.125))
    settings = settings_of(distil={"weight": 1.0})
    assert {row[-1] for row in embed.datasets_of(rows, settings)["sts-True"]["label"]} == {125_000}
    without = embed.datasets_of(rows.drop("margin"), settings)["sts-True"]
    assert {row[-1] for row in without["label"]} == {ranking_loss.NO_MARGIN}
    assert embed.datasets_of(rows, settings_of())["sts-True"].column_names == ["query", "positive", "negative", "label"]


@pytest.mark.parametrize("batch", [64, 128])
def test_the_trainer_hands_margin_and_sizes_to_the_loss(job: Callable[..., dict[str, Any]], batch: int) -> None:
    """Both losses: that of a static model, and the cached one of a transformer's large batch."""
    settings = settings_of(batch_size=batch, false_negative_margin=0.2, matryoshka=(8, 16))
    model = embed.base_model(StaticBase(**job()["base"]), settings, 0)
    loss = embed.loss_of(model, settings)
    assert loss.matryoshka_dims == (64, 16, 8), "the whole vector is always trained"
    assert loss.loss.margin == 0.2


@pytest.mark.parametrize(
    "options", [{}, {"false_negative_margin": 0.0}, {"matryoshka": [8]}, {"distil": {"weight": 0.5}}]
)
def test_cached_loss_has_the_same_gradient(decoder: Path, options: dict[str, Any]) -> None:
    settings = settings_of(batch_size=20, **options)
    rows = embed.datasets_of(right_triplets(100), settings)["classification-True"]
    gradients = []
    for micro in (20, 7):
        model = embed.base_model(PretrainedBase(kind="pretrained", name=str(decoder)), settings, 0).eval()
        loss = embed.loss_of(model, replace(settings, micro_batch_size=micro))
        features = [model.preprocess(rows[field]) for field in ("query", "positive", "negative")]
        loss(features, torch.tensor(rows["label"])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-5)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", [{}, {"matryoshka": [8]}])
def test_the_order_of_embedding_changes_no_gradient_and_saves_pads(
    decoder: Path, side: str, options: dict[str, Any]
) -> None:
    settings = settings_of(batch_size=24, max_length=200, **options)
    rng = random.Random(3)
    rows = [
        [" ".join(rng.choices(["tea", "boats", "chess"], k=rng.choice([1, 4, 40]))) for _ in range(24)] for _ in "abc"
    ]
    labels = torch.arange(72).reshape(3, 24).T
    gradients, ratios = [], []
    for micro in (24, 4):
        model = embed.base_model(PretrainedBase(kind="pretrained", name=str(decoder)), settings, 0).eval()
        model.tokenizer.padding_side = side
        loss = embed.loss_of(model, replace(settings, micro_batch_size=micro))
        loss([model.preprocess(column) for column in rows], labels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        ratios.append(ranking_loss.padding_of(loss))
    assert torch.allclose(*gradients, atol=2e-5)
    assert gradients[0].abs().max() > 0
    assert ratios[0].tokens % ratios[1].tokens == 0, "the same texts, without a cache embedded for each size"
    assert ratios[0].ratio > 2 > 1.6 > ratios[1].ratio >= 1


def test_a_part_of_a_batch_holds_no_place_where_every_text_has_a_pad() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
    column = {"input_ids": torch.arange(10).reshape(2, 5), "attention_mask": mask, "modality": "text"}
    cut = ranking_loss.without_shared_pads(column)
    assert cut["input_ids"].tolist() == [[1, 2, 3], [6, 7, 8]]
    assert cut["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 0]]
    assert cut["modality"] == "text"


def test_similarities_and_loss_are_float32_under_autocast() -> None:
    draws = torch.Generator().manual_seed(0)
    queries = torch.randn(32, 64, generator=draws)
    vectors = [queries, queries + 0.05 * torch.randn(32, 64, generator=draws)]
    labels = torch.arange(64).reshape(2, 32).T
    loss = ranking_loss.RankingLoss(SentenceTransformer(modules=[torch.nn.Identity()]), 50.0)
    exact = loss.compute_loss_from_embeddings(vectors, labels)
    halved = [v.bfloat16().requires_grad_() for v in vectors]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = loss.compute_loss_from_embeddings(vectors, labels)
        rounded = loss.compute_loss_from_embeddings(halved, labels)
    rounded.backward()
    assert torch.equal(same, exact)
    assert rounded.dtype == torch.float32
    assert halved[0].grad.dtype == torch.bfloat16
