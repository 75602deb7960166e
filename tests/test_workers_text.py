"""Text workers: sampling that no batch can change, resuming, and training that learns what it is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from speed_assets.workers import dpo, encoded_rows, generate, sft
from tests.support.tiny_text import CONTEXT, write_model

Params = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def silent(_done: int, _total: int, _note: str) -> None:
    pass


def stop_after(calls: int) -> Callable[[int, int, str], None]:
    """A report that interrupts the worker at its n-th call."""
    seen = 0

    def report(_done: int, _total: int, _note: str) -> None:
        nonlocal seen
        seen += 1
        if seen == calls:
            raise KeyboardInterrupt

    return report


# Generating

PROMPTS = pl.DataFrame(
    [
        {"row_id": f"r{row}", "candidate": candidate, "prompt": "about " + "violin " * (row % 4) + f"{row}\n"}
        for row in range(8)
        for candidate in range(3)
    ]
)


@pytest.fixture
def job(model: str, tmp_path: Path) -> Callable[..., Params]:
    """Parameters of a generate job, named so that jobs of one test do not share a journal."""

    def make(name: str, prompts: pl.DataFrame = PROMPTS, **changes: Any) -> Params:
        prompts.write_parquet(tmp_path / f"{name}.prompts.parquet")
        files = {"prompts": f"{name}.prompts.parquet", "out": f"{name}.parquet", "journal": f"{name}.journal"}
        settings = {
            "model": model,
            "revision": None,
            "dtype": "float32",
            "seed": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_new_tokens": 30,
            "batch_rows": 7,
        }
        return {**settings, **{key: str(tmp_path / file) for key, file in files.items()}, **changes}

    return make


def generated(params: Params, report: Callable[[int, int, str], None] = silent) -> pl.DataFrame:
    generate.run(params, report)
    return pl.read_parquet(params["out"])


def test_a_row_does_not_depend_on_the_rows_next_to_it(job: Callable[..., Params]) -> None:
    whole = generated(job("whole", batch_rows=100))
    assert whole.select("row_id", "candidate").equals(PROMPTS.select("row_id", "candidate"))
    assert whole["output"].n_unique() == len(whole)  # candidates of one prompt differ, too
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    small = generated(job("small", PROMPTS[order], batch_rows=2))
    assert small.equals(whole[order])


@pytest.mark.parametrize("change", [{"seed": 2}, {"temperature": 0.5}, {"top_p": 0.5}])
def test_settings_change_what_is_sampled(job: Callable[..., Params], change: Params) -> None:
    assert (generated(job("one"))["output"] != generated(job("two", **change))["output"]).sum() > 20


def test_greedy_decoding_agrees_with_transformers(job: Callable[..., Params], model: str) -> None:
    """Checks positions, masks and the cache, with rows that finish at different steps."""
    ours = generated(job("greedy", temperature=0.0, max_new_tokens=100, batch_rows=100))
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    inputs = tokenizer(PROMPTS["prompt"].to_list(), return_tensors="pt", padding=True, return_token_type_ids=False)
    outputs = reference.generate(**inputs, do_sample=False, max_new_tokens=100)[:, inputs["input_ids"].shape[1] :]
    assert tokenizer.batch_decode(outputs, skip_special_tokens=True) == ours["output"].to_list()
    assert (outputs == tokenizer.eos_token_id).any(dim=1).tolist() == ours["finished"].to_list()
    assert (outputs != tokenizer.pad_token_id).sum(dim=1).tolist() == ours["output_tokens"].to_list()


def test_an_interrupted_job_resumes_where_it_was(job: Callable[..., Params]) -> None:
    params = job("cut", batch_rows=5)
    with pytest.raises(KeyboardInterrupt):
        generate.run(params, stop_after(50))
    shards = {file: file.stat().st_mtime_ns for file in Path(params["journal"]).glob("*.parquet")}
    assert 0 < len(shards) < math.ceil(len(PROMPTS) / 5)
    resumed = generated(params)
    assert all(file.stat().st_mtime_ns == written for file, written in shards.items())
    assert resumed.equals(generated(job("uncut", batch_rows=5)))


def test_a_journal_of_other_settings_is_not_taken(job: Callable[..., Params]) -> None:
    params = job("shared")
    first = generated(params)
    assert not generated({**params, "seed": 2}).equals(first)
    assert generated(params).equals(first)


def test_a_prompt_without_room_gets_an_empty_output(job: Callable[..., Params]) -> None:
    lengths = (CONTEXT + 10, CONTEXT, CONTEXT - 3, 5)
    rows = [{"row_id": str(length), "candidate": 0, "prompt": "x" * length} for length in lengths]
    outputs = generated(job("long", pl.DataFrame(rows), batch_rows=2))
    assert outputs["output"].to_list()[:2] == ["", ""]
    assert outputs["output_tokens"].to_list()[:2] == [0, 0]
    assert outputs["output_tokens"][2] <= 3 < outputs["output_tokens"][3]
    assert not outputs["finished"][:2].any()


def test_a_row_may_bring_its_own_limit(job: Callable[..., Params]) -> None:
    """A journal of other limits is not taken; a row without one has the job's."""
    limits = pl.Series("max_new_tokens", [4, 9, None] * 8, dtype=pl.Int64)
    params = job("limits", PROMPTS.with_columns(limits), max_new_tokens=6)
    outputs = generated(params)
    assert (outputs["output_tokens"] <= limits.fill_null(6)).all()
    long = outputs.filter(~pl.col("finished"))
    assert set(long["output_tokens"]) == {4, 9, 6}
    PROMPTS.with_columns(max_new_tokens=pl.lit(2)).write_parquet(params["prompts"])
    assert set(generated(params)["output_tokens"]) <= {1, 2}


