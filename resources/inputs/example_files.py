"""The user's own examples or triplets: a table of queries, positives, negatives and tasks, of which any column may be missing.

Belongs here: the file, its columns, rows that are refused. Not here: what they are used for (`assets/examples.py`, `assets/given.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.corpus_files import MEGABYTE, TABLES, read_table
from resources.inputs.document_formats import Unreadable
from resources.inputs.file_heads import table_columns
from resources.inputs.parquet_bounds import check_parquet
from resources.store.manifests import file_digest
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import Examples, GivenTriplets, RecipeError

FIELDS = ("query", "positive", "negative", "task", "task_type")
SCHEMA = dict.fromkeys(FIELDS, pl.String)


def read_examples(section: Examples | GivenTriplets, field: str = "examples") -> pl.DataFrame:
    """The rows of the file, in its order, with the columns of `SCHEMA`, `further` and `line`, from 1; blank cells are null. Of a
    list of negatives the first is `negative`, and the others are `further`.

    Args:
        section: names the file and its columns.
        field: of the section, for errors.

    Raises:
        RecipeError: the file is missing, too large, cannot be read, or has neither queries nor positives.
    """
    file = _checked_file(section, field)
    try:
        if file.suffix.lower() == ".parquet":
            check_parquet(file)
        table = read_table(file, file.suffix.lower(), section.encoding)
    except (Unreadable, ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise RecipeError(f"{field}.file {file}: {' '.join(str(error).split())[:300]}") from None
    if table.height > section.rows_max:
        raise RecipeError(
            f"{field}.file {file} has {table.height:,} rows, {field}.rows_max is {section.rows_max:,}: raise it, or choose rows"
        )
    there = _columns_there(section, field, file, table.columns)
    cells = {name: table[column].to_list() for name, column in there.items()}
    texts = {name: [_text(value) for value in cells.get(name, [None] * table.height)] for name in FIELDS}
    negatives = [_negatives(cell) for cell in cells.get("negative", [None] * table.height)]
    texts["negative"] = [found[0] if found else None for found in negatives]
    return pl.DataFrame(texts, schema=SCHEMA).with_columns(
        pl.Series("further", [found[1:] for found in negatives], dtype=pl.List(pl.String)),
        line=pl.int_range(1, pl.len() + 1),
    )


def _columns_there(section: Examples | GivenTriplets, field: str, file: Path, columns: Sequence[str]) -> dict[str, str]:
    """{field of a row: its column} of those that the file has. Raises RecipeError without queries and positives."""
    named: Mapping[str, str] = section.columns.model_dump()
    there = {name: column for name, column in named.items() if column in columns}
    if not {"query", "positive"} & there.keys():
        has = ", ".join(columns[:20])
        raise RecipeError(
            f"{field}.file {file} has no column {named['query']} and no column {named['positive']} (it has {has}): name its columns "
            f"under {field}.columns"
        )
    return there


def check_head(section: Examples | GivenTriplets, field: str = "examples") -> Path:
    """The file, whose first bytes may be a table with queries or positives: an empty or binary one is refused before it is read in full.

    Raises:
        RecipeError: it is missing, too large, empty or no table; the message says what to do.
    """
    file = _checked_file(section, field)
    state = file.stat()
    try:
        columns = _head(file, section.encoding, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    except (Unreadable, OSError) as error:
        words = " ".join(str(error).split())[:300]
        raise RecipeError(
            f"{field}.file {file}: {words}; write the file again, or name another in {field}.file"
        ) from None
    if columns is not None:
        _columns_there(section, field, file, columns)
    return file


@lru_cache(maxsize=16)
def _head(file: Path, encoding: str, _size: int, _mtime: int, _ctime: int) -> tuple[str, ...] | None:
    columns = table_columns(file, file.suffix.lower(), encoding)
    return None if columns is None else tuple(columns)


def _negatives(cell: Any) -> list[str]:
    """The texts of a cell, which may be a list of them."""
    values = cell if isinstance(cell, list) else [cell]
    return [text for value in values if (text := _text(value)) is not None]


def _text(value: Any) -> str | None:
    return None if value is None or not str(value).strip() else str(value).strip()


def _checked_file(section: Examples | GivenTriplets, field: str = "examples") -> Path:
    file = Path(section.file)
    if not file.is_file():
        raise RecipeError(f"{field}.file: there is no file {file}: correct the path")
    if file.suffix.lower() not in TABLES:
        raise RecipeError(f"{field}.file {file}: give one of {', '.join(TABLES)}")
    size = file.stat().st_size
    if size > section.file_megabytes_max * MEGABYTE:
        raise RecipeError(
            f"{field}.file {file} has {size / MEGABYTE:.1f} MB, {field}.file_megabytes_max is {section.file_megabytes_max:g}: raise it"
        )
    return file


def examples_digest(section: Examples | GivenTriplets, field: str = "examples") -> str:
    """sha256 of the file, and of how it is read. Raises RecipeError when it cannot be read, or its first bytes are no table."""
    file = check_head(section, field)
    state = file.stat()
    content = _file_digest(file, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    # Of all kinds of table only CSV and TSV read the same bytes, and each in its own way: quotes are text in a TSV.
    return digest([".tsv", content]) if file.suffix.lower() == ".tsv" else content


@lru_cache(maxsize=16)
def _file_digest(file: Path, _size: int, _mtime: int, _ctime: int) -> str:
    return file_digest(file)


def complete_fields(task_type: str) -> tuple[str, ...]:
    """The fields of an example that can be a row: a grounded one brings its passage.

    >>> complete_fields("grounded"), complete_fields("matching_short")
    (('query', 'positive'), ('query', 'positive'))
    """
    kind = TASK_TYPES[task_type]
    return tuple(field for field in FIELDS if field == kind.passage or field in kind.fields)


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
