"""Contrastive fine-tuning of an embedding model on triplets (paper section 3.4; InfoNCE as in E5-mistral).

Job parameters:
    base        {"kind": "static", "tokenizer": folder, "dimensions": int} or
                {"kind": "pretrained", "name": folder or hub name, "revision": str or null}
    settings    the recipe's section `embedding_model`
    seed        of the static vectors and of the order of batches
    models      [{"name", "triplets", "out", "aside"}, ...]: one model from each table, in one process;
                or the four fields directly, for one model. {"untrained": true} saves the base as it is.

Belongs here: the base, the batches, the loss, the saved folder. Not here: which rows are fit to train on.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset, DatasetDict
from matplotlib.figure import Figure
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.util.file_io import is_sentence_transformer_model
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback

Report = Callable[[int, int, str], None]

CHUNK = 64
"""Rows of a transformer's batch that are embedded at once; larger batches are cached, with the same gradient."""
INSTRUCTION = "instruction"
"""Name of the saved prompt that still holds {task}: whoever embeds fills it in."""


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train and save every model of the job.

    Returns {"rows", "steps", "seconds", "loss_first", "loss_last"} of one model (losses: means over the
    first and the last tenth of the steps), or {"models": {name: ...}}. Raises ValueError for a loss
    that is not finite and for an instruction that does not end with the query.
    """
    jobs = params.get("models")
    if jobs is None:
        return _one({**params, "name": params.get("name", "model")}, report)
    return {"models": {job["name"]: _one({**params, **job}, report) for job in jobs}}


def _one(job: dict[str, Any], report: Report) -> dict[str, Any]:
    settings, out = job["settings"], Path(job["out"])
    started = time.monotonic()
    model = _base(job["base"], settings, job["seed"])
    if settings["instruction"]:
        _keep_instruction(model, settings["instruction"])
    summary: dict[str, Any] = {"rows": 0, "steps": 0}
    if not job.get("untrained"):
        rows = pl.read_parquet(job["triplets"])
        losses = _train(model, rows, settings, job["seed"], lambda done, total: report(done, total, job["name"]))
        tenth = math.ceil(len(losses) / 10)
        summary = {
            "rows": rows.height,
            "steps": len(losses),
            "loss_first": sum(losses[:tenth]) / tenth,
            "loss_last": sum(losses[-tenth:]) / tenth,
        }
        _write_losses(losses, Path(job["aside"]), job["name"])
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(out), create_model_card=False)  # a card holds timings, and a digest must not
    return {**summary, "seconds": time.monotonic() - started}


def _base(base: dict[str, Any], settings: dict[str, Any], seed: int) -> SentenceTransformer:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if base["kind"] == "static":
        tokenizer = Tokenizer.from_file(str(Path(base["tokenizer"]) / "tokenizer.json"))
        tokenizer.enable_truncation(settings["max_length"])
        draws = torch.Generator().manual_seed(seed)
        vectors = torch.randn(tokenizer.get_vocab_size(), base["dimensions"], generator=draws)
        return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device=device)

    name, revision = base["name"], base.get("revision")
    model = SentenceTransformer(
        name,
        revision=revision,
        device=device,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": getattr(torch, settings["dtype"])},
    )
    model.max_seq_length = settings["max_length"]
    if not is_sentence_transformer_model(name, revision=revision):  # a plain language model: it has no pooling yet
        last = settings["pooling"] == "last"
        model[1] = Pooling(model[0].get_embedding_dimension(), "lasttoken" if last else "mean")
        if last:
            _append_end_token(model.tokenizer)
    return model


def _append_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """Let every text end with the end token, whose state `last` pooling takes (paper section 3.4)."""
    backend = tokenizer.backend_tokenizer
    if backend.encode("a").tokens[-1] == tokenizer.eos_token:
        return
    end = processors.TemplateProcessing(
        single=f"$A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, tokenizer.eos_token_id)]
    )
    present = backend.post_processor
    backend.post_processor = processors.Sequence([present, end]) if present else end


def _keep_instruction(model: SentenceTransformer, template: str) -> None:
    if not template.endswith("{query}"):
        raise ValueError(
            f"embedding_model.instruction {template!r} must end with {{query}}: models keep it as a prefix"
        )
    prefix = template.removesuffix("{query}")
    model.prompts = {**model.prompts, INSTRUCTION if "{task}" in prefix else "query": prefix}


def _instruct(template: str, task: str, query: str) -> str:
    """The template filled in one pass, so that braces in texts stay what they are.

    >>> _instruct("{task}: {query}", "find {query}", "a {task}")
    'find {query}: a {task}'
    """
    return re.sub(r"\{(task|query)\}", lambda field: task if field[1] == "task" else query, template)


def datasets_of(rows: pl.DataFrame, settings: dict[str, Any]) -> DatasetDict:
    """One dataset for each kind of batch: a task type when `homogeneous`, and with or without negatives in any case.

    Columns: query, positive[, negative], and `label`: the ids of these texts, equal for equal texts. The
    loss needs them to tell what is no negative at all.
    """
    if settings["instruction"]:
        filled = [
            _instruct(settings["instruction"], task, query) for task, query in rows.select("task", "query").rows()
        ]
        rows = rows.with_columns(query=pl.Series(filled))
    texts = pl.concat([rows[field] for field in ("query", "positive", "negative")]).unique(maintain_order=True)
    ids = {text: number for number, text in enumerate(texts)}
    rows = rows.with_columns(has_negative=pl.col("negative").is_not_null())
    kinds = ["task_type", "has_negative"] if settings["homogeneous"] else ["has_negative"]
    found = {}
    for kind, part in rows.partition_by(kinds, as_dict=True, maintain_order=True).items():
        fields = ["query", "positive", "negative"] if kind[-1] else ["query", "positive"]
        columns: dict[str, list[Any]] = {field: part[field].to_list() for field in fields}
        columns["label"] = [[ids[text] for text in row] for row in zip(*columns.values(), strict=True)]
        found["-".join(map(str, kind))] = Dataset.from_dict(columns)
    return DatasetDict(found)


class RankingLoss(MultipleNegativesRankingLoss):
    """InfoNCE over in-batch and hard negatives, without those that are known to be none.

    Left out of a row's negatives is every text of the batch that equals the row's positive or its query,
    or that is the positive of another row with the same query. So a classification batch may be large,
    though its positives are a few labels: a no-duplicates sampler would cut it to as many rows as labels.
    """

    def compute_loss_from_embeddings(self, embeddings: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Mean loss; `embeddings` are (rows, dimensions) of each column, `labels` (rows, columns) text ids."""
        queries, positives, documents = labels[:, :1], labels[:, 1:2], labels[:, 1:].T.reshape(1, -1)
        scores = self.similarity_fct(embeddings[0], torch.cat(embeddings[1:])) * self.scale
        rows = len(labels)
        no_negative = (documents == positives) | (documents == queries)
        no_negative[:, :rows] |= queries == queries.T
        no_negative[:, :rows].fill_diagonal_(False)
        targets = torch.arange(rows, device=scores.device)
        return torch.nn.functional.cross_entropy(scores.masked_fill(no_negative, -torch.inf), targets)


