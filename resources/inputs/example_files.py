"""The user's own examples or triplets: a table of queries, positives, negatives and tasks, of which any column may be missing.

Belongs here: the file, its columns, rows that are refused. Not here: what they are used for (`assets/examples.py`, `assets/given.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.corpus_files import MEGABYTE, TABLES, read_table
from resources.inputs.document_formats import Unreadable
from resources.inputs.file_heads import list_columns, table_columns
from resources.inputs.parquet_bounds import check_parquet
from resources.inputs.table_cells import cell_text, cell_texts, check_named_columns, named_columns
from resources.store.manifests import file_digest
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.parsing import parse_record
from speed_assets.domain.records import canonical_record
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import Examples, GivenTriplets, RecipeError

FIELDS = ("query", "positive", "negative", "task", "task_type")
SCHEMA = dict.fromkeys(FIELDS, pl.String)


def read_examples(section: Examples | GivenTriplets, field: str = "examples") -> pl.DataFrame:
    """The rows of the file, in its order, with the columns of `SCHEMA`, `further` and `line`, from 1; blank cells are null. Of a
    list of negatives the first is `negative`, and the others are `further`; each of a list of positives has a row of its own.

    Args:
        section: names the file and its columns.
        field: of the section, for errors.

    Raises:
        RecipeError: the file is missing, too large, cannot be read, has neither queries nor positives, lacks a column that the
            recipe names, or has a cell that is no text.
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
    try:
        return _rows(table, there)
    except ValueError as error:
        raise RecipeError(f"{field}.file {file}: {error}") from None


def _rows(table: pl.DataFrame, there: dict[str, str]) -> pl.DataFrame:
    """The rows of a table whose columns are known. Raises ValueError for a cell that is no text."""
    nothing = [None] * table.height
    cells = {name: table[there[name]].to_list() if name in there else nothing for name in FIELDS}
    rows: list[tuple[Any, ...]] = []
    named = {name: there.get(name, name) for name in FIELDS}
    for line, (query, positive, negative, *about) in enumerate(zip(*cells.values(), strict=True), 1):
        negatives = cell_texts(negative, line, named["negative"])
        answers: list[str] | list[None] = cell_texts(positive, line, named["positive"]) or [None]
        asked = cell_text(query, line, named["query"])
        task, task_type = (cell_text(cell, line, named[name]) for cell, name in zip(about, FIELDS[3:], strict=True))
        rows += [
            (asked, answer, negatives[0] if negatives else None, task, task_type, negatives[1:], line)
            for answer in answers
        ]
    return pl.DataFrame(rows, schema={**SCHEMA, "further": pl.List(pl.String), "line": pl.Int64}, orient="row")


def _columns_there(section: Examples | GivenTriplets, field: str, file: Path, columns: Sequence[str]) -> dict[str, str]:
    """{field of a row: its column} of those that the file has.

    Raises:
        RecipeError: it has neither queries nor positives, or lacks a column that the recipe names.
    """
    names: dict[str, str] = section.columns.model_dump()
    there = {name: column for name, column in names.items() if column in columns}
    if not {"query", "positive"} & there.keys():
        raise RecipeError(
            f"{field}.file {file} has no column {names['query']} and no column {names['positive']} (it has "
            f"{named_columns(columns)}): name its columns under {field}.columns"
        )
    try:
        check_named_columns(section.columns, f"{field}.columns", columns)
    except ValueError as error:
        raise RecipeError(f"{field}.file {file} has {error}") from None
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


@lru_cache(maxsize=16)
def _lists(file: Path, encoding: str, _size: int, _mtime: int, _ctime: int) -> frozenset[str]:
    return list_columns(file, file.suffix.lower(), encoding)


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
    if section.columns.positive in _lists(file, section.encoding, state.st_size, state.st_mtime_ns, state.st_ctime_ns):
        return digest(["lists of positives", content])  # each has a row: they were read as one text before
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


def problem_of_record(task_type: str, row: dict[str, Any]) -> str | None:
    """Why a row with all fields is no record of its task type; None for one that is, or that lacks a field."""
    if any(row[field] is None for field in complete_fields(task_type)):
        return None
    if TASK_TYPES[task_type].grounded and " ".join(row["query"].split()) == " ".join(row["positive"].split()):
        return "same_text"
    return parse_record(task_type, canonical_record(task_type, row)).problem


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
