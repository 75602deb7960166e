"""What supervised and preference fine-tuning share: loading the start, a watched run that resumes, saving.

Belongs here: everything around a TRL trainer. Not here: the losses and their data (`sft.py`, `dpo.py`).
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from peft import LoraConfig, PeftModel, get_peft_model
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
    set_seed,
)
from typing_extensions import override

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.training_length import optimizer_steps, warm_up_steps
from speed_assets.workers import answers_alone as answers_alone
from speed_assets.workers import encoded_rows, machine
from speed_assets.workers.curves import summary as summary
from speed_assets.workers.curves import write_history as write_history
from speed_assets.workers.dialogue import Dialogue, choose_pad, dialogue_of
from speed_assets.workers.host import Report
from speed_assets.workers.judged import Judged
from speed_assets.workers.training_jobs import EmbeddingSettings, FineTune, Lora, Origin, Training

ORIGIN = "base.json"
"""File next to an adapter that names the base it belongs to, as the recipe does: {"base", "revision", "digest"}."""
MEMORY = ("micro_batch_size", "gradient_checkpointing")
"""Settings that change no result, so a run that went out of memory may resume under other ones."""
ADAPTER = "default"
"""PEFT's name for the one adapter of a model."""

TrainerOf = Callable[..., Trainer]


def fine_tune(job: FineTune, report: Report, answers: tuple[str, ...], trainer_of: TrainerOf) -> dict[str, Any]:
    """Train on the table `rows`, save the model, and report how it went.

    Args:
        job: what to train, on what and how.
        report: gets the progress, in steps.
        answers: columns of `rows` that are learnt, next to `prompt`.
        trainer_of: makes the trainer from the settings, its configuration's arguments and its data.

    Returns:
        rows, refused_rows (longer than `max_length` tokens: they are in `aside/too_long.parquet`), max_length, steps,
        seconds, tokens, chat (whether the template was used), dropped_tokens (see `Dialogue.dropped`), the mean loss of the
        first and the last tenth of the steps in nats a token, gradient norms, and `judged` (see `judged.py`).

    Raises:
        ValueError: rows or settings cannot be trained on, or the training changed nothing.
        FloatingPointError: a loss is not finite.
        RuntimeError: memory or device failed; the message says what to change.
    """
    with machine.add_advice_to_failures("the training section of this stage"):
        machine.one_device()
        written = pl.read_parquet(job.rows)
        model, tokenizer, dialogue = load_start(job)
        table = encoded_rows.encoded(written, answers, dialogue)
        fitting, longest = encoded_rows.fitting_rows(table, answers, job, _context(model))
        kept, held = encoded_rows.split(fitting, answers, job)
        rows = encoded_rows.in_order(kept, answers, job.settings.batch_size, job.seed)
        given = {
            "model": model,
            "processing_class": tokenizer,
            "train_dataset": encoded_rows.dataset(encoded_rows.trained_columns(rows, answers), checkpoints(job)),
        }
        trainer = trainer_of(job.settings, arguments(job, len(rows)), **given)
        result = train(trainer, job, report, Judged(rows, held, answers, job.settings, job.seed))
    counts = {"rows": len(rows), "refused_rows": len(table) - len(fitting), "max_length": longest}
    dropped = dialogue.dropped(ids for name in answers for ids in fitting[f"{name}_ids"].to_list())
    return {**counts, "chat": dialogue.templated, "dropped_tokens": dropped, **result}


def load_start(job: FineTune) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, Dialogue]:
    """The model that training starts from, its adapter trainable if `lora` is set, its tokenizer, and how it is asked.

    Weights that are trained are float32 whatever `dtype` is, since small updates vanish in half precision; a
    half `dtype` then means mixed precision. Under LoRA the frozen weights are held in `dtype`.
    """
    lora, adapter = job.settings.lora, job.adapter
    source = {"revision": job.revision, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(job.base, **source)
    dialogue = dialogue_of(tokenizer, job.base, job.revision, job.chat)
    if tokenizer.eos_token is None:  # what trainers and saved files ask for, where only the model itself names an end
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(dialogue.end)
    choose_pad(tokenizer, dialogue.end)
    dtype = getattr(torch, job.dtype) if lora else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype, use_safetensors=True, **source)
    if adapter:
        _check_origin(Path(adapter), job.origin)
        model = PeftModel.from_pretrained(model, adapter, is_trainable=bool(lora))
        if not lora:
            model = model.merge_and_unload().requires_grad_(True)  # PEFT freezes the base
        else:
            _check_shape(model.peft_config[ADAPTER], lora)
    elif lora:
        set_seed(job.seed % 2**32)  # an adapter's first weights are drawn
        model = get_peft_model(model, lora_config(lora))
    model.generation_config.eos_token_id = dialogue.ends[0] if len(dialogue.ends) == 1 else list(dialogue.ends)
    return model, tokenizer, dialogue


