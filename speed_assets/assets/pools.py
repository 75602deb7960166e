"""What retrievers find for a stage's queries, and the teacher's judgements of it.

Belongs here: the worker's job, the questions, verdicts as a table. Not here: what pools and verdicts mean (`domain/pooling.py`),
what judged passages are used for (`own_evaluation.py`, `answered_examples.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from resources.inputs.base_models import resolve_embedder
from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.embedding_jobs import untrained_model
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.parsing import parse_relevance
from speed_assets.domain.pooling import UNREADABLE, Reading, agreed, drawn_at_random, pool_of
from speed_assets.domain.prompts import relevance_prompt, relevance_schema
from speed_assets.domain.rows import quarantined
from speed_assets.domain.task_types import GROUNDED
from speed_assets.recipe import Pooled

JUDGED: dict[str, Any] = {
    "row_id": pl.String,
    "passage_id": pl.String,
    "retrievers": pl.String,
    "rank": pl.Int64,
    "relevant": pl.Boolean,
    "problem": pl.String,
    "known": pl.List(pl.Boolean),
    "raw": pl.String,
}
"""Columns of judged passages: `relevant` is null where the two orders disagree or a verdict cannot be read, which `problem` says;
`known` is what the verdicts say of the passage that was shown next to it, and `raw` both answers."""


@dataclass(frozen=True)
class Searched:
    """Queries and the passages among which their answers are."""

    name: str
    """Of the set: its jobs and messages have it."""
    queries: pl.DataFrame
    """row_id, task, query."""
    passages: pl.DataFrame
    """passage_id, text."""
    known: pl.DataFrame
    """row_id, passage_id of passages whose relevance is known; the first of a query that answers it is shown next to others."""


class Pools:
    """Searching and judging for one stage.

    Args:
        run: the stage; its unfingerprinted sections are `runtime` and `embedding_model`.
        section: which retrievers, and how many results of each.
    """

    def __init__(self, run: StageRun[Any], section: Pooled) -> None:
        self._run, self._section = run, section
        folder = run.scratch / "pools"
        folder.mkdir(parents=True, exist_ok=True)
        self._models: list[dict[str, Any]] = []
        if section.untrained:
            # Its digest is in the fingerprint (`untrained_base`), the section's other fields say how it is trained.
            settings = run.unfingerprinted.embedding_model
            self._models.append({"name": "untrained", "path": str(untrained_model(run, folder, settings))})
        for model in section.models:
            found = resolve_embedder(model)
            self._models.append({"name": model.model, "path": found.pop("model"), **found})

    def judge(self, searched: Searched, anchors: pl.DataFrame) -> tuple[pl.DataFrame, TeacherUse | None]:
        """The pool of each query, judged.

        Args:
            searched: what is searched for, and in what.
            anchors: row_id, passage_id of the passage that is shown next to those judged; a query without one gets a passage
                drawn at random.

        Returns:
            A table with the columns of `JUDGED`, and what the teacher was asked; None where there was nothing to ask.
        """
        pool = pool_of(self._retrieved(searched), searched.known)
        if pool.is_empty():
            return pl.DataFrame(schema=JUDGED), None
        pool = pool.with_columns(next_to=self._next_to(pool, searched, anchors)).drop_nulls("next_to")
        query_of = dict(searched.queries.select("row_id", "query").iter_rows())
        text_of = dict(searched.passages.select("passage_id", "text").iter_rows())
        run, sampling = self._run, self._section.sampling
        prompts = []
        for row_id, passage_id, next_to in pool.select("row_id", "passage_id", "next_to").iter_rows():
            both = text_of[next_to], text_of[passage_id]
            prompts += [relevance_prompt(run.prompts, query_of[row_id], *shown) for shown in (both, both[::-1])]
        limits = run.limits(sampling, [run.most_words("judge", "matching_short")] * len(prompts))
        answers, use = run.ask(prompts, sampling, relevance_schema(), limits=limits)
        verdicts = [
            "teacher_refused" if answer.error else parse_relevance(answer.text, answer.finished) for answer in answers
        ]
        readings = [agreed(*pair) for pair in zip(verdicts[::2], verdicts[1::2], strict=True)]
        raw = [f"{one.text}\n{other.text}" for one, other in zip(answers[::2], answers[1::2], strict=True)]
        return _with_readings(pool, readings, raw), use

    def _next_to(self, pool: pl.DataFrame, searched: Searched, anchors: pl.DataFrame) -> pl.Series:
        """The id of the passage that is shown next to each of the pool; null where there is none."""
        found: dict[str, str | None] = dict(anchors.select("row_id", "passage_id").iter_rows())
        ranked = sorted(searched.passages["passage_id"])
        for row_id, passages in pool.group_by("row_id", maintain_order=True).agg("passage_id").iter_rows():
            if row_id not in found:
                found[row_id] = drawn_at_random(row_id, ranked, self._run.recipe.seed, set(passages))
        return pl.Series([found[row_id] for row_id in pool["row_id"]], dtype=pl.String)

    def _retrieved(self, searched: Searched) -> pl.DataFrame:
        from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

        folder = self._run.scratch / f"pool_{searched.name}"
        folder.mkdir(parents=True, exist_ok=True)
        searched.queries.select("row_id", "task", "query").write_parquet(folder / "queries.parquet")
        searched.passages.select("passage_id", "text").write_parquet(folder / "passages.parquet")
        self._run.runner.run(
            "pool_passages",
            jobs.PoolPassages(
                queries=str(folder / "queries.parquet"),
                passages=str(folder / "passages.parquet"),
                out=str(folder / "pool.parquet"),
                depth=self._section.depth,
                bm25=self._section.bm25,
                models=tuple(jobs.Retriever(**model) for model in self._models),
            ).to_json(),
            folder,
            self._run.progress,
        )
        return pl.read_parquet(folder / "pool.parquet")


def _with_readings(pool: pl.DataFrame, readings: list[Reading], raw: list[str]) -> pl.DataFrame:
    return pool.with_columns(
        pl.Series("relevant", [one.relevant for one in readings], dtype=pl.Boolean),
        pl.Series("problem", [one.problem for one in readings], dtype=pl.String),
        pl.Series("known", [list(one.known) for one in readings], dtype=pl.List(pl.Boolean)),
        pl.Series("raw", raw, dtype=pl.String),
    ).select(*JUDGED)


def unreadable(judged: pl.DataFrame) -> pl.DataFrame:
    """The judged passages of which a verdict cannot be read."""
    return judged.filter(pl.col("problem").str.starts_with(UNREADABLE).fill_null(False))


def unreadable_judgements(judged: pl.DataFrame, stage: str) -> pl.DataFrame:
    """Those among judged passages whose verdicts cannot be read, in the format of a quarantine; a row is a query and a passage.

    Args:
        judged: columns of `JUDGED`.
        stage: that rejects them.
    """
    named = unreadable(judged).with_columns(
        row_id=pl.format("{} {}", "row_id", "passage_id"), task_type=pl.lit(GROUNDED)
    )
    detail = pl.col("problem").str.strip_prefix(UNREADABLE)
    return quarantined(named, stage, None, "unreadable_judgement", detail, pl.col("raw"))
