"""Assets, checks, resources and jobs, put together; every part can be overridden in tests.

Belongs here: wiring. Not here: what any part does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from checks.asset_checks import gate_results, gate_specs, results_of, specs_of
from checks.gates import refusals
from resources.compute.runner import Runner
from resources.inputs.enough_topics import crowded_prompt_warnings
from resources.instance import run_liveness
from resources.instance.log_helpers import shield_log_helpers
from resources.ledger.calls import TeacherEngine
from resources.ledger.ledger import Ledger
from resources.progress import ProgressFor, no_progress
from resources.redaction import mark_secret_variables
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.home import speed_home
from resources.store.shared_store import store_of
from resources.teacher.known_dialects import DialectBook
from resources.teacher.teacher import Teacher
from speed_assets.assets import (
    corpus,
    embedding,
    evaluation_texts,
    examples,
    junior,
    negatives,
    own_evaluation,
    quarantine,
    revisor,
    row_scores,
    row_verdicts,
    senior,
    tasks,
    topic_tree,
    triplets,
)
from speed_assets.assets.release import release
from speed_assets.assets.stage import AssetChecks, asset_for
from speed_assets.assets.stage_run import StageFunction
from speed_assets.assets.stand_ins import standing_in
from speed_assets.domain.graph import Graph, Stage
from speed_assets.orchestration.before_steps import BeforeSteps, with_beginning
from speed_assets.orchestration.lanes import LANE_TAG, lane_of, lanes_executor
from speed_assets.recipe import Recipe, RecipeError

FUNCTIONS: dict[str, StageFunction] = {
    "evaluation_texts": evaluation_texts.evaluation_texts,
    "topics": tasks.topics,
    "topic_tree": topic_tree.topic_tree,
    "task_list": tasks.task_list,
    "passages": corpus.passages,
    "examples": examples.examples,
    "own_evaluation": own_evaluation.own_evaluation,
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
    "release": release,
}


GENERATING = ("junior_data", "senior_data", "revised_data")
"""Stages whose GPU work goes out in shards where the recipe has a cluster."""


def build_defs(
    recipe: Recipe,
    home: Path | None = None,
    *,
    progress: ProgressFor = no_progress,
    runner: Runner | None = None,
    teacher_engine: TeacherEngine | None = None,
    code_versions: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    executor: str | None = None,
    before_steps: BeforeSteps | None = None,
    sensors: Sequence[dg.SensorDefinition] = (),
    schedules: Sequence[dg.ScheduleDefinition] = (),
    damage_reports: list[str] | None = None,
) -> dg.Definitions:
    """The Dagster definitions of a recipe.

    Args:
        recipe: the recipe.
        home: where artifacts and ledger are; None takes `SPEED_HOME`.
        progress: makes the report of progress of an artifact, by its name.
        runner: starts workers; None makes one of the home, closed with the run.
        teacher_engine: answers requests; None takes the recipe's.
        code_versions: those of a plan, by the name of an artifact, by which Dagster shows what the plan would make; an artifact
            without one has that of its own code and recipe.
        notes: why an artifact is stale, by the same names.
        executor: as in `executor_named`.
        before_steps: called once in each run, before its first step.
        sensors: of the definitions.
        schedules: of the definitions.
        damage_reports: gets one message for each damaged artifact that a step does not use.
    """
    home = home or speed_home()
    shield_log_helpers()
    mark_secret_variables(recipe.teacher.key_variable, *recipe.teacher.dialect.headers.values())
    artifacts = Artifacts(recipe, store_of(home))
    if damage_reports is not None:
        artifacts.store.damage_reports = damage_reports
    runs_steps = executor_named(executor, recipe)
    return dg.Definitions(
        assets=_assets(recipe, artifacts, code_versions or {}, notes or {}, executor),
        resources=_resources(recipe, home, artifacts, progress, runner, teacher_engine),
        jobs=[dg.define_asset_job("everything", selection=dg.AssetSelection.all(), description="Every artifact.")],
        sensors=sensors,
        schedules=schedules,
        executor=with_beginning(runs_steps, before_steps) if before_steps else runs_steps,
    )


def _assets(
    recipe: Recipe,
    artifacts: Artifacts,
    code_versions: Mapping[str, str],
    notes: Mapping[str, str],
    executor: str | None,
) -> list[dg.AssetsDefinition]:
    """One asset for each artifact, inputs first."""
    cluster = recipe.runtime.cluster
    cards = cluster.gpus_per_step if cluster and executor == "ray" else 0
    return [
        asset_for(
            stage,
            partition,
            standing_in(FUNCTIONS[stage.name]) if recipe.rehearsal else FUNCTIONS[stage.name],
            artifacts,
            checks=_checks(stage, partition, artifacts),
            code_version=code_versions.get(artifact_label(stage.name, partition)),
            note=notes.get(artifact_label(stage.name, partition)),
            step_tags=_on_cards(stage, cards) | _in_lane(stage, recipe) | _priority(artifacts.graph, stage),
        )
        for stage, partition in artifacts.in_build_order()
    ]


def _resources(
    recipe: Recipe,
    home: Path,
    artifacts: Artifacts,
    progress: ProgressFor,
    runner: Runner | None,
    teacher_engine: TeacherEngine | None,
) -> dict[str, dg.ResourceDefinition]:
    """What the function of every asset may ask for; made when a run begins."""

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
        if context.instance and context.run_id:  # so that a dead run of a daemon is recognized, too
            context.instance.add_run_tags(context.run_id, run_liveness.liveness_tags(context.instance))
        artifacts.store.open()
        if recipe.topics.refuse:  # asked in each run, whatever is cached
            crowded_prompt_warnings(recipe)
        return artifacts

    def make_teacher(_context: dg.InitResourceContext) -> Teacher:
        return Teacher(recipe, Ledger.at(home), teacher_engine, DialectBook(recipe.teacher, home))

    return {
        "artifacts": dg.ResourceDefinition(resource_fn=make_artifacts),
        "runner": dg.ResourceDefinition(resource_fn=make_runner),
        "teacher": dg.ResourceDefinition(resource_fn=make_teacher),
        "progress": dg.ResourceDefinition.hardcoded_resource(progress),
    }


def executor_named(name: str | None, recipe: Recipe) -> dg.ExecutorDefinition:
    """Where the steps of a run that Dagster launches are done: in lanes of the run's own process (None or `lanes`), or each
    as a job of the Ray cluster (`ray`). Raises RecipeError."""
    if name == "ray":
        try:
            from dagster_ray import ray_executor
        except ImportError as error:
            raise RecipeError(f"SPEED_EXECUTOR=ray needs the extra `ray` ({error})") from None
        executor: dg.ExecutorDefinition = ray_executor
        return executor
    if name not in (None, "", "lanes"):
        raise RecipeError(f"SPEED_EXECUTOR={name}: it is `lanes` or `ray`")
    return lanes_executor(recipe)


def _in_lane(stage: Stage, recipe: Recipe) -> dict[str, str]:
    lane = lane_of(stage, recipe)
    return {LANE_TAG: lane} if lane else {}


def _checks(stage: Stage, partition: str | None, artifacts: Artifacts) -> AssetChecks:
    """The checks of an asset. Those of the release are the gates of everything upstream."""
    if stage.kind != "release":
        return AssetChecks(specs_of((stage.name, partition), artifacts), results_of)
    graph = artifacts.graph
    return AssetChecks(
        specs=gate_specs(graph),
        results=lambda _artifact, _artifacts: gate_results(graph, ()),
        results_if_refused=partial(gate_results, graph),
        gate=refusals,
    )


def _priority(graph: Graph, stage: Stage) -> dict[str, str]:
    """Of steps that wait for one lane, that one goes first which most stages wait for, one after the other."""

    def below(name: str) -> int:
        return max((1 + below(other.name) for other in graph.values() if name in other.inputs), default=0)

    return {"dagster/priority": str(below(stage.name))}


def _on_cards(stage: Stage, cards: float) -> dict[str, str]:
    """Tags by which Ray reserves GPUs for a step. A generating stage needs none: its shards have their own."""
    if not cards or not stage.gpu or stage.name in GENERATING:
        return {}
    return {"dagster-ray/config": json.dumps({"num_gpus": cards})}
