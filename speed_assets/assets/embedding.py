"""The embedding model, the models it is compared with, and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

import polars as pl

from resources.compute.parallel_jobs import WorkerJob, run_each
from resources.inputs.evaluation_sets import scored_folders
from resources.inputs.external_digests import folder_digest
from speed_assets.assets.embedding_jobs import train_job, untrained_model
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.trained_rows import TRAINED_ON, margin_figures, trained_rows
from speed_assets.domain.evaluation_folders import OWN_SETS
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.graph import OWN_EVALUATION
from speed_assets.domain.instructions import instruction_of
from speed_assets.domain.language_names import mteb_languages
from speed_assets.recipe import EmbeddingModel, EmbeddingReruns, MtebScores, RecipeError

_PART_FILES = {"out": ".parquet", "samples": ".parquet", "plot": ".png"}
"""Files that an evaluation writes, with the endings of their names."""


def embedding_model(run: StageRun[EmbeddingModel]) -> dict[str, Any]:
    """Contrastive fine-tuning on final_triplets; opens with `SentenceTransformer(path)`."""
    rows = trained_rows(run)
    return {**_train(run, {"model": rows})["model"], **margin_figures(rows)}


def baseline_models(run: StageRun[None]) -> dict[str, Any]:
    """The same training on the valid rows of each baseline table."""
    jobs = {}
    for table in run.stage.inputs:
        rows = run.input_rows(table)
        valid = rows.filter("valid") if "valid" in rows.columns else rows
        jobs[table] = valid.select(TRAINED_ON)
    return {"baselines": _train(run, jobs)}


def embedding_reruns(run: StageRun[EmbeddingReruns]) -> dict[str, Any]:
    """The training of embedding_model under other seeds, on the same rows."""
    rows = trained_rows(run)
    numbers = range(1, run.section.count + 1)
    seeds = {f"rerun_{n}": seed_for(run.recipe.seed, "embedding", "rerun", str(n)) % 2**31 for n in numbers}
    return {"reruns": _train(run, dict.fromkeys(seeds, rows), seeds)}


def mteb_scores(run: StageRun[MtebScores]) -> dict[str, Any]:
    """One score per model and task, through mteb; what each is made of in the table `samples`.

    Raises:
        RecipeError: the recipe names nothing to score, or `own_evaluation` has no query.
    """
    section, reruns = run.section, _reruns(run)
    models = _trained(run, reruns)
    evaluation = run.recipe.evaluation
    microworld = evaluation.microworld
    folder = run.scratch / "evaluate"
    if section.untrained:
        untrained = untrained_model(run, folder, run.recipe.embedding_model)
        base = run.externals["embedding_base"]
        models.append({"name": "untrained", "path": str(untrained), "digest": f"{base[:16]}-untrained"})
    local = [{"path": str(path), "digest": folder_digest(str(path))} for path in scored_folders(evaluation.local)]
    if OWN_EVALUATION in run.inputs:
        places = [run.input(OWN_EVALUATION).path / name for name in OWN_SETS]
        own = [place for place in places if place.is_dir()]
        if not own:
            raise RecipeError("own_evaluation has no query: look at its quarantine (`speed quarantine`), or remove it")
        local += [{"path": str(one), "digest": folder_digest(str(one))} for one in own]
    if not (microworld or evaluation.tasks or local):
        raise RecipeError("nothing to score: set evaluation.microworld or .tasks, or put a task.yaml into a local set")
    job = {
        "models": models,
        "bm25": section.bm25,
        "microworld": microworld and microworld.model_dump(),
        "tasks": list(evaluation.tasks),
        "local": local,
        "out": str(folder / "scores.parquet"),
        "samples": str(run.out / "samples.parquet"),
        "cache": str(folder / "cache"),
        "plot": str(run.unhashed / "scores.png"),
        "batch_size": run.unfingerprinted.runtime.scoring_batch,
    }
    before = _score_in_parts(run, job, folder)
    result = run.runner.run("evaluate", job, folder, run.progress)
    cached = result["cached"] if before is None else before
    run.write(pl.read_parquet(folder / "scores.parquet"))
    scores: dict[str, dict[str, float]] = result["scores"]
    trainings = [scores[name] for name in ("embedding_model", *reruns)]
    shown = {name: found for name, found in scores.items() if name not in reruns}
    return {
        **result,
        "cached": cached,
        "scores": shown,
        "mean": {name: round(sum(s.values()) / len(s), 4) for name, s in shown.items()},
        "trainings": len(trainings),
        "sd_between_seeds": {t: round(stdev([s[t] for s in trainings]), 4) for t in trainings[0]} if reruns else None,
    }


def _score_in_parts(run: StageRun[MtebScores], job: dict[str, Any], folder: Path) -> int | None:
    """Fill the job's cache of scores by as many workers as run at the same time, each with a share of the models.

    Returns:
        How many scores were in the cache before; None where one worker is all that runs, and nothing was done.
    """
    workers = min(run.runner.at_once, len(job["models"]))
    if workers == 1:
        return None
    parts = []
    for place in range(workers):
        part = folder / f"part_{place}"
        files = {name: str(part / f"{name}{end}") for name, end in _PART_FILES.items()}
        share = {"models": job["models"][place::workers], "bm25": job["bm25"] and not place}
        parts.append(WorkerJob("evaluate", {**job, **share, **files}, part))
    cached: list[int] = [result["cached"] for result in run_each(run.runner, parts, run.progress)]
    return sum(cached)


def _reruns(run: StageRun[MtebScores]) -> tuple[str, ...]:
    """What scores call the models of embedding_reruns, in order."""
    trained = run.input("embedding_reruns").metadata["reruns"] if "embedding_reruns" in run.inputs else ()
    return EmbeddingReruns(count=len(trained)).names()


def _trained(run: StageRun[MtebScores], reruns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The models of this recipe that are scored, as the worker takes them, with the languages that they were trained on."""
    models = [{"name": "embedding_model", **_identity(run, "embedding_model", "model")}]
    models += [{"name": f"{table} only", **_identity(run, "baseline_models", table)} for table in run.section.baselines]
    models += [
        {"name": name, **_identity(run, "embedding_reruns", f"rerun_{number}"), "plotted": False}
        for number, name in enumerate(reruns, 1)
    ]
    languages = {"languages": mteb_languages(run.languages.codes)} if run.languages else {}
    return [{**model, **languages} for model in models]


