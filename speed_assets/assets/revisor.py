"""The data revisor: the teacher's revisions, a model tuned on them, and the senior's rows after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from resources.ledger.calls import TeacherAnswer
from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.train_stage import train
from speed_assets.assets.writing import WRITTEN, generated, problem_counts, truth
from speed_assets.domain.answers import CUT_OFF
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.parsing import Revision, parse_revision, words_stand_in
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.records import canonical_revision
from speed_assets.domain.revising import (
    Revised,
    RevisedRows,
    draft_of_row,
    keeps_a_text_of_draft,
    repeat_rarer_kind,
    revise,
    revise_rows,
    without_unchanged_fields,
)
from speed_assets.domain.row_languages import language_columns
from speed_assets.domain.rows import parse_outputs, problem_or_refusal, refusal_or_detail
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import RevisedData, RevisionData, Revisor, Sampling


def revision_data(run: StageRun[RevisionData]) -> dict[str, Any]:
    """What the teacher says of the junior's first candidates: a patch, or nothing to mend."""
    section = run.section
    drafts = (
        run.input("junior_data").table().filter(pl.col("candidate") == 0).head(getattr(section.rows, run.task_type))
    )
    texts, answers, revisions, use = ask_for_revisions(run, drafts, section.sampling)
    rows = drafts.select("row_id", "task_type").with_columns(
        pl.Series("prompt", texts, dtype=pl.String),
        pl.Series("output", [canonical_revision(r.reason, r.changes) for r in revisions], dtype=pl.String),
        pl.Series("raw", [a.text for a in answers], dtype=pl.String),
        pl.Series("mended", [bool(r.changes) for r in revisions], dtype=pl.Boolean),
        pl.Series("problem", [r.problem for r in revisions], dtype=pl.String),
        pl.Series("refused", [a.error for a in answers], dtype=pl.String),
    )
    rows = rows.with_columns(problem=problem_or_refusal(pl.col("problem")))
    good, bad = rows.filter(pl.col("problem").is_null()), rows.filter(pl.col("problem").is_not_null())
    run.write(good.drop("raw", "problem", "refused"))
    run.quarantine(bad, pl.col("problem"), refusal_or_detail("the answer cannot be read as a revision"), pl.col("raw"))
    return {
        "asked": drafts.height,
        "mended": int(good["mended"].sum()),
        "problems": problem_counts(bad),
        **use.metadata(),
    }


def ask_for_revisions(
    run: StageRun[Any], rows: pl.DataFrame, sampling: Sampling
) -> tuple[list[str], list[TeacherAnswer], list[Revision], TeacherUse]:
    """Let the teacher read rows and correct them.

    Args:
        run: the stage that asks.
        rows: row_id, task, prompt, query, positive, negative; `output` is what an invalid row is read from.
        sampling: how answers are drawn.

    Returns:
        In the order of the rows: prompts, answers, and what each answer says as a revision without unchanged fields;
        then what the answers took.
    """
    texts = [
        run.prompts.revise(run.task_type, row["task"], draft_of_row(run.task_type, row), row["prompt"])
        for row in rows.iter_rows(named=True)
    ]
    limits = revision_limits(run, sampling, rows["row_id"])
    answers, use = run.ask(texts, sampling, schema_for("revise", run.task_type), limits=limits)
    revisions = [
        without_unchanged_fields(
            parse_revision(run.task_type, answer.text, answer.finished), TASK_TYPES[run.task_type].record(row)
        )
        for answer, row in zip(answers, rows.iter_rows(named=True), strict=True)
    ]
    return texts, answers, revisions, use


def revision_limits(run: StageRun[Any], sampling: Sampling, row_ids: Iterable[str]) -> list[int]:
    """Tokens that a revision of each row may have: at most all of the record that its prompt asked for, and a reason."""
    lengths = run.recipe.answers.lengths()
    drawn = (draw_attributes(run.task_type, seed_for(run.recipe.seed, "attributes", row_id)) for row_id in row_ids)
    return run.limits(sampling, [lengths.words("revise", run.task_type, attributes) for attributes in drawn])


def revisor_model(run: StageRun[Revisor]) -> dict[str, Any]:
    """Supervised fine-tuning of the unaligned base on the teacher's revisions, mending and leaving alone in balance."""
    section = run.section
    rows = repeat_rarer_kind(run.input_rows("revision_data"), section.mended_share, section.repeats_max)
    rows = rows.select("prompt", pl.col("output").alias("completion"))
    return train(run, "sft", rows, section, answer_tokens=run.most_answer_tokens("revise"))


