"""The user's own examples: a table of queries, positives, negatives and tasks, of which any column may be missing.

Belongs here: the file, its columns, rows that are refused. Not here: what examples are used for (`assets/examples.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.corpus_files import MEGABYTE, TABLES, read_table
from resources.inputs.document_formats import Unreadable
from resources.store.manifests import file_digest
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import Examples, RecipeError

FIELDS = ("query", "positive", "negative", "task", "task_type")
SCHEMA = dict.fromkeys(FIELDS, pl.String)


def read_examples(section: Examples) -> pl.DataFrame:
    """The rows of the file, in its order, with the columns of `SCHEMA` and `line`, from 1; blank cells are null.

    Raises:
        RecipeError: the file is missing, too large, cannot be read, or has neither queries nor positives.
    """
    file = _checked_file(section)
    try:
        table = read_table(file, file.suffix.lower(), section.encoding)
    except (Unreadable, OSError, pl.exceptions.PolarsError) as error:
        raise RecipeError(f"examples.file {file}: {' '.join(str(error).split())[:300]}") from None
    if table.height > section.rows_max:
        raise RecipeError(
            f"examples.file {file} has {table.height:,} rows, examples.rows_max is {section.rows_max:,}: raise it, or choose rows"
        )
    named: Mapping[str, str] = section.columns.model_dump()
    there = {field: column for field, column in named.items() if column in table.columns}
    if not {"query", "positive"} & there.keys():
        has = ", ".join(table.columns[:20])
        raise RecipeError(
            f"examples.file {file} has no column {named['query']} and no column {named['positive']} (it has {has}): name its columns "
            "under examples.columns"
        )
    texts = {field: table[column].to_list() for field, column in there.items()}
    return pl.DataFrame(
        {field: [_text(value) for value in texts.get(field, [None] * table.height)] for field in FIELDS},
        schema=SCHEMA,
    ).with_columns(line=pl.int_range(1, pl.len() + 1))


def _text(value: Any) -> str | None:
    return None if value is None or not str(value).strip() else str(value).strip()


def _checked_file(section: Examples) -> Path:
    file = Path(section.file)
    if not file.is_file():
        raise RecipeError(f"examples.file: there is no file {file}: correct the path")
    if file.suffix.lower() not in TABLES:
        raise RecipeError(f"examples.file {file}: give one of {', '.join(TABLES)}")
    size = file.stat().st_size
    if size > section.file_megabytes_max * MEGABYTE:
        raise RecipeError(
            f"examples.file {file} has {size / MEGABYTE:.1f} MB, examples.file_megabytes_max is {section.file_megabytes_max:g}: raise it"
        )
    return file


def examples_digest(section: Examples) -> str:
    """sha256 of the file, and of how it is read. Raises RecipeError when it cannot be read."""
    file = _checked_file(section)
    content = file_digest(file)
    # Of all kinds of table only CSV and TSV read the same bytes, and each in its own way: quotes are text in a TSV.
    return digest([".tsv", content]) if file.suffix.lower() == ".tsv" else content


def complete_fields(task_type: str) -> tuple[str, ...]:
    """The fields of an example that can be a row: a grounded one brings its passage.

    >>> complete_fields("grounded"), complete_fields("matching_short")
    (('query', 'positive'), ('query', 'positive'))
    """
    kind = TASK_TYPES[task_type]
    return FIELDS[:2] if kind.grounded else FIELDS[: len(kind.keys)]


def refusals(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `reason` (null for good ones) and `detail`: no text, an unknown task type, or a repeat of an earlier row.

    Args:
        rows: as `read_examples` gives them, with a task type each.
    """
    known = pl.col("task_type").is_in(list(TASK_TYPES))
    again = ~pl.struct("task_type", "query", "positive", "negative").is_first_distinct()
    return rows.with_columns(
        reason=pl.when(pl.col("query").is_null() & pl.col("positive").is_null())
        .then(pl.lit("no_text"))
        .when(~known)
        .then(pl.lit("unknown_task_type"))
        .when(again)
        .then(pl.lit("duplicate")),
        detail=pl.format(
            "row {}: {}",
            "line",
            pl.when(~known)
            .then(
                pl.format(
                    "task type {}; it is one of {}", pl.col("task_type").str.slice(0, 40), pl.lit(", ".join(TASK_TYPES))
                )
            )
            .when(again)
            .then(pl.lit("the same texts are in an earlier row"))
            .otherwise(pl.lit("neither a query nor a positive")),
        ),
    )
