"""The release: model, data, cards and manifest in one folder, written at once.

Belongs here: what a release holds. Not here: its gates (`checks/gates.py`), the words of its cards
(`resources/releases/cards.py`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import polars as pl

from resources.releases.cards import dataset_card, model_card
from resources.releases.releases import SAMPLES, SCORES, next_number
from resources.store.artifacts import Artifacts
from resources.store.store import Artifact
from speed_assets.assets.examples import without_own
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.graph import EXAMPLES, GENERATORS, PASSAGES, RERANKER_SCORES, Stage, external_of
from speed_assets.domain.row_languages import language_columns, language_counts
from speed_assets.domain.statistics import samples_by_model, score_interval
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.recipe import GivenTriplets, Licences, without_places

LIBRARIES = (
    "dagster", "transformers", "trl", "datasets", "sentence-transformers", "mteb", "polars", "great-expectations", "torch",
)  # fmt: skip


def release(run: StageRun[Licences]) -> dict[str, Any]:
    """Model, data, cards, manifest and recipe.json, which holds what the release's fingerprint contains of the recipe.

    A release of which no row may be published has no folder `data/`; the card of its model says why.
    """
    released = _released_rows(run)
    manifest = _manifest(run, released)
    model = run.input("embedding_model")
    shutil.copytree(model.path / "model", run.out / "model", dirs_exist_ok=True)
    (run.out / "model" / "README.md").write_text(model_card(run.recipe, manifest))
    if released is not None:
        rows, removed = released
        removed.write_parquet(run.out / "quarantine.parquet")
        if rows.height:  # with none that may be published there is no data set
            _write_data(run, rows, manifest)
    scores = run.input("mteb_scores")
    scores.table().write_parquet(run.out / f"{SCORES}.parquet")
    scores.table("samples").write_parquet(run.out / f"{SAMPLES}.parquet", compression="zstd")
    (run.out / "recipe.json").write_text(json.dumps(run.lineage["recipe"], indent=1) + "\n")
    (run.out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return {
        "number": next_number(run.store),
        "rows_released": 0 if released is None else released[0].height,
        "scores": manifest["scores"]["embedding_model"],
    }


def _write_data(run: StageRun[Licences], rows: pl.DataFrame, manifest: dict[str, Any]) -> None:
    """Rows by task type, and their card."""
    for task_type in TASK_TYPE_NAMES:
        part = rows.filter(task_type=task_type)
        if part.height:
            folder = run.out / "data" / task_type
            folder.mkdir(parents=True, exist_ok=True)
            part.write_parquet(folder / "train.parquet")
    (run.out / "data" / "README.md").write_text(dataset_card(run.recipe, manifest))


def _released_rows(run: StageRun[Licences]) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """The rows that a release holds and those that were rejected; None where the model is given, or rows are that stay with the user."""
    if "final_triplets" not in run.inputs:
        return None
    if run.graph["final_triplets"].given:
        own = run.recipe.given.final_triplets
        if own is not None and not own.released:
            return None
    rows = run.input("final_triplets")
    return without_own(run, rows.table(), rows.table("quarantine"))


def manifest_of(artifacts: Artifacts) -> dict[str, Any]:
    """The manifest that a release would have now, whether its gates pass or not. Raises NotMaterialized."""
    stage = artifacts.graph["release"]
    unused: Any = None  # a manifest is made from artifacts alone
    run: StageRun[Licences] = StageRun.of(
        artifacts.recipe,
        stage,
        None,
        inputs=artifacts.inputs(stage.name),
        out=unused,
        store=artifacts.store,
        runner=unused,
        teacher=unused,
        context=unused,
        progress=unused,
        lineage=artifacts.lineage(stage.name),
        upstream=partial(artifacts.upstream_of, stage.name),
    )
    return _manifest(run, _released_rows(run))


def _manifest(run: StageRun[Licences], released: tuple[pl.DataFrame, pl.DataFrame] | None) -> dict[str, Any]:
    """Every artifact with its fingerprint and digest, every version, and all figures that the cards show."""
    artifacts = {}
    metadata = []
    made = list(run.upstream())
    for stage, partition, artifact in made:
        metadata.append(artifact.metadata)
        name = f"{stage.name}/{partition}" if partition else stage.name
        artifacts[name] = {
            "fingerprint": artifact.fingerprint,
            "digest": artifact.digest,
            "stage_version": stage.version,
            "rows": artifact.metadata.get("rows"),
            "teacher_calls": artifact.metadata.get("teacher_calls"),
            "reused_calls": artifact.metadata.get("reused_calls"),
        }
    recipe = run.recipe
    scores = run.input("mteb_scores")
    rows: Mapping[str, Any] = run.input("final_triplets").metadata if "final_triplets" in run.inputs else {}
    return {
        "recipe": recipe.name,
        "recipe_digest": digest(run.lineage["recipe"]),
        "artifacts": artifacts,
        "libraries": {name: version(name) for name in LIBRARIES},
        "models": _models(run, made),
        "teacher": _spent([m for m in metadata if m.get("teacher_calls") is not None]),
        "scores": scores.metadata["scores"],
        "evaluation": _evaluated(scores.table()),
        "score_intervals": _intervals(run, scores),
        "trainings": scores.metadata["trainings"],
        "sd_between_seeds": scores.metadata["sd_between_seeds"],
        "rows": {} if released is None else dict(released[0]["task_type"].value_counts(sort=True).iter_rows()),
        "removed": rows.get("removed", {}),
        "contamination": rows.get("contamination", []),
        "contamination_unsearched": list(recipe.evaluation.unsearched),
        **_given(run, made),
        **_dataset(made),
        **_own_examples(run),
        **_languages(run, released),
        "licences": {"model": run.section.model_licence, "data": run.section.data_licence},
    }


def _languages(run: StageRun[Licences], released: tuple[pl.DataFrame, pl.DataFrame] | None) -> dict[str, Any]:
    """{"languages": those drawn, and how many rows are in each}; {} where none was drawn for the rows."""
    if run.languages is None or released is None or not language_columns(released[0]):
        return {}
    return {"languages": language_counts(released[0], run.languages.shares)}


Made = Sequence[tuple[Stage, str | None, Artifact]]
"""Everything that a release is made from: stage, task type, artifact."""


def _models(run: StageRun[Licences], made: Made) -> dict[str, str | None]:
    """The models behind a release; null where none of its artifacts comes from one."""
    recipe, graph = run.recipe, run.graph
    on_base = [
        stage.name
        for stage, _, artifact in made
        if stage.name in GENERATORS and (not stage.given or (artifact.path / "adapter").is_dir())
    ]
    given = any(stage.given for stage in graph.values())
    asks = any(stage.asks_teacher for stage in graph.values())
    return {
        "teacher": recipe.teacher.model if asks or not given else None,
        "generator_base": without_places(recipe.generator.base) if on_base else None,
        "embedding_base": None if graph["embedding_model"].given else without_places(recipe.embedding_model.base),
        **({"reranker": without_places(recipe.reranker_scores.model)} if RERANKER_SCORES in graph else {}),
    }


def _given(run: StageRun[Licences], made: Made) -> dict[str, Any]:
    """{"given": {stage: name, revision and digest of what the user gave}}; {} where nothing was given."""
    found: dict[str, dict[str, Any]] = {}
    for stage, _, artifact in made:
        if stage.given:
            section = getattr(run.recipe.given, stage.name)
            place = section.file if isinstance(section, GivenTriplets) else section.model
            found[stage.name] = {
                "name": without_places(place),
                "revision": artifact.metadata["given"].get("revision"),
                "digest": artifact.lineage["externals"][external_of(stage.name)],
            }
            if isinstance(section, GivenTriplets):
                found[stage.name]["released"] = section.released
    return {"given": found} if found else {}


def _dataset(made: Made) -> dict[str, Any]:
    """{"dataset": name, configuration, split and commit of the data set that the documents are of}; {} where they are of none."""
    found = [artifact.metadata.get("dataset") for stage, _, artifact in made if stage.name == PASSAGES]
    return {"dataset": found[0]} if found and found[0] else {}


def _own_examples(run: StageRun[Licences]) -> dict[str, Any]:
    """{"own_examples": how many examples of the user there were, and whether the rows may hold them}; {} without any."""
    if EXAMPLES not in run.inputs:
        return {}
    return {"own_examples": {"rows": run.input_rows(EXAMPLES).height, "released": run.recipe.examples.released}}


def _evaluated(table: pl.DataFrame) -> dict[str, dict[str, str]]:
    """{task: type, metric and revision of its data}, as far as the table of scores has them."""
    columns = [name for name in ("type", "metric", "dataset_revision") if name in table.columns]
    rows = table.select("task", *columns).unique("task", maintain_order=True)
    return {row["task"]: {name: row[name] for name in columns} for row in rows.iter_rows(named=True)}


def _spent(stages: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Calls, tokens and cost of all the teacher's answers, cached or not; null is unknown, and so is a sum with it."""

    def total(field: str) -> Any:
        parts = [stage.get(field) for stage in stages]
        return None if None in parts else sum(part for part in parts if part is not None)

    currencies = {stage.get("currency") for stage in stages} - {None}
    return {
        "calls": sum(stage["teacher_calls"] + (stage.get("reused_calls") or 0) for stage in stages),
        "prompt_tokens": total("teacher_prompt_tokens_total"),
        "output_tokens": total("teacher_output_tokens_total"),
        "cost": total("teacher_cost_total") if len(currencies) <= 1 else None,
        "currency": currencies.pop() if len(currencies) == 1 else None,
    }


def _intervals(run: StageRun[Licences], scores: Artifact) -> dict[str, dict[str, list[float]]]:
    """{model: {task: [low, high]}}: 1 - alpha bootstrap intervals over samples, of the models in the cards."""
    settings = run.recipe.checks.superior
    found = samples_by_model(scores.table(SAMPLES))
    return {
        model: {
            task: [
                round(edge, 4)
                for edge in score_interval(
                    samples,
                    resamples=settings.resamples,
                    seed=seed_for(run.recipe.seed, "interval", task),
                    alpha=settings.alpha,
                )
            ]
            for task, samples in found.get(model, {}).items()
        }
        for model in scores.metadata["scores"]
    }
