"""Which of the user's examples no stage uses, and why; found out before anything is sent.

Belongs here: counting them, and the words. Not here: reading the file (`example_files.py`), what examples are used for
(`speed_assets/assets/examples.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from resources.inputs.example_files import complete_fields, problem_of_record, read_examples, refusals
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES
from speed_assets.recipe import Recipe, RecipeError


@dataclass(frozen=True, slots=True)
class ExampleUse:
    """Rows of the file of examples, and what becomes of them."""

    rows: int
    used: int
    complete: dict[str, int]
    """By task type of seed_data, rows that can stand in for rows of it."""
    unused: tuple[str, ...]
    """A sentence for each kind of row that no stage uses; rows that only repeat another are in none."""


def example_warnings(recipe: Recipe) -> list[str]:
    """A sentence for each kind of example that no stage uses; none without examples.

    Raises:
        RecipeError: the file cannot be read, or no stage uses any of its rows.
    """
    use = example_use(recipe)
    if use is None:
        return []
    if not use.used:
        raise RecipeError(no_example_is_used(recipe, use))
    return list(use.unused)


def no_example_is_used(recipe: Recipe, use: ExampleUse) -> str:
    """The error where no stage uses any example."""
    why = "; ".join(use.unused) or "every row is refused"
    return f"examples.file {recipe.examples.file if recipe.examples else ''}: no stage uses any of {use.rows:,} rows: {why}"


def example_use(recipe: Recipe) -> ExampleUse | None:
    """What becomes of the rows of the file; None without examples.

    Raises:
        RecipeError: the file cannot be read.
    """
    section = recipe.examples
    if section is None:
        return None
    graph = recipe.graph()
    rows = refusals(read_examples(section).with_columns(pl.col("task_type").fill_null(section.task_type)))
    problems = [row["reason"] or problem_of_record(row["task_type"], row) for row in rows.iter_rows(named=True)]
    rows = rows.with_columns(pl.Series("reason", problems, dtype=pl.String))
    if "seed_data" not in graph:  # the junior is given: examples only keep their queries out of own_evaluation
        return ExampleUse(rows.height, rows.height, {}, ())
    asked = graph["seed_data"].task_types
    good = rows.filter(pl.col("reason").is_null())
    used, complete, idle = 0, {}, {}
    for task_type in asked:
        mine = good.filter(task_type=task_type)
        whole = pl.all_horizontal(pl.col(field).is_not_null() for field in complete_fields(task_type))
        read = _shown(recipe) or (task_type == GROUNDED and section.answers is not None)
        useful = mine.filter((whole & (section.seed_rows != 0)) | (pl.col("query").is_not_null() & read)).height
        complete[task_type] = mine.filter(whole).height
        used, idle[task_type] = used + useful, mine.height - useful
    sentences = (*_unknown(rows), *_not_asked(good, asked), *_refused(rows), *_idle(recipe, idle))
    return ExampleUse(rows.height, used, complete, sentences)


def _shown(recipe: Recipe) -> bool:
    """Whether the teacher's prompts hold examples."""
    section, teacher = recipe.examples, recipe.teacher
    assert section is not None
    allowed = section.hosted_teachers or teacher.on_this_machine()
    return teacher.engine == "openai" and section.few_shot > 0 and allowed


def _unknown(rows: pl.DataFrame) -> Iterator[str]:
    unknown = rows.filter(reason="unknown_task_type")
    if unknown.height:
        names = unknown["task_type"].str.slice(0, 40).value_counts(sort=True).head(5)
        told = ", ".join(f"{name} ({count:,})" for name, count in names.iter_rows())
        yield (
            f"{unknown.height:,} examples have a task type that does not exist, {told}: write one of {', '.join(TASK_TYPES)} into "
            "their column task_type, or leave it empty for examples.task_type"
        )


def _not_asked(good: pl.DataFrame, asked: tuple[str, ...]) -> Iterator[str]:
    others = good.filter(~pl.col("task_type").is_in(list(asked)))["task_type"].value_counts(sort=True)
    for name, count in others.iter_rows():
        yield (
            f"{count:,} examples are of the task type {name}, of which seed_data asks for no rows, so that no stage uses them: "
            f"give them one that it asks for ({', '.join(asked)}), or ask for rows of theirs"
        )


def _refused(rows: pl.DataFrame) -> Iterator[str]:
    refused = rows.filter(pl.col("reason").is_not_null() & ~pl.col("reason").is_in(["unknown_task_type", "duplicate"]))
    if refused.height:
        reasons = refused["reason"].value_counts(sort=True)
        told = ", ".join(f"{name} {count:,}" for name, count in reasons.iter_rows())
        yield f"{refused.height:,} examples are no rows of their task type ({told}), row {refused['line'][0]} first: correct them"


def _idle(recipe: Recipe, counts: dict[str, int]) -> Iterator[str]:
    section = recipe.examples
    assert section is not None
    for task_type, count in counts.items():
        if not count:
            continue
        fields = ", ".join(complete_fields(task_type))
        mend = f"fill these columns{', and raise examples.seed_rows' if section.seed_rows == 0 else ''}"
        if recipe.teacher.engine == "openai" and not _shown(recipe):
            mend += ", or have queries shown to the teacher (examples.few_shot, examples.hosted_teachers)"
        yield (
            f"{count:,} {task_type} examples stand in for no row of seed_data, which takes all of {fields}, and are not shown to the "
            f"teacher: {mend}"
        )
