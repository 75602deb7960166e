"""Scores of embedding models and BM25: the microworld's held-out tasks, local sets and mteb's own, all run by mteb.

Job parameters:
    models      [{"name", "path", "digest"}, ...]: SentenceTransformer folders and digests of their content;
                {"plotted": false} leaves one out of the picture
    bm25        also score the lexical baseline, under the name `bm25`
    microworld  {"topics", "rows", "seed"} of the held-out sets, or null
    local       [{"path", "digest"}, ...]: folders of one's own sets (see `local_sets.py`)
    tasks       names of mteb tasks and benchmarks (their data come from the hub)
    out         Parquet table to write, one row per model and task: see `SCORE_SCHEMA`
    samples     Parquet table to write: what each score is made of (see `samples.py`), with model and task
    plot        picture to write
    cache       folder of results, kept between runs
    batch_size  texts embedded at once

Every score carries its identity: digest of the model, revision of the set, versions of the libraries and dtype. The
cache is keyed by nothing else, and scores whose sets, versions or dtypes differ are not to be compared.

`bm25` is BM25 where documents are ranked. Other tasks ask for vectors, which BM25 has none of; there its
lexical twin stands in (see `LexicalVectors`), so that every model has every task and means compare.

Belongs here: tasks as mteb has them, running, tables. Not here: the held-out texts
(`microworld/evaluation.py`), comparisons between models (`domain/statistics.py`).
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from speed_assets.domain.graph import SCORING_LIBRARIES
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
from speed_assets.workers.local_sets import local_task
from speed_assets.workers.samples import Samples
from speed_assets.workers.task_texts import named_tasks

Report = Callable[[int, int, str], None]

BM25 = "bm25"
HELD_OUT = "speed/microworld"
IDENTITY = ("model_digest", "dataset_revision", "mteb", "sentence_transformers", "transformers", "dtype")
EVALUATOR_VERSION = "1"
"""Raised when the same identity may be scored otherwise than before."""
DIGITS = 6
"""Decimals of a score and of its samples."""
_RANKING = ("Retrieval", "Reranking")
SCORE_SCHEMA = {
    "model": pl.String,
    "task": pl.String,
    "type": pl.String,
    "metric": pl.String,
    "score": pl.Float64,
    "samples": pl.Int64,
    **dict.fromkeys(IDENTITY, pl.String),
}


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Score every model on every task.

    Returns {"scores": {model: {task: score}}, "seconds": {model: s}, "versions": {library: version}, "cached": count}.
    Scores are mteb's main scores, 0..1 (a rank correlation may fall below 0). Raises KeyError for an unknown task,
    ValueError for a broken set of one's own or two tasks of one name.
    """
    models: list[dict[str, Any]] = list(params["models"])
    if params["bm25"]:
        models.append({"name": BM25, "digest": version("bm25s")})
    sets = evaluation_sets(**params["microworld"]) if params["microworld"] else None
    rows: list[dict[str, Any]] = []
    samples: list[pl.DataFrame] = []
    seconds: dict[str, float] = {}
    cached = 0
    for number, model in enumerate(models):
        started = time.monotonic()
        encoders = _encoders(model)
        tasks = list(_tasks(sets, params))  # anew for each model: draws within a task go on from run to run
        for place, task in enumerate(tasks):
            name = task.metadata.name
            report(number * len(tasks) + place, len(models) * len(tasks), f"{model['name']}: {name}")
            encoder = encoders["ranking" if task.metadata.type in _RANKING else "vectors"]
            identity = _identity(model, task, encoder)
            kept = Path(params["cache"]) / digest([EVALUATOR_VERSION, name, _settings(task), identity])[:24]
            if not kept.exists():
                _score(task, encoder, kept, params["batch_size"])
            else:
                cached += 1
            found = json.loads((kept / "score.json").read_text())
            table = pl.read_parquet(kept / "samples.parquet")
            rows.append({"model": model["name"], "task": name, **found, "samples": table.height, **identity})
            samples.append(table.select(pl.lit(model["name"]).alias("model"), pl.lit(name).alias("task"), pl.all()))
        seconds[model["name"]] = time.monotonic() - started

    table = pl.DataFrame(rows, schema=SCORE_SCHEMA)
    for file in ("out", "samples", "plot"):
        Path(params[file]).parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(params["out"])
    pl.concat(samples).write_parquet(params["samples"], compression="zstd")
    plotted = [model["name"] for model in models if model.get("plotted", True)]
    _plot(table.filter(pl.col("model").is_in(plotted)), Path(params["plot"]))
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(row["model"], {})[row["task"]] = row["score"]
    versions = {name: version(name) for name in SCORING_LIBRARIES}
    return {"scores": scores, "seconds": seconds, "versions": versions, "cached": cached}


