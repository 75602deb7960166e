"""Worker `embed`: what is trained, saved, resumed and not trained twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer

from speed_assets.workers import embed
from tests.support.embedding_jobs import (
    contents,
    right_triplets,
    silent,
    stop_at,
    train,
    vectors_of,
)


def test_static_model_learns_and_is_saved_whole(job: Callable[..., dict[str, Any]]) -> None:
    params, seen = job(), []
    result = train(params, lambda done, total, note: seen.append((done, total)))
    assert result["rows"] == 300
    assert result["loss_last"] < result["loss_first"] / 3
    assert seen[-1] == (result["steps"], result["steps"])
    assert result["learning_rate_max"] == pytest.approx(0.1, rel=0.05)
    assert 0 < result["gradient_norm_last"] <= result["gradient_norm_max"]
    lines = [json.loads(line) for line in (Path(params["aside"]) / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, result["steps"] + 1))
    assert (Path(params["aside"]) / "loss.png").stat().st_size > 1000
    (judged,) = json.loads((Path(params["aside"]) / "judged.json").read_text())
    assert judged["rows"] == 300
    assert judged["loss_after"] < judged["loss_before"] / 3
    files = contents(params["out"])
    assert "model.safetensors" in files
    assert "README.md" not in files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    model = SentenceTransformer(params["out"])
    held_out = right_triplets(200, seed=99).drop_nulls("negative")
    query, positive, negative = (model.encode(held_out[name].to_list()) for name in ("query", "positive", "negative"))
    nearer = (query * positive).sum(axis=1) > (query * negative).sum(axis=1)
    assert nearer.mean() > 0.8, "most queries of rows never seen lie nearer to their positive"


def test_same_job_same_bytes_and_another_seed_others(job: Callable[..., dict[str, Any]]) -> None:
    first, second, third = (job(name=name, epochs=1) for name in "abc")
    third["seed"] = 5
    for params in (first, second, third):
        train(params, silent)
    assert contents(first["out"]) == contents(second["out"])
    assert contents(first["out"])["model.safetensors"] != contents(third["out"])["model.safetensors"]


def test_texts_are_encoded_once_and_the_model_is_the_same(
    job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    class Counted:
        def __init__(self, tokenizer: Any) -> None:
            self._tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tokenizer, name)

        def encode_batch(self, texts: list[str], **given: Any) -> Any:
            encoded.append(len(texts))
            return self._tokenizer.encode_batch(texts, **given)

    real, found = embed.base_model, {}

    def base_model(*given: Any) -> SentenceTransformer:
        model = real(*given)
        model[0].tokenizer = Counted(model[0].tokenizer)
        return model

    monkeypatch.setattr(embed, "base_model", base_model)
    for kept in (100_000, 0):
        encoded.clear()
        monkeypatch.setattr(embed, "_KEPT_MAX", kept)
        params = job(name=f"kept_{kept}", epochs=3)
        train(params, silent)
        found[kept] = sum(encoded), contents(params["out"])["model.safetensors"]
    assert found[100_000][0] < 0.5 * found[0][0]
    assert found[100_000][1] == found[0][1]


def test_a_worker_resumes_what_another_of_the_stage_finished(
    job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = {**job(epochs=1), "checkpoints": str(tmp_path / "shared")}
    first = train(params, silent)
    monkeypatch.setattr(embed, "_train", lambda *_: pytest.fail("it is trained again"))
    assert train({**params, "folder": str(tmp_path / "another")}, silent) == first


def test_two_models_and_an_untrained_one_in_one_job(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    params = job(epochs=1)
    right_triplets(64, seed=1).write_parquet(tmp_path / "few.parquet")
    fields = ("triplets", "out", "aside")
    whole = {"name": "whole", **{field: params.pop(field) for field in fields}}
    few = {
        "name": "few",
        "triplets": str(tmp_path / "few.parquet"),
        "out": str(tmp_path / "few"),
        "aside": str(tmp_path / "x"),
    }
    base = {"name": "base", "out": str(tmp_path / "base"), "untrained": True}
    result = embed.run({**params, "models": [whole, few, base]}, silent)["models"]
    assert {name: one["rows"] for name, one in result.items()} == {"whole": 300, "few": 64, "base": 0}
    assert result["base"]["steps"] == 0
    vectors = [SentenceTransformer(one["out"])[0].embedding.weight for one in (whole, few, base)]
    assert not torch.equal(vectors[0], vectors[1])
    assert float(vectors[2].detach().std()) == pytest.approx(1, abs=0.05)


def test_a_loss_that_is_not_finite_ends_the_job(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train(job(temperature=1e-45), silent)


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 8, "dropout": 0.1}])
def test_training_resumes_from_a_checkpoint_to_the_same_bytes(
    job: Callable[..., dict[str, Any]], decoder: Path, lora: dict[str, Any] | None
) -> None:
    base = {"kind": "pretrained", "name": str(decoder)} if lora else None
    settings = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 16, "micro_batch_size": 8} if lora else {"epochs": 3}
    whole, cut = job(base, "whole", lora=lora, **settings), job(base, "cut", lora=lora, **settings)
    steps = train(whole, silent)["steps"]
    stop = steps - 3  # in the last epoch
    with pytest.raises(KeyboardInterrupt):
        train({**cut, "checkpoint_minutes": 0.0}, stop_at(stop))
    seen: list[int] = []
    result = train(cut, lambda done, _total, _note: seen.append(done))
    assert seen == list(range(stop, steps + 1))
    assert result["steps"] == steps
    assert contents(whole["out"]) == contents(cut["out"])
    for name in ("losses.jsonl", "judged.json"):
        texts = [Path(params["aside"], name).read_text() for params in (whole, cut)]
        assert texts[0] == texts[1], name


def test_reading_rows_before_and_after_leaves_the_model_as_it_is(
    job: Callable[..., dict[str, Any]], decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"kind": "pretrained", "name": str(decoder)}
    settings = {
        "learning_rate": 1e-3,
        "epochs": 1,
        "batch_size": 16,
        "micro_batch_size": 8,
        "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
    }
    judged, plain = job(base, "judged", **settings), job(base, "plain", **settings)
    first = train(judged, silent)
    monkeypatch.setattr(embed, "_loss_of_some", lambda _trainer: None)
    second = train(plain, silent)
    assert contents(judged["out"]) == contents(plain["out"])
    assert first["padding"] == second["padding"]
    assert not Path(plain["aside"], "judged.json").exists()


def test_checkpoints_of_other_rows_or_settings_are_not_taken(job: Callable[..., dict[str, Any]]) -> None:
    params = {**job(epochs=2), "checkpoint_minutes": 0.0}
    with pytest.raises(KeyboardInterrupt):
        train(params, stop_at(6))
    first: list[int] = []
    for change in ({"seed": 7}, {"settings": {**params["settings"], "temperature": 0.2}}):
        train({**params, **change}, lambda done, _total, _note: first.append(done))
    right_triplets(299).write_parquet(params["triplets"])
    train(params, lambda done, _total, _note: first.append(done))
    assert first.count(1) == 3  # each began again


def test_a_model_that_is_finished_is_not_trained_again(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    params = job(epochs=1)
    fields = {name: params.pop(name) for name in ("triplets", "out", "aside")}
    jobs = [{**fields, "name": name, "out": str(tmp_path / name)} for name in ("one", "two")]
    seen: list[str] = []

    def report(_done: int, _total: int, note: str) -> None:
        seen.append(note)
        if note == "two" and seen.count("two") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed.run({**params, "models": jobs}, report)
    first = contents(str(tmp_path / "one"))
    seen.clear()
    result = embed.run({**params, "models": jobs}, lambda _done, _total, note: seen.append(note))["models"]
    assert set(seen) == {"two"}
    assert result["one"]["steps"] == result["two"]["steps"] > 0
    assert contents(str(tmp_path / "one")) == first


def test_margin_sizes_and_averages_change_a_transformers_training(
    job: Callable[..., dict[str, Any]], decoder: Path
) -> None:
    base = {"kind": "pretrained", "name": str(decoder)}
    common = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 32, "micro_batch_size": 16}
    options = ({}, {"false_negative_margin": 0.0}, {"matryoshka": [8]}, {"average_last": 2})
    models = set()
    for number, option in enumerate(options):
        params = job(base, f"model-{number}", **common, **option)
        train(params, silent)
        models.add(contents(params["out"])["model.safetensors"])
    assert len(models) == len(options)


def test_a_model_trained_in_several_sizes_loses_less_when_cut(job: Callable[..., dict[str, Any]]) -> None:
    whole, nested = job(name="whole", epochs=20), job(name="nested", epochs=20, matryoshka=[8])
    rows = pl.read_parquet(whole["triplets"]).filter(pl.col("task_type") == "sts")
    losses = []
    for params in (whole, nested):
        train(params, silent)
        model = SentenceTransformer(params["out"], truncate_dim=8)
        query, positive = (
            model.encode(rows[field].to_list(), normalize_embeddings=True, convert_to_tensor=True)
            for field in ("query", "positive")
        )
        scores = 10 * query @ positive.T
        losses.append(float(torch.nn.functional.cross_entropy(scores, torch.arange(rows.height))))
    assert losses[1] < 0.8 * losses[0], losses


def test_margins_of_another_model_are_learnt(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Of two trainings on the same rows the one that is given margins comes nearer to them."""
    plain = job(name="plain", epochs=20)
    rows = pl.read_parquet(plain["triplets"]).filter(pl.col("negative").is_not_null()).with_columns(margin=pl.lit(0.3))
    rows.write_parquet(tmp_path / "margins.parquet")
    distilled = {
        **job(name="distilled", epochs=20, distil={"weight": 20.0}),
        "triplets": str(tmp_path / "margins.parquet"),
    }
    errors = []
    for params in ({**plain, "triplets": distilled["triplets"]}, distilled):
        train(params, silent)
        model = SentenceTransformer(params["out"])
        query, positive, negative = (
            model.encode(rows[field].to_list(), normalize_embeddings=True, convert_to_tensor=True)
            for field in ("query", "positive", "negative")
        )
        own = (query * positive).sum(dim=1) - (query * negative).sum(dim=1)
        errors.append(float(((own - 0.3) ** 2).mean()))
    assert errors[1] < 0.5 * errors[0], errors


