"""The tables of an evaluation folder: read, and what is wrong with them refused, by the worker that scores it and by a plan.

Data files are JSON lines (`.jsonl`), `.parquet`, `.csv`, or `.tsv` without quoting; `.csv.gz` and `.tsv.gz` work too.

A plan holds no texts: each is read as a short key, which is the same for texts that are equal but for white space and case.

Belongs here: files and columns. Not here: mteb (`folder_tasks.py`), judgements (`domain/relevance_judgements.py`).
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

import polars as pl

from speed_assets.domain.evaluation_folders import (
    DESCRIPTION,
    FIELDS,
    RANKING,
    Description,
    beir_description,
    read_description,
)
from speed_assets.domain.relevance_judgements import candidates_of, judged, judged_apart, once, unjudged

_IDS = ("id", "query_id", "document_id")
_TEXTS = ("text", "title", "sentence1", "sentence2")
_NUMBERS = {"STS": "score", "PairClassification": "label", "Retrieval": "relevance", "Reranking": "relevance"}


@dataclass(frozen=True)
class FolderData:
    """An evaluation folder without faults."""

    described: Description
    splits: Mapping[str, pl.DataFrame]
    """By split, the columns of `FIELDS`; scores, labels of pairs and relevances are numbers."""
    corpus: pl.DataFrame = field(default_factory=pl.DataFrame)
    """id, title, text; of ranking tasks, like all below."""
    queries: pl.DataFrame = field(default_factory=pl.DataFrame)
    """id, text."""
    grades: Mapping[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """By split, grades of documents by query."""
    candidates: Mapping[str, dict[str, list[str]]] = field(default_factory=dict)
    """By split, documents by query; empty where the whole corpus is searched."""
    notes: tuple[str, ...] = ()
    """What may lower scores without being wrong."""


def described_folder(folder: Path) -> Description | None:
    """What a folder says of itself, in `task.yaml` or by BEIR's layout; None where it says nothing.

    Raises:
        OSError: `task.yaml` cannot be read.
        ValueError: the description is wrong.
    """
    file = folder / DESCRIPTION
    if file.is_file():
        return read_description(file.read_text(encoding="utf-8-sig"))
    return beir_description(
        folder.name, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    )


def read_folder(folder: Path, *, texts: bool = True) -> FolderData:
    """The data of an evaluation folder.

    Args:
        folder: with a `task.yaml` and the files that it names, or in BEIR's layout.
        texts: False reads keys in the place of texts, to look for faults.

    Raises:
        ValueError: the message names folder, file and what is wrong.
    """
    try:
        described = described_folder(folder)
        if described is None:
            raise ValueError(f"there is no {DESCRIPTION} and no layout of BEIR")
    except (OSError, ValueError) as error:
        raise ValueError(f"evaluation set {folder}: {DESCRIPTION}: {error}") from None
    reader = _Reader(folder, described, texts)
    splits = {split: _with_numbers(reader, split, name) for split, name in described.splits.items()}
    if described.type in RANKING:
        return _ranking(reader, splits)
    return FolderData(described, splits)


def _with_numbers(reader: _Reader, split: str, name: str) -> pl.DataFrame:
    """A split whose numbers are numbers. Raises ValueError."""
    kind = reader.described.type
    frame = reader.read(name, FIELDS[kind])
    column = _NUMBERS.get(kind)
    if column is None:
        return frame
    where = f"evaluation set {reader.folder}, {split}"
    frame = frame.with_columns(pl.col(column).cast(pl.Float64, strict=False))
    if frame[column].null_count() or not frame[column].is_finite().all():
        raise ValueError(f"{where}: {column} holds something that is not a number")
    if kind == "PairClassification" and not frame[column].is_in([0.0, 1.0]).all():
        raise ValueError(f"{where}: a label of a pair is 0 or 1")
    return frame


def _ranking(reader: _Reader, splits: Mapping[str, pl.DataFrame]) -> FolderData:
    """Raises ValueError for ids, judgements and candidates that are wrong."""
    described, where = reader.described, f"evaluation set {reader.folder}"
    assert described.corpus is not None
    assert described.queries is not None
    corpus = reader.read(described.corpus, ("id", "text"), ("title",), "corpus")
    queries = reader.read(described.queries, ("id", "text"), role="queries")
    once(corpus["id"].to_list(), f"{where}: {described.corpus}")
    once(queries["id"].to_list(), f"{where}: {described.queries}")
    listed = None
    if described.candidates:
        listed = reader.read(described.candidates, ("query_id", "document_id"))
    documents = dict(corpus.select("id", "key").iter_rows())
    asked = dict(queries.select("id", "key").iter_rows())
    drop = described.dangling == "drop"
    judged_ids = {query for frame in splits.values() for query in frame["query_id"]} | _judged_elsewhere(reader)
    notes = [f"{described.name}: {note}" for note in unjudged(asked, judged_ids)]
    grades, candidates = {}, {}
    for split, frame in splits.items():
        try:
            rows = frame.select("query_id", "document_id", "relevance").iter_rows()
            found = judged(rows, asked, documents, drop_dangling=drop)
            said = [*found.notes, *judged_apart(found.grades, asked)]
            if listed is not None:
                pairs = listed.select("query_id", "document_id").iter_rows()
                candidates[split], more = candidates_of(pairs, found.grades, asked, documents, drop_dangling=drop)
                said += more
        except ValueError as error:
            raise ValueError(f"{where}, {split}: {error}") from None
        grades[split] = found.grades
        notes += [f"{described.name}, {split}: {note}" for note in said]
    return FolderData(described, splits, corpus, queries, grades, candidates, tuple(notes))


def _judged_elsewhere(reader: _Reader) -> set[str]:
    """Queries that BEIR's layout judges in splits that are not scored. A file that cannot be read harms no score."""
    found: set[str] = set()
    for file in sorted((reader.folder / "qrels").glob("*.tsv")):
        name = f"qrels/{file.name}"
        if name not in reader.described.splits.values():
            with suppress(ValueError):
                found |= set(reader.read(name, ("query_id",))["query_id"])
    return found


