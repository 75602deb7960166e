"""Scores of pairs of query and document by a reranker (a cross-encoder of sentence-transformers).

Belongs here: loading it, and its raw scores. Not here: which pairs are scored (`assets/reranking.py`), what is learnt from them
(`ranking_loss.py`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoConfig

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.reranker_settings import reranker_problem
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Params, Rerank

SHARD = 4096
"""Pairs that a killed job scores again at most (ours)."""
_DIGITS = 4
"""Digits after the point that are kept of a score: below them the size of a batch shows."""
NO_PROMPT = ""
"""In the place of a prompt that the model's own settings may name: the scores are of the texts as they are."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write (query, document, score) of each pair of the table `pairs` (query, document) to `out`, in their order.

    The score is the model's raw output, a logit without bounds.

    Args:
        params: of a job of kind `Rerank`.
        report: gets the progress, in pairs.

    Returns:
        pairs, seconds.

    Raises:
        ValueError: the model has no classification head of one output, fewer positions than `max_length`, or a score is not finite.
        RuntimeError: memory ran out; the message says what to change.
    """
    job = Rerank.read(params)
    started = time.monotonic()
    pairs = pl.read_parquet(job.pairs).select("query", "document")
    model = _loaded(job)
    by_length = pairs.with_row_index("position").sort(
        pl.col("query").str.len_bytes() + pl.col("document").str.len_bytes(), "position", descending=[True, False]
    )
    files = []
    for number, shard in enumerate(by_length.iter_slices(SHARD)):
        named = digest([job.model, job.revision, job.dtype, job.max_length, shard.rows()])
        file = Path(job.journal) / f"{number:05d}-{named[:16]}.parquet"
        if not file.exists():
            scores = _scores(model, job, shard)
            unfinished = file.with_suffix(".tmp")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            shard.select("position", score=pl.Series(scores, dtype=pl.Float64)).write_parquet(unfinished)
            unfinished.replace(file)
        files.append(file)
        report(min((number + 1) * SHARD, pairs.height), pairs.height, "pairs")
    schema = {"position": pl.UInt32, "score": pl.Float64}
    scored = pl.concat([pl.DataFrame(schema=schema), *(pl.read_parquet(file) for file in files)]).sort("position")
    pairs.with_columns(scored["score"]).write_parquet(job.out)
    return {"pairs": pairs.height, "seconds": round(time.monotonic() - started, 3)}


def _loaded(job: Rerank) -> CrossEncoder:
    """The model, once its settings say that it is a reranker: without a head, the library would draw one at random."""
    config = AutoConfig.from_pretrained(job.model, revision=job.revision, trust_remote_code=False)
    if problem := reranker_problem(config.to_dict(), job.max_length):
        raise ValueError(f"reranker_scores.model {job.model} {problem}")
    model: CrossEncoder = CrossEncoder(
        job.model,
        revision=job.revision,
        device="cuda" if torch.cuda.is_available() else "cpu",
        trust_remote_code=False,
        max_length=job.max_length,
        model_kwargs={"use_safetensors": True, "dtype": getattr(torch, job.dtype)},
    )
    return model


def _scores(model: CrossEncoder, job: Rerank, shard: pl.DataFrame) -> np.ndarray:
    """(rows,) raw scores."""
    try:
        found: np.ndarray = model.predict(
            list(zip(shard["query"], shard["document"], strict=True)),
            prompt=NO_PROMPT,
            batch_size=job.batch_size,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
            convert_to_numpy=True,
        )
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"out of memory: lower reranker_scores.batch_size (now {job.batch_size}; no score changes), then reranker_scores.max_length"
        ) from error
    if broken := int((~np.isfinite(found)).sum()):
        raise ValueError(
            f"{broken} of {len(found)} scores of the reranker are no numbers: set reranker_scores.dtype=float32, or name another model"
        )
    return np.round(found.astype(np.float64), _DIGITS)
