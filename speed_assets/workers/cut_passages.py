"""Documents cut into passages by the tokenizer of the embedding model.

Belongs here: the tokenizer, tables in and out. Not here: how documents are cut (`domain/passages.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from speed_assets.domain.passages import Block, Count, Cut, Document, Dropped, Passage, cut
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import CutPassages, Params

PASSAGE = {
    "passage_id": pl.String,
    "document_id": pl.String,
    "place": pl.Int64,
    "title": pl.String,
    "text": pl.String,
    "tokens": pl.Int64,
}
DROPPED = dict.fromkeys(("document_id", "file", "reason", "detail", "text"), pl.String)


def run(params: Params, report: Report) -> dict[str, Any]:
    """Cut the documents of a table into passages.

    Args:
        params: of a job of kind `CutPassages`.
        report: gets the progress, in documents.

    Returns:
        {"passages", "dropped"}: counts.
    """
    job = CutPassages.read(params)
    count = _counter(job)
    by = Cut(job.tokens_max, job.tokens_min, job.titled)
    documents = pl.read_parquet(job.documents)
    passages: list[Passage] = []
    dropped: list[Dropped] = []
    for number, row in enumerate(documents.iter_rows(named=True), 1):
        blocks = tuple(Block(block["text"], block["heading"]) for block in row["blocks"])
        document = Document(row["document_id"], row["file"], row["title"], row["date"], blocks)
        found, lost = cut(document, by, count)
        passages += found
        dropped += lost
        report(number, documents.height, "documents cut")
    pl.DataFrame([asdict(one) for one in passages], schema=PASSAGE).write_parquet(job.out)
    pl.DataFrame([asdict(one) for one in dropped], schema=DROPPED).write_parquet(job.dropped)
    return {"passages": len(passages), "dropped": len(dropped)}


def _counter(job: CutPassages) -> Count:
    if job.tokenizer_file is not None:
        from tokenizers import Tokenizer

        one = Tokenizer.from_file(job.tokenizer_file)
        one.no_truncation()  # a saved model cuts texts at its own length; here every token counts
        one.no_padding()

        def count(texts: Sequence[str]) -> list[int]:
            return [len(found.ids) for found in one.encode_batch(list(texts), add_special_tokens=False)]

        return count
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # texts longer than the model reads are what is cut here
    many = AutoTokenizer.from_pretrained(job.model, revision=job.revision, trust_remote_code=False)

    def count_many(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in many(list(texts), add_special_tokens=False)["input_ids"]] if texts else []

    return count_many