def lora_config(lora: Lora) -> LoraConfig:
    """Adapters on every linear layer but the output layer."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _check_shape(found: Any, lora: Lora) -> None:
    """Raise ValueError when training starts from an adapter of another rank or scale."""
    if (found.r, found.lora_alpha) != (lora.r, lora.alpha):
        raise ValueError(
            f"training starts from an adapter with r={found.r} and alpha={found.lora_alpha}, and the recipe asks for "
            f"r={lora.r} and alpha={lora.alpha}: give senior_model.lora the values of junior_model.lora"
        )


def _check_origin(adapter: Path, origin: Origin | None) -> None:
    """Raise ValueError when an adapter was trained on another base than `origin`."""
    found = json.loads((adapter / ORIGIN).read_text())
    wanted = origin and asdict(origin)
    if found != wanted:
        raise ValueError(
            f"the adapter in {adapter} was trained on {found}, not on {wanted}: train it again on this base"
        )


def _context(model: PreTrainedModel | PeftModel) -> int | None:
    """Tokens that the model has positions for."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def arguments(job: FineTune, rows: int) -> dict[str, Any]:
    """Keyword arguments of the trainer's configuration that both ways of training share.

    Args:
        job: the training.
        rows: that are trained on. Fewer than a batch are one batch: gates of the recipe say how few are too few.

    Raises:
        ValueError: a batch cannot be split.
    """
    settings = job.settings
    gpu = torch.cuda.is_available()
    micro, accumulated = micro_batches(settings.batch_size, settings.micro_batch_size, machine.processes())
    return {
        "output_dir": str(checkpoints(job)),
        "use_cpu": not gpu,
        "bf16": job.dtype == "bfloat16",
        "fp16": job.dtype == "float16" and gpu,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulated,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "warmup_steps": warm_up_steps(
            optimizer_steps(rows, settings.batch_size, settings.epochs), settings.warmup_share
        ),
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": "linear",
        "activation_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing": None,  # the older name, which TRL still sets by default
        "train_sampling_strategy": "sequential",  # rows come in training order
        "seed": job.seed % 2**32,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "save_strategy": "no",  # `Watch` asks for checkpoints, by the clock
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": gpu,
    }


def micro_batches(batch: int, micro_batch: int | None, processes: int) -> tuple[int, int]:
    """Rows on each device at once, and how many such parts each device adds up to its share of a batch.

    Args:
        batch: rows in one optimizer step, over all processes.
        micro_batch: rows on a device at once; None takes its share of the batch.
        processes: that train together.

    Raises:
        ValueError: the processes cannot share a batch evenly.

    >>> micro_batches(16, 4, 2)
    (4, 2)
    """
    share, rest = divmod(batch, processes)
    micro = min(micro_batch or share, share)
    if rest or share % micro:
        raise ValueError(
            f"batch_size={batch} cannot be split into micro-batches of {micro} rows on {processes} processes: "
            "make batch_size a multiple of micro_batch_size times runtime.processes"
        )
    return micro, share // micro


def checkpoints(job: FineTune) -> Path:
    """Where the checkpoints of exactly this training are, in the job's folder."""
    named = [
        shaping(job.settings),
        *(job.base, job.revision, job.adapter, job.dtype, job.seed, job.chat, job.answer_tokens),
    ]
    return checkpoint_folder(job.folder, named, pl.read_parquet(job.rows))


def shaping(settings: Training | EmbeddingSettings) -> dict[str, Any]:
    """The settings that shape a training's result."""
    return {name: value for name, value in asdict(settings).items() if name not in MEMORY}


def checkpoint_folder(folder: str, named: Any, rows: pl.DataFrame) -> Path:
    """The folder for checkpoints of a training that is fully described by `named` and by its rows in order."""
    return Path(folder) / "checkpoints" / digest([named, rows.columns, rows.hash_rows().to_list()])[:16]


class Watch(TrainerCallback):
    """Reports progress, stops at a loss that is not finite, and asks for a checkpoint every so many minutes."""

    def __init__(self, report: Report, minutes: float) -> None:
        self._report = report
        self._seconds = 60 * minutes
        self._saved = time.monotonic()

    @override
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

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        late = PartialState().process_index == 0 and time.monotonic() - self._saved > self._seconds
        if agreed(late):
            self._saved = time.monotonic()
            control.should_save = True
        return control