def test_sizes_that_the_model_does_not_have_are_refused(job: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"matryoshka \[64\] must be below the model's 64 dimensions"):
        train(job(matryoshka=[64]), silent)


def test_the_average_is_that_of_the_last_epochs_ends(job: Callable[..., dict[str, Any]]) -> None:
    kept: dict[int, Any] = {}
    averaged = job(name="averaged", epochs=4, average_last=2)
    plain = job(name="plain", epochs=4)
    for params in (averaged, plain):
        train(params, silent)

    class Trainer(embed._Trainer):
        """Takes the vectors where an epoch ends, by the trainer's own event."""

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            outer = self

            class Ends(embed.TrainerCallback):
                def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                    kept[round(state.epoch)] = outer.model[0].embedding.weight.detach().clone()

            self.add_callback(Ends())

    again = job(name="again", epochs=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "_Trainer", Trainer)
        train(again, silent)
    assert torch.equal(kept[4], vectors_of(plain))
    assert torch.allclose(vectors_of(averaged), (kept[3] + kept[4]) / 2)
    assert not torch.allclose(vectors_of(averaged), vectors_of(plain))


def test_an_average_survives_a_kill_in_any_of_its_epochs(job: Callable[..., dict[str, Any]]) -> None:
    whole = job(name="whole", epochs=3, average_last=3)
    steps = train(whole, silent)["steps"]
    for stop in (
        steps // 3,
        steps // 3 + 1,
        steps - 1,
    ):  # an epoch's last step, the next one's first, the middle of one
        cut = job(name=f"cut-{stop}", epochs=3, average_last=3)
        with pytest.raises(KeyboardInterrupt):
            train({**cut, "checkpoint_minutes": 0.0}, stop_at(stop))
        train(cut, silent)
        assert torch.equal(vectors_of(cut), vectors_of(whole))
