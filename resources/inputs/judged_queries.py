"""The user's judged queries: a folder in BEIR's layout, or a table with a query, what answers it, and a grade.

Hidden state of the process: the last four files that were read are cached by path, size and times.

Belongs here: the files, their columns, what is refused. Not here: which passages the judged documents are, and what the queries
are used for (`assets/own_queries.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.corpus_files import MEGABYTE, TABLES, read_table
from resources.inputs.document_formats import Unreadable
from resources.inputs.parquet_bounds import check_parquet
from resources.inputs.table_cells import cell_text, cell_texts, check_named_columns, named_columns
from resources.store.manifests import file_digest
from speed_assets.domain.evaluation_folders import ALIASES, OWN_SETS, beir_description
from speed_assets.domain.fingerprints import digest, short_id
from speed_assets.domain.relevance_judgements import once
from speed_assets.recipe import OwnEvaluation, RecipeError

CORPUS = "corpus.jsonl"
"""A folder of judged queries may lack it: then ids are those of documents of the recipe's corpus."""


@dataclass(frozen=True)
class JudgedQueries:
    """What the user has judged."""

    queries: Mapping[str, str] = field(default_factory=dict)
    """Text by id."""
    judgements: Sequence[tuple[str, str, float]] = ()
    """(query id, document id, grade)."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Text by document id, of documents that the file itself has."""


def read_judged_queries(section: OwnEvaluation) -> JudgedQueries:
    """The queries, judgements and texts that `section.queries` names.

    Raises:
        RecipeError: they are missing, too large or cannot be read; ids stand twice, columns are missing, a grade is no number.
    """
    path = _checked(section)
    return _read(section.model_dump_json(include={"queries", "columns", "encoding"}), _state(path))


def judged_query_texts(section: OwnEvaluation | None) -> dict[str, list[str]]:
    """The queries that no row may repeat, by the name of their set; empty where the recipe has none. Raises RecipeError."""
    if section is None or section.queries is None:
        return {}
    return {OWN_SETS[1]: list(read_judged_queries(section).queries.values())}


def judged_queries_digest(section: OwnEvaluation) -> str:
    """sha256 over the files that are read, and their names. Raises RecipeError when they cannot be read."""
    path = _checked(section)
    return digest([[file.relative_to(path).as_posix() if path.is_dir() else file.suffix.lower(), file_digest(file)] for file in _files(path)])  # fmt: skip


