"""Topics and tasks: what the loop writes about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from resources.externals import prompt_set
from speed_assets.assets.stage import StageRun
from speed_assets.domain.fingerprints import digest, short_id
from speed_assets.domain.parsing import parse_tasks
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.rows import quarantined, refusal_or, unless_refused
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.domain.topics import TopicError, read_topics
from speed_assets.microworld.language import topic_phrase
from speed_assets.recipe import RecipeError, Topics


def topics(run: StageRun) -> dict[str, Any]:
    """Topic paths of the recipe's files; refused lines go to the quarantine with their line number.

    `synthesis` marks the topics of `topics.file`, `alignment` those that the alignment stages take their tasks from.
    """
    section = run.recipe.topics
    rows, refused = _topic_rows(run, "file", section.file)
    if section.limit is not None:
        rows = rows.join(_lowest(rows, section.limit), on="topic_id", how="semi", maintain_order="left")
    if rows.height < section.at_least:
        raise RecipeError(
            f"topics.file {section.file} has {rows.height} usable topic(s), topics.at_least asks for "
            f"{section.at_least}: add topics to the file or lower topics.at_least"
        )
    asked = rows.height + refused.height
    if section.alignment is None:
        rows = rows.with_columns(synthesis=pl.lit(True), alignment=pl.lit(True))
    else:
        aligned, refused_too = _topic_rows(run, "alignment", section.alignment)
        rows = rows.with_columns(
            synthesis=pl.lit(True), alignment=pl.col("topic_id").is_in(aligned["topic_id"].implode())
        )
        alone = aligned.join(rows, on="topic_id", how="anti", maintain_order="left")
        rows = pl.concat([rows, alone.with_columns(synthesis=pl.lit(False), alignment=pl.lit(True))])
        refused = pl.concat([refused, refused_too])
        asked += alone.height + refused_too.height
    run.write(rows)
    run.write(refused, "quarantine")
    return {
        "asked": asked,
        "refused": refused.height,
        "refused_lines": refused.head(10).to_dicts(),
        "file": Path(section.file).name,
        "alignment_topics": int(rows["alignment"].sum()),
    }


def _topic_rows(run: StageRun, field: str, file: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(topics, quarantine of refused lines) of one file. The id of a refused line is its number."""
    section: Topics = run.recipe.topics
    try:
        reading = read_topics(
            Path(file).read_bytes(), max_levels=section.max_levels, max_characters=section.max_characters
        )
    except TopicError as error:
        raise RecipeError(f"topics.{field} {file}: {error}") from None
    found = reading.topics
    rows = pl.DataFrame(
        {
            "topic_id": [short_id("topic", t.topic) for t in found],
            "path": [t.path for t in found],
            "topic": [t.topic for t in found],
            "line": [t.line for t in found],
        },
        schema={"topic_id": pl.String, "path": pl.String, "topic": pl.String, "line": pl.Int64},
    )
    refused = [
        {"row_id": str(r.line), "raw": r.text, "detail": f"line {r.line} of topics.{field}: {r.reason}"}
        for r in reading.refused
    ]
    lines = pl.DataFrame(refused, schema=dict.fromkeys(("row_id", "task_type", "raw", "detail"), pl.String))
    return rows, quarantined(lines, run.stage.name, None, "refused_line", pl.col("detail"), pl.col("raw"))


def _lowest(rows: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The topics with the lowest hashes: a choice that one more topic hardly changes."""
    keys = pl.Series("key", [digest(["topics", topic]) for topic in rows["topic"]], dtype=pl.String)
    return rows.select("topic_id", keys).sort("key").head(limit)


def task_list(run: StageRun) -> dict[str, Any]:
    """One task per topic and task type; for STS the topic is the task and nobody is asked."""
    prompts = prompt_set(run.recipe.prompts)
    section = run.recipe.task_list
    topic_rows = run.input("topics").table().select("topic_id", "topic", "synthesis", "alignment")
    metadata: dict[str, Any] = {}
    if TASK_TYPES[run.task_type].has_brainstorm:
        asked = [prompts.brainstorm(run.task_type, topic, section.per_topic) for topic in topic_rows["topic"]]
        answers, use = run.ask(asked, section.sampling, schema_for("brainstorm", run.task_type))
        texts = [answer.text for answer in answers]
        refused = [answer.error for answer in answers]
        tasks = [list(parse_tasks(text, section.per_topic)) for text in texts]
        metadata |= use.metadata()
    else:
        readable = topic_phrase if run.recipe.prompts.set == "compact" else _readable
        texts = list(topic_rows["topic"])
        refused = [None] * len(texts)
        tasks = [[readable(topic)] for topic in topic_rows["topic"]]
    frame = topic_rows.with_columns(
        pl.lit(run.task_type).alias("task_type"),
        pl.Series("raw", texts, dtype=pl.String),
        pl.Series("task", tasks, dtype=pl.List(pl.String)),
        pl.Series("refused", refused, dtype=pl.String),
    )
    without = frame.filter(pl.col("task").list.len() == 0).rename({"topic_id": "row_id"})
    data = frame.filter(pl.col("task").list.len() > 0).explode("task")
    ids = [short_id("task", run.task_type, topic, task) for topic, task in data.select("topic_id", "task").iter_rows()]
    data = data.with_columns(pl.Series("task_id", ids, dtype=pl.String)).unique("task_id", maintain_order=True)
    data = data.select("task_id", "topic_id", "topic", "task_type", "task", "synthesis", "alignment")
    run.write(data)
    run.write(
        quarantined(
            without,
            run.stage.name,
            run.task_type,
            unless_refused(pl.lit("no_task")),
            refusal_or("the answer held no task"),
            pl.col("raw"),
        ),
        "quarantine",
    )
    parts = {
        part: digest(data.filter(part).drop("synthesis", "alignment").rows()) for part in ("synthesis", "alignment")
    }
    return {"asked": topic_rows.height, "parts": parts, **metadata}


def _readable(topic: str) -> str:
    return topic.replace("_", " ").replace("/", " > ")