@dataclass(frozen=True)
class _Reader:
    """Reads the files of a folder. Without `texts` the columns of texts are keys."""

    folder: Path
    described: Description
    texts: bool

    def read(
        self, name: str, columns: tuple[str, ...], optional: tuple[str, ...] = (), role: str | None = None
    ) -> pl.DataFrame:
        """A file's rows under our names for its columns, of documents and queries also `key`, that of title and text.

        Args:
            name: the file, in the folder.
            columns: those that it must have.
            optional: those that it may have; one that `fields` names must be there. A text without it is empty.
            role: `corpus` or `queries`.

        Raises:
            ValueError: what is missing or empty.
        """
        where = f"evaluation set {self.folder}: {name}"
        try:
            table = _scanned(self.folder, name)
            taken = self._taken(table.collect_schema(), where, columns, optional, role)
            frame = table.select(taken.values()).select(self._kept(taken, role)).collect(engine="streaming")
        except FileNotFoundError:
            raise ValueError(f"evaluation set {self.folder}: there is no file {name}") from None
        except (OSError, EOFError, pl.exceptions.PolarsError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from None
        if frame.is_empty():
            raise ValueError(f"{where} has no rows")
        holes = [column for column in columns if frame[column].null_count()]
        if holes:
            raise ValueError(f"{where} has rows without {', '.join(holes)}")
        return frame

    def _taken(
        self, schema: pl.Schema, where: str, columns: tuple[str, ...], optional: tuple[str, ...], role: str | None
    ) -> dict[str, pl.Expr]:
        """By our name, what is read of a table. Raises ValueError for columns that are not there or hold no texts."""
        taken: dict[str, pl.Expr] = {}
        missing = []
        for ours in (*columns, *optional):
            names = self.described.columns(ours, role)
            joined = self.described.joined(ours, role)
            there = [theirs for theirs in names if theirs in schema]
            if there and (len(there) == len(names) or not joined):
                texts = there if joined else there[:1]
                if ours in _TEXTS and (odd := [one for one in texts if schema[one].is_nested()]):
                    raise ValueError(f"{where}: {odd[0]} holds something that is not a text")
                parts = [pl.col(theirs).cast(pl.String) for theirs in texts]
                as_text = joined or ours in (*_IDS, *_TEXTS)
                value = pl.concat_str(parts, separator=" ", ignore_nulls=True) if joined else parts[0]
                taken[ours] = (value if as_text else pl.col(texts[0])).alias(ours)
            elif ours in columns or self.described.is_named(ours, role):
                missing.append(" or ".join(theirs for theirs in names if theirs not in there))
            else:
                taken[ours] = pl.lit("").alias(ours)
        if missing:
            raise ValueError(
                f"{where} has no column {', '.join(missing)}: it has {', '.join(schema)} (see `fields` of {DESCRIPTION})"
            )
        return {ours: taken[ours].fill_null("") if ours in optional else taken[ours] for ours in taken}

    def _kept(self, taken: Mapping[str, pl.Expr], role: str | None) -> list[pl.Expr]:
        """What is kept of the columns that are read."""
        kept = [_key(pl.col(ours)) if ours in _TEXTS and not self.texts else pl.col(ours) for ours in taken]
        if role is None:
            return kept
        whole = [pl.col(ours) for ours in ("title", "text") if ours in taken]
        return [*kept, _key(pl.concat_str(whole, separator=" ")).alias("key")]


def _key(text: pl.Expr) -> pl.Expr:
    """A short key of a text: empty for an empty one, null for none, equal for texts that are equal but for white space and case."""
    folded = text.str.replace_all(r"\s+", " ").str.strip_chars().str.to_lowercase()
    return pl.when(folded.is_null() | (folded == "")).then(folded).otherwise(folded.hash().cast(pl.String)).alias(
        text.meta.output_name()
    )  # fmt: skip


def _scanned(folder: Path, name: str) -> pl.LazyFrame:
    """The table in a file, without a byte order mark.

    Raises:
        ValueError: the file is in UTF-16, or of a kind that is not known.
        OSError, EOFError, polars.exceptions.PolarsError: it cannot be read.
    """
    where, plain = f"evaluation set {folder}: {name}", name.removesuffix(".gz")
    if plain.endswith(".parquet"):
        return pl.scan_parquet(folder / name, glob=False)
    with (folder / name).open("rb") as file:
        mark = file.read(3)
    source: str | io.BytesIO = escape(str(folder / name))
    if name != plain or mark == b"\xef\xbb\xbf":
        raw = (folder / name).read_bytes()
        raw = gzip.decompress(raw) if name != plain else raw
        mark, source = raw[:3], io.BytesIO(raw.removeprefix(b"\xef\xbb\xbf"))
    if mark.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{where} is in UTF-16: save it as UTF-8")
    if plain.endswith(".jsonl"):
        return pl.scan_ndjson(source, infer_schema_length=None)
    if plain.endswith(".csv"):
        return pl.scan_csv(source, infer_schema=False)
    if plain.endswith(".tsv"):
        return pl.scan_csv(source, separator="\t", quote_char=None, infer_schema=False)
    raise ValueError(f"{where}: known are .jsonl, .parquet, .csv and .tsv")
