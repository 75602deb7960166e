"""Hard negatives: positives of other rows, or passages of the corpus, that are similar to a query and do not answer it."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from resources.inputs.base_models import resolve_embedder
from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.graph import PASSAGES
from speed_assets.domain.judging import agreed_preference, candidates_in_order, presentation_orders
from speed_assets.domain.parsing import parse_verdict
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import MinedNegatives

OF_ONE_DOCUMENT = 16
"""Passages of the positive's own document that may be nearer than the negatives that are kept (ours)."""
MORE = "more_negatives"
"""Table (row_id, negative, number from 2) of the negatives after the best one, where the recipe asks for several."""


def mined_negatives(run: StageRun[MinedNegatives]) -> dict[str, Any]:
    """Negatives for each row of the task types named that has none: the best one, and in a table of its own those after it.
    Grounded rows get theirs from all passages of other documents that are not held out, other rows from positives of other rows.
    `verdict` is what it passed: `margin`, or `teacher` where it came so near that the teacher was asked which of the two answers the
    query.

    Rows without one are in the quarantine: nothing near enough below the margin (`none_mined`), more doubts than the
    teacher may be asked about (`in_doubt`), or a text that the teacher takes for right, or cannot tell (`false_negative`).
    """
    section = run.section
    rows = run.input("final_triplets").table().filter(pl.col("task_type").is_in(section.task_types))
    rows = rows.filter(pl.col("negative").is_null()).drop("negative")
    candidates = _mined(run, rows)
    nearest = below("positive_similarity", section.doubt_margin)
    best = best_of(candidates, nearest)
    mined = rows.join(best, on="row_id", how="left", maintain_order="left")
    mined = mined.with_columns(
        pl.when(pl.col("negative").is_null())
        .then(pl.lit("none_mined"))
        .when(pl.col("negative_similarity") > nearest)
        .then(pl.lit("in_doubt"))
        .alias("reason")
    )
    doubtful = mined.filter(pl.col("reason") == "in_doubt").sort("row_id").head(section.doubts_max)
    verdicts, use = _ask(run, doubtful)
    mined = mined.join(verdicts, on="row_id", how="left", maintain_order="left").with_columns(
        reason=pl.when(pl.col("worse"))
        .then(None)
        .when(~pl.col("worse"))
        .then(pl.lit("false_negative"))
        .otherwise("reason"),
        verdict=pl.when(pl.col("worse")).then(pl.lit("teacher")).otherwise(pl.lit("margin")),
    )
    good, bad = mined.filter(pl.col("reason").is_null()), mined.filter(pl.col("reason").is_not_null())
    run.write(good.select("row_id", "task_type", "negative", "positive_similarity", "negative_similarity", "verdict"))
    if section.per_row > 1:
        more = good.select("row_id", negative="more").explode("negative").drop_nulls("negative")
        run.write(more.with_columns(number=2 + pl.int_range(pl.len()).over("row_id")), MORE)
    run.quarantine(bad, pl.col("reason"), pl.col("query"), pl.col("negative"))
    return {
        "asked": rows.height,
        "in_doubt": int((mined["negative_similarity"] > mined.select(nearest).to_series()).sum()),
        "reasons": dict(bad["reason"].value_counts(sort=True).iter_rows()),
        **use.metadata(),
    }


def _mined(run: StageRun[MinedNegatives], rows: pl.DataFrame) -> pl.DataFrame:
    """The candidates that the worker finds for each row, the most similar first."""
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    section = run.section
    folder = run.scratch / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    rows.select("row_id", "task_type", "task", "query", "positive").write_parquet(folder / "rows.parquet")
    passages = None
    if PASSAGES in run.inputs:
        passages = run.input_rows(PASSAGES).filter(~pl.col("held_out")).select("text", "document_id")
        passages.select("text").write_parquet(folder / "passages.parquet")
    run.runner.run(
        "mine_negatives",
        jobs.MineNegatives(
            **resolve_embedder(section.embedder),
            rows=str(folder / "rows.parquet"),
            out=str(folder / "mined.parquet"),
            per_row=section.per_row + (0 if passages is None else OF_ONE_DOCUMENT),
            passages=None if passages is None else str(folder / "passages.parquet"),
            rank_min=section.rank_min,
            relative_margin=section.relative_margin,
        ).to_json(),
        folder,
        run.progress,
    )
    mined = pl.read_parquet(folder / "mined.parquet")
    if passages is None:
        return mined
    elsewhere = of_other_documents(
        mined.join(rows.select("row_id", "positive"), on="row_id", maintain_order="left"), passages
    )
    return elsewhere.group_by("row_id", maintain_order=True).head(section.per_row)


