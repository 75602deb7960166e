"""Answers to the user's real queries: passages that retrievers find and the teacher judges to answer them.

Belongs here: which queries are searched for, and which passage becomes the positive. Not here: searching and judging (`pools.py`),
what examples are used for (`examples.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from speed_assets.assets.pools import JUDGED, Pools, Searched, unreadable
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.few_shot import query_kind
from speed_assets.domain.fingerprints import short_id
from speed_assets.domain.graph import PASSAGES
from speed_assets.domain.grounded import WORDINGS
from speed_assets.domain.pooling import pool_counts, retriever_counts
from speed_assets.recipe import Examples

NO_JUDGEMENT = pl.DataFrame(schema=JUDGED)


def with_answers(run: StageRun[Examples], rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """The examples of one task type, those without a positive with the passage that answers them, if one does.

    Of several passages that answer a query the one becomes the positive that a retriever ranks highest. Passages of documents that are
    held out are not searched.

    Args:
        run: of the stage.
        rows: query, positive, reason (null for rows that are used).

    Returns:
        The rows; the pairs whose verdicts cannot be read (columns of `JUDGED`); what is to be reported.
    """
    section = run.section.answers
    assert section is not None
    open_ = rows.filter(pl.col("reason").is_null() & pl.col("positive").is_null() & pl.col("query").is_not_null())
    texts = open_["query"].unique(maintain_order=True).head(section.queries_max).to_list()
    if not texts:
        return rows, NO_JUDGEMENT, {}
    queries = pl.DataFrame(
        [(short_id("own query", text), WORDINGS[query_kind(text)].task, text) for text in texts],
        schema=dict.fromkeys(("row_id", "task", "query"), pl.String),
        orient="row",
    )
    passages = run.input_rows(PASSAGES).filter(~pl.col("held_out")).select("passage_id", "text")
    nothing = pl.DataFrame(schema=dict.fromkeys(("row_id", "passage_id"), pl.String))
    judged, use = Pools(run, section).judge(Searched("answers", queries, passages, nothing), nothing)
    best = (
        judged.filter("relevant")
        .sort("rank", maintain_order=True)
        .unique("row_id", keep="first", maintain_order=True)
        .join(queries, on="row_id")
        .join(passages, on="passage_id")
        .select("query", answer="text")
    )
    answered = rows.join(best, on="query", how="left", maintain_order="left").with_columns(
        positive=pl.when(pl.col("reason").is_null()).then(pl.coalesce("positive", "answer")).otherwise("positive")
    )
    unread = unreadable(judged)
    about = {
        "answers": [{"queries": len(texts), "answered": best.height, **pool_counts(judged, len(texts))}],
        "retrievers": retriever_counts(judged, section.retrievers()),
        **(use.metadata() if use else {}),
    }
    return answered.drop("answer"), unread, about
