"""Contrastive fine-tuning of an embedding model on triplets (paper section 3.4; InfoNCE as in E5-mistral).

Belongs here: the base, the batches, the loss, the saved folder. Not here: which rows are fit to train on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from typing_extensions import override

from speed_assets.domain.task_types import TRIPLET_FIELDS
from speed_assets.workers import fine_tuning, machine
from speed_assets.workers.embedding_base import base_model, default_prompt, prompted, saved_alike
from speed_assets.workers.host import Report, write_json
from speed_assets.workers.jobs import Params
from speed_assets.workers.judged import FILE as JUDGED
from speed_assets.workers.ranking_loss import as_label, loss_of, padding_of
from speed_assets.workers.training_jobs import Embed, EmbeddingSettings, EmbeddingTraining, PretrainedBase

CHECKPOINT_WEIGHTS = "model.safetensors"
_KEPT_MAX = 100_000
"""Texts whose token ids a training keeps."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Train and save every model of the job; one that an earlier attempt finished is not trained again.

    Args:
        params: of a job of kind `Embed`.
        report: gets the progress, in steps of one model.

    Returns:
        {"models": {name: {"rows", "steps", "seconds", "padding", and the means of `fine_tuning.summary`}}}.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: an instruction does not end with the query.
        RuntimeError: memory or device failed; the message says what to change.
    """
    job = Embed.read(params)
    with machine.add_advice_to_failures("embedding_model"):
        machine.one_device()
        return {"models": {model.name: _one(job, model, report) for model in job.models}}


def _one(job: Embed, wanted: EmbeddingTraining, report: Report) -> dict[str, Any]:
    settings, out = job.settings, Path(wanted.out)
    seed = job.seed if wanted.seed is None else wanted.seed
    started = time.monotonic()
    result: dict[str, Any] = {"rows": 0, "steps": 0}
    rows = None if wanted.untrained or wanted.triplets is None else pl.read_parquet(wanted.triplets)
    named = [wanted.name, wanted.out, asdict(job.base), fine_tuning.shaping(settings), seed]
    folder = None if rows is None else fine_tuning.checkpoint_folder(job.checkpoints or job.folder, named, rows)
    if folder and (folder / "result.json").exists():
        finished: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return finished
    model = base_model(job.base, settings, seed)
    if rows is not None and folder is not None:
        watch = fine_tuning.Watch(lambda done, total, _: report(done, total, wanted.name), job.checkpoint_minutes)
        history, padding, judged = _train(model, rows, settings, seed, folder, watch)
        result = {"rows": rows.height, "steps": len(history), **fine_tuning.summary(history), "padding": padding}
        aside, points = Path(wanted.aside or wanted.out), None
        if judged is not None:
            aside.mkdir(parents=True, exist_ok=True)
            write_json(aside / JUDGED, [judged])
            points = {"the same rows, before and after": (judged["loss_before"], judged["loss_after"])}
        fine_tuning.write_history(aside, history, wanted.name, points)
    if isinstance(job.base, PretrainedBase):
        model.to(getattr(torch, settings.dtype))
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(out), create_model_card=False)  # a card holds timings, and a digest must not
    saved_alike(model, out)
    result["seconds"] = round(time.monotonic() - started, 3)
    if folder:
        write_json(folder / "result.json", result)
    return result


def datasets_of(
    rows: pl.DataFrame, settings: EmbeddingSettings, prompts: Mapping[str, str] | None = None, default: str = ""
) -> DatasetDict:
    """One dataset for each kind of batch: a task type when `homogeneous`, and with or without negatives in any case.

    Args:
        rows: query, positive, negative, task_type, and `task`, which an instruction's {task} is filled with; further negatives
            in `negative_2`, `negative_3` and so on, which a row has one after the other; where the settings distil, `margin` of
            the negative, and `margin_2` and so on of the further ones, where they are known.
        settings: The recipe's section `embedding_model`.
        prompts: The model's prompts; None has none.
        default: What the model puts before texts that have no prompt of their own.

    Returns:
        Columns query, positive[, negative[, negative_2, ...]] with the prompts that evaluation will put before such texts, and `label`: the
        ids of the texts without them, equal for equal texts. The loss needs them to find texts that are no negatives. Where the settings
        distil, the margins of the first negatives follow them, as `ranking_loss.as_label` writes them; at least one, which may be unknown.
    """
    further = [name for name in rows.columns if name.startswith("negative_")]
    all_fields = (*TRIPLET_FIELDS, *further)
    texts = pl.concat([rows[field] for field in all_fields]).unique(maintain_order=True)
    ids = {text: number for number, text in enumerate(texts)}
    shown = prompted(rows, prompts or {}, default)
    shown |= {
        name: prompted(rows.with_columns(negative=pl.col(name)), prompts or {}, default)["negative"] for name in further
    }
    rows = rows.with_columns(pl.Series(f"shown_{field}", shown[field], dtype=pl.String) for field in all_fields)
    rows = rows.with_columns(has_negative=pl.col("negative").is_not_null())
    if further:  # a batch has as many columns as its rows have texts
        rows = rows.with_columns(
            has_negative=pl.sum_horizontal(pl.col(name).is_not_null() for name in ("negative", *further))
        )
    kinds = ["task_type", "has_negative"] if settings.homogeneous else ["has_negative"]
    found = {}
    for kind, part in rows.partition_by(kinds, as_dict=True, maintain_order=True).items():
        fields = all_fields[: 2 + int(kind[-1])]
        columns: dict[str, list[Any]] = {field: part[f"shown_{field}"].to_list() for field in fields}
        columns["label"] = [[ids[text] for text in row] for row in part.select(fields).rows()]
        if settings.distil:
            columns["label"] = [
                [*row, *map(as_label, margins)]
                for row, margins in zip(columns["label"], _margins(part, len(fields) - 2), strict=True)
            ]
        found["-".join(map(str, kind))] = Dataset.from_dict(columns)
    return DatasetDict(found)


def _margins(rows: pl.DataFrame, negatives: int) -> list[tuple[float | None, ...]]:
    """The margins of the first negatives of each row, as far as there are columns of them; at least one, which may be unknown."""
    names = ["margin", *(name.replace("negative", "margin") for name in rows.columns if name.startswith("negative_"))]
    there = [name for name in names[: max(1, negatives)] if name in rows.columns]
    return list(rows.select(there).rows()) if there else [(None,)] * rows.height


JUDGED_ROWS_MAX = 512
"""Rows whose loss is read before and after a training (ours)."""


class _Trainer(SentenceTransformerTrainer):
    """Checkpoints hold the weights that are trained, by name: adapters and static vectors alike."""

    @override
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card is written, so no statistics are gathered for one."""

    @override
    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_trained(self.model, Path(output_dir) / CHECKPOINT_WEIGHTS)

    @override
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        load_trained(model or self.model, load_file(Path(resume_from_checkpoint) / CHECKPOINT_WEIGHTS))


