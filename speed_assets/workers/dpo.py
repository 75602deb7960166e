"""Direct preference optimisation of a causal language model on pairs of answers, with TRL.

Belongs here: the data and the loss of preference training. Not here: what any training does (`training.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl
from trl import DPOConfig, DPOTrainer

from speed_assets.workers import training
from speed_assets.workers.host import Report


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train `base` on the table `rows` (prompt, chosen, rejected) with DPO (arXiv 2305.18290); the reference is `base`.

    params: as for `sft.run`; settings has beta and nll_weight beside. The loss is DPO's plus `nll_weight` times the
    mean negative log-likelihood of the chosen answers' tokens.
    """
    settings = params["settings"]
    table = pl.read_parquet(params["rows"]).select("prompt", "chosen", "rejected")
    model, tokenizer = training.load_base(params)
    rows = training.prepared_rows(table, ("chosen", "rejected"), tokenizer, params)
    config = DPOConfig(
        **training.arguments(params, len(rows)),
        max_length=None,  # rows fit: none is cut
        beta=settings["beta"],
        loss_type=["sigmoid", "sft"] if settings["nll_weight"] else ["sigmoid"],
        loss_weights=[1.0, settings["nll_weight"]] if settings["nll_weight"] else [1.0],
        precompute_ref_log_probs=True,  # once over the rows, instead of a second model in every step
        precompute_ref_batch_size=4 * settings["batch_size"],
    )
    trainer = DPOTrainer(
        model=model,
        args=config,
        train_dataset=training.dataset(rows),
        processing_class=tokenizer,
        peft_config=training.lora_config(settings),
    )
    result = training.train(trainer, params, report)
    return {"rows": len(rows), "refused_rows": len(table) - len(rows), **result}