def revised_data(run: StageRun[RevisedData]) -> dict[str, Any]:
    """The revisor reads every row and mends it, as often as the recipe says; `doubt` is what it still finds wrong.

    A revision that would spoil a row is not taken, and one that cannot be read changes nothing.
    """
    section, prompts = run.section, run.prompts
    written = run.input("senior_data").table()
    drafts = [
        draft_of_row(run.task_type, row)
        for row in written.select("query", "positive", "negative", "output").iter_rows(named=True)
    ]
    limits = pl.Series("max_new_tokens", revision_limits(run, section.sampling, written["row_id"]), dtype=pl.Int64)
    generations: list[dict[str, Any]] = []

    def read(reading: int, rows: list[int], records: list[str]) -> list[Revised]:
        asked = written.select("row_id", "candidate", "task", "prompt")[rows]
        asks = zip(asked["task"], records, asked["prompt"], strict=True)
        texts = [prompts.revise(run.task_type, *ask) for ask in asks]
        requests = asked.with_columns(pl.Series("prompt", texts, dtype=pl.String), limits[rows])
        schema = schema_for("revise", run.task_type)
        answers, made = generated(run, "revisor_model", requests, section.sampling, schema, f"reading_{reading}")
        generations.append({**made, "output_tokens": int(answers["output_tokens"].sum())})
        replies = zip(records, answers["output"], answers["finished"], strict=True)
        return [revise(run.task_type, record, answer or "", finished) for record, answer, finished in replies]

    mended = revise_rows(drafts, section.readings, read)
    revised = _as_revised(run.task_type, written, drafts, mended)
    good, bad = revised.filter("valid"), revised.filter(~pl.col("valid"))
    run.write(good.select(*WRITTEN, "valid", "changed", "before", "reason", "doubt", *language_columns(good)))
    run.quarantine(bad, pl.col("problem"), _why_invalid(), pl.col("written"))
    counted = ("generated_rows", "known_rows", "output_tokens")
    asked, unreadable = (sum(reading[name] for reading in mended.readings) for name in ("rows", "unreadable"))
    return {
        "asked": written.height,
        "changed": int(good["changed"].sum()),
        "doubted": int(good["doubt"].is_not_null().sum()),
        "revisions": asked,
        "revisions_unreadable": unreadable,
        "revision_problems": mended.problems,
        "revisions_not_taken": sum(reading["not_taken"] for reading in mended.readings),
        "readings": mended.readings,
        **_labels_not_named(good, run.task_type),
        "generation": generations[0]["generation"],
        **{name: sum(made[name] for made in generations) for name in counted},
        **truth(run, good, written.height),
    }


def _as_revised(task_type: str, written: pl.DataFrame, drafts: list[str], mended: RevisedRows) -> pl.DataFrame:
    """The rows as the revisor left them, parsed, with the draft of each (`before`) and the revisor's reason."""
    # A draft that was cut off stays invalid, however complete it looks, unless the revisor wrote all of it again.
    changed = pl.Series("changed", [a != b for a, b in zip(mended.records, drafts, strict=True)], dtype=pl.Boolean)
    cut = [
        problem == CUT_OFF and keeps_a_text_of_draft(task_type, draft, record)
        for problem, draft, record in zip(written["problem"], drafts, mended.records, strict=True)
    ]
    rows = written.drop("query", "positive", "negative", "valid", "problem").with_columns(
        pl.col("output").alias("written"),
        pl.Series("before", drafts, dtype=pl.String),
        pl.Series("output", mended.records, dtype=pl.String),
        changed,
        pl.Series("reason", mended.reasons, dtype=pl.String),
        pl.Series("doubt", mended.doubts, dtype=pl.String),
        pl.Series("finished", [False if one else None for one in cut], dtype=pl.Boolean),
        pl.Series("readable", mended.readable, dtype=pl.Boolean),
    )
    if field := TASK_TYPES[task_type].passage:
        rows = rows.with_columns(passage=written[field])
    return parse_outputs(rows, task_type)


def _why_invalid() -> pl.Expr:
    """What the revisor did about a row (readable, doubt, changed, reason) that is still no complete record."""
    no_reason = pl.col("reason").fill_null("no reason given")
    return (
        pl.when(~pl.col("readable"))
        .then(pl.lit("not whole, and no revision of it could be read"))
        .when(pl.col("doubt").is_not_null())
        .then(pl.lit("not whole, and its revision was not taken: ") + pl.col("doubt"))
        .when("changed")
        .then(pl.lit("not whole even as the revisor changed it: ") + no_reason)
        .otherwise(pl.lit("not whole, and the revisor left it so: ") + no_reason)
    )


def _labels_not_named(rows: pl.DataFrame, task_type: str) -> dict[str, Any]:
    """How many rows have a label that their task does not name: near-synonyms of one class are negatives of each other."""
    if not TASK_TYPES[task_type].labels:
        return {}
    labels = zip(rows["positive"], rows["task"], strict=True)
    return {"label_not_named": sum(not words_stand_in(label, task, 1) for label, task in labels)}
