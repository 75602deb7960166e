"""Texts embedded as queries or as documents by one model.

Belongs here: a table of texts into a table of vectors. Not here: what the vectors are compared with.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl

from speed_assets.workers.host import Report
from speed_assets.workers.jobs import EmbedTexts, Params
from speed_assets.workers.served_model import ServedModel, Side

_BLOCK = 512
"""Texts between two reports (ours)."""
_SIDES: tuple[Side, ...] = ("query", "document")


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write the vector of each text to `out`, in the order of the table.

    Args:
        params: of a job of kind `EmbedTexts`.
        report: gets the progress, in texts.

    Returns:
        {"texts", "width", "seconds"}.
    """
    job = EmbedTexts.read(params)
    started = time.monotonic()
    model = ServedModel(job.model, job.revision)
    texts = pl.read_parquet(job.texts)
    shown = np.empty(texts.height, dtype=object)
    for side in _SIDES:
        of_side = (texts["side"] == side).arg_true().to_numpy()
        shown[of_side] = model.shown(texts["text"].gather(of_side).to_list(), side)
    vectors = np.zeros((texts.height, model.width), dtype=np.float32)
    for start in range(0, texts.height, _BLOCK):
        vectors[start : start + _BLOCK] = model.encode(shown[start : start + _BLOCK].tolist(), job.batch_size)
        report(min(start + _BLOCK, texts.height), texts.height, "texts embedded")
    pl.DataFrame(
        {"shown": shown.tolist(), "vector": vectors},
        schema={"shown": pl.String, "vector": pl.Array(pl.Float32, model.width)},
    ).write_parquet(job.out)
    return {"texts": texts.height, "width": model.width, "seconds": round(time.monotonic() - started, 3)}
