"""How likely a model finds the contents of rows: the natural logarithm of the probability of the least likely token.

A sampled text goes astray where an unlikely token was drawn, so the least likely token is a better sign than the mean.

Belongs here: forward passes over given texts, the journal of such a job. Not here: generating (`generate.py`) and any threshold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.scoring import in_reading_order, value_spans
from speed_assets.workers.dialogue import dialogue_of
from speed_assets.workers.generate import merged
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Likelihood, Params

TOKENS = 32_768
"""Tokens of one forward pass on a GPU, padding included: with a vocabulary of 128,256 the logits of them all are 8 GB in
half precision. Ours; it changes no result."""
TOKENS_ON_CPU = 2_048
"""The same on a CPU: what a core's cache holds is read a third faster than 16,384 tokens (measured in the microworld)."""
CHUNK = 4096
"""Positions whose logits are turned to float32 together."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write (row_id, least_likely) of each row of the table `rows` (row_id, prompt, record, value) to `out`, in their
    order.

    `record` is a JSON object in one line. Only tokens that touch one of its values count, or the one value whose number
    `value` is (from 0): keys and marks are not what a row contains. `least_likely` is in nats, at most 0; null where prompt
    and record leave the model's context, or no value has a token.

    Args:
        params: of a job of kind `Likelihood`.
        report: gets the progress, in rows.
    """
    job = Likelihood.read(params)
    started = time.monotonic()
    journal, out = Path(job.journal), Path(job.out)
    journal.mkdir(parents=True, exist_ok=True)
    rows = pl.read_parquet(job.rows).select("row_id", "prompt", "record", "value")
    judge = Judge(job)
    by_length = in_reading_order(rows)
    tables = [pl.DataFrame(schema={"position": pl.UInt32, "row_id": pl.String, "least_likely": pl.Float64})]
    for number, shard in enumerate(by_length.iter_slices(job.batch_rows)):
        named = digest([job.model, job.adapter, job.dtype, job.chat or "auto", shard.drop("position").rows()])
        file = journal / f"{named[:24]}.parquet"  # of the rows alone: another job with the same shard finds it
        if not file.exists():
            found = judge.least_likely(*(shard[name].to_list() for name in ("prompt", "record", "value")))
            unfinished = file.with_suffix(f".{os.getpid()}.tmp")
            pl.DataFrame({"least_likely": found}, schema={"least_likely": pl.Float64}).write_parquet(unfinished)
            unfinished.replace(file)
        tables.append(shard.select("position", "row_id").hstack(pl.read_parquet(file)))
        report(min((number + 1) * job.batch_rows, rows.height), rows.height, "rows")
    scored = pl.concat(tables)
    scored.sort("position").drop("position").write_parquet(out)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3)}


class Judge:
    """A causal language model and its tokenizer, to read with."""

    def __init__(self, job: Likelihood) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        source = {"revision": job.revision, "trust_remote_code": False}
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(job.model, **source)
        if not self.tokenizer.is_fast:
            raise ValueError(f"{job.model} has no fast tokenizer, and no other gives the places of tokens")
        dtype = getattr(torch, job.dtype)
        model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype, use_safetensors=True, **source)
        if job.adapter:
            model = merged(model, job.adapter)
        model.eval()
        self.model: PreTrainedModel = model.to(self.device)
        self.dialogue = dialogue_of(self.tokenizer, job.model, job.revision, job.chat)
        self.tokens = job.tokens
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def least_likely(self, prompts: list[str], records: list[str], values: list[int | None]) -> list[float | None]:
        """The least log-probability of a token of a value of each record, or of the one value, after its prompt."""
        before = self.dialogue.prompt_ids(prompts)
        after = self.dialogue.located(prompts, records)
        spans = [value_spans(record) for record in records]
        wanted = [all_ if value is None else all_[value : value + 1] for all_, value in zip(spans, values, strict=True)]
        counted = [
            [any(start < stop and start < end and begin < stop for begin, end in within) for start, stop in offsets]
            for within, (_, offsets) in zip(wanted, after, strict=True)
        ]
        texts = [(head, tail) for head, (tail, _) in zip(before, after, strict=True)]
        fitting = [i for i, (head, tail) in enumerate(texts) if _fits(self.context, head, tail) and any(counted[i])]
        found: list[float | None] = [None] * len(texts)
        read = answer_log_probs(self.model, [texts[i] for i in fitting], self.tokens)
        for i, likelihoods in zip(fitting, read, strict=True):
            found[i] = round(float(likelihoods[torch.tensor(counted[i])].min()), 4)
        return found


def _fits(context: int | None, head: list[int], tail: list[int]) -> bool:
    return context is None or len(head) + len(tail) <= context


@torch.no_grad()
def answer_log_probs(
    model: Any, texts: Sequence[tuple[list[int], list[int]]], tokens: int | None = None
) -> list[torch.Tensor]:
    """The log-probability, in nats (float32, on the CPU), of each token of each answer after its prompt.

    Args:
        model: a causal language model, in the mode and under the autocast in which it is to read.
        texts: (prompt, answer) as token ids. A first token with nothing before it counts as certain.
        tokens: tokens of one forward pass, padding included; None takes what the device is good for. It changes no
            result beyond rounding.
    """
    device = next(model.parameters()).device
    tokens = tokens or (TOKENS if device.type == "cuda" else TOKENS_ON_CPU)
    found: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for batch in _batches([len(head) + len(tail) for head, tail in texts], tokens):
        longest = max(len(texts[i][0]) + len(texts[i][1]) for i in batch)
        kept = min(longest, longest - min(len(texts[i][0]) for i in batch) + 1)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(batch):  # padded at the end: no token that counts attends to the padding
            text = texts[i][0] + texts[i][1]
            ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
        given = {"input_ids": ids.to(device), "attention_mask": mask.to(device), "use_cache": False}
        logits = model(**given, logits_to_keep=kept).logits  # the prompts' own are not computed
        for row, i in enumerate(batch):
            head, tail = texts[i]
            skipped = 0 if head else 1
            first = len(head) + skipped - 1 - (longest - kept)  # where the answer's first token is foretold
            likelihoods = _log_probs(logits[row, first:], torch.tensor(tail[skipped:], dtype=torch.long))
            found[i] = torch.cat([torch.zeros(skipped), likelihoods])
    return found


def _log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """log-softmax of (positions, vocabulary) at `tokens`, in chunks: in float32, a long text can be gigabytes."""
    parts = []
    for start in range(0, len(tokens), CHUNK):
        wanted = tokens[start : start + CHUNK].to(logits.device)
        chunk = logits[start : start + len(wanted)].float()
        parts.append((chunk.gather(-1, wanted[:, None]).squeeze(-1) - chunk.logsumexp(-1)).cpu())
    return torch.cat(parts) if parts else torch.empty(0)


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Positions of texts of like length, the short ones first: each batch fills at most `tokens`, or is one text."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
