"""Evaluation sets of one's own as mteb tasks. `domain/evaluation_folders.py` describes the folder.

Data files are JSON lines (`.jsonl`), `.parquet`, `.csv`, or `.tsv` without quoting; `.csv.gz` and `.tsv.gz` work too.

Belongs here: reading such a folder into mteb's task classes. Not here: running them (`evaluate.py`).
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import polars as pl
from datasets import Dataset
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from speed_assets.domain.evaluation_folders import (
    DESCRIPTION,
    FIELDS,
    MAIN_SCORES,
    Description,
    beir_description,
    read_description,
)
from speed_assets.domain.relevance_judgements import judged, once


def local_task(folder: Path, content: str) -> AbsTask:
    """The task in `folder`, its data loaded.

    Args:
        folder: with a `task.yaml` and the files that it names.
        content: digest of the files: the revision that scores carry.

    Raises:
        ValueError: the message names folder, file and what is wrong.
    """
    described = _described(folder)
    task = _BUILDERS[described.type](folder, described)
    short = content[:16]
    task.metadata.dataset["revision"] = f"{described.revision}-{short}" if described.revision else short
    return task


def notes_of(task: AbsTask) -> list[str]:
    """What is to be reported of a task's data."""
    return list(getattr(task, "notes", ()))


def _described(folder: Path) -> Description:
    """What the folder says of itself, in `task.yaml` or by BEIR's layout."""
    file = folder / DESCRIPTION
    try:
        if not file.is_file():
            names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            if described := beir_description(folder.name, names):
                return described
        return read_description(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"evaluation set {folder}: {DESCRIPTION}: {error}") from None


def _metadata(described: Description) -> TaskMetadata:
    return TaskMetadata(
        name=described.name,
        description=described.description or described.name,
        dataset={"path": f"local/{described.name}", "revision": described.revision or "local"},
        type=described.type,
        category="t2c" if described.type == "Classification" else "t2t",
        eval_splits=list(described.eval_splits),
        eval_langs=list(described.languages),
        main_score=described.main_score or MAIN_SCORES[described.type],
        prompt=described.prompt,
    )


def _task(base: type[AbsTask], described: Description, dataset: dict[str, Any], **settings: Any) -> AbsTask:
    task: AbsTask = type(described.name, (base,), {"metadata": _metadata(described), **settings})()
    task.dataset = {"default": dataset}
    task.data_loaded = True
    return task


def _splits(folder: Path, described: Description) -> dict[str, pl.DataFrame]:
    return {split: _read(folder, name, described, FIELDS[described.type]) for split, name in described.splits.items()}


def _read(
    folder: Path,
    name: str,
    described: Description,
    columns: tuple[str, ...],
    optional: tuple[str, ...] = (),
    role: str | None = None,
) -> pl.DataFrame:
    """A file's rows under our names for its columns. `role` is `corpus` or `queries`. Raises ValueError for what is missing or
    empty."""
    where = f"evaluation set {folder}: {name}"
    frame = _frame(folder, name)
    taken: list[pl.Expr] = []
    missing = []
    for ours in (*columns, *optional):
        names = described.columns(ours, role)
        there = [theirs for theirs in names if theirs in frame.columns]
        if there and (len(there) == len(names) or not described.joined(ours, role)):
            if described.joined(ours, role):
                parts = [pl.col(theirs).cast(pl.String) for theirs in there]
                taken.append(pl.concat_str(parts, separator=" ", ignore_nulls=True).alias(ours))
            else:
                taken.append(pl.col(there[0]).alias(ours))
        elif ours in columns:
            missing.append(" or ".join(theirs for theirs in names if theirs not in there))
    if missing:
        raise ValueError(
            f"{where} has no column {', '.join(missing)}: it has {', '.join(frame.columns)} (see `fields` of {DESCRIPTION})"
        )
    frame = frame.select(taken)
    if frame.is_empty():
        raise ValueError(f"{where} has no rows")
    holes = [column for column in columns if frame[column].null_count()]
    if holes:
        raise ValueError(f"{where} has rows without {', '.join(holes)}")
    return frame


def _frame(folder: Path, name: str) -> pl.DataFrame:
    """The table in a file, without a byte order mark. Raises ValueError when it cannot be read."""
    where, plain = f"evaluation set {folder}: {name}", name.removesuffix(".gz")
    try:
        if plain.endswith(".parquet"):
            return pl.read_parquet(folder / name)
        raw = (folder / name).read_bytes()
        raw = gzip.decompress(raw) if name != plain else raw
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError(f"{where} is in UTF-16: save it as UTF-8")
        text = io.BytesIO(raw.removeprefix(b"\xef\xbb\xbf"))
        if plain.endswith(".jsonl"):
            return pl.read_ndjson(text, infer_schema_length=None)
        if plain.endswith(".csv"):
            return pl.read_csv(text, infer_schema=False)
        if plain.endswith(".tsv"):
            return pl.read_csv(text, separator="\t", quote_char=None, infer_schema=False)
    except FileNotFoundError:
        raise ValueError(f"evaluation set {folder}: there is no file {name}") from None
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    raise ValueError(f"{where}: known are .jsonl, .parquet, .csv and .tsv")