def _identity(run: StageRun[Any], asset: str, folder: str) -> dict[str, Any]:
    artifact = run.input(asset)
    return {"path": str(artifact.path / folder), "digest": f"{artifact.digest[:16]}-{folder}"}


def _train(
    run: StageRun[Any], tables: dict[str, pl.DataFrame], seeds: Mapping[str, int] | None = None
) -> dict[str, dict[str, Any]]:
    """Train one model per table; each in the artifact's folder of the table's name, all under the seed of
    embedding_model unless `seeds` says otherwise.
    """
    folder = run.scratch / "embed"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for name, rows in tables.items():
        if rows.is_empty():
            raise RecipeError(
                f"{run.stage.name} has no rows to train {name} on: see the quarantines of its inputs (`speed quarantine`)"
            )
        _instructed(rows, run.recipe.embedding_model).write_parquet(folder / f"{name}.parquet")
        unhashed = run.unhashed if len(tables) == 1 else run.unhashed / name
        unhashed.mkdir(parents=True, exist_ok=True)
        jobs.append(
            {
                "name": name,
                "triplets": str(folder / f"{name}.parquet"),
                "out": str(run.out / name),
                "aside": str(unhashed),
                **({"seed": seeds[name]} if seeds else {}),
            }
        )
    trained: dict[str, dict[str, Any]] = train_job(run, jobs, folder, run.recipe.embedding_model)["models"]
    return trained


def _instructed(rows: pl.DataFrame, settings: EmbeddingModel) -> pl.DataFrame:
    """The rows as they are trained on: `task` is the {task} of the instruction, which for STS is not the topic."""
    named = rows.select("task_type", "task", "row_id").rows()
    tasks = [instruction_of(kind, task, row_id, settings.sts_instructions) for kind, task, row_id in named]
    return rows.with_columns(task=pl.Series(tasks, dtype=pl.String)).drop("row_id")
