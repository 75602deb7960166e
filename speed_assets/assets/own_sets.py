"""Retrieval sets of the user's own as they are made: what is asked, what is searched, which passages answer.

Belongs here: a set's tables, pooling it, BEIR's layout. Not here: where its queries are from (`own_evaluation.py`,
`own_queries.py`), searching and judging (`pools.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.pools import JUDGED, Pools, Searched, unreadable_judgements
from speed_assets.domain.evaluation_folders import DESCRIPTION
from speed_assets.domain.graph import OWN_EVALUATION
from speed_assets.domain.language_names import mteb_languages
from speed_assets.domain.pooling import denied, pool_counts, retriever_counts
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, language_columns
from speed_assets.domain.rows import empty_quarantine, quarantined
from speed_assets.domain.task_types import GROUNDED

GRADES = {"row_id": pl.String, "passage_id": pl.String, "grade": pl.Int64, "source": pl.String}
"""Columns of judgements: `source` is `written` (the query was written for the passage), `user` or `teacher`."""
JUDGEMENTS = (*GRADES, "retrievers", "rank", "problem")
"""Columns of the table `judgements`; `grade` is null where the teacher's two orders disagree or a verdict cannot be read."""


@dataclass(frozen=True)
class OwnSet:
    """One retrieval set."""

    name: str
    """As scores call it."""
    passages: pl.DataFrame
    """passage_id, text: what is searched."""
    queries: pl.DataFrame
    """row_id, task, query; and `LANGUAGE_COLUMNS` where the recipe draws languages."""
    grades: pl.DataFrame
    """Columns of `GRADES`; of equal grades of a query the first one counts most."""
    asked: int
    """Queries, rejected ones among them, and pairs whose verdicts could not be read."""
    rejected: pl.DataFrame = field(default_factory=empty_quarantine)
    judged: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=JUDGED))
    """What the teacher judged."""
    use: tuple[TeacherUse, ...] = ()
    languages: tuple[str, ...] = ()
    """Those that the recipe draws; the set says in a `task.yaml` which its texts have."""

    def answers(self) -> pl.DataFrame:
        """The passage of each query that answers it best: row_id, passage_id."""
        best = self.grades.filter(pl.col("grade") > 0).sort("grade", descending=True, maintain_order=True)
        return best.unique("row_id", keep="first", maintain_order=True).select("row_id", "passage_id")

    def rows(self) -> pl.DataFrame:
        """The queries, each with its best answer: row_id, passage_id, task, query, positive, and languages where there are."""
        texts = self.passages.select("passage_id", positive="text")
        return (
            self.queries.join(self.answers(), on="row_id", how="inner", maintain_order="left")
            .join(texts, on="passage_id", how="left", maintain_order="left")
            .select("row_id", "passage_id", "task", "query", "positive", *language_columns(self.queries))
        )

    def judgements(self) -> pl.DataFrame:
        """Every judgement, and the teacher's on which its orders do not agree."""
        kept = self.judged.join(self.queries, on="row_id", how="semi", maintain_order="left")
        found = kept.select("row_id", "passage_id", "retrievers", "rank", "problem")
        known = self.grades.join(found, on=["row_id", "passage_id"], how="left", maintain_order="left")
        open_ = found.join(self.grades, on=["row_id", "passage_id"], how="anti", maintain_order="left")
        open_ = open_.with_columns(grade=pl.lit(None, pl.Int64), source=pl.lit("teacher"))
        return pl.concat([known.select(JUDGEMENTS), open_.select(JUDGEMENTS)])

    def without(self, queries: pl.DataFrame, reason: str, detail: str) -> OwnSet:
        """The set without these queries (row_id, query), which are rejected for this reason."""
        kept = pl.col("row_id").is_in(queries["row_id"].implode()).not_()
        gone = queries.with_columns(task_type=pl.lit(GROUNDED))
        rejected = quarantined(gone, OWN_EVALUATION, None, reason, pl.lit(detail), pl.col("query"))
        return replace(
            self,
            queries=self.queries.filter(kept),
            grades=self.grades.filter(kept),
            rejected=pl.concat([self.rejected, rejected]),
        )

    def counts(self) -> dict[str, Any]:
        """What is to be reported of the set, as one row of a table."""
        return {
            "set": self.name,
            "queries": self.queries.height,
            "passages": self.passages.height,
            "answers": self.grades.filter(pl.col("grade") > 0).height,
        }

    def write(self, folder: Path) -> None:
        """The set in BEIR's layout, in a folder of its name; nothing where it has no query."""
        if self.queries.height:
            write_beir(folder / self.name, self.passages, self.queries, self.grades)
            if self.languages:
                _write_languages(folder / self.name, self.queries, self.languages)


