"""Our training stages against plain scripts of the same libraries, side by side. `python -m benchmarks.training_speed`.

SFT and DPO are measured against plain TRL, embedding training against plain sentence-transformers: the shipped base,
the same rows in the same order, the same settings. Every training runs in a process of its own, the two sides in
turn and the first one changing; imports are left out, and everything else is in: reading rows, tokenizing, training,
saving. Last line: one JSON object with ratios of tokens a second (ours / plain, medians over the repeats), the same by
seconds of CPU time, which a busy machine disturbs less, and the largest difference between the loss curves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.microworld import toy_records
from speed_assets.recipe import PROJECT

SEED = 3
BASE = str(MICROWORLD_BASE)
COMMON = {"warmup_share": 0.1, "weight_decay": 0.0, "lora": None, "gradient_checkpointing": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 1e-3, "batch_size": 16, "micro_batch_size": None, "max_length": 256},
    "dpo": {"learning_rate": 2e-4, "batch_size": 16, "micro_batch_size": None, "max_length": 256, "beta": 0.1}
    | {"nll_weight": 1.0},
    "embedding": {"learning_rate": 1e-3, "batch_size": 32, "micro_batch_size": 64, "max_length": 128}
    | {"temperature": 0.05, "pooling": "mean", "instruction": None, "dtype": "float32", "homogeneous": True}
    | {"false_negative_margin": None, "matryoshka": [], "average_last": 1},
}


def rows_of(kind: str, count: int) -> pl.DataFrame:
    """Rows in the microworld's language, each text of them once."""
    rng = random.Random(SEED)
    table: list[dict[str, Any]] = []
    for row in range(count):
        name = TOPIC_TYPES[row % len(TOPIC_TYPES)]
        task = toy_records.write_task(
            name, f"{rng.choice(['red', 'blue', 'old'])} {rng.choice(['tea', 'boats'])} {row}", rng
        )
        record = toy_records.write_record(name, toy_records.read_task(name, task), rng)
        table.append({"task_type": name, "task": task, "record": record})
    texts = [json.dumps(row["record"]) for row in table]
    prompts = [f"{row['task']}\n" for row in table]
    if kind == "sft":
        return pl.DataFrame({"prompt": prompts, "completion": texts})
    if kind == "dpo":
        return pl.DataFrame({"prompt": prompts, "chosen": texts, "rejected": [*texts[5:], *texts[:5]]})
    triplets = [TASK_TYPES[row["task_type"]].triplet(row["record"]) for row in table]
    return pl.DataFrame(
        [
            # Numbered, since a plain loss takes an equal text of another row for a negative, and ours does not.
            {field: text and f"{text} {number}" for field, text in triplet.items()}
            | {"task": row["task"], "task_type": row["task_type"]}
            for number, (row, triplet) in enumerate(zip(table, triplets, strict=True))
        ],
        schema=dict.fromkeys(("query", "positive", "negative", "task", "task_type"), pl.String),
    )


def now() -> tuple[float, float]:
    """Seconds by the clock, and of CPU time of this process with all its threads."""
    return time.monotonic(), time.process_time()


def since(started: tuple[float, float]) -> tuple[float, float]:
    return now()[0] - started[0], now()[1] - started[1]


def ours(kind: str, folder: Path, settings: dict[str, Any]) -> tuple[float, float, list[float]]:
    """Seconds, seconds of CPU time and losses of our stage."""
    from speed_assets.workers import host

    host.prepare_process(host.cores())
    module = host.worker_module("embed" if kind == "embedding" else kind)
    params: dict[str, Any] = {"settings": settings, "seed": SEED, "checkpoint_minutes": 10.0}
    if kind == "embedding":
        model = {"name": "model", "triplets": str(folder / "rows.parquet"), "out": str(folder / "model")}
        params |= {
            "folder": str(folder),
            "base": {"kind": "pretrained", "name": BASE},
            "models": [{**model, "aside": str(folder / "aside")}],
        }
    else:
        params |= {"base": BASE, "dtype": "float32", "rows": str(folder / "rows.parquet"), "out": str(folder)}
    started = now()
    module.run(params, lambda _done, _total, _note: None)
    took = since(started)
    lines = (folder / "aside" / "losses.jsonl").read_text().splitlines()
    return *took, [json.loads(line)["loss"] for line in lines]


