"""An evaluation set from the user's own documents: queries of the teacher for passages of documents that nothing is trained on.

Belongs here: asking for the queries, and gathering the user's sets. Not here: pooling and BEIR's layout (`own_sets.py`), queries that
the user has judged (`own_queries.py`), scoring (`embedding.py`), which documents are held out (`corpus.py`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.own_queries import judged_set
from speed_assets.assets.own_sets import GRADES, JUDGEMENTS, OwnSet, pooled, reports, without_answer
from speed_assets.assets.pools import Pools
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.writing import asked_again, asking_of, problem_counts
from speed_assets.domain.evaluation_folders import OWN_SETS
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.graph import PASSAGES
from speed_assets.domain.grounded import grounded_rows
from speed_assets.domain.grounded_rules import UNSPECIFIC, is_copied, is_unspecific
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.row_languages import Languages, language_columns
from speed_assets.domain.rows import (
    ask_until_valid,
    cut_off_attempts,
    parse_outputs,
    problem_or_refusal,
    quarantined,
    refusal_or_detail,
)
from speed_assets.domain.task_types import GROUNDED
from speed_assets.recipe import OwnEvaluation, RecipeError

FOLDER = OWN_SETS[0]
"""Folder of the artifact with the teacher's queries in BEIR's layout, and what scores call the set."""
TABLE = "judgements"
"""Table of which passage answers which query, and who says so; where the recipe pools, or has judged queries."""


def own_evaluation(run: StageRun[OwnEvaluation]) -> dict[str, Any]:
    """Queries for held-out passages, one each, to be found among all of them, so other documents leave the set as it is; and queries
    that the user has judged, in a set of their own. Where the recipe pools, what retrievers find for them is judged.

    A query that copies its passage, that two passages have, or that nothing answers is in the quarantine.

    Raises:
        RecipeError: no document is held out, or the judged queries cannot be used.
    """
    section = run.section
    sets: list[OwnSet] = []
    about: dict[str, Any] = {}
    if section.rows:
        written, about = _written(run)
        sets.append(written)
    if section.queries is not None:
        judged, notes = judged_set(run)
        sets.append(judged)
        about |= notes
    if section.pooled is not None:
        pools = Pools(run, section.pooled)
        sets = [pooled(one, pools) for one in sets]
    else:
        sets = [without_answer(one) for one in sets]
    run.write(pl.concat([one.rows() for one in sets], how="diagonal"))
    run.write(pl.concat([one.rejected for one in sets]), "quarantine")
    for one in sets:
        one.write(run.out)
    if section.pooled is not None or section.queries is not None:
        run.write(pl.concat([one.judgements() for one in sets]).select(JUDGEMENTS), TABLE)
        about |= reports(sets, section.pooled.retrievers() if section.pooled else ())
    uses = [use for one in sets for use in one.use]
    return {
        "asked": sum(one.asked for one in sets),
        **about,
        **(sum(uses[1:], start=uses[0]).metadata() if uses else {}),
    }


def _written(run: StageRun[OwnEvaluation]) -> tuple[OwnSet, dict[str, Any]]:
    """The teacher's queries for held-out passages, and what is to be reported of asking. Raises RecipeError."""
    section = run.section
    held_out = run.input_rows(PASSAGES).filter("held_out")
    if held_out.is_empty():
        raise RecipeError("own_evaluation: no document is held out: raise corpus.held_out, or remove own_evaluation")
    seed = seed_for(run.recipe.seed, "own evaluation") % 2**31
    asking = asking_of(run, GROUNDED, min(section.rows, held_out.height), seed)
    asked = grounded_rows(held_out, asking, run.recipe.queries.drawn())
    used: list[TeacherUse] = []

    def ask(attempt: int, pending: pl.DataFrame) -> pl.DataFrame:
        answered, use = _answered(run, asked, attempt, pending)
        used.append(use)
        parsed = parse_outputs(answered, GROUNDED).with_columns(problem=problem_or_refusal(pl.col("problem")))
        return _usable(parsed, section.copied_words_min, run.languages)

    rows, again = ask_until_valid(asked, section.attempts, ask)
    rows = rows.with_columns(
        problem=pl.when(pl.col("valid") & ~pl.col("query").str.to_lowercase().is_first_distinct())
        .then(pl.lit("same_query"))
        .otherwise("problem")
    ).with_columns(valid=pl.col("problem").is_null())
    good, bad = rows.filter("valid"), rows.filter(~pl.col("valid"))
    detail = refusal_or_detail("no usable query")
    grades = good.select("row_id", passage_id="task_id", grade=pl.lit(1, pl.Int64), source=pl.lit("written"))
    found = OwnSet(
        FOLDER,
        held_out.select("passage_id", "text"),
        good.select("row_id", "task", "query", *language_columns(good)),
        grades.select(*GRADES),
        asked.height,
        quarantined(bad, run.stage.name, run.partition, pl.col("problem"), detail, pl.col("output")),
        use=tuple(used),
        languages=run.languages.codes if run.languages else (),
    )
    return found, {
        "documents_held_out": held_out["document_id"].n_unique(),
        "corpus_passages": held_out.height,
        "problems": problem_counts(bad),
        "asked_again": again,
    }


def _answered(
    run: StageRun[OwnEvaluation], asked: pl.DataFrame, attempt: int, pending: pl.DataFrame
) -> tuple[pl.DataFrame, TeacherUse]:
    """The teacher's answers to rows that are asked for, for the first time or again."""
    sampling = run.section.sampling
    texts = asked_again(run, pending, attempt)
    limits = run.limits(sampling, pending["words"], cut_off_attempts(pending, attempt))
    answers, use = run.ask(texts, sampling, schema_for("synthesis", GROUNDED), sample=attempt, limits=limits)
    answered = pending.select(asked.columns).with_columns(
        pl.Series("output", [answer.text for answer in answers], dtype=pl.String),
        pl.Series("finished", [answer.finished for answer in answers], dtype=pl.Boolean),
        pl.Series("refused", [answer.error for answer in answers], dtype=pl.String),
    )
    return answered, use


def _usable(parsed: pl.DataFrame, copied_words_min: int, languages: Languages | None) -> pl.DataFrame:
    """Parsed rows, of which those whose query is copied from the passage, or names nothing of it, are no longer valid. A query in another
    language than its passage shares no words with it."""
    apart = parsed["query_language"] != parsed["document_language"] if languages else pl.Series([False] * parsed.height)
    problems = [
        problem
        if not valid
        else "copied_query"
        if is_copied(query, passage, copied_words_min)
        else UNSPECIFIC
        if not translated and is_unspecific(query, passage)
        else None
        for (valid, problem, query, passage), translated in zip(
            parsed.select("valid", "problem", "query", "positive").iter_rows(), apart, strict=True
        )
    ]
    return parsed.with_columns(problem=pl.Series(problems, dtype=pl.String)).with_columns(
        valid=pl.col("problem").is_null()
    )