def save_trained(model: torch.nn.Module, file: Path) -> None:
    """Write the weights that are trained, by name; the file is complete or absent."""
    part = file.with_suffix(".part")
    save_file({name: weight.contiguous() for name, weight in _trained(model).items()}, part)
    part.rename(file)


def load_trained(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put `weights` in the place of those that are trained."""
    with torch.no_grad():
        for name, weight in _trained(model).items():
            weight.copy_(weights[name])


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


class EpochEnds(TrainerCallback):
    """Keeps the trained weights at the ends of the last epochs, and puts their mean in the model's place.

    They are written at the last step of an epoch, before a checkpoint of that step: a training that resumes there
    finds them.
    """

    def __init__(self, folder: Path, last: int) -> None:
        self._folder, self._last = folder, last

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        ends = state.epoch % 1 == 0 or state.global_step == state.max_steps
        if ends and math.ceil(state.epoch) > math.ceil(args.num_train_epochs) - self._last:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_trained(kwargs["model"], self._folder / f"epoch-{math.ceil(state.epoch)}.safetensors")
        return control

    def average(self, model: torch.nn.Module) -> None:
        """The mean of what was kept. Raises RuntimeError when one is missing."""
        kept = [load_file(file) for file in sorted(self._folder.glob("epoch-*.safetensors"))]
        if len(kept) != self._last:
            raise RuntimeError(f"weights of {len(kept)} epochs were kept and {self._last} are wanted: train it again")
        load_trained(model, {name: torch.stack([k[name] for k in kept]).mean(dim=0) for name in kept[0]})


@contextmanager
def encodings_kept(model: SentenceTransformer) -> Iterator[None]:
    """Let a model of static vectors encode each text once, not once an epoch: encoding is a third of such a training."""
    first: Any = model[0]
    if not isinstance(first, StaticEmbedding):
        yield
        return
    tokenizer = first.tokenizer
    keeping: Any = _KeptEncodings(tokenizer)
    first.tokenizer = keeping
    try:
        yield
    finally:
        first.tokenizer = tokenizer


class _KeptEncodings:
    """A tokenizer that remembers what it has encoded."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode_batch(self, texts: list[str], **given: Any) -> list[Any]:
        """The encodings of texts, all with the same arguments: their ids, which is all that a model of static vectors takes of them."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        encodings = self._tokenizer.encode_batch(new, **given) if new else []
        encoded = {text: SimpleNamespace(ids=one.ids) for text, one in zip(new, encodings, strict=True)}
        if len(self._kept) + len(new) <= _KEPT_MAX:
            self._kept.update(encoded)
        return [encoded[text] if text in encoded else self._kept[text] for text in texts]


def _train(
    model: SentenceTransformer,
    rows: pl.DataFrame,
    settings: EmbeddingSettings,
    seed: int,
    folder: Path,
    watch: fine_tuning.Watch,
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any] | None]:
    """Train `model` in place, from the newest checkpoint in `folder` if there is one; the log of every step, what was
    embedded in the steps of this process, and the loss of some rows before and after, if any batch has one."""
    first: Any = model[0]
    transformer = not isinstance(first, StaticEmbedding)
    lora = settings.lora if transformer else None
    if lora:
        set_seed(seed % 2**32)  # an adapter's first weights are drawn
        config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear")
        first.model = get_peft_model(first.model, config)
    prompts = {name: text or "" for name, text in model.prompts.items()}
    ends = EpochEnds(folder / "epochs", settings.average_last)
    loss = loss_of(model, settings)
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, seed, folder, transformer),
        train_dataset=datasets_of(rows, settings, prompts, default_prompt(model)),
        loss=loss,
        callbacks=[watch, *([ends] if settings.average_last > 1 else [])],
    )
    trainer.remove_callback(PrinterCallback)
    padding = padding_of(loss)
    with encodings_kept(model):
        before = _loss_of_some(trainer)
        padding.tokens = padding.run = 0
        trainer.train(resume_from_checkpoint=fine_tuning.newest_checkpoint(folder))
        counts = {"tokens": padding.tokens, "run": padding.run, "ratio": padding.ratio}
        if settings.average_last > 1:
            ends.average(model)
        after = _loss_of_some(trainer)
    if lora:
        first.model = first.model.merge_and_unload()
    judged = None
    if before and after:
        judged = {"on": "trained_rows", "rows": before[1], "loss_before": before[0], "loss_after": after[0]}
    return [entry for entry in trainer.state.log_history if "loss" in entry], counts, judged


def _arguments(
    settings: EmbeddingSettings, seed: int, folder: Path, transformer: bool
) -> SentenceTransformerTrainingArguments:
    gpu = torch.cuda.is_available()
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        use_cpu=not gpu,
        bf16=transformer and gpu and settings.dtype == "bfloat16",
        fp16=transformer and gpu and settings.dtype == "float16",
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_share,
        weight_decay=settings.weight_decay,
        activation_checkpointing=transformer and settings.gradient_checkpointing,
        seed=seed % 2**32,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Watch` asks for checkpoints, by the clock
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=gpu,
    )


def _loss_of_some(trainer: _Trainer) -> tuple[float, int] | None:
    """(mean loss, rows) of up to `JUDGED_ROWS_MAX` rows in batches of their own, which are the same at each call; None where no batch has two rows.

    A step's loss is that of its batch: another task type has another one. So steps cannot be compared, and the same rows can.
    """
    model: Any = trainer.model
    training = model.training
    model.eval()  # no dropout
    datasets: Any = trainer.train_dataset
    every = sum(map(len, datasets.values()))
    total, rows = 0.0, 0
    for data in datasets.values():
        some = data.select(range(math.ceil(len(data) * min(1.0, JUDGED_ROWS_MAX / every))))
        for batch in some.iter(trainer.args.per_device_train_batch_size):
            size = len(batch["query"])
            if size < 2:
                continue  # alone, a row without a negative has nothing to be told from
            inputs = trainer.data_collator(
                [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
            )
            with torch.no_grad(), trainer.compute_loss_context_manager():
                loss: Any = trainer.compute_loss(model, trainer._prepare_inputs(inputs))
            total, rows = total + float(loss) * size, rows + size
    model.train(training)
    return (round(total / rows, 6), rows) if rows else None
