"""Tables in which no check finds a fault, one for every asset.

Belongs here: rows. Not here: artifacts (`shelf.py`), faults.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from speed_assets.domain.rows import QUARANTINE_SCHEMA
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES

ROWS = 10


SAMPLES = 40
"""Samples of each score."""


def written(task_type: str, rows: int = ROWS) -> pl.DataFrame:
    """Rows of seed_data."""
    number = pl.int_range(rows).cast(pl.String)
    negative = pl.concat_str(pl.lit("negative "), number) if TASK_TYPES[task_type].has_negative else pl.lit(None)
    return pl.select(
        row_id=pl.concat_str(pl.lit(f"{task_type}-row"), number),
        task_id=pl.concat_str(pl.lit("task"), number),
        task_type=pl.lit(task_type),
        topic=pl.lit("violins"),
        task=pl.lit("cost of violins"),
        prompt=pl.lit("write"),
        output=pl.lit("{}"),
        query=pl.concat_str(pl.lit("query "), number),
        positive=pl.concat_str(pl.lit("positive "), number),
        negative=negative.cast(pl.String),
    )


def generated(task_type: str) -> pl.DataFrame:
    """Rows of senior_data, the last one of them not whole."""
    whole = pl.int_range(ROWS) < ROWS - 1
    return written(task_type).with_columns(
        positive=pl.when(whole).then("positive"),
        candidate=pl.lit(0, pl.Int64),
        prompt_tokens=pl.lit(3, pl.Int64),
        output_tokens=pl.lit(5, pl.Int64),
        valid=whole,
        problem=pl.when(~whole).then(pl.lit("missing_key:positive_document")),
    )


def _good_topics(_kind: str) -> pl.DataFrame:
    number = pl.int_range(ROWS).cast(pl.String)
    return pl.select(
        topic_id=pl.concat_str(pl.lit("topic"), number),
        path=pl.lit("Arts/Violins"),
        topic=pl.lit("violins"),
        line=pl.int_range(1, ROWS + 1),
        synthesis=pl.lit(True),
        alignment=pl.lit(False),
    )


def _good_task_list(kind: str) -> pl.DataFrame:
    return written(kind).select(
        "task_id",
        pl.col("task_id").alias("topic_id"),
        "topic",
        "task_type",
        "task",
        synthesis=pl.lit(True),
        alignment=pl.lit(False),
    )


def _good_junior_data(kind: str) -> pl.DataFrame:
    row_id = pl.concat_str(pl.lit(f"{kind}-row"), (pl.int_range(ROWS) // 2).cast(pl.String))
    return generated(kind).with_columns(row_id=row_id, candidate=pl.int_range(ROWS) % 2)


def _good_senior_data(kind: str) -> pl.DataFrame:
    return generated(kind)


def _good_preference_pairs(kind: str) -> pl.DataFrame:
    return (
        written(kind)
        .head(4)
        .select(
            "row_id",
            "task_type",
            "prompt",
            chosen=pl.lit("good"),
            rejected=pl.lit("bad"),
            margin=pl.lit(1.0),
            verdicts=pl.lit(2, pl.Int64),
            judge_model=pl.lit("microworld"),
        )
    )


def _good_revision_data(kind: str) -> pl.DataFrame:
    return written(kind).head(5).select("row_id", "task_type", "prompt", "output", mended=pl.int_range(5) % 2 == 0)


def _good_revised_data(kind: str) -> pl.DataFrame:
    return written(kind).with_columns(
        valid=pl.lit(True),
        changed=pl.lit(False),
        before=pl.lit("{}"),
        reason=pl.lit(None, pl.String),
        doubt=pl.lit(None, pl.String),
    )


def _good_row_scores(kind: str) -> pl.DataFrame:
    return written(kind).select(
        "row_id",
        "task_type",
        least_likely=pl.lit(-2.0),
        swapped=pl.lit(-9.0),
        role=pl.lit(0.9),
        margin=pl.lit(None, pl.Float64),
        positive_similarity=pl.lit(0.8),
        negative_similarity=pl.lit(0.4),
        evaluation_similarity=pl.lit(None, pl.Float64),
        evaluation=pl.lit(None, pl.String),
    )


def _good_row_verdicts(kind: str) -> pl.DataFrame:
    return written(kind).select(
        "row_id",
        "task_type",
        place=pl.int_range(ROWS),
        weight=pl.lit(2.5),
        faulty=pl.int_range(ROWS) % 2 == 0,
        reason=pl.lit(None, pl.String),
    )


def _good_mined_negatives(kind: str) -> pl.DataFrame:
    return written(kind).select(
        "row_id",
        "task_type",
        negative=pl.lit("another"),
        positive_similarity=pl.lit(0.8),
        negative_similarity=pl.lit(0.6),
        verdict=pl.lit("margin"),
    )


def _good_reranker_scores(kind: str) -> pl.DataFrame:
    return written(kind).select(
        "row_id",
        "task_type",
        number=pl.lit(1, pl.Int64),
        positive_score=pl.lit(6.5),
        negative_score=pl.lit(-2.25),
    )


def _good_final_triplets(_kind: str) -> pl.DataFrame:
    rows = pl.concat([written(name, 2) for name in TOPIC_TYPES])
    return rows.select("row_id", "task_type", "topic", "task", "query", "positive", "negative")


def _good_quarantine(kind: str) -> pl.DataFrame:
    return (
        written(kind)
        .select(
            "row_id",
            "task_type",
            stage=pl.lit("seed_data"),
            reason=pl.lit("not_json"),
            detail=pl.lit(None, pl.String),
            raw=pl.lit(""),
        )
        .select(*QUARANTINE_SCHEMA)
    )


def _good_mteb_scores(_kind: str) -> pl.DataFrame:
    scores = {"embedding_model": 0.7, "untrained": 0.4, "seed_data only": 0.6, "bm25": 0.5}
    return pl.DataFrame(
        [
            {
                "model": model,
                "task": task,
                "type": task,
                "metric": "main",
                "score": score,
                "samples": SAMPLES,
                **dict.fromkeys(("model_digest", "dataset_revision", "mteb"), "1"),
                **dict.fromkeys(("sentence_transformers", "transformers", "dtype", "instruction"), "1"),
            }
            for model, score in scores.items()
            for task in ("Retrieval", "STS")
        ]
    )


def _good_passages(kind: str) -> pl.DataFrame:
    ids = written(kind).select(passage_id="row_id")
    number = pl.int_range(pl.len()).cast(pl.Int64)
    return ids.select(
        "passage_id",
        document_id=pl.lit("manual.md"),
        file=pl.lit("manual.md"),
        title=pl.lit("Manual"),
        date=pl.lit(None, pl.String),
        piece=number,
        text=pl.lit("Manual\nText number ") + number.cast(pl.String),
        tokens=number + 20,
        held_out=pl.lit(False),
        synthesis=pl.lit(True),
        alignment=pl.lit(True),
    )


def _good_own_evaluation(kind: str) -> pl.DataFrame:
    return (
        written(kind)
        .select("row_id", "task", "query", "positive", passage_id="task_id")
        .select("row_id", "passage_id", "task", "query", "positive")
    )


def _good_examples(kind: str) -> pl.DataFrame:
    columns = ("row_id", "task_type", "query", "positive", "negative", "task")
    return written(kind).select(*columns).with_columns(complete=pl.lit(True))


_GOOD_TABLES: dict[str, Callable[[str], pl.DataFrame]] = {
    "topics": _good_topics,
    "topic_tree": _good_topics,
    "passages": _good_passages,
    "own_evaluation": _good_own_evaluation,
    "examples": _good_examples,
    "task_list": _good_task_list,
    "junior_data": _good_junior_data,
    "senior_data": _good_senior_data,
    "preference_pairs": _good_preference_pairs,
    "revision_data": _good_revision_data,
    "revised_data": _good_revised_data,
    "row_scores": _good_row_scores,
    "row_verdicts": _good_row_verdicts,
    "mined_negatives": _good_mined_negatives,
    "reranker_scores": _good_reranker_scores,
    "final_triplets": _good_final_triplets,
    "quarantine": _good_quarantine,
    "mteb_scores": _good_mteb_scores,
}


def good_table(asset: str, task_type: str | None) -> pl.DataFrame:
    """A table of the asset in which every check finds nothing."""
    return _GOOD_TABLES.get(asset, written)(task_type or "retrieval")


def good_samples(scores: pl.DataFrame) -> pl.DataFrame:
    """Samples with these means, as hard for every model."""
    spread = np.linspace(-0.1, 0.1, SAMPLES)
    rows = [
        {"model": row["model"], "task": row["task"], "part": "test/default", "statistic": "mean", "sample": str(number)}
        | {"score": row["score"] + hard * (1 + 0.1 * len(row["model"])), "predicted": None, "gold": None}
        for row in scores.iter_rows(named=True)
        for number, hard in enumerate(spread)
    ]
    numbers = dict.fromkeys(("score", "predicted", "gold"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=numbers, infer_schema_length=None)