@lru_cache(maxsize=4)
def _read(named: str, _state: tuple[Any, ...]) -> JudgedQueries:
    section = OwnEvaluation.model_validate_json(named)
    path = Path(str(section.queries))
    try:
        return _folder(path, section) if path.is_dir() else _table(path, section)
    except (Unreadable, ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise RecipeError(f"own_evaluation.queries {path}: {' '.join(str(error).split())[:300]}") from None


def _state(path: Path) -> tuple[Any, ...]:
    return tuple(
        (str(file), (stat := file.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns) for file in _files(path)
    )


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _checked(section: OwnEvaluation) -> Path:
    path = Path(str(section.queries))
    if not path.exists():
        raise RecipeError(f"own_evaluation.queries: there is no file or folder {path}: correct the path")
    if path.is_file() and path.suffix.lower() not in TABLES:
        raise RecipeError(
            f"own_evaluation.queries {path}: give one of {', '.join(TABLES)}, or a folder in BEIR's layout"
        )
    size = max((file.stat().st_size for file in _files(path)), default=0)
    if size > section.file_megabytes_max * MEGABYTE:
        raise RecipeError(
            f"own_evaluation.queries {path}: a file has {size / MEGABYTE:.1f} MB, own_evaluation.file_megabytes_max is "
            f"{section.file_megabytes_max:g}: raise it"
        )
    return path


def _rows(file: Path, encoding: str) -> pl.DataFrame:
    """Raises ValueError for a file of another kind."""
    kind = file.suffix.lower()
    if kind not in TABLES:
        raise ValueError(f"{file.name} cannot be read: give one of {', '.join(TABLES)}")
    if kind == ".parquet":
        check_parquet(file)
    return read_table(file, kind, encoding)


# A table


def _table(path: Path, section: OwnEvaluation) -> JudgedQueries:
    """A row is a query and a document or passage, or a list of them. A query without either is to be judged."""
    table = _rows(path, section.encoding)
    names = section.columns
    if names.query not in table.columns:
        near = named_columns(table.columns, names.query)
        raise ValueError(f"no column {names.query} (it has {near}): name its columns under own_evaluation.columns")
    check_named_columns(names, "own_evaluation.columns", table.columns)
    nothing = [None] * table.height
    named = (names.query, names.document, names.passage, names.relevance)
    columns = [table[name].to_list() if name in table.columns else nothing for name in named]
    queries: dict[str, str] = {}
    texts: dict[str, str] = {}
    judgements = []
    for row, (query, document, passage, grade) in enumerate(zip(*columns, strict=True), 1):
        asked = cell_text(query, row, names.query)
        if asked is None:
            raise ValueError(f"row {row} has no query")
        query_id = short_id("judged query", asked)
        queries[query_id] = asked
        documents = cell_texts(document, row, names.document)
        passages = {
            short_id("judged passage", text): text for text in cell_texts(passage, row, names.passage) if not documents
        }
        texts |= passages
        judgements += [(query_id, one, _grade(grade, f"row {row}")) for one in (*documents, *passages)]
    return JudgedQueries(queries, judgements, texts)


def _grade(value: Any, where: str) -> float:
    """A row without a grade is relevant. Raises ValueError."""
    if value is None or not str(value).strip():
        return 1.0
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the relevance {str(value)[:40]!r} is no number") from None


# A folder


def _folder(path: Path, section: OwnEvaluation) -> JudgedQueries:
    names = [file.relative_to(path).as_posix() for file in _files(path)]
    described = beir_description(path.name, {*names, CORPUS})
    if described is None or described.queries is None:
        raise ValueError(
            "a folder holds queries.jsonl and qrels/*.tsv, and corpus.jsonl where its ids are not those of corpus"
        )
    queries = _by_id(path / described.queries, section.encoding)
    texts = _by_id(path / str(described.corpus), section.encoding) if described.corpus in names else {}
    file = path / described.splits[described.eval_splits[0]]
    rows = _rows(file, section.encoding)
    query, document, grade = (_column(rows, role, file.name) for role in ("query_id", "document_id", "relevance"))
    judgements = [
        (str(one), str(other), _grade(value, f"{file.name}, line {line}"))
        for line, (one, other, value) in enumerate(zip(query, document, grade, strict=True), 2)
    ]
    asked = {one for one, *_ in judgements}
    return JudgedQueries({one: text for one, text in queries.items() if one in asked}, judgements, texts)


def _by_id(file: Path, encoding: str) -> dict[str, str]:
    """The texts of a file by id; titles go before them. Raises ValueError."""
    rows = _rows(file, encoding)
    ids = [str(one) for one in _column(rows, "id", file.name)]
    once(ids, file.name)
    titles = rows["title"].to_list() if "title" in rows.columns else [""] * rows.height
    found: dict[str, str] = {}
    for row, (one, title, text) in enumerate(zip(ids, titles, _column(rows, "text", file.name), strict=True), 1):
        for column, part in (("title", title), ("text", text)):
            cell_text(part, row, column)  # refuses what is no text
        found[one] = f"{title or ''}\n{text or ''}".strip()
    return found


def _column(rows: pl.DataFrame, role: str, file: str) -> list[Any]:
    for name in (role, *ALIASES.get(role, ())):
        if name in rows.columns:
            return rows[name].to_list()
    raise ValueError(f"{file} has no column {role} (it has {named_columns(rows.columns)})")
