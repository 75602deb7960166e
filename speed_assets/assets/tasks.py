"""Topics and tasks: what the loop writes about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.topic_files import topic_file_bytes
from resources.ledger.calls import TeacherAnswer
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.answers import CUT_OFF
from speed_assets.domain.fingerprints import digest, short_id
from speed_assets.domain.parsing import parse_tasks
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.rows import drawn_topics, problem_or_refusal, quarantined, refusal_or_detail
from speed_assets.domain.task_rules import broken_task_rule
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.domain.topic_growth import compared_words
from speed_assets.domain.topics import TopicError, read_topics
from speed_assets.microworld.toy_language import topic_phrase
from speed_assets.recipe import RecipeError, TaskList, Topics

UNWRITTEN = "unwritten "
"""How the placeholder begins for a task that no answer gives yet (`plan.py`)."""

_PROBLEMS = {
    "no_task": "it held no list of tasks",
    "repeats_task": "the same task stands in the list of another topic already",
    "too_short": "the task was too short to say what is to be done",
    "too_long": "the task was too long to stand above every example",
    "heading": "it was a heading and not an instruction",
    "topic_echo": "it merely repeated the topic",
    "prompt_echo": "it repeated what it was asked instead of inventing a task",
    "question": "it was a question and not an instruction",
    "fragment": "it was no whole sentence",
    "other_language": "it was not in English",
    "other_script": "it was not in English",
    "asks_to_write": "the task asks to write a text, not to classify, find or match one",
    "no_instruction": "it was no instruction in the imperative",
    "other_kind": "it was a task of another kind than asked for",
}
"""What a retry says was wrong with a task, by the code of the problem; other codes are used as they are."""


def topics(run: StageRun[Topics]) -> dict[str, Any]:
    """Topic paths of the recipe's files; refused lines go to the quarantine with their line number.

    `synthesis` marks the topics of `topics.file`, `alignment` those that the alignment stages take their tasks from.

    Raises:
        RecipeError: a file has no usable line, or fewer topics than `topics.at_least`.
    """
    section = run.section
    rows, refused, reading = _topic_rows(run, "file", section.file)
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
        aligned, refused_too, _ = _topic_rows(run, "alignment", section.alignment)
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
        "reading": reading,
        "alignment_topics": int(rows["alignment"].sum()),
    }


def _topic_rows(run: StageRun[Topics], field: str, file: str) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """(topics, quarantine of refused lines, how the file was read) of one file. The id of a refused line is its number."""
    section = run.section
    try:
        reading = read_topics(
            topic_file_bytes(field, file), max_levels=section.max_levels, max_characters=section.max_characters
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
    refused_rows = quarantined(lines, run.stage.name, None, "refused_line", pl.col("detail"), pl.col("raw"))
    return rows, refused_rows, reading.summary


def _lowest(rows: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The topics with the lowest hashes: a choice that one more topic hardly changes."""
    keys = pl.Series("key", [digest(["topics", topic]) for topic in rows["topic"]], dtype=pl.String)
    return rows.select("topic_id", keys).sort("key").head(limit)


def task_list(run: StageRun[TaskList]) -> dict[str, Any]:
    """Tasks of each topic that a row will be about, checked and asked for again where it is none; for STS the topic is the
    task, and no call is made.

    `synthesis` and `alignment` mark the topics that stages of that part draw: more rows at scale retrain no generator.
    """
    (above,) = run.stage.inputs
    topic_rows = _drawn(run, run.input(above).table().select("topic_id", "topic", "synthesis", "alignment"))
    metadata: dict[str, Any] = {}
    if TASK_TYPES[run.task_type].has_brainstorm:
        brainstorms = _Brainstorms(run, topic_rows["topic"].to_list())
        metadata = brainstorms.ask()
        found = brainstorms.topics
    else:
        readable = topic_phrase if run.recipe.prompts.set == "compact" else _readable
        found = [_Topic(topic, [readable(topic)]) for topic in topic_rows["topic"]]
    frame = topic_rows.with_columns(
        pl.lit(run.task_type).alias("task_type"),
        pl.Series("raw", [topic.raw for topic in found], dtype=pl.String),
        pl.Series("task", [topic.tasks for topic in found], dtype=pl.List(pl.String)),
        pl.Series("reason", [topic.problem for topic in found], dtype=pl.String),
        pl.Series("refused", [topic.refused for topic in found], dtype=pl.String),
    )
    without = frame.filter(pl.col("task").list.len() == 0).rename({"topic_id": "row_id"})
    data = frame.filter(pl.col("task").list.len() > 0).explode("task")
    ids = [short_id("task", run.task_type, topic, task) for topic, task in data.select("topic_id", "task").iter_rows()]
    data = data.with_columns(pl.Series("task_id", ids, dtype=pl.String)).unique("task_id", maintain_order=True)
    data = data.select("task_id", "topic_id", "topic", "task_type", "task", "synthesis", "alignment")
    run.write(data)
    reason, why = problem_or_refusal(pl.col("reason")), refusal_or_detail("no task of the last answer could be taken")
    run.quarantine(without, reason, why, pl.col("raw"))
    parts = {
        part: digest(data.filter(part).drop("synthesis", "alignment").rows()) for part in ("synthesis", "alignment")
    }
    return {"asked": topic_rows.height, "parts": parts, **metadata}


