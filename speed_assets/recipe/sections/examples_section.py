"""The user's own examples: real queries and pairs.

Belongs here: where they are and what they may be used for. Not here: reading them (`resources/inputs/example_files.py`).
"""

from __future__ import annotations

from pydantic import Field

from speed_assets.domain.task_types import TaskTypeName
from speed_assets.recipe.section import Count, Encoding, Positive, Rate, Section
from speed_assets.recipe.sections.own_evaluation_section import Pooled


class ExampleColumns(Section):
    """Names of the columns of the file. One with its usual name may be missing, another may not; a row has a query or a positive."""

    query: str = "query"
    """Column of the query, or of the first text of a pair."""
    positive: str = "positive"
    """Column of the text that answers the query; a cell of .jsonl or .parquet may be a list of such texts, each of which is a row."""
    negative: str = "negative"
    """Column of a text that is similar and does not answer it."""
    task: str = "task"
    """Column of the task in words."""
    task_type: str = "task_type"
    """Column of the task type's name."""


class FoundAnswers(Pooled):
    """Passages are searched for that answer queries without a positive: retrievers pool them and the teacher judges them, as for
    `own_evaluation.pooled`. All numbers are ours."""

    queries_max: Positive = 500
    """Queries whose answers are searched for at most, the first of the file."""


class Examples(Section):
    """The user's own queries and pairs. Rows with all fields of their task type stand in for rows of `seed_data`; rows with a query are
    shown to the teacher as few-shot examples. The paper has none: all numbers are ours."""

    LEFT_OUT = ("answers",)

    file: str
    """.jsonl, .csv, .tsv or .parquet; a relative path starts at the recipe's folder."""
    columns: ExampleColumns = ExampleColumns()
    encoding: Encoding = "utf-8"
    """Of files without a byte order mark."""
    task_type: TaskTypeName = "retrieval"
    """Of rows that name none. `grounded` rows have a query and the passage that answers it, and need `corpus`."""
    task: str = Field(default="Given a question, retrieve passages that answer it.", min_length=1, max_length=500)
    """Instruction of rows that name none."""
    seed_rows: Count | None = None
    """Rows of each task type that stand in for rows of seed_data at most; null is all, 0 is none."""
    few_shot: Count = 3
    """Examples in each prompt of seed_data that the teacher gets, drawn for each row. With as many examples or fewer one is left
    out, so that no two rows need have the same."""
    few_shot_characters: Positive = 400
    """Characters of a text of such an example at most."""
    hosted_teachers: bool = False
    """Whether examples may be sent to a teacher that is not on this machine."""
    released: bool = False
    """Whether examples may be among the rows of a release."""
    rows_max: Positive = 100_000
    """Rows of the file at most."""
    file_megabytes_max: Rate = 100.0
    """Megabytes (10^6 bytes) of the file at most."""
    answers: FoundAnswers | None = None
    """Search the passages of `corpus` that are not held out for answers to `grounded` queries that have none; a passage that the teacher judges
    to answer in both orders becomes the positive. null leaves such queries to prompts."""
