"""An evaluation set from the user's own documents: queries of the teacher for passages of documents that nothing is trained on.

Belongs here: asking for the queries, and BEIR's layout. Not here: scoring them (`embedding.py`), which documents are held out
(`passages.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.writing import asked_again, problem_counts
from speed_assets.domain.evaluation_folders import DESCRIPTION
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.graph import PASSAGES
from speed_assets.domain.grounded import grounded_rows
from speed_assets.domain.grounded_rules import UNSPECIFIC, is_unspecific
from speed_assets.domain.language_names import mteb_languages
from speed_assets.domain.parsing import words_stand_in
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, Languages, language_columns
from speed_assets.domain.rows import (
    ask_until_valid,
    cut_off_attempts,
    parse_outputs,
    problem_or_refusal,
    refusal_or_detail,
)
from speed_assets.domain.task_types import GROUNDED
from speed_assets.recipe import OwnEvaluation, RecipeError

FOLDER = "own_evaluation"
"""Folder of the artifact in BEIR's layout, and what scores call the set."""


def own_evaluation(run: StageRun[OwnEvaluation]) -> dict[str, Any]:
    """Queries for held-out passages, one each, to be found among all of them, so other documents leave the set as it is.

    A query that copies its passage, or that two passages have, is in the quarantine.

    Raises:
        RecipeError: no document is held out.
    """
    section = run.section
    held_out = run.input_rows(PASSAGES).filter("held_out")
    if held_out.is_empty():
        raise RecipeError("own_evaluation: no document is held out: raise corpus.held_out, or remove own_evaluation")
    seed = seed_for(run.recipe.seed, "own evaluation") % 2**31
    asked = grounded_rows(
        held_out,
        min(section.rows, held_out.height),
        seed,
        run.stage.name,
        run.prompts,
        run.recipe.answers.lengths(),
        run.recipe.queries.drawn(),
        run.languages,
    )
    used: list[TeacherUse] = []

    def ask(attempt: int, pending: pl.DataFrame) -> pl.DataFrame:
        texts = asked_again(run, pending, attempt)
        limits = run.limits(section.sampling, pending["words"], cut_off_attempts(pending, attempt))
        answers, use = run.ask(
            texts, section.sampling, schema_for("synthesis", GROUNDED), sample=attempt, limits=limits
        )
        used.append(use)
        answered = pending.select(asked.columns).with_columns(
            pl.Series("output", [answer.text for answer in answers], dtype=pl.String),
            pl.Series("finished", [answer.finished for answer in answers], dtype=pl.Boolean),
            pl.Series("refused", [answer.error for answer in answers], dtype=pl.String),
        )
        parsed = parse_outputs(answered, GROUNDED).with_columns(problem=problem_or_refusal(pl.col("problem")))
        return _usable(parsed, section.copied_words_min, run.languages)

    rows, again = ask_until_valid(asked, section.attempts, ask)
    rows = rows.with_columns(
        problem=pl.when(pl.col("valid") & ~pl.col("query").str.to_lowercase().is_first_distinct())
        .then(pl.lit("same_query"))
        .otherwise("problem")
    ).with_columns(valid=pl.col("problem").is_null())
    good, bad = rows.filter("valid"), rows.filter(~pl.col("valid"))
    passage_id = pl.col("task_id").alias("passage_id")
    run.write(good.select("row_id", passage_id, "task", "query", "positive", *language_columns(good)))
    run.quarantine(bad, pl.col("problem"), refusal_or_detail("no usable query"), pl.col("output"))
    if good.height:
        write_beir(run.out / FOLDER, held_out, good, run.languages)
    return {
        "asked": asked.height,
        "documents_held_out": held_out["document_id"].n_unique(),
        "corpus_passages": held_out.height,
        "problems": problem_counts(bad),
        "asked_again": again,
        **sum(used[1:], start=used[0]).metadata(),
    }


def _usable(parsed: pl.DataFrame, copied_words_min: int, languages: Languages | None) -> pl.DataFrame:
    """Parsed rows, of which those whose query is copied from the passage, or names nothing of it, are no longer valid. A query in another
    language than its passage shares no words with it."""
    apart = parsed["query_language"] != parsed["document_language"] if languages else pl.Series([False] * parsed.height)
    problems = [
        problem
        if not valid
        else "copied_query"
        if words_stand_in(query, passage, copied_words_min)
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


def _write_languages(folder: Path, queries: pl.DataFrame, languages: Languages) -> None:
    """Describe a set in BEIR's layout with the languages of its texts, or with the recipe's where none is known."""
    found = {code for name in LANGUAGE_COLUMNS for code in queries[name].drop_nulls()}
    described = {
        "name": folder.name,
        "type": "Retrieval",
        "splits": {"test": "qrels/test.tsv"},
        "corpus": "corpus.jsonl",
        "queries": "queries.jsonl",
        "languages": mteb_languages(found or languages.codes),
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")  # JSON is YAML


def write_beir(folder: Path, passages: pl.DataFrame, queries: pl.DataFrame, languages: Languages | None = None) -> None:
    """A retrieval set in BEIR's layout.

    Args:
        folder: to write into.
        passages: passage_id, text: what is searched.
        queries: row_id, query, task_id: a query and the passage that answers it; and `LANGUAGE_COLUMNS` where there are languages.
        languages: those of the recipe, where it draws any: then the set says them in a `task.yaml`.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = (
        {"_id": one, "title": "", "text": text} for one, text in passages.select("passage_id", "text").iter_rows()
    )
    asked = ({"_id": one, "text": text} for one, text in queries.select("row_id", "query").iter_rows())
    for name, lines in (("corpus", corpus), ("queries", asked)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    judged = "".join(f"{query}\t{passage}\t1\n" for query, passage in queries.select("row_id", "task_id").iter_rows())
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")
    if languages:
        _write_languages(folder, queries, languages)