def agreed(answer: bool) -> bool:
    """The first process's answer, in every process: clocks differ, and all must save at the same step."""
    answers = [answer]
    return bool(broadcast_object_list(answers)[0]) if PartialState().num_processes > 1 else answer


def train(trainer: Trainer, job: FineTune, report: Report, judged: Judged) -> dict[str, Any]:
    """Train, or resume from the newest complete checkpoint; write the model and `aside/` below `out`.

    Args:
        trainer, job: the trainer, and the job that it was made for.
        report, judged: get the progress in steps, and the losses of the same rows before and after the training.

    Returns:
        steps, seconds, tokens (prompts counted, padding not), the means of `curves.summary`, and `judged`.

    Raises:
        ValueError: the training has changed nothing.
    """
    started = time.monotonic()
    trainer.add_callback(Watch(report, job.checkpoint_minutes))
    before = _fingerprint(trainer.model)  # of the start, also when a checkpoint is read later on
    if machine.leads():
        judged.before(trainer)
    trainer.train(resume_from_checkpoint=newest_checkpoint(checkpoints(job)))
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    model = trainer.accelerator.unwrap_model(trainer.model)
    judgement: dict[str, Any] = {"judged": judged.after(trainer)} if machine.leads() else {}
    if _fingerprint(model) == before or not judged.moved:
        raise ValueError(
            f"the training changed nothing: after {trainer.state.global_step} steps the model reads its rows as before; "
            "raise learning_rate or epochs, lower warmup_share or batch_size, or get more rows"
        )
    if machine.leads():
        out = Path(job.out)
        judged.write(out / "aside")
        write_history(out / "aside", history, points=judged.points())
        _save(trainer, job, out)
    return {
        "steps": trainer.state.global_step,
        "seconds": round(time.monotonic() - started, 3),
        "tokens": int(history[-1]["num_tokens"]),  # prompts counted, padding not
        **summary(history),
        **judgement,
    }


def _fingerprint(model: Any) -> list[float]:
    """A number for each tensor that is trained, which a change of it changes."""
    with torch.no_grad():
        return [float(p.double().square().sum()) for _, p in sorted(model.named_parameters()) if p.requires_grad]


def newest_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint, if any. The trainer writes `trainer_state.json` last: a checkpoint without a valid one was
    cut short, and is removed, since on a full disk each attempt would leave one more of those."""
    found = list(folder.glob("checkpoint-*"))
    complete = [path for path in found if _is_complete(path / "trainer_state.json")]
    for path in set(found) - set(complete):
        shutil.rmtree(path, ignore_errors=True)
    newest = max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
    return str(newest) if newest else None


def _is_complete(state: Path) -> bool:
    """Whether a state was written to its end: a kill or a full disk leaves the beginning of one."""
    try:
        return bool(json.loads(state.read_text()))
    except (OSError, ValueError):
        return False


def _save(trainer: Trainer, job: FineTune, out: Path) -> None:
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    tokenizer = trainer.processing_class
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if not isinstance(model, PeftModel):
        save_model(model, tokenizer, out / "model", job.dtype)
    elif job.origin:
        save_adapter(model, tokenizer, out / "adapter", job.origin)
    else:
        save_model(model.merge_and_unload(), tokenizer, out / "model", job.dtype)


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, origin: Origin) -> None:
    """The adapter in PEFT's format, in the precision it was trained in, with its tokenizer and `base.json`. Nothing in it names
    a path of this machine, unless the recipe itself does, and equal adapters are equal files.

    Args:
        model, tokenizer: as they were trained; the model's configuration is changed to name `origin`.
        folder, origin: where the files are written, and what `base.json` says.
    """
    config = model.peft_config[ADAPTER]
    config.base_model_name_or_path, config.revision = origin.base, origin.revision
    model.save_pretrained(str(folder), selected_adapters=[ADAPTER], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty card
    saved = json.loads((folder / "adapter_config.json").read_text())
    saved["target_modules"] = sorted(saved["target_modules"])  # PEFT writes a set, in any order
    (folder / "adapter_config.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
    (folder / ORIGIN).write_text(json.dumps(asdict(origin), indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: str) -> None:
    """Weights as safetensors in `dtype`; tokenizer; a generation config that only names tokens: a base model's own sampling
    defaults must not reach the stages that ask for other sampling.

    Args:
        model, tokenizer: as they were trained; the model is converted to `dtype`, and gets that generation config.
        folder, dtype: where the files are written, and the name of a type of torch such as `bfloat16`.
    """
    ends = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=model.generation_config.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