class CachedRankingLoss(CachedMultipleNegativesRankingLoss):
    """`RankingLoss` for batches that do not fit into memory at once (GradCache, arXiv 2101.06983)."""

    def __init__(self, model: SentenceTransformer, scale: float, mini_batch_size: int) -> None:
        super().__init__(model, scale=scale, mini_batch_size=mini_batch_size)
        self.loss = RankingLoss(model, scale=scale)

    def calculate_loss(
        self, reps: list[list[torch.Tensor]], labels: torch.Tensor | None = None, *, with_backward: bool = False
    ) -> torch.Tensor:
        loss = self.loss.compute_loss_from_embeddings([torch.cat(parts) for parts in reps], labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss


class _Trainer(SentenceTransformerTrainer):
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card is written, so no statistics are gathered for one."""


class _Losses(TrainerCallback):
    """Keeps the loss of every step and tells how far training is."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.losses: list[float] = []
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            if not math.isfinite(self.losses[-1]):
                raise ValueError(
                    f"the loss of step {state.global_step} is not finite: lower embedding_model.learning_rate"
                )
            if state.global_step % max(1, state.max_steps // 20) == 0:
                self._report(state.global_step, state.max_steps)


def _train(
    model: SentenceTransformer,
    rows: pl.DataFrame,
    settings: dict[str, Any],
    seed: int,
    report: Callable[[int, int], None],
) -> list[float]:
    """Train `model` in place; the loss of every step."""
    scale, transformer = 1 / settings["temperature"], not isinstance(model[0], StaticEmbedding)
    if settings["lora"] and transformer:
        lora = settings["lora"]
        config = LoraConfig(
            r=lora["r"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"], target_modules="all-linear"
        )
        model[0].model = get_peft_model(model[0].model, config)
    loss = (
        CachedRankingLoss(model, scale, CHUNK)
        if transformer and settings["batch_size"] > CHUNK
        else RankingLoss(model, scale=scale)
    )
    losses = _Losses(report)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            use_cpu=not torch.cuda.is_available(),
            per_device_train_batch_size=settings["batch_size"],
            num_train_epochs=settings["epochs"],
            learning_rate=settings["learning_rate"],
            warmup_steps=settings["warmup_share"],
            weight_decay=settings["weight_decay"],
            seed=seed % 2**32,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = _Trainer(
            model=model, args=arguments, train_dataset=datasets_of(rows, settings), loss=loss, callbacks=[losses]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if settings["lora"] and transformer:
        model[0].model = model[0].model.merge_and_unload()
    return losses.losses


def _write_losses(losses: list[float], aside: Path, name: str) -> None:
    aside.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(losses, start=1)]
    (aside / "losses.jsonl").write_text("\n".join(lines) + "\n")
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses)
    axes.set(title=name, xlabel="step", ylabel="contrastive loss")
    figure.savefig(aside / "loss.png", dpi=100)
