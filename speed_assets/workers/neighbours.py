"""Rows by meaning: how near their texts are to each other, to other rows and to evaluation texts, in an embedding model.

Belongs here: embedding, nearest neighbours, mining negatives. Not here: any threshold on what is removed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives, paraphrase_mining_embeddings, semantic_search

from speed_assets.domain.instructions import instruction_of, with_document_prompt
from speed_assets.domain.task_types import GROUNDED
from speed_assets.workers.embedding_base import prompted
from speed_assets.workers.host import Report


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Measure rows, or mine negatives for them, as params["task"] says: `measure` or `mine`. See there."""
    started = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = SentenceTransformer(
        params["model"],
        revision=params.get("revision"),
        device=device,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    )
    rows = _instructed(pl.read_parquet(params["rows"]))
    done = {"measure": measure, "mine": mine}[params["task"]](Reader(model), rows, params, report)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3), **done}


def _instructed(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with what an instruction says of each as its `task`, which of STS is not its topic."""
    named = rows.select("task_type", "task", "row_id").rows()
    return rows.with_columns(task=pl.Series([instruction_of(*of_row) for of_row in named], dtype=pl.String))


class Reader:
    """An embedding model, with the prompts that it was trained with put before texts."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self._prompts = with_document_prompt(model.prompts)
        self._default = model.prompts.get(model.default_prompt_name or "", "")
        # Prompts are put before texts here alone: `encode`, and mining, would put some there once more.
        model.default_prompt_name, model.prompts = None, {"query": "", "document": ""}

    def shown(self, rows: pl.DataFrame) -> dict[str, list[str]]:
        """The texts of each field as the model reads them in training and in evaluation; a missing one is empty."""
        shown = prompted(rows, self._prompts, self._default)
        return {field: [text or "" for text in texts] for field, texts in shown.items()}

    def alike(self, texts: list[str]) -> list[str]:
        """Texts with the model's prompt for such as are held against each other, whichever side they are of."""
        nothing = {"row_id": "", "task_type": "sts", "task": "", "query": "", "positive": "", "negative": ""}
        (prompt,) = self.shown(_instructed(pl.DataFrame([nothing])))["query"]
        return [f"{prompt}{text}" for text in texts]

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """(texts, width) unit vectors of texts as they are."""
        if not texts:
            return np.zeros((0, self.model.get_sentence_embedding_dimension() or 1), dtype=np.float32)
        vectors: np.ndarray = self.model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors


def measure(reader: Reader, rows: pl.DataFrame, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write cosine similarities of each row of `rows` (row_id, task_type, task, query, positive, negative) to `out`, in their
    order. Queries and documents have the model's prompts for them; held against evaluation texts, whose side nobody knows,
    both have its prompt for texts that mean the same.

    params: batch_size, evaluation (a table task, text, or null), twin_min, twins_max, twins. Columns of `out`: row_id,
    positive_similarity and negative_similarity (to the query; null without a negative), evaluation_similarity (the most
    of a text of the row to an evaluation text) and evaluation (its task); null without such texts. The table `twins`
    (a, b, similarity) holds places of rows whose query and positive together are at least `twin_min` alike, the
    `twins_max` most alike.
    """
    total = 3 + (params["evaluation"] is not None)
    fields: dict[str, np.ndarray] = {}
    shown = reader.shown(rows)
    for number, (field, said) in enumerate(shown.items()):
        fields[field] = reader.encode(said, params["batch_size"])
        report(number + 1, total, "fields embedded")
    likeness = {
        f"{field}_similarity": np.einsum("ij,ij->i", fields["query"], fields[field])
        for field in ("positive", "negative")
    }
    table = rows.select("row_id").with_columns(
        pl.Series(name, values, dtype=pl.Float64, nan_to_null=True) for name, values in likeness.items()
    )
    contrasted = rows["negative"].is_not_null()
    table = table.with_columns(
        pl.when(contrasted).then("negative_similarity").alias("negative_similarity"),
        pl.lit(None, pl.Float64).alias("evaluation_similarity"),
        pl.lit(None, pl.String).alias("evaluation"),
    )
    if params["evaluation"] is not None:
        texts = pl.read_parquet(params["evaluation"])
        alike = reader.alike(texts["text"].to_list())
        known = torch.from_numpy(reader.encode(alike, params["batch_size"]))
        most, owner = np.full(rows.height, -1.0), np.zeros(rows.height, dtype=np.int64)
        for field, vectors in fields.items():
            if not len(known) or not len(vectors):
                break
            said = reader.alike(rows[field].fill_null("").to_list())
            if said != shown[field]:
                vectors = reader.encode(said, params["batch_size"])
            hits = semantic_search(torch.from_numpy(vectors), known, top_k=1)
            score = np.array([hit[0]["score"] for hit in hits])
            nearer = (score > most) & rows[field].is_not_null().to_numpy()
            most = np.where(nearer, score, most)
            owner = np.where(nearer, np.array([hit[0]["corpus_id"] for hit in hits]), owner)
        if len(known) and rows.height:
            table = table.with_columns(
                pl.Series("evaluation_similarity", most), texts["task"].gather(owner).alias("evaluation")
            )
        report(total, total, "evaluation texts compared")
    table.write_parquet(params["out"])
    both = torch.from_numpy(fields["query"] + fields["positive"])
    pairs = paraphrase_mining_embeddings(both, max_pairs=params["twins_max"], top_k=20) if rows.height > 1 else []
    twins = [(int(a), int(b), float(score)) for score, a, b in pairs if score >= params["twin_min"]]
    schema = {"a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64}
    pl.DataFrame(twins, schema=schema, orient="row").write_parquet(params["twins"])
    return {"twins": len(twins)}


def _passages(rows: pl.DataFrame, file: str | None) -> pl.DataFrame | None:
    """The passages of a table as rows whose positives they are, so that they are shown as positives are."""
    if file is None:
        return None
    first = rows.head(1).drop("positive")
    return (
        pl.read_parquet(file)
        .select(positive="text")
        .unique(maintain_order=True)
        .join(first, how="cross")
        .with_columns(negative=pl.lit(None, pl.String))
    )


def mine(reader: Reader, rows: pl.DataFrame, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write negatives from the positives of other rows of the same task type to `out`, best first.

    params: batch_size, per_row, rank_min, relative_margin, and `passages`, a table with the `text` of each passage that grounded
    rows get their negatives from, where there is one. `rows` holds row_id, task_type, task, query, positive. Columns of `out`:
    row_id, negative, positive_similarity, negative_similarity; of a row with several the best first. A row for which nothing
    passes has none.
    """
    mined = [
        pl.DataFrame(
            schema={
                "row_id": pl.String,
                "negative": pl.String,
                "positive_similarity": pl.Float64,
                "negative_similarity": pl.Float64,
            }
        )
    ]
    kinds = rows["task_type"].unique(maintain_order=True)
    for number, kind in enumerate(kinds):
        of_kind = rows.filter(pl.col("task_type") == kind).unique(["query", "positive"], maintain_order=True)
        among = _passages(of_kind, params.get("passages")) if kind == GROUNDED else None
        texts = of_kind["positive"] if among is None else pl.concat([of_kind["positive"], among["positive"]]).unique()
        if texts.n_unique() > params["rank_min"] + 1:
            shown = reader.shown(of_kind.with_columns(negative=pl.lit(None, pl.String)))
            bare = dict(zip(shown["positive"], of_kind["positive"], strict=True))
            corpus = None
            if among is not None:
                corpus = [str(text) for text in reader.shown(among)["positive"]]
                bare |= dict(zip(corpus, among["positive"], strict=True))
            of_kind = of_kind.with_columns(pl.Series(field, shown[field]) for field in ("query", "positive"))
            found = mine_hard_negatives(
                Dataset.from_dict({"query": of_kind["query"].to_list(), "positive": of_kind["positive"].to_list()}),
                reader.model,
                corpus=corpus,
                range_min=params["rank_min"],
                range_max=min(params["rank_min"] + 50, texts.n_unique() - 1),
                relative_margin=params["relative_margin"],
                num_negatives=min(params["per_row"], texts.n_unique() - 1 - params["rank_min"], 50),
                sampling_strategy="top",
                output_format="triplet",
                output_scores=True,
                batch_size=params["batch_size"],
                verbose=False,
            )
            table = pl.DataFrame(found.to_dict())
            if table.height:
                scores = pl.col("scores") if "scores" in table.columns else pl.col("score")
                mined.append(
                    table.with_columns(
                        pl.Series("negative", [bare[text] for text in table["negative"]], dtype=pl.String),
                        positive_similarity=scores.list.get(0).cast(pl.Float64),
                        negative_similarity=scores.list.get(1).cast(pl.Float64),
                    )
                    .join(
                        of_kind.select("row_id", "query", "positive"), on=["query", "positive"], maintain_order="left"
                    )
                    .select(mined[0].columns)
                )
        report(number + 1, len(kinds), "task types")
    pl.concat(mined).write_parquet(params["out"])
    return {"mined": sum(table.height for table in mined)}
