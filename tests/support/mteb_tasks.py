"""Small tasks of mteb's kinds that load nothing from anywhere.

Belongs here: tasks that several test files use. Not here: what is tested on them.
"""

from __future__ import annotations

from typing import Any

import pytest
from typing_extensions import override

pytest.importorskip("mteb")
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.aggregate_task_metadata import AggregateTaskMetadata
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.task_metadata import TaskMetadata


def metadata(name: str, kind: Any, score: str, **more: Any) -> TaskMetadata:
    return TaskMetadata(
        name=name, description=name, dataset={"path": f"test/{name}", "revision": "7"}, type=kind,
        category="t2t", eval_splits=more.pop("eval_splits", ["test"]), eval_langs=["eng-Latn"], main_score=score, **more,
    )  # fmt: skip


FORUMS = {
    "Cooking": (["how does dough rise", "what is yeast"], ["dough rises by yeast", "yeast is alive", "an oven is hot"]),
    "Boats": (
        ["how to moor"],
        ["moor with a rope at the quay", "sails catch wind", "a keel is heavy", "oars are long"],
    ),
}


class Forum(AbsTaskRetrieval):
    """A part of an aggregate, which loads its data as tasks of the hub do."""

    loads = 0

    @override
    def load_data(self, *args: Any, **kwargs: Any) -> None:
        type(self).loads += 1
        queries, corpus = FORUMS[self.metadata.name.removeprefix("Forum")]
        rows = [{"id": f"d{n}", "title": "", "text": text} for n, text in enumerate(corpus)]
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_list(rows),
                    "queries": Dataset.from_list([{"id": f"q{n}", "text": text} for n, text in enumerate(queries)]),
                    "relevant_docs": {f"q{n}": {f"d{n}": 1} for n in range(len(queries))},
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


def aggregate() -> AbsTaskAggregate:
    parts = [
        type(name, (Forum,), {"metadata": metadata(f"Forum{name}", "Retrieval", "ndcg_at_10")})() for name in FORUMS
    ]
    said = AggregateTaskMetadata(
        name="ForumRetrieval", description="both", tasks=parts, main_score="ndcg_at_10", type="Retrieval",
        eval_splits=["test"],
    )  # fmt: skip
    found: AbsTaskAggregate = type("ForumRetrieval", (AbsTaskAggregate,), {"metadata": said})()
    return found


class OneSplit(AbsTaskSTS):
    """A task that loads its data itself, as those of the hub do."""

    metadata = metadata("OneSplit", "STS", "cosine_spearman")

    @override
    def load_data(self, *args: Any, **kwargs: Any) -> None:
        pairs = {
            "sentence1": ["the cat sleeps", "rain falls", "bread is warm"],
            "sentence2": ["a cat sleeps", "it rains", "cold is the sea"],
            "score": [5.0, 4.0, 0.0],
        }
        train = {"sentence1": ["never scored"], "sentence2": ["nor this"], "score": [1.0]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(pairs), "train": Dataset.from_dict(train)})
        self.data_loaded = True
