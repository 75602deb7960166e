"""Evaluation sets of one's own as mteb tasks. `domain/evaluation_folders.py` describes the folder.

Data files are JSON lines (`.jsonl`), `.parquet`, `.csv`, or `.tsv` without quoting; `.csv.gz` and `.tsv.gz` work too.

Belongs here: reading such a folder into mteb's task classes. Not here: running them (`evaluate.py`).
"""

from __future__ import annotations

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

from speed_assets.domain.evaluation_folders import DESCRIPTION, FIELDS, MAIN_SCORES, Description, read_description


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


def _described(folder: Path) -> Description:
    try:
        return read_description((folder / DESCRIPTION).read_text(encoding="utf-8"))
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
    folder: Path, name: str, described: Description, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pl.DataFrame:
    """A file's rows under our names for its columns. Raises ValueError for what is missing or empty."""
    file, where = folder / name, f"evaluation set {folder}: {name}"
    plain = name.removesuffix(".gz")
    try:
        if plain.endswith(".parquet"):
            frame = pl.read_parquet(file)
        elif plain.endswith(".jsonl"):
            frame = pl.read_ndjson(file, infer_schema_length=None)
        elif plain.endswith(".csv"):
            frame = pl.read_csv(file, infer_schema=False)
        elif plain.endswith(".tsv"):
            frame = pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False)
        else:
            raise ValueError(f"{where}: readable are .jsonl, .parquet, .csv and .tsv")
    except FileNotFoundError:
        raise ValueError(f"evaluation set {folder}: there is no file {name}") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    there = {ours: described.fields.get(ours, ours) for ours in (*columns, *optional)}
    missing = [there[ours] for ours in columns if there[ours] not in frame.columns]
    if missing:
        raise ValueError(
            f"{where} has no column {', '.join(missing)}: it has {', '.join(frame.columns)} (see `fields`)"
        )
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in there.items() if theirs in frame.columns)
    if frame.is_empty():
        raise ValueError(f"{where} has no rows")
    holes = [column for column in columns if frame[column].null_count()]
    if holes:
        raise ValueError(f"{where} has rows without {', '.join(holes)}")
    return frame


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
    plain = described.model_copy(update={"fields": {}})  # `fields` is for relevance; these names are fixed
    corpus = _read(folder, described.corpus, plain, ("id", "text"), ("title",)).cast({"id": pl.String})
    if "title" not in corpus.columns:
        corpus = corpus.with_columns(title=pl.lit(""))
    corpus = corpus.with_columns(pl.col("title").fill_null(""))
    queries = _read(folder, described.queries, plain, ("id", "text")).cast({"id": pl.String})
    candidates = None
    if described.candidates:
        listed = _read(folder, described.candidates, described, ("query_id", "document_id"))
        candidates = _grouped(listed)
    data = {}
    for split, frame in _splits(folder, described).items():
        grades = [int(grade) for grade in _numbers(frame, "relevance", f"evaluation set {folder}, {split}")]
        relevant: dict[str, dict[str, int]] = {}
        for query, document, grade in zip(frame["query_id"], frame["document_id"], grades, strict=True):
            relevant.setdefault(str(query), {})[str(document)] = grade
        unknown = set(relevant) - set(queries["id"])
        if unknown:
            raise ValueError(f"evaluation set {folder}, {split}: no query has the id {sorted(unknown)[0]!r}")
        asked = queries.filter(pl.col("id").is_in(list(relevant)))
        data[split] = {
            "corpus": Dataset.from_list(corpus.select("id", "title", "text").to_dicts()),
            "queries": Dataset.from_list(asked.select("id", "text").to_dicts()),
            "relevant_docs": relevant,
            "top_ranked": candidates and {query: candidates[query] for query in relevant if query in candidates},
        }
    return _task(AbsTaskRetrieval, described, data)


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
