"""The microworld's held-out sets as mteb tasks, with their texts in them: nothing is loaded from anywhere.

Belongs here: those tasks. Not here: their texts (`microworld/evaluation.py`), running them (`evaluate.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
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
from typing_extensions import override

from speed_assets.microworld.evaluation import EVALUATION_VERSION, EvaluationSets, Labelled, Pairs, Ranking

HELD_OUT = "speed/microworld"


def is_held_out(task: AbsTask) -> bool:
    """Whether a task is one of these."""
    return task.metadata.dataset["path"] == HELD_OUT


def _metadata(kind: Any, main_score: str, prompt: str) -> TaskMetadata:
    return TaskMetadata(
        name=f"Microworld{kind}",
        description=f"{kind} on invented topics of the microworld",
        dataset={"path": HELD_OUT, "revision": EVALUATION_VERSION},
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        prompt=prompt,
    )


class MicroworldRetrieval(AbsTaskRetrieval):
    k_values = (1, 3, 5, 10)
    metadata = _metadata("Retrieval", "ndcg_at_10", "Given a question, retrieve texts that answer it")


class MicroworldReranking(AbsTaskRetrieval):
    metadata = _metadata("Reranking", "ndcg_at_10", "Given a question, retrieve texts that answer it")


class MicroworldSTS(AbsTaskSTS):
    metadata = _metadata("STS", "cosine_spearman", "Retrieve semantically similar text")


class MicroworldClassification(AbsTaskClassification):
    metadata = _metadata("Classification", "accuracy", "Classify what a text says about its topic")

    @override
    def _calculate_scores(self, y_test: Any, y_pred: Any) -> Any:
        """Scores from an array of labels: a dataset's column is read again, row by row, for each of ten metrics."""
        return super()._calculate_scores(np.asarray(y_test), y_pred)


class MicroworldClustering(AbsTaskClustering):
    metadata = _metadata("Clustering", "v_measure", "Identify what texts say about their topics")
    max_fraction_of_documents_to_embed = None


class MicroworldPairClassification(AbsTaskPairClassification):
    metadata = _metadata("PairClassification", "max_ap", "Retrieve texts that say the same about the same topic")


def held_out_tasks(sets: EvaluationSets) -> Iterator[AbsTask]:
    """The six held-out tasks, with their texts in them: nothing is loaded from anywhere."""
    clustering = MicroworldClustering()
    clustering.max_documents_per_cluster = len(sets.clustering.texts)  # drawn with replacement, so no fewer differ
    for task, data in (
        (MicroworldRetrieval(), _ranking_data(sets.retrieval)),
        (MicroworldReranking(), _ranking_data(sets.reranking)),
        (MicroworldSTS(), {"test": _pairs_data(sets.sts, "score")}),
        (
            MicroworldClassification(),
            {"train": _labelled_data(sets.classification_train), "test": _labelled_data(sets.classification_test)},
        ),
        (
            clustering,
            {"test": _labelled_data(sets.clustering).rename_columns({"text": "sentences", "label": "labels"})},
        ),
        (MicroworldPairClassification(), {"test": _pairs_data(sets.pair_classification, "labels")}),
    ):
        task.dataset = {"default": data}
        task.data_loaded = True
        yield task


def _ranking_data(ranking: Ranking) -> dict[str, Any]:
    def rows(texts: dict[str, str], **more: str) -> Dataset:
        return Dataset.from_list([{"id": name, "text": text, **more} for name, text in texts.items()])

    given = ranking.candidates
    candidates = {query: list(names) for query, names in given.items()} if given else given
    return {
        "test": {
            "corpus": rows(ranking.corpus, title=""),
            "queries": rows(ranking.queries),
            "relevant_docs": {query: dict.fromkeys(names, 1) for query, names in ranking.relevant.items()},
            "top_ranked": candidates,
        }
    }


def _pairs_data(pairs: Pairs, column: str) -> Dataset:
    scores = [int(score) for score in pairs.scores]
    return Dataset.from_dict({"sentence1": list(pairs.first), "sentence2": list(pairs.second), column: scores})


def _labelled_data(labelled: Labelled) -> Dataset:
    numbers = {label: number for number, label in enumerate(sorted(set(labelled.labels)))}
    return Dataset.from_dict({"text": list(labelled.texts), "label": [numbers[label] for label in labelled.labels]})
