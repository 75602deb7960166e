"""Scores of embedding models and BM25: the microworld's held-out tasks and mteb's own, all run by mteb.

Job parameters:
    models      [{"name", "path", "digest"}, ...]: SentenceTransformer folders
    bm25        also score the lexical baseline, under the name `bm25`
    microworld  {"topics", "rows", "seed"} of the held-out sets, or null
    tasks       names of mteb tasks and benchmarks (their data come from the hub)
    out         Parquet table to write: model, task, type, metric, score
    per_query   folder of <task>.parquet (model, query_id, score): nDCG@10 of every query of held-out ranking tasks
    plot        picture to write
    cache       folder of mteb results, kept between runs: models are told apart by digest, sets by content
    batch_size  texts embedded at once

`bm25` is BM25 where documents are ranked. Other tasks ask for vectors, which BM25 has none of; there its
lexical twin stands in (see `LexicalVectors`), so that every model has every task and means compare.

Belongs here: tasks as mteb has them, running, tables. Not here: the held-out texts
(`microworld/evaluation.py`), comparisons between models.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import polars as pl
from datasets import Dataset
from matplotlib.figure import Figure
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SentenceTransformerEncoderWrapper
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
from mteb.models.model_implementations.bm25 import BM25Search
from mteb.models.model_meta import ModelMeta
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from threadpoolctl import threadpool_limits

from speed_assets.domain.fingerprints import digest
from speed_assets.microworld.evaluation import (
    EVALUATION_VERSION,
    EvaluationSets,
    Labelled,
    Pairs,
    Ranking,
    evaluation_sets,
)
from speed_assets.microworld.language import LANGUAGE_VERSION
from speed_assets.workers.embed import INSTRUCTION

Report = Callable[[int, int, str], None]

BM25 = "bm25"
HELD_OUT = "speed/microworld"
LIBRARIES = ("mteb", "sentence-transformers", "transformers", "torch")
PER_QUERY = "per_query"
DIGITS = 6
"""Decimals of a score: those that the cache keeps, so that a resumed run writes the same table."""
_RANKING = ("Retrieval", "Reranking")
_SCHEMA = {"model": pl.String, "task": pl.String, "type": pl.String, "metric": pl.String, "score": pl.Float64}
_QUERY_SCHEMA = {"model": pl.String, "task": pl.String, "query_id": pl.String, "score": pl.Float64}


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Score every model on every task.

    Returns {"scores": {model: {task: score}}, "seconds": {model: s}, "versions": {library: version}}.
    Scores are mteb's main scores, 0..1 (a rank correlation may fall below 0). Raises KeyError for an unknown task.
    """
    models: list[dict[str, str]] = list(params["models"])
    if params["bm25"]:
        models.append({"name": BM25, "digest": version("bm25s")})
    sets = evaluation_sets(**params["microworld"]) if params["microworld"] else None
    rows: list[dict[str, Any]] = []
    queries: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for number, model in enumerate(models):
        started = time.monotonic()
        encoders = _encoders(model)
        tasks = list(_tasks(sets, params["tasks"]))  # anew for each model: draws within a task go on from run to run
        for place, task in enumerate(tasks):
            meta = task.metadata
            report(number * len(tasks) + place, len(models) * len(tasks), f"{model['name']}: {meta.name}")
            with threadpool_limits(1 if _is_held_out(task) else None, "blas"):  # small matrices: threads only wait
                result = mteb.evaluate(
                    encoders["ranking" if meta.type in _RANKING else "vectors"],
                    task,
                    cache=_cache(task, params),
                    co2_tracker=False,
                    encode_kwargs={"batch_size": params["batch_size"], "show_progress_bar": False},
                    show_progress_bar=False,
                ).task_results[0]
            same = {"model": model["name"], "task": meta.name}
            rows.append(
                {
                    **same,
                    "type": meta.type,
                    "metric": meta.main_score,
                    "score": round(float(result.get_score()), DIGITS),
                }
            )
            for query, ndcg in result.scores["test"][0].get(PER_QUERY, {}).items() if _is_held_out(task) else ():
                queries.append({**same, "query_id": query, "score": round(ndcg, DIGITS)})
        seconds[model["name"]] = time.monotonic() - started

    table = pl.DataFrame(rows, schema=_SCHEMA)
    for file in (Path(params["out"]), Path(params["plot"]), Path(params["per_query"]) / "any"):
        file.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(params["out"])
    for name, frame in pl.DataFrame(queries, schema=_QUERY_SCHEMA).partition_by("task", as_dict=True).items():
        frame.drop("task").write_parquet(Path(params["per_query"]) / f"{name[0]}.parquet")
    _plot(table, Path(params["plot"]))
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(row["model"], {})[row["task"]] = row["score"]
    return {"scores": scores, "seconds": seconds, "versions": {name: version(name) for name in LIBRARIES}}


# Models


