"""Rows of the loop: the tasks that they are drawn for, and the columns read from the answers.

Belongs here: choosing rows and turning raw outputs into typed rows, on Polars frames. Not here: how one
text is parsed (`parsing.py`) or asked for (`prompts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import pairwise

import polars as pl

from speed_assets.domain.answers import CUT_OFF, MAX_CHARACTERS
from speed_assets.domain.asking import Asking
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import digest, seed_for, short_id
from speed_assets.domain.parsing import ENTRY_NUMBER, decode_typed, parse_record
from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS

PROMPT_ECHO = "prompt_echo"
"""Problem of an answer of which a text repeats what its prompt says of the form: "a question that somebody might ask"."""
ECHO_WORDS_MIN = 4
"""Words from which on a text that stands in its prompt repeats it; fewer may be a name that both have (ours)."""
ECHO_STRANGE_MAX = 0.2
"""Share of the pairs of words of such a text that its prompt need not have: one of five is a word left out (ours)."""
QUARANTINE_SCHEMA = {
    "row_id": pl.String,
    "stage": pl.String,
    "task_type": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "raw": pl.String,
}
TEACHER_REFUSED = "teacher_refused"
"""Reason of a row whose request the teacher's server refused for good."""
_RAW_KEPT = 20_000  # characters of a quarantined raw text: enough to see what happened, bounded on disk


@cache
def _odd_case() -> str:
    """A pattern of letters that lower case and case folding change in different ways."""
    return "[" + "".join(c for c in map(chr, range(0x80, 0xFB20)) if c.lower() != c.casefold()) + "]"


