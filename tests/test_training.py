"""Training for real: adapters and their base, the reference of DPO, micro-batches, several processes, kills, errors."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_workers_text import ANSWERS, SFT_ROWS, silent, training_job, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from resources.compute.runner import Runner, WorkerFailed
from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.assets.train_stage import _start as start_of
from speed_assets.domain.training_length import hold_out
from speed_assets.workers import dpo, encoded_rows, fine_tuning, machine, sft
from speed_assets.workers.training_jobs import Dpo
from tests.support.tiny import tiny_recipe
from tests.support.tiny_text import write_model

Params = dict[str, Any]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0}
ORIGIN = {"base": "tiny", "revision": None, "digest": "0" * 64}
PREFERENCE: Params = {"beta": 0.1, "nll_weight": 0.5}
PAIRS = pl.DataFrame(
    [
        {"prompt": f"{word}\n", "chosen": word * (1 + row % 3), "rejected": ANSWERS[word]}
        for word in ANSWERS
        for row in range(9)
    ]
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def junior(base: str, tmp_path_factory: pytest.TempPathFactory) -> Params:
    """A job whose result is an adapter on the base."""
    folder = tmp_path_factory.mktemp("junior")
    params = {**training_job(base, folder, SFT_ROWS, lora=LORA, learning_rate=3e-2), "origin": ORIGIN}
    sft.run(params, silent)
    return params


def losses(params: Params) -> list[float]:
    lines = Path(params["out"], "aside", "losses.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def adapted(base: str, adapter: str | Path | None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)) if adapter else model


@torch.inference_mode()
def likelihood(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    """Log-probability of the answer and its end token, computed by hand."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor([[*tokenizer(prompt + answer)["input_ids"], tokenizer.eos_token_id]])
    logits = model(ids).logits[0, :-1].log_softmax(-1)
    return float(logits.gather(1, ids[0, 1:, None])[start - 1 :].sum())


# Adapters


