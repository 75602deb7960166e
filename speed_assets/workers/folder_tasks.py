"""Evaluation sets of one's own as mteb tasks. `domain/evaluation_folders.py` describes the folder.

Belongs here: mteb's task classes with a folder's data. Not here: reading the data (`folder_data.py`), running the tasks (`evaluate.py`).
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

from speed_assets.domain.evaluation_folders import MAIN_SCORES, Description
from speed_assets.workers.folder_data import FolderData, read_folder


def local_task(folder: Path, content: str) -> AbsTask:
    """The task in `folder`, its data loaded.

    Args:
        folder: with a `task.yaml` and the files that it names.
        content: digest of the files: the revision that scores carry.

    Raises:
        ValueError: the message names folder, file and what is wrong.
    """
    data = read_folder(folder)
    described = data.described
    task = _BUILDERS[described.type](data)
    short = content[:16]
    task.metadata.dataset["revision"] = f"{described.revision}-{short}" if described.revision else short
    return task


def notes_of(task: AbsTask) -> list[str]:
    """What is to be reported of a task's data."""
    return list(getattr(task, "notes", ()))


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


def _sts(data: FolderData) -> AbsTask:
    columns = ("sentence1", "sentence2", "score")
    pairs = {
        split: Dataset.from_dict(frame.select(columns).to_dict(as_series=False)) for split, frame in data.splits.items()
    }
    low, high = data.described.score_range
    return _task(AbsTaskSTS, data.described, pairs, min_score=low, max_score=high)


def _pair_classification(data: FolderData) -> AbsTask:
    pairs = {
        split: Dataset.from_dict(
            frame.select("sentence1", "sentence2", labels=pl.col("label").cast(pl.Int64)).to_dict(as_series=False)
        )
        for split, frame in data.splits.items()
    }
    return _task(AbsTaskPairClassification, data.described, pairs)


def _labelled(data: FolderData, text: str, label: str) -> dict[str, Dataset]:
    """Texts with numbered labels; the numbers follow the labels' order over all splits."""
    names = sorted({str(value) for frame in data.splits.values() for value in frame["label"]})
    numbers = {name: number for number, name in enumerate(names)}
    return {
        split: Dataset.from_dict(
            {text: frame["text"].to_list(), label: [numbers[str(value)] for value in frame["label"]]}
        )
        for split, frame in data.splits.items()
    }


def _classification(data: FolderData) -> AbsTask:
    described = data.described
    repeats = {"samples_per_label": described.samples_per_label, "n_experiments": described.experiments}
    return _task(AbsTaskClassification, described, _labelled(data, "text", "label"), **repeats)


def _clustering(data: FolderData) -> AbsTask:
    """Every text is embedded; a repetition clusters as many as there are, drawn with replacement."""
    described, labelled = data.described, _labelled(data, "sentences", "labels")
    most = max(len(labelled[split]) for split in described.eval_splits)
    settings = {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": min(16_384, most)}
    return _task(AbsTaskClustering, described, labelled, n_clusters=described.experiments, **settings)


def _ranking(data: FolderData) -> AbsTask:
    corpus = data.corpus.select("id", "title", "text").to_dicts()
    splits = {}
    for split, relevant in data.grades.items():
        asked = data.queries.filter(pl.col("id").is_in(list(relevant)))
        splits[split] = {
            "corpus": Dataset.from_list(corpus),
            "queries": Dataset.from_list(asked.select("id", "text").to_dicts()),
            "relevant_docs": relevant,
            "top_ranked": data.candidates.get(split),
        }
    return _task(AbsTaskRetrieval, data.described, splits, notes=data.notes)


_BUILDERS = {
    "STS": _sts,
    "PairClassification": _pair_classification,
    "Classification": _classification,
    "Clustering": _clustering,
    "Retrieval": _ranking,
    "Reranking": _ranking,
}
