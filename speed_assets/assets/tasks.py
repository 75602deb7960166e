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
from speed_assets.recipe import RecipeError


def topics(run: StageRun) -> dict[str, Any]:
    """Topic paths of the recipe's file; refused lines go to the quarantine with their line number."""
    section = run.recipe.topics
    try:
        reading = read_topics(
            Path(section.file).read_bytes(), max_levels=section.max_levels, max_characters=section.max_characters
        )
    except TopicError as error:
        raise RecipeError(f"topics.file {section.file}: {error}") from None
    found = list(reading.topics)
    if section.limit is not None:
        found = sorted(sorted(found, key=lambda t: digest(["topics", t.topic]))[: section.limit], key=lambda t: t.line)
    if len(found) < section.at_least:
        raise RecipeError(
            f"topics.file {section.file} has {len(found)} usable topic(s), topics.at_least asks for {section.at_least}: "
            "add topics to the file or lower topics.at_least"
        )
    run.write(
        pl.DataFrame(
            {
                "topic_id": [short_id("topic", t.topic) for t in found],
                "path": [t.path for t in found],
                "topic": [t.topic for t in found],
                "line": [t.line for t in found],
            }
        )
    )
    refused = [{"line": r.line, "raw": r.text, "reason": r.reason} for r in reading.refused]
    run.write(pl.DataFrame(refused, schema={"line": pl.Int64, "raw": pl.String, "reason": pl.String}), "quarantine")
    return {
        "asked": len(reading.topics) + len(reading.refused),
        "refused": len(refused),
        "refused_lines": refused[:10],
        "file": Path(section.file).name,
    }


def task_list(run: StageRun) -> dict[str, Any]:
    """One task per topic and task type; for STS the topic is the task and nobody is asked."""
    prompts = prompt_set(run.recipe.prompts)
    section = run.recipe.task_list
    topic_rows = run.input("topics").table().select("topic_id", "topic")
    metadata: dict[str, Any] = {}
    if TASK_TYPES[run.task_type].has_brainstorm:
        requests = [
            run.teacher.request(
                prompts.brainstorm(run.task_type, topic, section.per_topic),
                section.sampling,
                schema_for("brainstorm", run.task_type),
            )
            for topic in topic_rows["topic"]
        ]
        answers, use = run.ask(requests)
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
    run.write(data.select("task_id", "topic_id", "topic", "task_type", "task"))
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
    return {"asked": topic_rows.height, **metadata}


def _readable(topic: str) -> str:
    return topic.replace("_", " ").replace("/", " > ")
