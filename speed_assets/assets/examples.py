"""The user's own examples: read, checked, as rows of `seed_data`, in prompts, and kept out of releases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from resources.inputs.example_files import complete_fields, problem_of_record, read_examples, refusals
from speed_assets.assets.answered_examples import NO_JUDGEMENT, with_answers
from speed_assets.assets.pools import unreadable_judgements
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.writing import WRITTEN
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.few_shot import drawn_examples, example_text, query_kind, with_examples
from speed_assets.domain.fingerprints import digest, seed_for, short_id
from speed_assets.domain.graph import EXAMPLES
from speed_assets.domain.grounded import ANYONE, WORDINGS
from speed_assets.domain.language import most_likely_language
from speed_assets.domain.records import canonical_record
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, Drawn, Languages, drawn_languages, language_columns
from speed_assets.domain.rows import quarantined
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES
from speed_assets.recipe import Examples, Licences, SeedData

OWN = "own examples"
"""Topic of rows that are the user's own examples."""


def examples(run: StageRun[Examples]) -> dict[str, Any]:
    """The examples of one task type. `complete` marks those that have every field of it and pass as a record.

    Rows without a text, of an unknown task type, that repeat another, or whose texts are no record are in the quarantine.
    """
    section = run.section
    rows = read_examples(section).with_columns(pl.col("task_type").fill_null(section.task_type))
    checked = refusals(rows)
    # A row of no task type belongs to none of the tables: that of the default type reports it.
    mine = checked.filter(
        (pl.col("task_type") == run.task_type)
        | ((pl.col("reason") == "unknown_task_type") & (section.task_type == run.task_type))
    )
    about: dict[str, Any] = {}
    unread = NO_JUDGEMENT
    if section.answers is not None and run.task_type == GROUNDED:
        mine, unread, about = with_answers(run, mine)
    problems = [
        problem_of_record(run.task_type, row) if row["reason"] is None else None for row in mine.iter_rows(named=True)
    ]
    mine = mine.with_columns(pl.Series("problem", problems, dtype=pl.String)).with_columns(
        complete=pl.all_horizontal(pl.col(field).is_not_null() for field in complete_fields(run.task_type)),
        reason=pl.coalesce("reason", "problem"),
        row_id=pl.Series(
            [
                short_id(
                    EXAMPLES, *(row[field] or "" for field in ("task_type", "query", "positive", "negative", "task"))
                )
                for row in mine.iter_rows(named=True)
            ],
            dtype=pl.String,
        ),
    )
    good, bad = mine.filter(pl.col("reason").is_null()), mine.filter(pl.col("reason").is_not_null())
    run.write(
        good.select(
            "row_id", pl.lit(run.task_type).alias("task_type"), "query", "positive", "negative", "task", "complete"
        )
    )
    raw = pl.concat_str([pl.col(field).fill_null("") for field in ("query", "positive", "negative")], separator=" | ")
    numbered = bad.with_columns(row_id=pl.format("row {}", "line"))
    detail = pl.coalesce("problem", "detail")
    rejected = quarantined(numbered, run.stage.name, run.partition, pl.col("reason"), detail, raw)
    run.write(pl.concat([rejected, unreadable_judgements(unread, run.stage.name)]), "quarantine")
    return {
        "asked": mine.height + unread.height,
        "complete": int(good["complete"].sum()),
        "reasons": dict(bad["reason"].value_counts(sort=True).iter_rows()),
        **about,
    }


def seed_rows(run: StageRun[SeedData], wanted: int) -> pl.DataFrame:
    """The examples that stand in for rows of seed_data, as such rows: at most `wanted`, chosen by a hash.

    Their prompts are those that a writer would get for such a row, so that the junior learns the row as its answer.
    """
    section: Examples = run.recipe.examples
    most = wanted if section.seed_rows is None else min(wanted, section.seed_rows)
    complete = run.input(EXAMPLES).table().filter("complete")
    keys = [digest([run.recipe.seed, "own seed rows", one]) for one in complete["row_id"]]
    chosen = complete.with_columns(pl.Series("key", keys, dtype=pl.String)).sort("key").head(most).sort("row_id")
    if run.languages:
        chosen = _with_languages(chosen, run.task_type, run.languages)
    rows = [_as_written(run, row, section) for row in chosen.iter_rows(named=True)]
    return pl.DataFrame(rows, schema=dict.fromkeys((*WRITTEN, *language_columns(chosen)), pl.String))


