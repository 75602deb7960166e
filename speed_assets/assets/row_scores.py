"""Row scores: scores of each row from models that did not write it, for the filters of final_triplets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from resources.compute.generator import model_source
from resources.compute.parallel_jobs import WorkerJob, run_each
from resources.inputs.base_models import resolve_embedder
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.writing import evaluation_texts, made_before, truths
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.graph import EVALUATION_TEXTS
from speed_assets.domain.scoring import SCORES, in_reading_order
from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS
from speed_assets.recipe import RowScores

NEARNESS = {
    "positive_similarity": pl.Float64,
    "negative_similarity": pl.Float64,
    "evaluation_similarity": pl.Float64,
    "evaluation": pl.String,
}
_ABREAST = 3
"""Plots in one line: a picture wider than Dagster's dialog is cut there."""
TWINS = {"a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64}
_LIKELIHOODS = "likelihoods.parquet"
_QUANTILES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def row_scores(run: StageRun[RowScores]) -> dict[str, Any]:
    """One row for each row of the source, in its order: row_id, task_type, the scores, and how near it is in meaning.

    A score is null where it cannot be computed: without a generator, without an embedder, for an invalid row. The
    table `twins` (a, b, similarity) holds places of rows that are alike.
    """
    source, *writer = (name for name in run.stage.inputs if name != EVALUATION_TEXTS)
    rows = run.input_rows(source)
    valid = rows["valid"] if "valid" in rows.columns else pl.repeat(True, rows.height, eager=True)
    reading: dict[str, Any] = {}
    readings = _Readings(run, writer[0], rows.filter(valid)) if writer else None
    agreement = _agreement_job(run, rows.filter(valid))
    run_each(run.runner, [*(readings.jobs if readings else ()), agreement], run.progress)
    scored = pl.read_parquet(agreement.folder / "scores.parquet")
    if readings:
        likely, reading = readings.scores()
        scored = scored.hstack(likely.select("least_likely", "swapped"))
    else:
        nothing = pl.lit(None, pl.Float64)
        scored = scored.with_columns(nothing.alias("least_likely"), nothing.alias("swapped"))
    places = valid.arg_true()
    scores = rows.select("row_id", "task_type").with_columns(
        pl.repeat(None, rows.height, dtype=pl.Float64, eager=True).scatter(places, scored[name]).alias(name)
        for name in SCORES
    )
    near, twins, audit = _neighbours(run, rows.filter(valid))
    scores = scores.with_columns(
        pl.repeat(None, rows.height, dtype=near[name].dtype, eager=True).scatter(places, near[name]).alias(name)
        for name in NEARNESS
    )
    run.write(scores)
    run.write(
        twins.with_columns(pl.Series(places).gather(twins[name]).cast(pl.Int64).alias(name) for name in ("a", "b")),
        "twins",
    )
    truth = truths(run, rows)
    right = pl.Series([row.all_right for row in truth], dtype=pl.Boolean) if truth is not None else None
    _plot(scores, right, run.unhashed / "scores.png")
    quantiles = {
        name: {f"{q:g}": scores[name].quantile(q) for q in _QUANTILES} for name in SCORES if scores[name].count()
    }
    return {"asked": rows.height, "unscored": int((~valid).sum()), "quantiles": quantiles, **audit, **reading}


class _Readings:
    """The least likely token of what each row says, and of its negative, had that been written as the positive, under the model of
    `writer`. What earlier artifacts hold is not read again.

    Args:
        run: the stage.
        writer: the input whose model reads.
        rows: valid ones.
    """

    def __init__(self, run: StageRun[RowScores], writer: str, rows: pl.DataFrame) -> None:
        recipe = run.recipe
        model = run.input(writer)
        asked = pl.concat(
            [
                rows.select("row_id", "prompt").with_columns(
                    pl.Series("record", _records(rows, swapped), dtype=pl.String),
                    pl.lit(value, pl.Int64).alias("value"),
                    pl.int_range(pl.len()).alias("place"),
                    pl.lit(name).alias("score"),
                )
                for name, swapped, value in (("least_likely", False, None), ("swapped", True, 1))
            ]
        ).drop_nulls("record")
        named = asked.select("row_id", "prompt", "record", "value").rows()
        self._asked = asked.with_columns(pl.Series("text", [digest(list(row)) for row in named], dtype=pl.String))
        self._reading = digest([recipe.generator.dtype, recipe.generator.chat, model.digest])
        self._cached = _read_before(run, self._reading)
        self._run, self._rows, self._model = run, rows.height, model
        new = self._asked.join(self._cached, on="text", how="anti", maintain_order="left")
        self._new = new.unique("text", maintain_order=True)
        parts = _parts(self._new, recipe.generator.batch_rows, run.runner.at_once)
        self.jobs = [self._job(part, rows) for part, rows in enumerate(parts)]
        """At most as many as run at the same time. They share a journal, so another number of them resumes."""

    def _job(self, part: int, rows: pl.DataFrame) -> WorkerJob:
        from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

        recipe = self._run.recipe
        folder = self._run.scratch / "likelihood" / str(part)
        folder.mkdir(parents=True, exist_ok=True)
        rows.with_columns(row_id=pl.col("text")).write_parquet(folder / "rows.parquet")
        source = model_source(recipe.generator, self._model)
        job = jobs.Likelihood(
            model=source.model,
            revision=source.revision,
            adapter=source.adapter,
            dtype=recipe.generator.dtype,
            chat=recipe.generator.chat,
            rows=str(folder / "rows.parquet"),
            out=str(folder / "likelihoods.parquet"),
            journal=str(folder.parent / "journal"),
            batch_rows=recipe.generator.batch_rows,
        )
        return WorkerJob("likelihood", job.to_json(), folder)

    def scores(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        """(least_likely, swapped) of each row, once the jobs have run, and what the metadata say of the reading."""
        tables = [pl.read_parquet(job.folder / "likelihoods.parquet").rename({"row_id": "text"}) for job in self.jobs]
        read = pl.concat([self._cached, *tables])
        found = self._asked.join(read, on="text", how="left", maintain_order="left", validate="m:1")
        kept = found.select("text", "least_likely").unique("text")
        kept.write_parquet(self._run.unhashed / _LIKELIHOODS, compression="zstd")
        scores = pl.DataFrame({"place": range(self._rows)}, schema={"place": pl.Int64})
        for name in ("least_likely", "swapped"):
            of_name = found.filter(pl.col("score") == name).select("place", pl.col("least_likely").alias(name))
            scores = scores.join(of_name, on="place", how="left", maintain_order="left")
        new = self._new.height
        return scores, {"reading": self._reading, "read_rows": new, "known_rows": self._asked.height - new}


def _parts(rows: pl.DataFrame, batch_rows: int, parts: int) -> list[pl.DataFrame]:
    """The rows in at most so many parts, whole batches each, in the order in which the worker reads them: so a row is read in the same batch
    whatever the number of parts is."""
    batches = list(in_reading_order(rows).drop("position").iter_slices(batch_rows))
    return [pl.concat(batches[part::parts]) for part in range(min(parts, len(batches)))]


def _records(rows: pl.DataFrame, swapped: bool) -> list[str | None]:
    """The record of each row in one line; `swapped`, with positive and negative in each other's place, where it has both."""
    records: list[str | None] = []
    for task_type, query, positive, negative in rows.select("task_type", *TRIPLET_FIELDS).iter_rows():
        texts = {"query": query, "positive": positive, "negative": negative}
        if swapped:
            texts |= {"positive": negative, "negative": positive}
        complete = not swapped or negative is not None
        records.append(json.dumps(TASK_TYPES[task_type].record(texts), ensure_ascii=False) if complete else None)
    return records


def _read_before(run: StageRun[RowScores], reading: str) -> pl.DataFrame:
    """(text, least_likely) in complete artifacts of this stage, read by the same model."""
    tables = [pl.DataFrame(schema={"text": pl.String, "least_likely": pl.Float64})]
    tables += made_before(run, _LIKELIHOODS, "reading", reading)
    return pl.concat(tables).unique("text", keep="first", maintain_order=True)


def _neighbours(run: StageRun[RowScores], rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """What the embedder says of the rows: similarities, twins, and an audit of the negatives. Nulls without one."""
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    section = run.section
    if section.embedder is None:
        nothing = {name: pl.repeat(None, rows.height, dtype=dtype, eager=True) for name, dtype in NEARNESS.items()}
        return pl.DataFrame(nothing), pl.DataFrame(schema=TWINS), {}
    folder = run.scratch / "neighbours"
    folder.mkdir(parents=True, exist_ok=True)
    rows.select("row_id", "task_type", "task", *TRIPLET_FIELDS).write_parquet(folder / "rows.parquet")
    texts = pl.concat(
        [
            pl.DataFrame(schema={"task": pl.String, "text": pl.String}),
            *(
                pl.select(task=pl.lit(task), text=pl.Series("text", group, dtype=pl.String))
                for task, group in evaluation_texts(run).items()
            ),
        ]
    )
    texts.write_parquet(folder / "texts.parquet")
    run.runner.run(
        "similarities",
        jobs.Similarities(
            **resolve_embedder(section.embedder),
            rows=str(folder / "rows.parquet"),
            evaluation=str(folder / "texts.parquet") if texts.height else None,
            twin_min=section.twin_min,
            twins_max=section.twins_max,
            out=str(folder / "similarities.parquet"),
            twins=str(folder / "twins.parquet"),
        ).to_json(),
        folder,
        run.progress,
    )
    near = pl.read_parquet(folder / "similarities.parquet")
    contrasted = near.drop_nulls("negative_similarity")
    closer = contrasted.filter(pl.col("negative_similarity") >= pl.col("positive_similarity"))
    by_type = (
        rows.select("row_id", "task_type").join(closer, on="row_id", how="semi")["task_type"].value_counts(sort=True)
    )
    audit = {
        "written_negatives": {
            "compared": contrasted.height,
            "no_further_than_positive": closer.height,
            "by_task_type": dict(by_type.iter_rows()),
        }
    }
    return near, pl.read_parquet(folder / "twins.parquet"), audit


def _agreement_job(run: StageRun[RowScores], rows: pl.DataFrame) -> WorkerJob:
    """The job that writes (role, margin) of each row, from models trained on other rows."""
    folder = run.scratch / "consistency"
    folder.mkdir(parents=True, exist_ok=True)
    rows.select("row_id", "task_type", *TRIPLET_FIELDS).write_parquet(folder / "rows.parquet")
    params = {
        "rows": str(folder / "rows.parquet"),
        "out": str(folder / "scores.parquet"),
        "seed": seed_for(run.recipe.seed, "row_scores") % 2**31,
        **run.section.model_dump(mode="json", exclude={"embedder", "twin_min", "twins_max"}),
    }
    return WorkerJob("consistency", params, folder)


def _plot(scores: pl.DataFrame, right: pl.Series | None, path: Path) -> None:
    """How the scores are spread; in the microworld, rows that are right and rows that are not."""
    from matplotlib.figure import Figure

    shown = [name for name in SCORES if scores[name].count()]
    lines = max(1, -(-len(shown) // _ABREAST))
    figure = Figure(figsize=(3 * _ABREAST, 2.6 * lines), dpi=105, layout="constrained")
    for place, name in enumerate(shown, 1):
        axes = figure.add_subplot(lines, _ABREAST, place)
        groups = {"rows": scores[name]}
        if right is not None:
            groups = {"right": scores[name].filter(right), "wrong": scores[name].filter(~right)}
        axes.hist([column.drop_nulls().to_list() for column in groups.values()], bins=30, stacked=True)
        axes.set_yscale("log")
        axes.set_xlabel(name)
        axes.legend(list(groups), fontsize=7)
    figure.savefig(path)
