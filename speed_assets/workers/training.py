"""What supervised and preference fine-tuning share: loading the start model, a watched run, saving.

Belongs here: everything around a TRL trainer. Not here: the losses and their data (`sft.py`, `dpo.py`).
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.workers.host import Report

CHECKPOINT_MINUTES = 10.0
"""At most this much work is lost to a kill; short runs write no checkpoint at all."""
REFUSED_MAX = 0.01
"""Share of rows over `max_length` beyond which training refuses to start: the setting is wrong, not the rows."""
POOL_BATCHES = 16
"""Batches in a pool of rows that is sorted by length."""


def load_base(params: dict[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The start model and its tokenizer.

    Weights that are trained are float32 whatever `dtype` says, since small updates vanish in half precision; a
    half `dtype` then means mixed precision. Under LoRA the frozen weights are held in `dtype`.
    """
    source = {"revision": params.get("revision"), "trust_remote_code": False}
    dtype = getattr(torch, params["dtype"]) if params["settings"].get("lora") else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(params["base"], **source)
    if tokenizer.eos_token is None:
        raise ValueError(f"{params['base']} names no end token: a model trained on it would never stop")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(params["base"], dtype=dtype, use_safetensors=True, **source)
    return model, tokenizer


def lora_config(settings: dict[str, Any]) -> LoraConfig | None:
    """Adapters on every linear layer but the output layer; None for full fine-tuning."""
    lora = settings.get("lora")
    if not lora:
        return None
    return LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora.get("dropout", 0.0),
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def prepared_rows(
    rows: pl.DataFrame, answers: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, params: dict[str, Any]
) -> pl.DataFrame:
    """The rows whose prompt, longest of the `answers` columns and end token fit `max_length`, in training order.

    Raises ValueError when there are no rows, or more than `REFUSED_MAX` of them do not fit.
    """
    max_length = params["settings"]["max_length"]
    if rows.is_empty():
        raise ValueError("no rows to train on: the table is empty")

    def lengths(column: str) -> pl.Series:
        return pl.Series(column, [len(ids) for ids in tokenizer(rows[column].to_list())["input_ids"]])

    total = lengths("prompt") + pl.DataFrame([lengths(column) for column in answers]).max_horizontal() + 1
    fitting = rows.filter(total <= max_length)
    refused = len(rows) - len(fitting)
    if refused > REFUSED_MAX * len(rows):
        raise ValueError(
            f"{refused} of {len(rows)} rows are longer than max_length = {max_length} tokens (the longest has "
            f"{total.max()}, the median {total.median():.0f}): raise max_length, or shorten prompts or answers"
        )
    order = training_order(
        total.filter(total <= max_length).to_numpy(), params["settings"]["batch_size"], params["seed"]
    )
    return fitting[order]


def training_order(lengths: np.ndarray, batch_size: int, seed: int) -> np.ndarray:
    """The order of rows, as positions in `lengths`, that puts rows of like length into one batch.

    Batches stand in random order, so that no stretch of the training sees short rows only; only an incomplete one
    stands last. Rows are sorted within pools of `POOL_BATCHES`, so that lengths are alike and batches still differ.
    """
    generator = np.random.default_rng(seed_for(seed, "training order"))
    shuffled = generator.permutation(len(lengths))
    size = POOL_BATCHES * batch_size
    pools = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    whole = len(ordered) // batch_size * batch_size
    batches = generator.permutation(ordered[:whole].reshape(-1, batch_size))
    return np.concatenate([batches.reshape(-1), ordered[whole:]])


def dataset(rows: pl.DataFrame) -> datasets.Dataset:
    """The rows as a data set in memory."""
    return datasets.Dataset.from_dict(rows.to_dict(as_series=False))


def arguments(params: dict[str, Any], rows: int) -> dict[str, Any]:
    """Keyword arguments of the trainer's configuration that both ways of training share."""
    settings = params["settings"]
    if rows < settings["batch_size"]:
        raise ValueError(
            f"{rows} rows do not fill one batch of {settings['batch_size']}: get more, or lower batch_size"
        )
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(checkpoints(params)),
        "use_cpu": not gpu,
        "bf16": params["dtype"] == "bfloat16",
        "fp16": params["dtype"] == "float16" and gpu,
        "per_device_train_batch_size": settings["batch_size"],
        "num_train_epochs": settings["epochs"],
        "learning_rate": settings["learning_rate"],
        "warmup_steps": settings["warmup_share"],  # below 1 it is a share of the steps
        "weight_decay": settings["weight_decay"],
        "lr_scheduler_type": "linear",
        "activation_checkpointing": settings["gradient_checkpointing"],
        "gradient_checkpointing": None,  # the older name, which TRL still sets by default
        "train_sampling_strategy": "sequential",  # rows come in training order
        "seed": params["seed"] % 2**32,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "save_strategy": "no",  # `Watch` asks for checkpoints, by the clock
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": gpu,
    }


def checkpoints(params: dict[str, Any]) -> Path:
    """Where the checkpoints of exactly this training lie, in the job's folder."""
    named = [params.get(name) for name in ("base", "revision", "dtype", "settings", "seed")]
    return Path(params["folder"]) / "checkpoints" / digest([named, pl.read_parquet(params["rows"]).rows()])[:16]


class Watch(TrainerCallback):
    """Reports progress, stops at a loss that is not finite, and asks for a checkpoint every ten minutes."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._saved = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {state.global_step}: lower the learning rate")
        self._report(state.global_step, state.max_steps, f"loss {loss:.3f}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if time.monotonic() - self._saved > CHECKPOINT_MINUTES * 60:
            self._saved = time.monotonic()
            control.should_save = True
        return control


def train(trainer: Trainer, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train, or go on from the newest whole checkpoint; write `model/` and `aside/` below `out`.

    Returns steps, seconds, tokens (prompts counted, padding not), and the mean loss of the first and of the
    last tenth of the steps. Raises FloatingPointError at a loss that is not finite.
    """
    started = time.monotonic()
    trainer.add_callback(Watch(report))
    trainer.train(resume_from_checkpoint=_newest_checkpoint(checkpoints(params)))
    out = Path(params["out"])
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [entry["loss"] for entry in history]
    _write_losses(out / "aside", [entry["step"] for entry in history], losses)
    save_model(trainer.model, trainer.processing_class, out / "model", params["dtype"])
    tenth = max(1, len(losses) // 10)
    return {
        "steps": trainer.state.global_step,
        "seconds": round(time.monotonic() - started, 3),
        "loss_first": sum(losses[:tenth]) / tenth,
        "loss_last": sum(losses[-tenth:]) / tenth,
        "tokens": int(history[-1]["num_tokens"]),
    }


def _newest_checkpoint(folder: Path) -> str | None:
    """The trainer writes `trainer_state.json` last: a checkpoint without it was cut short."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    newest = max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
    return str(newest) if newest else None


def _write_losses(folder: Path, steps: list[int], losses: list[float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in zip(steps, losses, strict=True)]
    (folder / "losses.jsonl").write_text("\n".join(lines) + "\n")
    figure = Figure(figsize=(5, 3), layout="tight")
    axes = figure.subplots()
    axes.plot(steps, losses, linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    FigureCanvasAgg(figure).print_png(str(folder / "loss.png"))


def save_model(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: str) -> None:
    """Weights as safetensors in `dtype`, adapters merged; tokenizer; a generation config that only names tokens.

    A base model's own sampling defaults must not reach the stages that ask for other sampling.
    """
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    ends = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=model.generation_config.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