def _numbers(frame: pl.DataFrame, column: str, where: str) -> list[float]:
    values = frame[column].cast(pl.Float64, strict=False)
    if values.null_count() or not values.is_finite().all():
        raise ValueError(f"{where}: {column} holds something that is not a number")
    return values.to_list()


def _sts(folder: Path, described: Description) -> AbsTask:
    data = {
        split: Dataset.from_dict(
            {
                "sentence1": frame["sentence1"].to_list(),
                "sentence2": frame["sentence2"].to_list(),
                "score": _numbers(frame, "score", f"evaluation set {folder}, {split}"),
            }
        )
        for split, frame in _splits(folder, described).items()
    }
    low, high = described.score_range
    return _task(AbsTaskSTS, described, data, min_score=low, max_score=high)


def _pair_classification(folder: Path, described: Description) -> AbsTask:
    data = {}
    for split, frame in _splits(folder, described).items():
        labels = _numbers(frame, "label", f"evaluation set {folder}, {split}")
        if set(labels) - {0.0, 1.0}:
            raise ValueError(f"evaluation set {folder}, {split}: a label of a pair is 0 or 1")
        pairs = {side: frame[side].to_list() for side in ("sentence1", "sentence2")}
        data[split] = Dataset.from_dict({**pairs, "labels": [int(label) for label in labels]})
    return _task(AbsTaskPairClassification, described, data)


def _labelled(folder: Path, described: Description, text: str, label: str) -> dict[str, Dataset]:
    """Texts with numbered labels; the numbers follow the labels' order over all splits."""
    frames = _splits(folder, described)
    names = sorted({str(value) for frame in frames.values() for value in frame["label"]})
    numbers = {name: number for number, name in enumerate(names)}
    return {
        split: Dataset.from_dict(
            {text: frame["text"].to_list(), label: [numbers[str(value)] for value in frame["label"]]}
        )
        for split, frame in frames.items()
    }


def _classification(folder: Path, described: Description) -> AbsTask:
    data = _labelled(folder, described, "text", "label")
    repeats = {"samples_per_label": described.samples_per_label, "n_experiments": described.experiments}
    return _task(AbsTaskClassification, described, data, **repeats)


def _clustering(folder: Path, described: Description) -> AbsTask:
    """Every text is embedded; a repetition clusters as many as there are, drawn with replacement."""
    data = _labelled(folder, described, "sentences", "labels")
    most = max(len(data[split]) for split in described.eval_splits)
    settings = {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": min(16_384, most)}
    return _task(AbsTaskClustering, described, data, n_clusters=described.experiments, **settings)


def _ranking(folder: Path, described: Description) -> AbsTask:
    assert described.corpus is not None
    assert described.queries is not None
    where = f"evaluation set {folder}"
    corpus = _read(folder, described.corpus, described, ("id", "text"), ("title",), "corpus").cast({"id": pl.String})
    if "title" not in corpus.columns:
        corpus = corpus.with_columns(title=pl.lit(""))
    corpus = corpus.with_columns(pl.col("title").fill_null(""))
    queries = _read(folder, described.queries, described, ("id", "text"), role="queries").cast({"id": pl.String})
    once(corpus["id"].to_list(), f"{where}: {described.corpus}")
    once(queries["id"].to_list(), f"{where}: {described.queries}")
    texts = dict(zip(corpus["id"], corpus["title"] + " " + corpus["text"], strict=True))
    candidates = None
    if described.candidates:
        listed = _read(folder, described.candidates, described, ("query_id", "document_id"))
        candidates = _grouped(listed)
    data = {}
    notes: list[str] = []
    for split, frame in _splits(folder, described).items():
        grades = _numbers(frame, "relevance", f"{where}, {split}")
        rows = zip(frame["query_id"].cast(pl.String), frame["document_id"].cast(pl.String), grades, strict=True)
        try:
            found = judged(rows, queries["id"], texts, drop_dangling=described.dangling == "drop")
        except ValueError as error:
            raise ValueError(f"{where}, {split}: {error}") from None
        relevant = found.grades
        notes += [f"{described.name}, {split}: {note}" for note in found.notes]
        asked = queries.filter(pl.col("id").is_in(list(relevant)))
        data[split] = {
            "corpus": Dataset.from_list(corpus.select("id", "title", "text").to_dicts()),
            "queries": Dataset.from_list(asked.select("id", "text").to_dicts()),
            "relevant_docs": relevant,
            "top_ranked": candidates and {query: candidates[query] for query in relevant if query in candidates},
        }
    return _task(AbsTaskRetrieval, described, data, notes=tuple(notes))


def _grouped(listed: pl.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for query, document in listed.select("query_id", "document_id").iter_rows():
        found.setdefault(str(query), []).append(str(document))
    return found


_BUILDERS = {
    "STS": _sts,
    "PairClassification": _pair_classification,
    "Classification": _classification,
    "Clustering": _clustering,
    "Retrieval": _ranking,
    "Reranking": _ranking,
}
