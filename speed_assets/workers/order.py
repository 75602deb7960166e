"""The order in which `generate` takes the rows of a job, so that they can be cut between its batches.

Belongs here: that order alone. Not here: cutting, or decoding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from speed_assets.workers.dialogue import dialogue_of
from speed_assets.workers.generate import by_length, load_tokenizer
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Order, Params


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write `out`: one column, `position`, of the table `prompts` (row_id, candidate, prompt) in the order of `generate`.

    Args:
        params: of a job of kind `Order`.
        report: gets the progress, in rows.
    """
    job = Order.read(params)
    rows = pl.read_parquet(job.prompts).select("row_id", "candidate", "prompt")
    dialogue = dialogue_of(load_tokenizer(job), job.model, job.revision, job.chat)
    ordered = by_length(dialogue, rows).select("position")
    unfinished = Path(job.out).with_suffix(".tmp")
    ordered.write_parquet(unfinished)
    unfinished.replace(job.out)
    report(rows.height, rows.height, "rows")
    return {"rows": rows.height}
