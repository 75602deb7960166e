"""Assets, checks, resources and jobs, put together; every part can be overridden in tests.

Belongs here: wiring. Not here: what any part does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from checks.asset_checks import build_asset_checks
from checks.gates import refusals
from resources import living
from resources.artifacts import Artifacts
from resources.calls import TeacherEngine
from resources.dialects import DialectBook
from resources.home import speed_home
from resources.ledger import Ledger
from resources.plainly import keep_secret
from resources.progress import ProgressFor, quiet
from resources.runner import Runner
from resources.shared_store import store_of
from resources.teacher import Teacher
from speed_assets.assets import (
    embedding,
    evaluation_texts,
    junior,
    negatives,
    quarantine,
    revisor,
    row_scores,
    row_verdicts,
    senior,
    tasks,
    topic_tree,
    triplets,
)
from speed_assets.assets.release import release_through
from speed_assets.assets.stage import StageFunction, asset_for
from speed_assets.assets.stand_ins import standing_in
from speed_assets.automation import automation_sensor, evaluation_schedule, topic_sensor, when_stale
from speed_assets.domain.graph import Stage
from speed_assets.partitions import TASK_TYPE_PARTITIONS
from speed_assets.recipe import Recipe, RecipeError

FUNCTIONS: dict[str, StageFunction] = {
    "evaluation_texts": evaluation_texts.evaluation_texts,
    "topics": tasks.topics,
    "topic_tree": topic_tree.topic_tree,
    "task_list": tasks.task_list,
    "seed_data": junior.seed_data,
    "junior_model": junior.junior_model,
    "junior_data": junior.junior_data,
    "preference_pairs": senior.preference_pairs,
    "senior_model": senior.senior_model,
    "senior_data": senior.senior_data,
    "revision_data": revisor.revision_data,
    "revisor_model": revisor.revisor_model,
    "revised_data": revisor.revised_data,
    "row_scores": row_scores.row_scores,
    "row_verdicts": row_verdicts.row_verdicts,
    "final_triplets": triplets.final_triplets,
    "mined_negatives": negatives.mined_negatives,
    "quarantine": quarantine.quarantine,
    "embedding_model": embedding.embedding_model,
    "baseline_models": embedding.baseline_models,
    "embedding_reruns": embedding.embedding_reruns,
    "mteb_scores": embedding.mteb_scores,
    "release": release_through(refusals),
}


GENERATING = ("junior_data", "senior_data", "revised_data")
"""Stages whose GPU work goes out in shards where the recipe has a cluster."""


def build_defs(
    recipe: Recipe,
    home: Path | None = None,
    *,
    progress: ProgressFor = quiet,
    runner: Runner | None = None,
    teacher_engine: TeacherEngine | None = None,
    code_versions: Mapping[str, str] | None = None,
    executor: str | None = None,
) -> dg.Definitions:
    """The Dagster definitions of a recipe in a home (default: `SPEED_HOME`). `code_versions` by asset are those of a plan,
    by which Dagster shows what it would make; without them an asset has that of its own code and recipe. `executor` as
    `executor_named` knows it."""
    home = home or speed_home()
    keep_secret(recipe.teacher.key_variable, *recipe.teacher.dialect.headers.values())
    artifacts = Artifacts(recipe, store_of(home))

    def lazily(make: Callable[[], Any]) -> dg.ResourceDefinition:
        return dg.ResourceDefinition(resource_fn=lambda _context: make())

    def make_runner(_context: dg.InitResourceContext) -> Any:
        if runner is not None:
            yield runner
            return
        own = Runner(home, recipe.runtime.threads, recipe.runtime.warm_start)
        try:
            yield own
        finally:
            own.close()

    def make_artifacts(context: dg.InitResourceContext) -> Artifacts:
        if context.instance and context.run_id:  # so that a run of a daemon, too, is known to be gone when it is
            context.instance.add_run_tags(context.run_id, living.run_tags(context.instance))
        artifacts.store.open()
        return artifacts

    cluster = recipe.runtime.cluster
    cards = cluster.gpus_per_step if cluster and executor == "ray" else 0
    return dg.Definitions(
        assets=[
            asset_for(
                stage,
                standing_in(FUNCTIONS[name]) if recipe.rehearsal else FUNCTIONS[name],
                artifacts,
                when_stale(),
                (code_versions or {}).get(name),
                _on_cards(stage, cards),
            )
            for name, stage in artifacts.graph.items()
        ],
        asset_checks=build_asset_checks(recipe, TASK_TYPE_PARTITIONS),
        resources={
            "artifacts": dg.ResourceDefinition(resource_fn=make_artifacts),
            "runner": dg.ResourceDefinition(resource_fn=make_runner),
            "teacher": lazily(
                lambda: Teacher(recipe, Ledger.at(home), teacher_engine, DialectBook(recipe.teacher, home))
            ),
            "progress": dg.ResourceDefinition.hardcoded_resource(progress),
        },
        jobs=[dg.define_asset_job("everything", selection=dg.AssetSelection.all(), description="Every artifact.")],
        sensors=[automation_sensor(), topic_sensor(recipe)],
        schedules=[evaluation_schedule(artifacts.graph)],
        executor=executor_named(executor),
    )


def executor_named(name: str | None) -> dg.ExecutorDefinition:
    """Where the steps of a run that Dagster launches are done: in the process of the run (None or `in_process`), or each as
    a job of the Ray cluster (`ray`). Raises RecipeError."""
    if name == "ray":
        try:
            from dagster_ray import ray_executor
        except ImportError as error:
            raise RecipeError(f"SPEED_EXECUTOR=ray needs the extra `ray` ({error})") from None
        executor: dg.ExecutorDefinition = ray_executor
        return executor
    if name not in (None, "", "in_process"):
        raise RecipeError(f"SPEED_EXECUTOR={name}: it is `in_process` or `ray`")
    # Heavy work runs in worker processes of its own, so a run needs no process for each step.
    return dg.in_process_executor


def _on_cards(stage: Stage, cards: float) -> dict[str, str]:
    """Tags by which Ray reserves GPUs for a step. A generating stage needs none: its shards have their own."""
    if not cards or not stage.gpu or stage.name in GENERATING:
        return {}
    return {"dagster-ray/config": json.dumps({"num_gpus": cards})}