def _with_languages(rows: pl.DataFrame, task_type: str, languages: Languages) -> pl.DataFrame:
    """Examples with the languages that their texts are in; null where a text is too short to tell, and of labels."""
    kind = TASK_TYPES[task_type]
    unknown = pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    found = [most_likely_language(rows[field], languages.codes) for field in ("query", "positive")]
    columns = dict(zip(LANGUAGE_COLUMNS, (found[0], unknown if kind.labels else found[1]), strict=True))
    return rows.with_columns(**columns)


def _as_written(run: StageRun[SeedData], row: dict[str, Any], section: Examples) -> dict[str, Any]:
    kind = TASK_TYPES[run.task_type]
    said = _languages_said(run, row)
    if kind.passage == "query":
        tasks = _tasks_of_given_texts(run)
        task = row["task"] or tasks[seed_for(run.recipe.seed, "task of example", row["row_id"]) % len(tasks)]
        attributes = draw_attributes(run.task_type, seed_for(run.recipe.seed, "attributes", row["row_id"]))
        prompt = run.prompts.from_passage(run.task_type, task, row["query"], attributes, said)
    elif kind.grounded:
        wording = WORDINGS[query_kind(row["query"])]
        task = row["task"] or wording.task
        personas = run.recipe.queries.personas
        persona = personas[seed_for(run.recipe.seed, "persona", row["row_id"]) % len(personas)] if personas else ANYONE
        prompt = run.prompts.grounded(task, row["positive"], wording.asked, persona, said)
    else:
        task = row["task"] or section.task
        attributes = draw_attributes(run.task_type, seed_for(run.recipe.seed, "attributes", row["row_id"]))
        prompt = run.prompts.synthesis(run.task_type, task, attributes, said)
    return {
        **{name: row[name] for name in ("row_id", "query", "positive")},
        "negative": row["negative"] if kind.takes_negative else None,
        "task_id": row["row_id"],
        "task_type": run.task_type,
        "topic": OWN,
        "task": task,
        "prompt": prompt,
        "output": canonical_record(run.task_type, row),
        **{name: row[name] for name in LANGUAGE_COLUMNS if name in row},
    }


def _tasks_of_given_texts(run: StageRun[SeedData]) -> Sequence[str]:
    """Tasks of an example that names none, whose given text is a passage; that of STS is a topic, and no instruction."""
    texts = run.recipe.grounded_rows.texts()
    by_type = {"grounded_classification": texts.classification_tasks, "grounded_matching_long": texts.matching_tasks}
    return by_type.get(run.task_type, (OWN,))


def _languages_said(run: StageRun[SeedData], row: dict[str, Any]) -> dict[str, str] | None:
    """The languages of an example as its prompt says them: those of its texts, and those drawn for the row where they are not known."""
    if run.languages is None:
        return None
    drawn = drawn_languages(run.languages, run.task_type, run.recipe.seed, row["row_id"])
    return Drawn(row["query_language"] or drawn.query, row["document_language"] or drawn.document).names()


def shown_to_teacher(run: StageRun[SeedData], prompts: list[str], row_ids: pl.Series) -> list[str]:
    """Prompts with the few-shot examples of their rows; as they are where examples may not be sent to this teacher."""
    section: Examples = run.recipe.examples
    if not (section.hosted_teachers or run.recipe.teacher.on_this_machine()):
        return prompts
    rows = run.input(EXAMPLES).table().filter(pl.col("query").is_not_null())
    texts = [
        example_text(run.task_type, row, section.few_shot_characters)
        for row in rows.select("query", "positive", "negative").iter_rows(named=True)
    ]
    return [
        with_examples(prompt, run.task_type, drawn_examples(texts, section.few_shot, run.recipe.seed, row_id))
        for prompt, row_id in zip(prompts, row_ids, strict=True)
    ]


def without_own(
    run: StageRun[Licences], rows: pl.DataFrame, rejected: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows and quarantine of a release without the user's examples, unless the recipe releases them.

    A row is left out when it is an example, or repeats a query of one; a rejected row also when its text holds one of theirs.

    Args:
        run: of the release.
        rows: row_id, query.
        rejected: row_id, raw.
    """
    if EXAMPLES not in run.inputs or run.recipe.examples.released:
        return rows, rejected
    own = run.input_rows(EXAMPLES)
    queries = {" ".join(query.split()).casefold() for query in own["query"].drop_nulls()}
    same = pl.Series(
        "same", [" ".join(query.split()).casefold() in queries for query in rows["query"]], dtype=pl.Boolean
    )
    kept = rows.filter(~pl.col("row_id").is_in(own["row_id"].implode()) & ~same)
    texts = [text for field in ("query", "positive", "negative") for text in own[field].drop_nulls()]
    holds = pl.col("raw").fill_null("").str.contains_any(texts) if texts else pl.lit(False)
    return kept, rejected.filter(~pl.col("row_id").is_in(own["row_id"].implode()) & ~holds)
