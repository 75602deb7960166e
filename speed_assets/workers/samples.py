"""What a score is made of: the result of every query, text or pair, so that scores can be compared in pairs.

| task type | statistic | columns that are filled |
|---|---|---|
| Retrieval, Reranking | mean | score: the main metric of each query (nDCG@10 where the main one is no mean of queries) |
| Classification | mean | score: share of the repetitions in which the text got its label |
| STS | spearman | predicted (cosine), gold |
| PairClassification | average_precision | predicted (by the measure that the main score is of; of `max_ap` the best), gold (0 or 1) |
| Clustering | replicates | score: V-measure of each repetition, which is itself drawn with replacement |

Other task types leave no samples: they are compared by their score alone.

Belongs here: getting them out of mteb. Not here: statistics (`domain/statistics`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from sklearn.metrics import average_precision_score

SAMPLE_SCHEMA = {
    "part": pl.String,
    "statistic": pl.String,
    "sample": pl.String,
    "score": pl.Float64,
    "predicted": pl.Float64,
    "gold": pl.Float64,
}
_TREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P"}
_KINDS = (AbsTaskSTS, AbsTaskPairClassification, AbsTaskClassification, AbsTaskClustering)


class Samples:
    """Listens to one run of one task; `folder` is where mteb may leave its predictions."""

    def __init__(self, task: AbsTask, folder: Path) -> None:
        self._task = task
        self._folder = folder
        self._queries: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
        if isinstance(task, AbsTaskRetrieval):
            listened: Any = task
            usual = listened.task_specific_scores

            def listen(scores: Any, *args: Any, hf_split: str, hf_subset: str, **kwargs: Any) -> Any:
                self._queries[hf_split, hf_subset] = scores
                return usual(scores, *args, hf_split=hf_split, hf_subset=hf_subset, **kwargs)

            listened.task_specific_scores = listen

    @property
    def prediction_folder(self) -> Path | None:
        """What `mteb.evaluate` is to be given; rankings are long and are not kept."""
        return self._folder if isinstance(self._task, _KINDS) else None

    def table(self, scores: dict[str, list[dict[str, Any]]]) -> pl.DataFrame:
        """One row per sample, after the run; `scores` are the result's, by split."""
        rows: list[dict[str, Any]] = []
        if self._queries:
            metric = _query_metric(self._task.metadata.main_score, next(iter(self._queries.values())))
            for (split, subset), queries in self._queries.items():
                same = {"part": f"{split}/{subset}", "statistic": "mean"}
                rows += [{**same, "sample": query, "score": found[metric]} for query, found in queries.items()]
        elif isinstance(self._task, AbsTaskClustering):
            for split, found in scores.items():
                for one in found:
                    same = {"part": f"{split}/{one['hf_subset']}", "statistic": "replicates"}
                    runs = [score for level in one["v_measures"].values() for score in level]
                    rows += [{**same, "sample": str(number), "score": score} for number, score in enumerate(runs)]
        elif isinstance(self._task, _KINDS):
            for part, split_data, predictions in self._predictions():
                rows += [{"part": part, **row} for row in _rows(self._task, split_data, predictions)]
        return pl.DataFrame(rows, schema=SAMPLE_SCHEMA)

    def _predictions(self) -> Iterator[tuple[str, Any, Any]]:
        predicted = json.loads((self._folder / self._task.prediction_file_name).read_text())
        data: Any = self._task.dataset
        for subset, splits in predicted.items():
            for split, predictions in splits.items() if subset != "mteb_model_meta" else ():
                yield f"{split}/{subset}", data.get(subset, data)[split], predictions


def _query_metric(main: str, queries: dict[str, dict[str, float]]) -> str:
    """How pytrec_eval calls the main score, or nDCG@10 where it is none of a single query."""
    found = re.fullmatch(r"(ndcg|map|recall|precision)_at_(\d+)", main)
    name = f"{_TREC[found[1]]}_{found[2]}" if found else "ndcg_cut_10"
    return name if name in next(iter(queries.values()), {}) else "ndcg_cut_10"


def _rows(task: Any, data: Any, predictions: Any) -> Iterator[dict[str, Any]]:
    if isinstance(task, AbsTaskClassification):
        if task.is_cross_validation or isinstance(data[task.label_column_name][0], list):
            return  # each fold predicts other texts, or a text has several labels: no one answer to each
        right = np.array(predictions) == np.array(data[task.label_column_name])
        for number, share in enumerate(right.mean(axis=0)):
            yield {"statistic": "mean", "sample": str(number), "score": float(share)}
        return
    sts = isinstance(task, AbsTaskSTS)
    statistic = "spearman" if sts else "average_precision"
    gold = data["score" if sts else task.label_column_name]
    if len(data) == 1 and isinstance(gold[0], list):  # older pair sets keep all their pairs in one row
        gold = gold[0]
    near = predictions["cosine_scores"] if sts else _nearness(task.metadata.main_score, predictions, gold)
    for number, (predicted, right) in enumerate(zip(near, gold, strict=True)):
        yield {"statistic": statistic, "sample": str(number), "predicted": float(predicted), "gold": float(right)}


def _nearness(main: str, predictions: Any, gold: list[float]) -> Any:
    """How near each pair is, by the measure that the main score names or, where it takes the best, by the best."""
    found = {name.split("_")[0]: np.array(values) for name, values in predictions.items() if len(values) == len(gold)}
    for measure in ("manhattan", "euclidean"):
        found[measure] = -found[measure]
    measure = main.split("_")[0]
    return found[measure if measure in found else max(found, key=lambda m: average_precision_score(gold, found[m]))]