def plain(kind: str, folder: Path, settings: dict[str, Any]) -> tuple[float, float, list[float]]:
    """The same of a script that uses the library as its documentation does, with the same settings."""
    if kind == "embedding":
        return _plain_embedding(folder, settings)
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    started = now()
    common = _plain_arguments(folder, settings) | {"max_length": None, "activation_checkpointing": False}
    common |= {"gradient_checkpointing": None, "train_sampling_strategy": "sequential"}
    given: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(BASE, dtype="float32"),
        "processing_class": AutoTokenizer.from_pretrained(BASE),
        "train_dataset": datasets.Dataset.from_parquet(
            str(folder / "ordered.parquet"), cache_dir=str(folder / "cache")
        ),
    }
    if kind == "sft":
        trainer: Any = SFTTrainer(args=SFTConfig(**common, completion_only_loss=True), **given)
    else:
        config = DPOConfig(
            **common,
            beta=settings["beta"],
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, settings["nll_weight"]],
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=4 * settings["batch_size"],
        )
        trainer = DPOTrainer(args=config, **given)
    trainer.train()
    trainer.save_model(str(folder / "model"))
    return *since(started), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _plain_embedding(folder: Path, settings: dict[str, Any]) -> tuple[float, float, list[float]]:
    from datasets import Dataset, DatasetDict
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    started = now()
    transformer = Transformer(BASE, max_seq_length=settings["max_length"], model_kwargs={"dtype": "float32"})
    model = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")])
    rows = pl.read_parquet(folder / "rows.parquet")
    data = DatasetDict()
    for (name,), part in rows.partition_by("task_type", as_dict=True, maintain_order=True).items():
        fields = [field for field in ("query", "positive", "negative") if part[field].null_count() == 0]
        data[str(name)] = Dataset.from_dict(part.select(fields).to_dict(as_series=False))
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**_plain_arguments(folder, settings)),
        train_dataset=data,
        loss=MultipleNegativesRankingLoss(model, scale=1 / settings["temperature"]),
    )
    trainer.train()
    model.save_pretrained(str(folder / "model"))
    return *since(started), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _plain_arguments(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "output_dir": str(folder / "checkpoints"),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "per_device_train_batch_size": settings["batch_size"],
        "num_train_epochs": settings["epochs"],
        "learning_rate": settings["learning_rate"],
        "warmup_steps": settings["warmup_share"],
        "weight_decay": settings["weight_decay"],
        "seed": SEED,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def write_ordered(kind: str, folder: Path, settings: dict[str, Any]) -> int:
    """The rows in our order of training, for the plain script; the number of tokens in an epoch of them."""
    from transformers import AutoTokenizer

    from speed_assets.workers import encoded_rows
    from speed_assets.workers.dialogue import Dialogue

    table = pl.read_parquet(folder / "rows.parquet")
    tokenizer = AutoTokenizer.from_pretrained(BASE)

    def tokens(*columns: str) -> int:
        return sum(len(ids) for c in columns for ids in tokenizer(table[c].drop_nulls().to_list())["input_ids"])

    if kind == "embedding":
        return tokens("query", "positive", "negative")
    answers = ("completion",) if kind == "sft" else ("chosen", "rejected")
    encoded = encoded_rows.encoded(table, answers, Dialogue(tokenizer))
    ordered = encoded_rows.in_order(encoded, answers, settings["batch_size"], SEED)
    ordered.select("prompt", *answers).write_parquet(folder / "ordered.parquet")
    return tokens(*answers) + len(answers) * (tokens("prompt") + table.height)


def measured(side: str, kind: str, folder: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}  # for both sides alike
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training_speed", "--side", side, "--kind", kind]
    subprocess.run(
        [*command, "--folder", str(folder)], cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    result: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    return result


def compare(kind: str, settings: dict[str, Any], rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Seconds of both sides in turn, and how their losses differ."""
    (folder / "settings.json").write_text(json.dumps(settings))
    rows_of(kind, rows).write_parquet(folder / "rows.parquet")
    tokens = write_ordered(kind, folder, settings) * settings["epochs"]
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    cpu: dict[str, list[float]] = {"ours": [], "plain": []}
    curves: dict[str, list[float]] = {}
    for repeat in range(repeats):
        for side in ("ours", "plain") if repeat % 2 == 0 else ("plain", "ours"):
            place = folder / f"{side}-{repeat}"
            place.mkdir()
            for file in folder.glob("*.*"):
                (place / file.name).write_bytes(file.read_bytes())
            result = measured(side, kind, place)
            speeds[side].append(tokens / result["seconds"])
            cpu[side].append(result["cpu_s"])
            curves[side] = result["losses"]
            seconds = f"{result['seconds']:.1f} s, {result['cpu_s']:.1f} s of CPU time"
            print(f"{kind} {side}: {seconds}, {speeds[side][-1]:,.0f} tokens/s", flush=True)
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["plain"], strict=True)]
    difference = max(abs(a - b) for a, b in zip(curves["ours"], curves["plain"], strict=True))
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_ratio": round(statistics.median(b / a for a, b in zip(cpu["ours"], cpu["plain"], strict=True)), 3),
        "ours_tokens_s": round(statistics.median(speeds["ours"])),
        "plain_tokens_s": round(statistics.median(speeds["plain"])),
        "steps": len(curves["ours"]),
        "loss_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--side", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=list(SETTINGS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        settings = json.loads((args.folder / "settings.json").read_text())
        result = (ours if args.side == "ours" else plain)(args.kind, args.folder, settings)
        (args.folder / "measured.json").write_text(
            json.dumps(dict(zip(("seconds", "cpu_s", "losses"), result, strict=True)))
        )
        return
    found = {}
    for kind, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            whole = {**COMMON, **settings, "epochs": args.epochs}
            found[kind] = compare(kind, whole, args.rows, args.repeats, Path(folder))
    print(
        json.dumps(
            {
                **{kind: found[kind]["ratio"] for kind in ("embedding", "sft", "dpo")},
                "losses_equal": all(one["loss_difference"] <= 1e-5 for one in found.values()),
                "rows": args.rows,
                "epochs": args.epochs,
                "repeats": args.repeats,
                "stages": found,
            }
        )
    )


if __name__ == "__main__":
    main()