def _identity(model: dict[str, str], task: AbsTask, encoder: Any) -> dict[str, str]:
    loaded = getattr(encoder, "model", None)
    dtype = str(next(loaded.parameters()).dtype).removeprefix("torch.") if loaded is not None else "none"
    libraries = {name: version(name.replace("_", "-")) for name in IDENTITY[2:5]}
    revision = str(task.metadata.dataset["revision"])
    return {"model_digest": model["digest"], "dataset_revision": revision, **libraries, "dtype": dtype}


def _settings(task: AbsTask) -> list[Any]:
    """What of a task's own settings changes its score."""
    names = ("samples_per_label", "n_experiments", "n_clusters", "max_documents_per_cluster", "max_document_to_embed")
    return [task.metadata.main_score, task.seed, *(getattr(task, name, None) for name in names)]


def _score(task: AbsTask, encoder: Any, kept: Path, batch_size: int) -> None:
    """Run one task; its score and samples appear in `kept` whole or not at all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
        work = Path(temporary) / "work"
        listener = Samples(task, Path(temporary) / "predictions")
        with threadpool_limits(1 if _is_held_out(task) else None, "blas"):  # small matrices: threads only wait
            result = mteb.evaluate(
                encoder,
                task,
                cache=None,
                co2_tracker=False,
                prediction_folder=listener.prediction_folder,
                encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
                show_progress_bar=False,
            ).task_results[0]
        work.mkdir()
        table = listener.table(result.scores).with_columns(pl.col(pl.Float64).round(DIGITS))
        table.write_parquet(work / "samples.parquet", compression="zstd")
        found = {"type": task.metadata.type, "metric": task.metadata.main_score}
        score = round(float(result.get_score()), DIGITS)
        (work / "score.json").write_text(json.dumps({**found, "score": score}))
        with suppress(OSError):  # another run has put the same result there
            work.rename(kept)


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


def _tasks(sets: EvaluationSets | None, params: dict[str, Any]) -> Iterator[AbsTask]:
    seen: set[str] = set()
    for task in _all_tasks(sets, params):
        name = task.metadata.name
        if name in seen:
            raise ValueError(f"two evaluation sets are called {name}: give each a name of its own")
        seen.add(name)
        yield task


def _all_tasks(sets: EvaluationSets | None, params: dict[str, Any]) -> Iterator[AbsTask]:
    if sets:
        revision = digest([EVALUATION_VERSION, LANGUAGE_VERSION, params["microworld"]])[:16]
        for task in held_out_tasks(sets):
            task.metadata.dataset["revision"] = revision
            yield task
    for one in params.get("local", ()):
        yield local_task(Path(one["path"]), one["digest"])
    yield from named_tasks(params["tasks"])


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


class MicroworldRetrieval(AbsTaskRetrieval):
    k_values = (1, 3, 5, 10)
    metadata = _metadata("Retrieval", "ndcg_at_10", "Given a question, retrieve texts that answer it")


class MicroworldReranking(AbsTaskRetrieval):
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
