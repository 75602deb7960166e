"""How likely a model finds what rows say: the natural logarithm of the probability of the least likely token.

A sampled text goes astray where an unlikely token was drawn, so the worst token tells more than the mean.

Belongs here: forward passes over given texts, the journal. Not here: generating (`generate.py`) and any threshold.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.scoring import value_spans
from speed_assets.workers.host import Report


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write (row_id, least_likely) of each row of the table `rows` (row_id, prompt, record, value) to `out`, in their
    order.

    params: model (folder or hub name), revision, adapter (folder in PEFT's format, or null), dtype, rows, out, journal,
    batch_rows. `record` is a JSON object in one line; only tokens that touch one of its values count, or the one value
    whose number `value` is (from 0): keys and marks are not what a row says. `least_likely` is in nats, at most 0; null where prompt and record leave the model's
    context, or no value has a token.
    """
    started = time.monotonic()
    journal, out = Path(params["journal"]), Path(params["out"])
    journal.mkdir(parents=True, exist_ok=True)
    rows = pl.read_parquet(params["rows"]).select("row_id", "prompt", "record", "value")
    judge = Judge(params)
    by_length = rows.with_row_index("position").sort(
        pl.col("prompt").str.len_bytes() + pl.col("record").str.len_bytes(), "position"
    )
    files = []
    for number, shard in enumerate(by_length.iter_slices(params["batch_rows"])):
        named = digest([params["model"], params.get("adapter"), params["dtype"], shard.rows()])
        file = journal / f"{number:05d}-{named[:16]}.parquet"
        if not file.exists():
            found = judge.least_likely(*(shard[name].to_list() for name in ("prompt", "record", "value")))
            scored = shard.select("position", "row_id", pl.Series("least_likely", found, dtype=pl.Float64))
            unfinished = file.with_suffix(".tmp")
            scored.write_parquet(unfinished)
            unfinished.replace(file)
        files.append(file)
        report(min((number + 1) * params["batch_rows"], rows.height), rows.height, "rows")
    schema = {"position": pl.UInt32, "row_id": pl.String, "least_likely": pl.Float64}
    scored = pl.concat([pl.DataFrame(schema=schema), *(pl.read_parquet(file) for file in files)])
    scored.sort("position").drop("position").write_parquet(out)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3)}


class Judge:
    """A causal language model and its tokenizer, to read with."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        source = {"revision": params.get("revision"), "trust_remote_code": False}
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(params["model"], **source)
        if not self.tokenizer.is_fast:
            raise ValueError(f"{params['model']} has no fast tokenizer, which alone tells where a token stands")
        dtype = getattr(torch, params["dtype"])
        model = AutoModelForCausalLM.from_pretrained(params["model"], dtype=dtype, use_safetensors=True, **source)
        if params.get("adapter"):
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, params["adapter"]).merge_and_unload()
        self.model: PreTrainedModel = model.eval().to(self.device)
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    @torch.inference_mode()
    def least_likely(self, prompts: list[str], records: list[str], values: list[int | None]) -> list[float | None]:
        """The least log-probability of a token of a value of each record, or of the one value, after its prompt."""
        before = self.tokenizer(prompts)["input_ids"]
        after = self.tokenizer(records, add_special_tokens=False, return_offsets_mapping=True)
        spans = [value_spans(record) for record in records]
        wanted = [all_ if value is None else all_[value : value + 1] for all_, value in zip(spans, values, strict=True)]
        counted = [
            [any(start < stop and start < end and begin < stop for begin, end in within) for start, stop in offsets]
            for within, offsets in zip(wanted, after["offset_mapping"], strict=True)
        ]
        texts = [head + tail for head, tail in zip(before, after["input_ids"], strict=True)]
        fitting = [i for i, text in enumerate(texts) if self.context is None or len(text) <= self.context]
        found: list[float | None] = [None] * len(texts)
        if not fitting:
            return found
        longest = max(len(texts[i]) for i in fitting)
        ids = torch.zeros(len(fitting), longest, dtype=torch.long)
        mask, counts = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for row, i in enumerate(fitting):  # padded at the end: what stands there is seen by nothing that counts
            ids[row, : len(texts[i])] = torch.tensor(texts[i])
            mask[row, : len(texts[i])] = 1
            counts[row, len(before[i]) : len(texts[i])] = torch.tensor(counted[i], dtype=torch.bool)
        ids, mask, counts = ids.to(self.device), mask.to(self.device), counts.to(self.device)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        likelihood = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
        least = likelihood.masked_fill(~counts[:, 1:], 0.0).amin(dim=1)
        for row, i in enumerate(fitting):
            if any(counted[i]):
                found[i] = round(float(least[row]), 4)
        return found