def draw_tasks(tasks: Sequence[tuple[str, str]], rows: int, seed: int, stage: str) -> list[tuple[str, int]]:
    """Draw the task of each row: tasks in the order of a hash, round after round.

    The order of one task depends neither on the other tasks, so an added topic changes few rows, nor on its wording, so the
    topics of the rows are known before there is a task.

    Args:
        tasks: (topic id, task id) pairs.
        rows: Number of rows.
        seed: Of the recipe.
        stage: Its name is part of the hash.

    Returns:
        (task id, draw) of each row; `draw` counts the rows of one task from 0.
    """
    place: dict[str, int] = {}
    ranked = []
    for topic_id, task_id in tasks:
        place[topic_id] = place.get(topic_id, -1) + 1
        ranked.append((digest([seed, stage, topic_id, place[topic_id]]), task_id))
    ranked.sort()
    return [(ranked[i % len(ranked)][1], i // len(ranked)) for i in range(rows)] if ranked else []


def drawn_topics(topic_ids: Iterable[str], per_topic: int, rows: int, seed: int, stage: str) -> set[str]:
    """The topics whose tasks `draw_tasks` takes, known before there is a task.

    One more topic among `topic_ids` takes the place of at most one other. Where a topic gets fewer tasks than `per_topic`,
    the rows that it lacks are spread over the tasks of the other drawn topics.

    Args:
        topic_ids: All topics.
        per_topic: Tasks asked for on each topic.
        rows: Number of rows.
        seed: Of the recipe.
        stage: The stage that writes the rows.
    """
    places = [(topic_id, topic_id) for topic_id in topic_ids for _ in range(per_topic)]
    return {topic_id for topic_id, _ in draw_tasks(places, min(rows, len(places)), seed, stage)}


def synthesis_rows(tasks: pl.DataFrame, asking: Asking) -> pl.DataFrame:
    """The rows that a model is to write about topics.

    Args:
        tasks: task_id, topic_id, topic and task.
        asking: How many rows are asked for, and how.

    Returns:
        As `Asking.table`. Attributes are drawn for each row.
    """
    by_id = {row["task_id"]: row for row in tasks.iter_rows(named=True)}
    pairs = tasks.select("topic_id", "task_id").rows()
    asked = []
    for task_id, draw in draw_tasks(pairs, asking.rows, asking.seed, asking.stage):
        row_id = short_id(asking.stage, task_id, draw)
        attributes = draw_attributes(asking.task_type, seed_for(asking.seed, "attributes", row_id))
        topic, task = by_id[task_id]["topic"], by_id[task_id]["task"]
        prompt = partial(asking.prompts.synthesis, asking.task_type, task, attributes)
        asked.append(asking.row(row_id, task_id, topic, task, attributes, prompt))
    return asking.table(asked)


def parse_outputs(frame: pl.DataFrame, task_type: str) -> pl.DataFrame:
    """Adds query, positive, negative, valid, problem and read_as to rows with a raw `output`. No row is dropped.

    `read_as` is how the output was read: `typed` (exactly the object asked for), `json` (after fences, prose
    or a second look), `repaired`, or `unread`. What is read is what `parse_record` reads: the typed way is only faster.

    The column `finished`, where there is one, is whether the writer ended by itself (null: unknown). An answer that
    was cut off is `cut_off` and has no texts, even if it reads as valid. The column `passage` is the text that grounded rows are
    written from.
    """
    kind = TASK_TYPES[task_type]
    finished = frame["finished"] if "finished" in frame.columns else pl.repeat(None, frame.height, eager=True)
    finished = finished.cast(pl.Boolean)
    raws = frame.select(pl.when(finished.fill_null(True)).then("output"))["output"]  # what was cut off is not read
    typed = pl.DataFrame(
        [texts or (None,) * len(kind.keys) for texts in decode_typed(task_type, _without_escapes(raws, kind.keys))],
        schema=dict.fromkeys(kind.fields, pl.String),
        orient="row",
    )
    fields = typed.columns
    alike = _alike(fields) if "positive" in fields else pl.lit(False)
    looks = typed.lazy().select(pl.any_horizontal(_unclean(field) for field in fields) | alike)
    doubtful = looks.collect().to_series()
    again = doubtful.fill_null(True).arg_true()
    found: dict[str, list[str | None]] = {name: [] for name in (*TRIPLET_FIELDS, "problem", "read_as")}
    suspects = zip(
        raws.gather(again), typed[fields[0]].gather(again).is_not_null(), finished.gather(again), strict=True
    )
    for raw, was_typed, ended in suspects:
        parsed = parse_record(task_type, raw or "", ended)
        slow = "repaired" if parsed.repaired else "unread" if parsed.unparseable else "json"
        found["read_as"].append("typed" if was_typed else slow)
        found["problem"].append(parsed.problem)
        for field, text in kind.triplet(parsed.record).items():
            found[field].append(text)
    columns = {field: typed[field] if field in fields else _same(None, frame.height) for field in TRIPLET_FIELDS}
    columns |= {"problem": _same(None, frame.height), "read_as": _same("typed", frame.height)}
    read = frame.with_columns(
        column.scatter(again, pl.Series(found[name], dtype=pl.String)).alias(name) for name, column in columns.items()
    )
    if kind.passage:
        read = read.with_columns(pl.col("passage").alias(kind.passage))
        copied = pl.any_horizontal(_single_spaced(field) == _single_spaced("passage") for field in fields)
        read = read.with_columns(problem=pl.coalesce("problem", pl.when(copied).then(pl.lit("copied_query"))))
    written = [field for field in fields if field == "query" or not kind.labels]
    if kind.passage == "positive":
        written = []  # its prompt holds the passage, of which a short query may be a part
    if written and {"prompt", "task", "topic"} <= {*read.columns}:
        echo = pl.when(_repeats_prompt(read, written)).then(pl.lit(PROMPT_ECHO))
        read = read.with_columns(problem=pl.coalesce("problem", echo))
    return read.with_columns(valid=pl.col("problem").is_null())


def _single_spaced(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()


def _repeats_prompt(rows: pl.DataFrame, fields: Sequence[str]) -> pl.Series:
    """Whether one of these texts of a row repeats its prompt, and not its task or topic. Of a passage, only a copy does so."""
    plain = rows.select(
        *(_words_apart(column) for column in ("prompt", "task", "topic", *fields)),
        _passage=_words_apart("passage") if "passage" in rows.columns else pl.lit(""),
    )

    def is_echo(text: str, prompt: str, task: str, topic: str, passage: str) -> bool:
        if not stand_mostly_in(text, prompt) or stand_mostly_in(text, task) or stand_mostly_in(text, topic):
            return False
        return text in prompt or not stand_mostly_in(text, passage)

    given = (plain[column] for column in ("prompt", "task", "topic", "_passage"))
    found = [
        any(is_echo(text, *around) for text in texts)
        for *around, texts in zip(*given, plain.select(fields).iter_rows(), strict=True)
    ]
    return pl.Series(found, dtype=pl.Boolean)


def _words_apart(column: str) -> pl.Expr:
    """Lower case words with one space before, between and after them."""
    words = pl.col(column).fill_null("").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    return pl.concat_str(pl.lit(" "), words, pl.lit(" ")).alias(column)


def stand_mostly_in(text: str, whole: str) -> bool:
    """Whether nearly all pairs of words that follow each other in a text do so in another one, too.

    A writer repeats its prompt with a word less: "One thing people know about it" for "one thing that people know about it".

    Args:
        text: Lower case words, with a space before, between and after them.
        whole: The same.

    Returns:
        False for texts of fewer than `ECHO_WORDS_MIN` words.
    """
    words = text.split()
    if len(words) < ECHO_WORDS_MIN:
        return False
    strange = int(ECHO_STRANGE_MAX * (len(words) - 1))
    for one, next_one in pairwise(words):
        if f" {one} {next_one} " not in whole:
            strange -= 1
            if strange < 0:
                return False
    return True


def ask_until_valid(
    rows: pl.DataFrame, attempts: int, ask: Callable[[int, pl.DataFrame], pl.DataFrame]
) -> tuple[pl.DataFrame, list[dict[str, int]]]:
    """Ask for rows, and ask again for those whose answer is not valid.

    The last answer to a row counts, valid or not. A request that the server refused for good is not repeated. An answer that
    was cut off needs a larger limit, which `ask` sets (`cut_off_attempts`).

    Args:
        rows: What to ask for.
        attempts: Most calls of `ask`.
        ask: From the number of the attempt (from 0) and the rows without a valid answer to their parsed answers, in order.

    Returns:
        The parsed answers to all rows, and {rows, whole} of each further attempt: rows asked again, and how many of them
        are valid now.
    """
    answers = ask(0, rows)
    again = []
    for attempt in range(1, attempts):
        open_ = (~answers["valid"] & (answers["problem"] != TEACHER_REFUSED).fill_null(True)).arg_true()
        if open_.is_empty():
            break
        better = ask(attempt, answers[open_])
        again.append({"rows": len(open_), "whole": int(better["valid"].sum())})
        place = pl.int_range(pl.len(), dtype=pl.UInt32).alias("_place")
        numbered = better.select(answers.columns).with_columns(open_.alias("_place"))
        rest = answers.with_columns(place).filter(~pl.col("_place").is_in(open_.implode()))
        answers = pl.concat([rest, numbered]).sort("_place").drop("_place")
    return answers, again


def cut_off_attempts(pending: pl.DataFrame, attempt: int) -> list[int]:
    """How often the answer to each row was cut off before this attempt; one that failed otherwise has room enough."""
    if not attempt:
        return [0] * pending.height
    return [attempt if problem == CUT_OFF else 0 for problem in pending["problem"]]


def _same(text: str | None, rows: int) -> pl.Series:
    return pl.repeat(text, rows, dtype=pl.String, eager=True)


def _without_escapes(raws: pl.Series, keys: Sequence[str]) -> pl.Series:
    """Answers short enough, in which every key occurs once and none can hide in an escape; null for the others."""
    once = [pl.col("output").str.count_matches(f'"{key}"', literal=True) == 1 for key in keys]
    plain = pl.all_horizontal(*once, pl.col("output").str.len_chars() <= MAX_CHARACTERS)
    hidden = pl.col("output").str.contains("\\u", literal=True)
    return raws.alias("output").to_frame().select(pl.when(plain & ~hidden).then("output")).to_series()


def _unclean(field: str) -> pl.Expr:
    """Whether cleaning may change the text or find nothing in it."""
    text = pl.col(field)
    return (
        text.str.contains(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
        | (text.str.strip_chars().str.len_bytes() != text.str.len_bytes())
        | ~text.str.contains(r"[\p{L}\p{N}]")
    )


def _alike(fields: Sequence[str]) -> pl.Expr:
    """Whether two texts of a record may be the same, or one may contain the other. True for some rows where neither holds, never false where one does."""
    positive = pl.col("positive")
    alike = may_contain_words_of(pl.col("query"), positive) if "query" in fields else pl.lit(False)
    if "negative" in fields:
        negative = pl.col("negative")
        same = _first_word(positive, r"^(\S+)") == _first_word(negative, r"^(\S+)")
        alike = alike | same | _folds_oddly(positive) | _folds_oddly(negative)
    return alike


def may_contain_words_of(part: pl.Expr, text: pl.Expr) -> pl.Expr:
    """Whether `text` may contain the words of `part`: a cheap test that leaves few rows to `parsing.words_stand_in`."""
    lower = part.str.to_lowercase()
    run = pl.coalesce(lower.str.extract(f"([a-z0-9]{{{letters},}})") for letters in (7, 4))  # long words are rare
    return text.str.to_lowercase().str.contains(run, literal=True).fill_null(True) | _folds_oddly(text)


def may_have_same_words(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """Whether two texts may have the same words: a cheap test that leaves few rows to `parsing.words_only`."""
    first = [_first_word(text, "([a-z0-9]+)").fill_null("") for text in (one, other)]
    return (first[0] == first[1]) | _folds_oddly(one) | _folds_oddly(other)


def _first_word(text: pl.Expr, pattern: str) -> pl.Expr:
    """In lower case, without the number that an entry of a list has before it."""
    return text.str.replace(ENTRY_NUMBER, "").str.to_lowercase().str.extract(pattern)


def _folds_oddly(text: pl.Expr) -> pl.Expr:
    """Whether case folding does more than lower case here: in a few ligatures and letters such as the sharp s."""
    return (text.str.len_bytes() != text.str.len_chars()) & text.str.contains(_odd_case())


def quarantined(
    frame: pl.DataFrame, stage: str, task_type: str | None, reason: str | pl.Expr, detail: pl.Expr, raw: pl.Expr
) -> pl.DataFrame:
    """Rejected rows, in the format of every quarantine (`QUARANTINE_SCHEMA`).

    Args:
        frame: The rows, with row_id.
        stage: The stage that rejects them.
        task_type: Of all rows; None takes the column of that name.
        reason: A code, or an expression for it.
        detail: What the reason refers to.
        raw: The text to keep.
    """
    return frame.select(
        pl.col("row_id"),
        pl.lit(stage).alias("stage"),
        (pl.col("task_type") if task_type is None else pl.lit(task_type)).alias("task_type"),
        (pl.lit(reason) if isinstance(reason, str) else reason).alias("reason"),
        detail.cast(pl.String).str.slice(0, _RAW_KEPT).alias("detail"),
        raw.cast(pl.String).str.slice(0, _RAW_KEPT).alias("raw"),
    )


def problem_or_refusal(problem: pl.Expr) -> pl.Expr:
    """`problem`, but `teacher_refused` where the column `refused` holds the server's message."""
    return pl.when(pl.col("refused").is_null()).then(problem).otherwise(pl.lit(TEACHER_REFUSED))


def refusal_or_detail(detail: str) -> pl.Expr:
    """The server's message in the column `refused`, or `detail` where it refused nothing."""
    return pl.coalesce("refused", pl.lit(detail))


def empty_quarantine() -> pl.DataFrame:
    """An empty quarantine."""
    return pl.DataFrame(schema=QUARANTINE_SCHEMA)
