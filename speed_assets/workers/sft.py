"""Supervised fine-tuning of a causal language model on prompts and completions, with TRL.

Belongs here: the data and the loss of supervised fine-tuning. Not here: what any training does (`training.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl
from trl import SFTConfig, SFTTrainer

from speed_assets.workers import training
from speed_assets.workers.host import Report


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train `base` on the table `rows` (prompt, completion); the loss is taken on the completion and its end token.

    params: base (folder or hub name), revision, dtype, rows, out (`model/` and `aside/` go below), settings (the
    recipe's training section), seed. Rows over `max_length` tokens are left out and counted in `refused_rows`.
    """
    settings = params["settings"]
    table = pl.read_parquet(params["rows"]).select("prompt", "completion")
    model, tokenizer = training.load_base(params)
    rows = training.prepared_rows(table, ("completion",), tokenizer, params)
    config = SFTConfig(
        **training.arguments(params, len(rows)),
        max_length=None,  # rows fit: none is cut
        completion_only_loss=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=training.dataset(rows),
        processing_class=tokenizer,
        peft_config=training.lora_config(settings),
    )
    result = training.train(trainer, params, report)
    return {"rows": len(rows), "refused_rows": len(table) - len(rows), **result}
