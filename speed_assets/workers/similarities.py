"""Similarity of rows in meaning, to each other and to evaluation texts, by an embedding model.

Belongs here: cosine similarities and pairs of rows that are alike. Not here: any threshold on what is removed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
import torch
from sentence_transformers.util import paraphrase_mining_embeddings, semantic_search

from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Params, Similarities
from speed_assets.workers.reader import Reader, open_reader

TWINS = {"a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64}


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write cosine similarities of each row of `rows` (row_id, task_type, task, query, positive, negative) to `out`, in
    their order.

    Queries and documents have the model's prompts for them. Held against evaluation texts, whose side nobody knows, both
    have its prompt for texts that mean the same. Columns of `out`: row_id, positive_similarity and negative_similarity (to
    the query; null without a negative), evaluation_similarity (the most of a text of the row to an evaluation text) and
    evaluation (its task); null without such texts. The table `twins` (a, b, similarity) holds places of rows whose query and
    positive together are at least `twin_min` alike, the `twins_max` most alike.

    Args:
        params: of a job of kind `Similarities`.
        report: gets the progress, in fields.

    Returns:
        rows, seconds, twins (pairs).
    """
    job = Similarities.read(params)
    started = time.monotonic()
    reader, rows = open_reader(job)
    total = 3 + (job.evaluation is not None)
    fields: dict[str, np.ndarray] = {}
    shown = reader.shown(rows)
    for number, (field, texts) in enumerate(shown.items()):
        fields[field] = reader.encode(texts, job.batch_size)
        report(number + 1, total, "fields embedded")
    table = _to_query(rows, fields)
    if job.evaluation is not None:
        table = _to_evaluation(reader, rows, table, fields, shown, job)
        report(total, total, "evaluation texts compared")
    table.write_parquet(job.out)
    both = torch.from_numpy(fields["query"] + fields["positive"])
    pairs = paraphrase_mining_embeddings(both, max_pairs=job.twins_max, top_k=20) if rows.height > 1 else []
    twins = [(int(a), int(b), float(score)) for score, a, b in pairs if score >= job.twin_min]
    pl.DataFrame(twins, schema=TWINS, orient="row").write_parquet(job.twins)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3), "twins": len(twins)}


def _to_query(rows: pl.DataFrame, fields: dict[str, np.ndarray]) -> pl.DataFrame:
    """The table `out`, its columns on evaluation texts still null."""
    likeness = {
        f"{field}_similarity": np.einsum("ij,ij->i", fields["query"], fields[field])
        for field in ("positive", "negative")
    }
    table = rows.select("row_id").with_columns(
        pl.Series(name, values, dtype=pl.Float64, nan_to_null=True) for name, values in likeness.items()
    )
    contrasted = rows["negative"].is_not_null()
    return table.with_columns(
        pl.when(contrasted).then("negative_similarity").alias("negative_similarity"),
        pl.lit(None, pl.Float64).alias("evaluation_similarity"),
        pl.lit(None, pl.String).alias("evaluation"),
    )


def _to_evaluation(
    reader: Reader,
    rows: pl.DataFrame,
    table: pl.DataFrame,
    fields: dict[str, np.ndarray],
    shown: dict[str, list[str]],
    job: Similarities,
) -> pl.DataFrame:
    """`table` with the nearest evaluation text of each row; a field that reads alike is not embedded a second time."""
    assert job.evaluation is not None
    texts = pl.read_parquet(job.evaluation)
    held = torch.from_numpy(reader.encode(reader.alike(texts["text"].to_list()), job.batch_size))
    most, owner = np.full(rows.height, -1.0), np.zeros(rows.height, dtype=np.int64)
    for field, vectors in fields.items():
        if not len(held) or not len(vectors):
            break
        alike = reader.alike(rows[field].fill_null("").to_list())
        if alike != shown[field]:
            vectors = reader.encode(alike, job.batch_size)
        hits = semantic_search(torch.from_numpy(vectors), held, top_k=1)
        score = np.array([hit[0]["score"] for hit in hits])
        nearer = (score > most) & rows[field].is_not_null().to_numpy()
        most = np.where(nearer, score, most)
        owner = np.where(nearer, np.array([hit[0]["corpus_id"] for hit in hits]), owner)
    if not len(held) or not rows.height:
        return table
    return table.with_columns(pl.Series("evaluation_similarity", most), texts["task"].gather(owner).alias("evaluation"))
