"""Scores of embedding models and BM25: the microworld's held-out tasks, local sets and mteb's own, all run by mteb.

Every score carries its identity: digest of the model, revision of the set, versions of the libraries, dtype, and what stood
before the texts (`instruction`). The cache is keyed by nothing else, and scores whose sets, versions, dtypes or
instructions differ are not to be compared. An aggregate of mteb (CQADupstack) is scored part by part and averaged as mteb
does.

`bm25` is BM25 where documents are ranked. Other tasks ask for vectors, which BM25 has none of; there its
lexical twin replaces it (`encoders.py`), so that every model has every task and means compare.

Belongs here: running tasks, tables. Not here: the tasks (`held_out.py`, `folder_tasks.py`), the models (`encoders.py`),
comparisons between models (`domain/statistics`).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import mteb
import polars as pl
from matplotlib.figure import Figure
from mteb.abstasks import AbsTask
from mteb.results import TaskResult
from threadpoolctl import threadpool_limits

from speed_assets.domain.evaluation_folders import check_names
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import SCORING_LIBRARIES
from speed_assets.domain.statistics import samples_by_model, score_interval
from speed_assets.microworld.evaluation import EVALUATION_VERSION, EvaluationSets, evaluation_sets
from speed_assets.microworld.toy_language import LANGUAGE_VERSION
from speed_assets.workers.encoders import asked_with, encoders_of
from speed_assets.workers.folder_tasks import local_task, notes_of
from speed_assets.workers.held_out import held_out_tasks, is_held_out
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Evaluate, Params, ScoredModel
from speed_assets.workers.samples import SAMPLE_SCHEMA, Samples
from speed_assets.workers.task_texts import aggregate, named_tasks

BM25 = "bm25"
IDENTITY = ("model_digest", "dataset_revision", "mteb", "sentence_transformers", "transformers", "dtype", "instruction")
EVALUATOR_VERSION = "2"
"""Raised when the same identity may be scored otherwise than before."""
DIGITS = 6
"""Decimals of a score and of its samples."""
_SLANTED_MAX = 8
"""Tasks whose names have room next to each other in the plot; more are written upright."""
_PLOT_RESAMPLES = 500
"""Bootstrap draws of an interval in the plot (ours); gates and cards use `checks.superior.resamples`."""
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


def run(params: Params, report: Report) -> dict[str, Any]:
    """Score every model on every task.

    Args:
        params: of a job of kind `Evaluate`.
        report: gets the progress, in tasks of all models.

    Returns:
        {"scores": {model: {task: score}}, "seconds": {model: s}, "versions": {library: version}, "cached": count}, and
        "notes", what is to be reported of the sets' own judgements, where there is any. Scores are mteb's main scores, 0..1
        (a rank correlation may fall below 0).

    Raises:
        KeyError: a task is unknown.
        ValueError: a set of one's own is broken, or two tasks have one name.
    """
    job = Evaluate.read(params)
    models = list(job.models)
    if job.bm25:
        models.append(ScoredModel(name=BM25, digest=version("bm25s")))
    sets = evaluation_sets(**asdict(job.microworld)) if job.microworld else None
    rows: list[dict[str, Any]] = []
    samples: list[pl.DataFrame] = []
    seconds: dict[str, float] = {}
    cached = 0
    notes: dict[str, None] = {}
    for number, model in enumerate(models):
        started = time.monotonic()
        scorer = _Scorer(model, Path(job.cache), job.batch_size)
        tasks = _tasks(sets, job)  # for each model: draws within a task continue from run to run
        for place, task in enumerate(tasks):
            name = task.metadata.name
            notes.update(dict.fromkeys(notes_of(task)))
            report(number * len(tasks) + place, len(models) * len(tasks), f"{model.name}: {name}")
            found = scorer.score(task)
            rows.append(
                {"model": model.name, "task": name, **found.score, "samples": found.samples.height, **found.identity}
            )
            named = (pl.lit(model.name).alias("model"), pl.lit(name).alias("task"))
            samples.append(found.samples.select(*named, pl.all()))
        cached += scorer.cached
        seconds[model.name] = time.monotonic() - started

    table = pl.DataFrame(rows, schema=SCORE_SCHEMA)
    for file in (job.out, job.samples, job.plot):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(job.out)
    pl.concat(samples).write_parquet(job.samples, compression="zstd")
    plotted = [model.name for model in models if model.plotted]
    _plot(table.filter(pl.col("model").is_in(plotted)), pl.concat(samples), Path(job.plot))
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(row["model"], {})[row["task"]] = row["score"]
    versions = {name: version(name) for name in SCORING_LIBRARIES}
    return {"scores": scores, "seconds": seconds, "versions": versions, "cached": cached} | (
        {"notes": list(notes)} if notes else {}
    )


@dataclass(frozen=True)
class _Scored:
    """One model's score on one task: `score` is type, metric and score, `result` mteb's own."""

    score: dict[str, Any]
    samples: pl.DataFrame
    identity: dict[str, str]
    result: TaskResult


class _Scorer:
    """Scores one model, task by task; what is in the cache is not scored again."""

    def __init__(self, model: ScoredModel, cache: Path, batch_size: int) -> None:
        self._model, self._cache, self._batch_size = model, cache, batch_size
        self._encoders = encoders_of(model)
        self.cached = 0

    def score(self, task: AbsTask) -> _Scored:
        """The score of a task, or of an aggregate as mteb makes it from its parts'."""
        if task.is_aggregate:
            return _aggregated(task, [self.score(copy(part)) for part in aggregate(task).tasks])
        encoder = self._encoders["ranking" if task.metadata.type in _RANKING else "vectors"]
        identity = _identity(self._model, task, encoder)
        kept = self._cache / digest([EVALUATOR_VERSION, task.metadata.name, _settings(task), identity])[:24]
        if kept.exists():
            self.cached += 1
        else:
            _score(task, encoder, kept, self._batch_size)
        table = pl.read_parquet(kept / "samples.parquet")
        found = json.loads((kept / "score.json").read_text())
        return _Scored(found, table, identity, TaskResult.from_disk(kept / "result.json"))