def test_lora_keeps_an_adapter_that_names_the_base_as_the_recipe_does(junior: Params, base: str) -> None:
    out = Path(junior["out"])
    files = {file.name for file in (out / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "base.json"} <= files
    assert "README.md" not in files
    assert not (out / "model").exists()
    assert json.loads((out / "adapter" / "base.json").read_text()) == ORIGIN
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("tiny", 4)
    assert config["target_modules"] == sorted(config["target_modules"])
    for file in (out / "adapter").glob("*.json"):
        assert base not in file.read_text()
    assert losses(junior)[-1] < 0.5 * losses(junior)[0]


def test_the_same_job_makes_the_same_adapter(junior: Params, base: str, tmp_path: Path) -> None:
    again = {**training_job(base, tmp_path / "again", SFT_ROWS, lora=LORA, learning_rate=3e-2), "origin": ORIGIN}
    torch.manual_seed(99)  # what ran before must not matter
    sft.run(again, silent)
    for file in Path(junior["out"], "adapter").iterdir():
        assert file.read_bytes() == Path(again["out"], "adapter", file.name).read_bytes(), file.name


def preference_job(base: str, folder: Path, **changes: Any) -> Params:
    settings = {**PREFERENCE, "learning_rate": 1e-2, "batch_size": 8, "epochs": 3, **changes}
    return training_job(base, folder, PAIRS, **settings)


def test_the_reference_of_a_senior_adapter_is_the_junior(junior: Params, base: str, tmp_path: Path) -> None:
    adapter = Path(junior["out"], "adapter")
    params = {**preference_job(base, tmp_path / "dpo", lora=LORA), "adapter": str(adapter), "origin": ORIGIN}
    job = Dpo.read(params)
    model, tokenizer, dialogue = fine_tuning.load_start(job)
    answers = ("chosen", "rejected")
    rows = encoded_rows.in_order(
        encoded_rows.encoded(PAIRS, answers, dialogue), answers, job.settings.batch_size, job.seed
    )
    given = {"model": model, "processing_class": tokenizer}
    data = encoded_rows.dataset(encoded_rows.trained_columns(rows, answers), fine_tuning.checkpoints(job))
    trainer = dpo.preference_trainer(job.settings, fine_tuning.arguments(job, len(rows)), train_dataset=data, **given)
    assert set(trainer.model.peft_config) == {"default"}  # the frozen copy is gone when training starts
    scored = list(zip(rows.iter_rows(named=True), trainer.train_dataset, strict=True))[::7]
    by_junior, by_base = adapted(base, adapter), adapted(base, None)
    for row, computed in scored:
        for answer in ("chosen", "rejected"):
            found = float(computed[f"ref_{answer}_logps"])
            assert found == pytest.approx(likelihood(by_junior, tokenizer, row["prompt"], row[answer]), abs=1e-3)
            assert abs(found - likelihood(by_base, tokenizer, row["prompt"], row[answer])) > 1

    result = dpo.run({**params, "settings": {**params["settings"], "nll_weight": 0.0}}, silent)
    assert losses(params)[0] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference begin as one
    assert result["reward_margin"] > 0.1
    assert result["reward_accuracy"] > 0.9
    assert Path(params["out"], "aside", "rewards.png").stat().st_size > 1000
    before, after = (
        load_file(folder / "adapter_model.safetensors") for folder in (adapter, Path(params["out"], "adapter"))
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_full_weights_start_from_an_adapter_merged_into_its_base(junior: Params, base: str, tmp_path: Path) -> None:
    adapter = Path(junior["out"], "adapter")
    params = {**preference_job(base, tmp_path / "dpo", nll_weight=0.0, epochs=0.2, learning_rate=1e-3)}
    params |= {"adapter": str(adapter), "origin": ORIGIN}
    dpo.run(params, silent)
    assert losses(params)[0] == pytest.approx(math.log(2), abs=1e-4)
    whole = weights(Path(params["out"], "model"))
    assert whole.keys() == weights(Path(base)).keys()
    merged = adapted(base, adapter).merge_and_unload().state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert (whole[name] - merged[name]).abs().max() < 0.02 < (whole[name] - weights(Path(base))[name]).abs().max()


def test_an_adapter_on_another_base_or_of_another_rank_is_refused(junior: Params, base: str, tmp_path: Path) -> None:
    adapter = {"adapter": str(Path(junior["out"], "adapter"))}
    other = {**ORIGIN, "digest": "1" * 64}
    with pytest.raises(ValueError, match="train it again on this base"):
        dpo.run({**preference_job(base, tmp_path / "a", lora=LORA), **adapter, "origin": other}, silent)
    with pytest.raises(ValueError, match=r"the values of junior_model\.lora"):
        dpo.run({**preference_job(base, tmp_path / "b", lora={**LORA, "r": 8}), **adapter, "origin": ORIGIN}, silent)


@pytest.mark.parametrize("folder", ["adapter", "model"])
def test_the_senior_starts_from_what_the_junior_left(folder: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(generator__revision="r1")
    (tmp_path / folder).mkdir()
    lineage = {"externals": {"generator_base": "0" * 64}}
    run: Any = SimpleNamespace(recipe=recipe, externals=lineage["externals"])
    fresh = start_of(run, None)
    assert (fresh["base"], fresh["adapter"]) == (str(MICROWORLD_BASE), None)
    assert fresh["origin"]["base"] == "microworld"
    junior: Any = SimpleNamespace(path=tmp_path, lineage=lineage)
    started = start_of(run, junior)
    if folder == "adapter":
        assert started == {**fresh, "adapter": str(tmp_path / "adapter")}
    else:
        assert started == {"base": str(tmp_path / "model"), "revision": None, "adapter": None, "origin": None}


# Micro-batches


@pytest.mark.parametrize("kind", [sft, dpo])
def test_memory_settings_change_no_loss(kind: Any, base: str, tmp_path: Path) -> None:
    """Rows of unlike length, and a last batch that is not full: means are over batches all the same."""
    words = list(ANSWERS)
    table = pl.DataFrame([{"prompt": "x\n", "completion": words[row % 4] * (1 + row % 7)} for row in range(43)])
    curves = []
    for name, memory in (
        ("whole", {}),
        ("parts", {"micro_batch_size": 2, "gradient_checkpointing": True, "lora": LORA}),
    ):
        changes = {"batch_size": 8, "epochs": 2, "learning_rate": 1e-2, "lora": LORA, **memory}
        if kind is sft:
            params = training_job(base, tmp_path / name, table, **changes)
        else:
            params = preference_job(base, tmp_path / name, nll_weight=1.0, **changes)
        kind.run(params, silent)
        curves.append(losses(params))
    assert curves[0] == pytest.approx(curves[1], rel=2e-3)
    assert abs(curves[0][-1] - curves[0][0]) > 0.05


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    assert fine_tuning.micro_batches(16, None, 2) == (8, 1)
    assert fine_tuning.micro_batches(16, 16, 4) == (4, 1)
    with pytest.raises(ValueError, match="make batch_size a multiple"):
        fine_tuning.micro_batches(16, 4, 3)


# Processes of their own


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("home"), threads=2, warm=True)
    runner.warm_up()
    yield runner
    runner.close()


def worker_of(folder: Path) -> int:
    """The process that has the job's log open as its standard output."""
    log = (folder / "worker.log").resolve()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "fd" / "1").resolve() == log:
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no worker")


@pytest.mark.faults
@pytest.mark.parametrize(("kind", "lora"), [("sft", None), ("dpo", LORA)])
def test_kill_9_in_the_middle_costs_a_checkpoint_and_changes_nothing(
    runner: Runner, base: str, junior: Params, tmp_path: Path, kind: str, lora: Params | None
) -> None:
    def job(name: str) -> tuple[Params, Path]:
        folder = tmp_path / name
        if kind == "sft":
            params = training_job(base, folder, SFT_ROWS, epochs=2)
        else:
            params = preference_job(base, folder, lora=lora)
            params |= {"adapter": str(Path(junior["out"], "adapter")), "origin": ORIGIN}
        return {**params, "checkpoint_minutes": 0.0}, folder / "job"

    (whole, undisturbed), (cut, folder) = job("whole"), job("cut")
    steps = runner.run(kind, whole, undisturbed)["steps"]
    killed: list[int] = []

    def kill(done: int, _total: int, _note: str) -> None:
        if done >= 4 and not killed:
            killed.append(done)
            os.kill(worker_of(folder), signal.SIGKILL)

    with pytest.raises(WorkerFailed, match="SIGKILL"):
        runner.run(kind, cut, folder, kill)
    newest = fine_tuning.newest_checkpoint(next((folder / "checkpoints").iterdir()))
    assert newest is not None
    at = int(newest.rpartition("-")[2])
    assert 3 <= at < steps
    result = runner.run(kind, cut, folder)
    assert result["steps"] == steps
    lines = (folder / "progress.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["done"] == at + 1  # nothing before it was trained again
    for file in (file for file in Path(whole["out"]).rglob("*") if file.is_file()):
        assert file.read_bytes() == Path(cut["out"], file.relative_to(whole["out"])).read_bytes(), file.name


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_two_processes_train_what_one_trains(runner: Runner, base: str, tmp_path: Path, kind: str) -> None:
    def job(name: str) -> Params:
        if kind == "sft":
            return training_job(base, tmp_path / name, SFT_ROWS, epochs=1)
        return preference_job(base, tmp_path / name, nll_weight=1.0, epochs=1, lora=LORA) | {"origin": ORIGIN}

    one, two = job("one"), job("two")
    one["settings"]["batch_size"] = two["settings"]["batch_size"] = 12 if kind == "dpo" else 8  # of 36 or 80 rows
    two["settings"]["micro_batch_size"] = 2
    alone = runner.run(kind, one, tmp_path / "one" / "job")
    shared = runner.run(kind, two, tmp_path / "two" / "job", processes=2)
    assert alone["steps"] == shared["steps"]
    assert alone["tokens"] == shared["tokens"]  # the same rows, each once
    assert losses(one) == pytest.approx(losses(two), rel=1e-3)
    entries = Path(two["out"], "aside", "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in entries] == list(range(1, shared["steps"] + 1))
    (first,), (second,) = (list(Path(params["out"]).rglob("*model.safetensors")) for params in (one, two))
    a, b = load_file(first), load_file(second)
    assert all(torch.allclose(a[name].float(), b[name].float(), atol=2e-3) for name in a)


@pytest.mark.faults
def test_a_failure_in_two_processes_is_reported_in_words(runner: Runner, base: str, tmp_path: Path) -> None:
    params = training_job(base, tmp_path / "odd", SFT_ROWS, batch_size=7)
    with pytest.raises(WorkerFailed, match="batch_size=7 cannot be split into micro-batches of 3 rows on 2 processes"):
        runner.run("sft", params, tmp_path / "odd" / "job", processes=2)


# By what a training is judged


@pytest.mark.parametrize("kind", [sft, dpo])
def test_rows_that_are_held_out_judge_the_training(kind: Any, base: str, tmp_path: Path) -> None:
    words = [
        (f"{word} {row}\n", answer) for word, answer in ANSWERS.items() for row in range(45 if kind is dpo else 20)
    ]
    table = pl.DataFrame(words, schema=["prompt", "completion"], orient="row")
    if kind is sft:
        params = training_job(base, tmp_path, table, held_out=0.1, epochs=4)
    else:
        pairs = table.select("prompt", pl.lit("down").alias("chosen"), pl.lit("out").alias("rejected"))
        params = training_job(base, tmp_path, pairs, **PREFERENCE, held_out=0.2, epochs=1)
    result = kind.run(params, silent)
    (told,) = result["judged"]
    assert (told["on"], told["rows"]) == ("held_out", 36 if kind is dpo else 8)
    assert json.loads(Path(params["out"], "aside", "judged.json").read_text()) == [told]
    assert result["rows"] + told["rows"] == len(table)
    assert told["loss_after"] < 0.8 * told["loss_before"]
    if kind is dpo:
        assert told["reward_accuracy"] > 0.9
        assert told["reward_margin"] > 0.1
        assert told["ranked_after"] >= told["ranked_before"]
    else:
        model, tokenizer = adapted(base, None), AutoTokenizer.from_pretrained(base)
        rows = table.filter(pl.Series(hold_out(table.rows(), 0.1, params["seed"]))).rows()
        by_hand = -sum(likelihood(model, tokenizer, *row) for row in rows)
        tokens = sum(len(answer) + 1 for _, answer in rows)  # of single bytes, and the end
        assert told["loss_before"] == pytest.approx(by_hand / tokens, rel=1e-4)


def test_few_pairs_are_judged_with_those_of_the_training(base: str, tmp_path: Path) -> None:
    pairs = PAIRS.with_columns(prompt=pl.concat_str("prompt", pl.int_range(pl.len()).cast(pl.String)))
    few = training_job(base, tmp_path, pairs, **PREFERENCE, held_out=0.1, epochs=1)
    first, second = dpo.run(few, silent)["judged"]
    assert (first["on"], second["on"], second["rows"]) == ("training_rows", "held_out", 8)


def test_a_training_that_changes_nothing_is_an_error(base: str, tmp_path: Path) -> None:
    params = training_job(base, tmp_path, SFT_ROWS, lora=LORA, learning_rate=1e-30, epochs=0.1, warmup_share=0.0)
    with pytest.raises(ValueError, match="the training changed nothing: after 1 steps"):
        sft.run({**params, "origin": ORIGIN}, silent)
    assert not Path(params["out"], "adapter").exists()


def test_a_length_that_is_left_open_follows_from_prompts_and_answers(base: str, tmp_path: Path) -> None:
    params = {**training_job(base, tmp_path, SFT_ROWS, max_length=None), "answer_tokens": 20}
    assert sft.run(params, silent)["max_length"] == len("right\n") - 1 + 20 + 1
    long = pl.concat([SFT_ROWS, pl.DataFrame([{"prompt": "x", "completion": "y" * 40}])])
    params = {**training_job(base, tmp_path, long, max_length=None), "answer_tokens": 20}
    assert sft.run(params, silent)["refused_rows"] == 1
    assert sft.run({**params, "answer_tokens": None}, silent)["refused_rows"] == 0


# Failures in words


def test_failures_of_memory_and_device_say_what_to_change() -> None:
    told = pytest.raises(RuntimeError, match=r"senior_model.*micro_batch_size.*gradient_checkpointing.*max_length")
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()):
        with told, machine.add_advice_to_failures("senior_model"):
            raise error
    with pytest.raises(RuntimeError, match="resumes from its newest checkpoint"), machine.add_advice_to_failures("x"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match=r"^something else$"), machine.add_advice_to_failures("x"):
        raise RuntimeError("something else")


def test_memory_that_is_really_not_there_is_reported() -> None:
    with pytest.raises(RuntimeError, match="smaller micro_batch_size"), machine.add_advice_to_failures("x"):
        torch.empty(2**55)


def test_a_base_without_safetensors_is_refused(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in Path(base).iterdir():
        if file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save(weights(Path(base)), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no safetensors weights.*convert them"):
        sft.run(training_job(str(folder), tmp_path / "job", SFT_ROWS), silent)


def test_an_end_token_is_needed(base: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = None
    folder = tmp_path / "endless"
    model = AutoModelForCausalLM.from_pretrained(base)
    model.config.eos_token_id = model.generation_config.eos_token_id = None  # what the model names is as good
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="names no end token"):
        sft.run(training_job(str(folder), tmp_path / "job", SFT_ROWS), silent)