def _encoders(model: dict[str, str]) -> dict[str, Any]:
    """What mteb runs for a model, on ranking tasks and on those that ask for vectors."""
    meta = ModelMeta.create_empty({"name": f"speed/{model['name']}", "revision": model["digest"]})
    if "path" not in model:
        ranking: Any = BM25Search(tokenizer=words)
        encoders = {"ranking": ranking, "vectors": LexicalVectors()}
    else:
        encoder = _encoder(model)
        encoders = {"ranking": encoder, "vectors": encoder}
    for found in encoders.values():
        found.mteb_model_meta = meta
    return encoders


def _encoder(model: dict[str, str]) -> AbsEncoder:
    loaded = SentenceTransformer(model["path"], trust_remote_code=False)
    if INSTRUCTION not in loaded.prompts:
        return SentenceTransformerEncoderWrapper(loaded)
    template = loaded.prompts[INSTRUCTION].replace("{task}", "{instruction}")
    return InstructSentenceTransformerModel(
        model["path"], model["digest"], instruction_template=template, apply_instruction_to_passages=False
    )


def words(text: str) -> list[str]:
    """Words as the lexical baseline sees them: no stemmer and no list of stop words, so no language is assumed.

    >>> words("The cost, of Tea-pots")
    ['the', 'cost', 'of', 'tea', 'pots']
    """
    return re.findall(r"\w+", text.lower())


class LexicalVectors(AbsEncoder):
    """The lexical twin of BM25 for tasks that ask for vectors: hashed words under tf-idf, unit length.

    Inverse document frequencies are those of the first texts that a task shows (training texts, or the first
    sides of pairs). Words not among them count as rarest.
    """

    def __init__(self) -> None:
        self._counts = HashingVectorizer(n_features=2**12, analyzer=words, norm=None)
        self._weights: dict[tuple[str, str], TfidfTransformer] = {}

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """(texts, 4096) float32."""
        counts = self._counts.transform(text for batch in inputs for text in batch["text"])
        key = (task_metadata.name, hf_subset)
        if key not in self._weights:
            self._weights[key] = TfidfTransformer().fit(counts)
        return self._weights[key].transform(counts).toarray().astype(np.float32)


# Tasks


def _cache(task: AbsTask, params: dict[str, Any]) -> mteb.ResultCache:
    """Results are kept by what was asked, too: mteb itself tells tasks apart by name only."""
    asked = [EVALUATION_VERSION, LANGUAGE_VERSION, params["microworld"]] if _is_held_out(task) else []
    return mteb.ResultCache(Path(params["cache"]) / digest([version("mteb"), *asked])[:16])


def _tasks(sets: EvaluationSets | None, names: list[str]) -> Iterator[AbsTask]:
    if sets:
        yield from held_out_tasks(sets)
    for name in names:
        try:
            yield from mteb.get_benchmark(name)
        except KeyError:
            yield mteb.get_task(name)


def _is_held_out(task: AbsTask) -> bool:
    return task.metadata.dataset["path"] == HELD_OUT


def _metadata(kind: str, main_score: str, prompt: str) -> TaskMetadata:
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


class _Ranking(AbsTaskRetrieval):
    """Keeps nDCG@10 of every query beside the means."""

    def task_specific_scores(self, scores: dict[str, dict[str, float]], *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {PER_QUERY: {query: found["ndcg_cut_10"] for query, found in scores.items()}}


class MicroworldRetrieval(_Ranking):
    k_values = (1, 3, 5, 10)
    metadata = _metadata("Retrieval", "ndcg_at_10", "Given a question, retrieve texts that answer it")


class MicroworldReranking(_Ranking):
    metadata = _metadata("Reranking", "ndcg_at_10", "Given a question, retrieve texts that answer it")


class MicroworldSTS(AbsTaskSTS):
    metadata = _metadata("STS", "cosine_spearman", "Retrieve semantically similar text")


class MicroworldClassification(AbsTaskClassification):
    metadata = _metadata("Classification", "accuracy", "Classify what a text says about its topic")

    def _calculate_scores(self, y_test: Any, y_pred: Any) -> Any:
        """Scores from an array of labels: a dataset's column is read anew, row by row, for each of ten metrics."""
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

    candidates = ranking.candidates and {query: list(names) for query, names in ranking.candidates.items()}
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


def _plot(table: pl.DataFrame, file: Path) -> None:
    """Bars of every model, grouped by task."""
    tasks, models = (table[column].unique(maintain_order=True).to_list() for column in ("task", "model"))
    figure = Figure(figsize=(max(6.0, 1.6 * len(tasks)), 4), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(models)
    for number, model in enumerate(models):
        scores = dict(table.filter(pl.col("model") == model).select("task", "score").rows())
        axes.bar(
            [place + (number - (len(models) - 1) / 2) * width for place in range(len(tasks))],
            [scores[task] for task in tasks],
            width,
            label=model,
        )
    axes.set(ylabel="score", ylim=(0, 1))
    axes.set_xticks(range(len(tasks)), [task.removeprefix("Microworld") for task in tasks], rotation=20)
    axes.legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    figure.savefig(file, dpi=100)