def _aggregated(task: AbsTask, parts: list[_Scored]) -> _Scored:
    """The score that mteb gives an aggregate, and the samples of its parts under their names.

    A score is compared through its samples as the mean over their parts, so they are kept only where that is mteb's score.
    """
    result = aggregate(task).combine_task_results([part.result for part in parts])
    score = round(float(result.get_score()), DIGITS)
    tables = [
        part.samples.with_columns(part=pl.format("{}/{}", pl.lit(part.result.task_name), "part")) for part in parts
    ]
    sizes = {part.samples["part"].n_unique() for part in parts}
    samples = pl.concat(tables) if len(sizes) == 1 and 0 not in sizes else pl.DataFrame(schema=SAMPLE_SCHEMA)
    mean = sum(part.score["score"] for part in parts) / len(parts)
    if abs(mean - score) > 10**-DIGITS * len(parts):
        samples = samples.clear()
    identity = {
        **parts[0].identity,
        "dataset_revision": digest([part.identity["dataset_revision"] for part in parts])[:16],
        "instruction": " || ".join(dict.fromkeys(part.identity["instruction"] for part in parts)),
    }
    found = {"type": task.metadata.type, "metric": task.metadata.main_score, "score": score}
    return _Scored(found, samples, identity, result)


def _identity(model: ScoredModel, task: AbsTask, encoder: Any) -> dict[str, str]:
    loaded = getattr(encoder, "model", None)
    dtype = str(next(loaded.parameters()).dtype).removeprefix("torch.") if loaded is not None else "none"
    libraries = {name: version(name.replace("_", "-")) for name in IDENTITY[2:5]}
    revision = str(task.metadata.dataset["revision"])
    instruction = asked_with(encoder, task)
    return {
        "model_digest": model.digest,
        "dataset_revision": revision,
        **libraries,
        "dtype": dtype,
        "instruction": instruction,
    }