def _drawn(run: StageRun[TaskList], topic_rows: pl.DataFrame) -> pl.DataFrame:
    """The topics that a stage of the recipe draws for its rows, marked with the parts that do."""
    drawn: dict[str, set[str]] = {"synthesis": set(), "alignment": set()}
    for stage, rows in run.recipe.rows_wanted(run.task_type).items():
        part = run.graph[stage].takes
        assert part is not None
        of_part = topic_rows.filter(part)["topic_id"]
        drawn[part] |= drawn_topics(of_part, run.section.per_topic, rows, run.recipe.seed, stage)
    marked = topic_rows.with_columns(pl.col("topic_id").is_in(list(ids)).alias(part) for part, ids in drawn.items())
    return marked.filter(pl.col("synthesis") | pl.col("alignment"))


@dataclass
class _Topic:
    """A topic that tasks are wanted for, and what came of it."""

    topic: str
    tasks: list[str] = field(default_factory=list)
    raw: str = ""
    problem: str | None = None
    """What was wrong with the last answer, while there is no task."""
    refused: str | None = None
    cuts: int = 0


class _Brainstorms:
    """Tasks for topics: asked for, checked, and asked for again with what was wrong.

    The microworld's tasks are phrases of its own language, so the rules of tasks are asked of other prompt sets only.
    """

    def __init__(self, run: StageRun[TaskList], topics: list[str]) -> None:
        self._run = run
        self._prompts = run.prompts
        self._checked = run.recipe.prompts.set != "compact"
        self.topics = [_Topic(topic) for topic in topics]
        self._taken: dict[frozenset[str], str] = {}
        """The topic of each task that was taken, by the words of the task."""
        self._dropped: Counter[str] = Counter()

    def ask(self) -> dict[str, Any]:
        """Fill in the topics; what that took, as metadata."""
        run, section = self._run, self._run.section
        uses, again = [], []
        pending = self.topics
        for attempt in range(section.attempts):
            texts = [self._prompt(topic) for topic in pending]
            words = [run.most_words("brainstorm", count=section.per_topic)] * len(texts)
            answers, use = run.ask(
                texts,
                section.sampling,
                schema_for("brainstorm", run.task_type, section.per_topic),
                sample=attempt,
                limits=run.limits(section.sampling, words, [topic.cuts for topic in pending]),
            )
            uses.append(use)
            for topic, answer in zip(pending, answers, strict=True):
                self._read(topic, answer)
            if attempt:
                again.append({"rows": len(pending), "whole": sum(bool(topic.tasks) for topic in pending)})
            pending = [topic for topic in pending if not topic.tasks and topic.refused is None]
            if not pending:
                break
        return {
            "asked_again": again,
            "tasks_dropped": dict(self._dropped.most_common()),
            **sum(uses[1:], start=uses[0]).metadata(),
        }

    def _prompt(self, topic: _Topic) -> str:
        prompt = self._prompts.brainstorm(self._run.task_type, topic.topic, self._run.section.per_topic)
        # What was cut off is asked in the same words, with more room.
        if topic.problem is None or topic.problem == CUT_OFF:
            return prompt
        return self._prompts.ask_again(prompt, _PROBLEMS.get(topic.problem, topic.problem))

    def _read(self, topic: _Topic, answer: TeacherAnswer) -> None:
        topic.raw, topic.refused = answer.text, answer.error
        tasks = parse_tasks(answer.text, self._run.section.per_topic, answer.finished)
        topic.problem = CUT_OFF if tasks == CUT_OFF else "no_task"
        topic.cuts += tasks == CUT_OFF
        for task in () if isinstance(tasks, str) else tasks:
            broken = self._broken(task, topic.topic)
            if broken is None:
                topic.tasks.append(task)
                self._taken[compared_words(task)] = topic.topic
            else:
                topic.problem = broken
                self._dropped[broken] += 1
        if topic.tasks:
            topic.problem = None

    def _broken(self, task: str, topic: str) -> str | None:
        """The code of what is wrong with a task, or None."""
        if not self._checked or task.startswith(UNWRITTEN):
            return None
        prompt = self._prompts.brainstorm(self._run.task_type, topic, self._run.section.per_topic)
        if self._taken.get(compared_words(task), topic) != topic:
            return "repeats_task"
        return broken_task_rule(task, topic, self._run.task_type, prompt)


def _readable(topic: str) -> str:
    return topic.replace("_", " ").replace("/", " > ")