def of_other_documents(mined: pl.DataFrame, passages: pl.DataFrame) -> pl.DataFrame:
    """The negatives that are not in a document of their positive: what a document says further on may answer the query as well.

    Args:
        mined: positive, negative, and others.
        passages: text, document_id; a text may be in several.

    Returns:
        The rows without `positive`, in order.
    """
    documents = passages.group_by("text").agg(pl.col("document_id").unique())
    both = mined.join(documents, left_on="positive", right_on="text", how="left", maintain_order="left")
    both = both.join(
        documents, left_on="negative", right_on="text", how="left", suffix="_of_negative", maintain_order="left"
    )
    common = pl.col("document_id").list.set_intersection("document_id_of_negative").list.len()
    return both.filter(common.fill_null(0) == 0).select(pl.all().exclude("positive", "^document_id.*$"))


def below(similarity: str, margin: float) -> pl.Expr:
    """The similarity that is a share of its own size below, also where it is negative.

    Args:
        similarity: column of cosine similarities.
        margin: 0..1, share of the similarity's size.
    """
    value = pl.col(similarity)
    return pl.when(value < 0).then((1 + margin) * value).otherwise((1 - margin) * value)


def best_of(mined: pl.DataFrame, nearest: pl.Expr) -> pl.DataFrame:
    """One row for each row_id: the best negative that is not in doubt, and in `more` the others that are not. Where every one is
    in doubt, the best of those alone.

    Args:
        mined: row_id, negative, positive_similarity, negative_similarity, the best first.
        nearest: similarity above which a negative is in doubt.
    """
    ranked = mined.with_columns(doubted=pl.col("negative_similarity") > nearest).sort("doubted", maintain_order=True)
    return ranked.group_by("row_id", maintain_order=True).agg(
        pl.col("negative").first(),
        pl.col("positive_similarity").first(),
        pl.col("negative_similarity").first(),
        more=pl.col("negative").filter(~pl.col("doubted")).slice(1),
    )


def _ask(run: StageRun[MinedNegatives], rows: pl.DataFrame) -> tuple[pl.DataFrame, TeacherUse]:
    """(row_id, worse): whether the teacher finds the mined text worse than the positive, in both orders."""
    prompts = run.prompts
    pairs = []
    for row in rows.iter_rows(named=True):
        kind = TASK_TYPES[row["task_type"]]
        pairs.append(
            [
                json.dumps(kind.record({"query": row["query"], "positive": text}), ensure_ascii=False)
                for text in (row["positive"], row["negative"])
            ]
        )
    shown = [(place, order) for place in range(rows.height) for order in presentation_orders(2)]
    texts = [
        prompts.judge(rows["task_type"][place], rows["task"][place], candidates_in_order(pairs[place], order))
        for place, order in shown
    ]
    sampling = run.section.sampling
    limits = run.limits(sampling, [run.most_words("judge", "matching_short")] * len(texts))
    answers, use = run.ask(texts, sampling, schema_for("judge", "matching_short", 2), limits=limits)
    verdicts: list[list[Any]] = [[] for _ in pairs]
    for (place, order), answer in zip(shown, answers, strict=True):
        verdicts[place].append((order, parse_verdict(answer.text, 2, answer.finished)))
    preferences = [agreed_preference(pair, verdicts)[0] for pair, verdicts in zip(pairs, verdicts, strict=True)]
    worse = [
        preference is not None and preference.chosen == pair[0]
        for preference, pair in zip(preferences, pairs, strict=True)
    ]
    return rows.select("row_id").with_columns(pl.Series("worse", worse, dtype=pl.Boolean)), use