def pooled(one: OwnSet, pools: Pools) -> OwnSet:
    """The set after the teacher's judgements of what retrievers find.

    A query that was written for a passage which the teacher denies more often than not to answer it is rejected; where the
    user says that a passage answers, that counts. A pair whose verdicts cannot be read is in the quarantine and not judged.
    """
    known = one.grades.select("row_id", "passage_id")
    judged, use = pools.judge(Searched(one.name, one.queries, one.passages, known), one.answers())
    agreed = judged.drop_nulls("relevant").select(
        "row_id", "passage_id", grade=pl.col("relevant").cast(pl.Int64), source=pl.lit("teacher")
    )
    unread = unreadable_judgements(judged, OWN_EVALUATION)
    found = replace(
        one,
        grades=pl.concat([one.grades, agreed]),
        asked=one.asked + unread.height,
        rejected=pl.concat([one.rejected, unread]),
        judged=judged,
        use=(*one.use, *((use,) if use else ())),
    )
    found = found.without(_denied(one, judged), "not_answered", "the teacher denies that its passage answers it")
    return without_answer(found)


def without_answer(one: OwnSet) -> OwnSet:
    """The set without the queries that no passage is known to answer: each would score 0 for any model."""
    nothing = one.queries.join(one.answers(), on="row_id", how="anti", maintain_order="left")
    return one.without(nothing, "no_answer", "no passage is known to answer it")


def _denied(one: OwnSet, judged: pl.DataFrame) -> pl.DataFrame:
    """The queries that were written for a passage which does not answer them, as the teacher says."""
    verdicts = judged.group_by("row_id", maintain_order=True).agg(pl.col("known").explode().drop_nulls())
    gone = [row_id for row_id, known in verdicts.iter_rows() if denied(known)]
    written = one.grades.filter(source="written")["row_id"]
    return one.queries.filter(pl.col("row_id").is_in(gone) & pl.col("row_id").is_in(written.implode()))


def reports(sets: Sequence[OwnSet], retrievers: Sequence[str]) -> dict[str, Any]:
    """Tables for the page of the asset: a row for each set, and for each retriever."""
    rows = [
        one.counts() | (pool_counts(one.judged, one.judged["row_id"].n_unique()) if retrievers else {}) for one in sets
    ]
    if not retrievers:
        return {"sets": rows}
    return {"sets": rows, "retrievers": retriever_counts(pl.concat([one.judged for one in sets]), retrievers)}


def write_beir(folder: Path, passages: pl.DataFrame, queries: pl.DataFrame, grades: pl.DataFrame) -> None:
    """A retrieval set in BEIR's layout.

    Args:
        folder: to write into.
        passages: passage_id, text: what is searched.
        queries: row_id, query.
        grades: row_id, passage_id, grade: 0 is not relevant.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = (
        {"_id": one, "title": "", "text": text} for one, text in passages.select("passage_id", "text").iter_rows()
    )
    asked = ({"_id": one, "text": text} for one, text in queries.select("row_id", "query").iter_rows())
    for name, lines in (("corpus", corpus), ("queries", asked)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    judged = "".join(
        f"{query}\t{passage}\t{grade}\n"
        for query, passage, grade in grades.select("row_id", "passage_id", "grade").iter_rows()
    )
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")


def _write_languages(folder: Path, queries: pl.DataFrame, languages: Sequence[str]) -> None:
    """Describe a set in BEIR's layout with the languages of its texts, or with the recipe's where none is known."""
    found = {code for name in LANGUAGE_COLUMNS for code in queries[name].drop_nulls()}
    described = {
        "name": folder.name,
        "type": "Retrieval",
        "splits": {"test": "qrels/test.tsv"},
        "corpus": "corpus.jsonl",
        "queries": "queries.jsonl",
        "languages": mteb_languages(found or languages),
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")  # JSON is YAML
