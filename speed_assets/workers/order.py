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


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write `out`: one column, `position`, of the table `prompts` (row_id, candidate, prompt) in the order of `generate`.

    params: model (folder or hub name), revision, prompts, out, and chat (as in `generate.run`).
    """
    rows = pl.read_parquet(params["prompts"]).select("row_id", "candidate", "prompt")
    ordered = by_length(dialogue_of(load_tokenizer(params), params, params["model"]), rows).select("position")
    unfinished = Path(params["out"]).with_suffix(".tmp")
    ordered.write_parquet(unfinished)
    unfinished.replace(params["out"])
    report(rows.height, rows.height, "rows")
    return {"rows": rows.height}