def test_no_prompts_give_an_empty_table(job: Callable[..., Params]) -> None:
    outputs = generated(job("none", PROMPTS.clear()))
    assert outputs.is_empty()
    assert outputs.columns == ["row_id", "candidate", "output", "prompt_tokens", "output_tokens", "finished", "error"]


def test_uniforms_are_uniform_and_a_row_owns_its_own() -> None:
    numbers = generate.uniforms([3, 2**62, 17], 20_000)
    assert numbers.shape == (3, 20_000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.abs(numbers.mean(axis=1) - 0.5).max() < 0.01
    assert abs(np.corrcoef(numbers[0], numbers[1])[0, 1]) < 0.03
    assert np.array_equal(generate.uniforms([17], 100)[0], numbers[2, :100])


def test_sampling_follows_the_distribution() -> None:
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniform = torch.from_numpy(generate.uniforms([1], 40_000)[0])
    logits = weights.log().expand(len(uniform), -1)

    def shares(temperature: float, top_p: float) -> torch.Tensor:
        return generate.choose(logits, uniform, temperature, top_p).bincount(minlength=4) / len(uniform)

    assert torch.allclose(shares(1.0, 1.0), weights, atol=0.01)
    assert torch.allclose(shares(0.5, 1.0), weights**2 / (weights**2).sum(), atol=0.01)
    assert torch.allclose(shares(1.0, 0.7), torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.01)
    assert shares(0.0, 1.0)[0] == 1


# Training

ANSWERS = {"up": "down", "left": "right", "hot": "cold", "in": "out"}
SFT_ROWS = pl.DataFrame([{"prompt": f"{word}\n", "completion": ANSWERS[word]} for word in ANSWERS] * 20)
SETTINGS = {
    "learning_rate": 1e-2,
    "batch_size": 8,
    "epochs": 3,
    "warmup_share": 0.1,
    "weight_decay": 0.0,
    "max_length": 40,
    "lora": None,
    "gradient_checkpointing": False,
}


def training_job(model: str, folder: Path, rows: pl.DataFrame, **settings: Any) -> Params:
    folder.mkdir(exist_ok=True)
    rows.write_parquet(folder / "rows.parquet")
    return {
        "base": model,
        "revision": None,
        "dtype": "float32",
        "rows": str(folder / "rows.parquet"),
        "out": str(folder / "out"),
        "folder": str(folder),
        "settings": {**SETTINGS, **settings},
        "seed": 5,
        "checkpoint_minutes": 10.0,
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    return state


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def junior(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, dict[str, Any]]:
    params = training_job(model, tmp_path_factory.mktemp("sft"), SFT_ROWS, epochs=6)
    return params, sft.run(params, silent)


def test_supervised_training_teaches_answers_and_their_end(
    junior: tuple[Params, dict[str, Any]], tmp_path: Path
) -> None:
    params, result = junior
    assert result["rows"] == len(SFT_ROWS)
    assert result["steps"] == 60
    assert result["loss_last"] < 0.3 * result["loss_first"]
    prompts = pl.DataFrame([{"row_id": word, "candidate": 0, "prompt": f"{word}\n"} for word in ANSWERS])
    prompts.write_parquet(tmp_path / "prompts.parquet")
    outputs = generated(
        {
            "model": f"{params['out']}/model",
            "dtype": "float32",
            "prompts": str(tmp_path / "prompts.parquet"),
            "out": str(tmp_path / "out.parquet"),
            "journal": str(tmp_path / "journal"),
            "seed": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            "max_new_tokens": 20,
            "batch_rows": 8,
        }
    )
    assert dict(zip(outputs["row_id"], outputs["output"], strict=True)) == ANSWERS
    assert outputs["finished"].all()


def test_a_trained_model_is_whole_and_plain(junior: tuple[Params, dict[str, Any]]) -> None:
    params, _ = junior
    out = Path(params["out"])
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in (out / "model").iterdir()}
    assert json.loads((out / "model" / "config.json").read_text())["dtype"] == "float32"
    generation = json.loads((out / "model" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 1
    assert not {"do_sample", "temperature", "top_p", "top_k"} & set(generation)
    losses = [json.loads(line) for line in (out / "aside" / "losses.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in losses] == list(range(1, 61))
    assert (out / "aside" / "loss.png").stat().st_size > 1000
    assert not list(Path(params["folder"]).rglob("checkpoint-*"))  # short runs write none


def test_training_resumes_from_a_checkpoint_to_the_same_model(model: str, tmp_path: Path) -> None:
    whole = training_job(model, tmp_path / "whole", SFT_ROWS)
    cut = training_job(model, tmp_path / "cut", SFT_ROWS)
    sft.run(whole, silent)
    with pytest.raises(KeyboardInterrupt):
        sft.run({**cut, "checkpoint_minutes": 0.0}, stop_after(17))
    seen: list[int] = []
    result = sft.run(cut, lambda done, _total, _note: seen.append(done))
    assert seen[0] == 17  # step 16 was saved
    assert result["steps"] == 30
    assert same(weights(tmp_path / "whole" / "out" / "model"), weights(tmp_path / "cut" / "out" / "model"))
    losses = [Path(params["out"], "aside", "losses.jsonl").read_text() for params in (whole, cut)]
    assert losses[0] == losses[1]


def test_rows_that_do_not_fit_are_counted_or_refused(model: str, tmp_path: Path) -> None:
    long = pl.DataFrame([{"prompt": "x" * 50, "completion": "y"}])
    many = pl.concat([SFT_ROWS, SFT_ROWS, long])
    result = sft.run(training_job(model, tmp_path / "few", many, epochs=0.1), silent)
    assert (result["rows"], result["refused_rows"]) == (160, 1)
    aside = pl.read_parquet(tmp_path / "few" / "out" / "aside" / "too_long.parquet")
    assert aside.to_dicts() == [{"prompt": "x" * 50, "completion": "y", "tokens": 52, "max_length": 40}]
    with pytest.raises(ValueError, match=r"5 of 85 rows are longer than max_length = 40 tokens \(the longest has 52"):
        sft.run(training_job(model, tmp_path / "more", pl.concat([SFT_ROWS, *[long] * 5])), silent)
    small = sft.run(training_job(model, tmp_path / "small", SFT_ROWS[:3], epochs=2), silent)
    assert (small["rows"], small["steps"]) == (3, 2), "fewer rows than a batch are one batch"
    with pytest.raises(ValueError, match="table is empty"):
        sft.run(training_job(model, tmp_path / "none", SFT_ROWS.clear()), silent)


def test_a_loss_that_is_not_finite_ends_training(model: str, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        sft.run(training_job(model, tmp_path / "job", SFT_ROWS, learning_rate=1e20, warmup_share=0.0), silent)
    assert not (tmp_path / "job" / "out" / "model").exists()


def margin(folder: str, rows: pl.DataFrame) -> float:
    """How much likelier the chosen answers are than the rejected ones, in nats a row."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    @torch.inference_mode()
    def likelihood(prompt: str, answer: str) -> float:
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(prompt + answer)["input_ids"]])
        logits = scored(ids).logits[0, :-1].log_softmax(-1)
        return float(logits.gather(1, ids[0, 1:, None])[start - 1 :].sum())

    return sum(
        likelihood(row["prompt"], row["chosen"]) - likelihood(row["prompt"], row["rejected"])
        for row in rows.iter_rows(named=True)
    ) / len(rows)


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 8, "dropout": 0.0}])
def test_preference_training_prefers_the_chosen(
    junior: tuple[Params, dict[str, Any]], tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    base = f"{junior[0]['out']}/model"
    pairs = pl.DataFrame([{"prompt": f"{word}\n", "chosen": word, "rejected": ANSWERS[word]} for word in ANSWERS] * 10)
    rate = 3e-2 if lora else 3e-3
    params = training_job(base, tmp_path / "dpo", pairs, beta=0.1, nll_weight=0.5, learning_rate=rate, lora=lora)
    assert dpo.run(params, silent)["steps"] == 15
    trained = Path(params["out"], "model")
    assert margin(str(trained), pairs[:4]) > margin(base, pairs[:4]) + 3
    assert not list(trained.glob("adapter*"))  # an adapter on what is no base of the recipe is merged
    assert weights(trained).keys() == weights(Path(base)).keys()


def test_the_order_of_training_keeps_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, size=403)
    order = encoded_rows.training_order(lengths, 8, seed=1)
    assert sorted(order) == list(range(403))
    batches = lengths[order[:400]].reshape(-1, 8)
    padded = (batches.max(axis=1) * 8).sum()
    assert padded < 1.15 * batches.sum()
    means = batches.mean(axis=1)
    assert abs(means[:25].mean() - means[25:].mean()) < 30  # no stretch holds the short rows only
    assert np.array_equal(order, encoded_rows.training_order(lengths, 8, seed=1))
    assert not np.array_equal(order, encoded_rows.training_order(lengths, 8, seed=2))