def _settings(task: AbsTask) -> list[Any]:
    """What of a task's own settings changes its score."""
    names = ("samples_per_label", "n_experiments", "n_clusters", "max_documents_per_cluster", "max_document_to_embed")
    return [task.metadata.main_score, task.seed, *(getattr(task, name, None) for name in names)]


def _score(task: AbsTask, encoder: Any, kept: Path, batch_size: int) -> None:
    """Run one task; its score and samples appear in `kept` complete or not at all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    loaded = task.data_loaded
    if not loaded:
        task.load_data()  # here, since mteb drops what it has loaded itself, and samples are read from it
    with tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
        work = Path(temporary) / "work"
        listener = Samples(task, Path(temporary) / "predictions")
        with threadpool_limits(1 if is_held_out(task) else None, "blas"):  # small matrices: threads only wait
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
        table = listener.table(cast(dict[str, list[dict[str, Any]]], result.scores)).with_columns(
            pl.col(pl.Float64).round(DIGITS)
        )
        table.write_parquet(work / "samples.parquet", compression="zstd")
        found = {"type": task.metadata.type, "metric": task.metadata.main_score}
        score = round(float(result.get_score()), DIGITS)
        (work / "score.json").write_text(json.dumps({**found, "score": score}))
        result.to_disk(work / "result.json")
        with suppress(OSError):  # another run has put the same result there
            work.rename(kept)
    if not loaded:
        task.unload_data()


# Tasks


def _tasks(sets: EvaluationSets | None, job: Evaluate) -> list[AbsTask]:
    tasks = list(_all_tasks(sets, job))
    check_names(task.metadata.name for task in tasks)
    return tasks


def _all_tasks(sets: EvaluationSets | None, job: Evaluate) -> Iterator[AbsTask]:
    if sets and job.microworld:
        revision = digest([EVALUATION_VERSION, LANGUAGE_VERSION, asdict(job.microworld)])[:16]
        for task in held_out_tasks(sets):
            task.metadata.dataset["revision"] = revision
            yield task
    for one in job.local:
        yield local_task(Path(one.path), one.digest)
    yield from named_tasks(job.tasks)


def _plot(table: pl.DataFrame, samples: pl.DataFrame, file: Path) -> None:
    """Bars of every model, grouped by task, with 95 % intervals over samples where samples are kept; no file where no model is plotted."""
    if table.is_empty():
        return
    try:
        found = samples_by_model(samples)
    except ValueError:  # samples without a value: a check reports them
        found = {}
    tasks, models = (table[column].unique(maintain_order=True).to_list() for column in ("task", "model"))
    # At most 960 pixels: what is wider than Dagster's dialog is cut there.
    figure = Figure(figsize=(9.6, 4.5), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(models)
    for number, model in enumerate(models):
        scores = dict(table.filter(pl.col("model") == model).select("task", "score").rows())
        places = [place + (number - (len(models) - 1) / 2) * width for place in range(len(tasks))]
        axes.bar(places, [scores[task] for task in tasks], width, label=model)
        for place, task in zip(places, tasks, strict=True):
            if task in found.get(model, {}):
                edges = score_interval(found[model][task], resamples=_PLOT_RESAMPLES, seed=0, alpha=0.05)
                axes.vlines(place, *edges, color="black", linewidth=1)
    axes.set(ylabel="score", ylim=(0, 1))
    axes.set_xticks(
        range(len(tasks)),
        [task.removeprefix("Microworld") for task in tasks],
        rotation=20 if len(tasks) <= _SLANTED_MAX else 90,
    )
    axes.legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    figure.savefig(file, dpi=100)
