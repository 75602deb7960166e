"""Assets, checks, resources and jobs, put together; every part can be overridden in tests.

Belongs here: wiring. Not here: what any part does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from checks.asset_checks import gate_results, gate_specs, results_of, specs_of
from checks.candidate import refusal_of
from checks.gates import failed_above
from resources.compute.parallel_jobs import runner_of
from resources.compute.runner import Runner
from resources.inputs.enough_topics import crowded_prompt_warnings
from resources.instance import run_liveness
from resources.instance.log_helpers import shield_log_helpers
from resources.ledger.calls import TeacherEngine
from resources.ledger.ledger import Ledger
from resources.progress import ProgressFor, no_progress
from resources.redaction import mark_secret_variables, masked
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.asset_keys import key_of, name_among, step_of
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
    reranking,
    revisor,
    row_scores,
    row_verdicts,
    senior,
    tasks,
    topic_tree,
    triplets,
)
from speed_assets.assets.given import GIVEN_FUNCTIONS
from speed_assets.assets.release import release
from speed_assets.assets.stage import RUN_TAG, AssetChecks, asset_for
from speed_assets.assets.stage_run import StageFunction
from speed_assets.assets.stand_ins import standing_in
from speed_assets.domain.graph import Graph, Stage
from speed_assets.orchestration.before_steps import BeforeSteps, with_beginning
from speed_assets.orchestration.lanes import LANE_TAG, lane_of, lanes_executor
from speed_assets.orchestration.recipe_of_run import recipe_resource
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
    "reranker_scores": reranking.reranker_scores,
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
    executor: str | dg.ExecutorDefinition | None = None,
    before_steps: BeforeSteps | None = None,
    key_prefix: str | None = None,
    with_fields: Callable[[Mapping[str, Any]], Recipe] | None = None,
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
        code_versions: those of a plan, by the name of an artifact; one without has that of its own code and recipe.
        notes: why an artifact is stale, by the same names.
        executor: as in `executor_named`, or one that several recipes share.
        before_steps: called once in each run, before its first step.
        key_prefix: begins the keys of assets and the names of job and resources, where a code location has several recipes.
        with_fields: the recipe with other values at dotted fields; without it, run config can change none.
        sensors: of the definitions.
        schedules: of the definitions.
        damage_reports: gets one message for each damaged artifact that a step does not use.

    Returns:
        Assets with checks, the job `everything`, resources, executor.
    """
    home = home or speed_home()
    shield_log_helpers()
    mark_secret_variables(recipe.teacher.key_variable, *recipe.teacher.dialect.headers.values())
    artifacts = Artifacts(recipe, store_of(home), key_prefix)
    if damage_reports is not None:
        artifacts.store.damage_reports = damage_reports
    runs_steps = executor if isinstance(executor, dg.ExecutorDefinition) else executor_named(executor, recipe)
    cards = _cards_of_a_step(recipe, runs_steps)
    return dg.Definitions(
        assets=[
            _asset(stage, partition, artifacts, cards, code_versions or {}, notes or {})
            for stage, partition in artifacts.in_build_order()
        ],
        resources={
            name_among(key_prefix, name): resource
            for name, resource in _resources(artifacts, home, progress, runner, teacher_engine, with_fields).items()
        },
        jobs=[everything(artifacts)],
        sensors=sensors,
        schedules=schedules,
        executor=with_beginning(runs_steps, before_steps) if before_steps else runs_steps,
    )


def _asset(
    stage: Stage,
    partition: str | None,
    artifacts: Artifacts,
    cards: float,
    code_versions: Mapping[str, str],
    notes: Mapping[str, str],
) -> dg.AssetsDefinition:
    recipe, name = artifacts.recipe, artifact_label(stage.name, partition)
    function = GIVEN_FUNCTIONS[stage.kind] if stage.given else FUNCTIONS[stage.name]
    return asset_for(
        stage,
        partition,
        standing_in(function) if recipe.rehearsal else function,
        artifacts,
        checks=_checks(stage, partition, artifacts),
        code_version=code_versions.get(name),
        note=notes.get(name),
        step_tags=_on_cards(stage, cards) | _in_lane(stage, recipe) | _priority(artifacts.graph, stage),
    )


def everything(artifacts: Artifacts, executor: dg.ExecutorDefinition | None = None) -> Any:
    """The job of all assets of a recipe; `executor` is its own, in place of the code location's."""
    keys = [key_of((stage.name, part), artifacts.key_prefix) for stage, part in artifacts.in_build_order()]
    return dg.define_asset_job(
        name_among(artifacts.key_prefix, "everything"),
        selection=dg.AssetSelection.assets(*keys),
        description=f"Makes every artifact of recipe {artifacts.recipe.name} that is stale, and reuses the others. Run config "
        "can change fields of the recipe for one run.",
        executor_def=executor,
    )


def _resources(
    artifacts: Artifacts,
    home: Path,
    progress: ProgressFor,
    runner: Runner | None,
    teacher_engine: TeacherEngine | None,
    with_fields: Callable[[Mapping[str, Any]], Recipe] | None,
) -> dict[str, dg.ResourceDefinition]:
    """What the function of every asset may ask for; made when a run begins."""
    recipe_key, prefix = name_among(artifacts.key_prefix, "recipe"), artifacts.key_prefix

    def recipe_of(context: dg.InitResourceContext) -> Recipe:
        recipe: Recipe = getattr(context.resources, recipe_key)
        return recipe

    def make_runner(context: dg.InitResourceContext) -> Any:
        if runner is not None:
            yield runner
            return
        runtime = recipe_of(context).runtime
        own = runner_of(home, runtime)
        try:
            yield own
        finally:
            own.close()

    def make_artifacts(context: dg.InitResourceContext) -> Artifacts:
        recipe = recipe_of(context)
        of_run = artifacts if recipe is artifacts.recipe else Artifacts(recipe, artifacts.store, prefix)
        of_run.store.open()
        if recipe.topics.refuse:  # asked in each run, whatever is cached
            crowded_prompt_warnings(recipe)
        _begin_run(context, of_run)
        return of_run

    def make_teacher(context: dg.InitResourceContext) -> Teacher:
        recipe = recipe_of(context)
        return Teacher(recipe, Ledger.at(home), teacher_engine, DialectBook(recipe.teacher, home))

    def of(function: Callable[[dg.InitResourceContext], Any]) -> dg.ResourceDefinition:
        return dg.ResourceDefinition(resource_fn=function, required_resource_keys={recipe_key})

    return {
        "recipe": recipe_resource(artifacts.recipe, with_fields),
        "artifacts": of(make_artifacts),
        "runner": of(make_runner),
        "teacher": of(make_teacher),
        "progress": dg.ResourceDefinition.hardcoded_resource(progress),
    }


def _begin_run(context: dg.InitResourceContext, artifacts: Artifacts) -> None:
    """Tag a run, so that it is recognized when its process dies, and warn in its log of failed gates above what it makes."""
    if context.instance and context.run:
        context.instance.add_run_tags(context.run.run_id, run_liveness.liveness_tags(context.instance))
    selected = context.run.asset_selection if context.run else None
    if not selected or RUN_TAG in (context.run.tags if context.run else {}):  # `speed run` has warned
        return
    own = [step_of(key) for key in selected if not artifacts.key_prefix or key.path[0] == artifacts.key_prefix]
    for line in failed_above(artifacts, own):
        if context.log:
            context.log.warning(masked(line))


def executor_named(name: str | None, *recipes: Recipe) -> dg.ExecutorDefinition:
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
    return lanes_executor(*recipes)


def _in_lane(stage: Stage, recipe: Recipe) -> dict[str, str]:
    lane = lane_of(stage, recipe)
    return {LANE_TAG: lane} if lane else {}


def _checks(stage: Stage, partition: str | None, artifacts: Artifacts) -> AssetChecks:
    """The checks of an asset. Those of the release are the gates of everything upstream."""
    if stage.kind != "release":
        return AssetChecks(specs_of((stage.name, partition), artifacts), results_of)
    return AssetChecks(
        specs=gate_specs(artifacts),
        results=lambda _artifact, _artifacts: gate_results(artifacts),
        results_if_refused=partial(gate_results, artifacts),
        gate=refusal_of,
    )


def _priority(graph: Graph, stage: Stage) -> dict[str, str]:
    """Of steps that wait for one lane, that one goes first which most stages wait for, one after the other."""

    def below(name: str) -> int:
        return max((1 + below(other.name) for other in graph.values() if name in other.inputs), default=0)

    return {"dagster/priority": str(below(stage.name))}


def _cards_of_a_step(recipe: Recipe, executor: dg.ExecutorDefinition) -> float:
    """GPUs that Ray reserves for a step; none without Ray."""
    cluster = recipe.runtime.cluster
    return cluster.gpus_per_step if cluster and executor.name == "ray" else 0


def _on_cards(stage: Stage, cards: float) -> dict[str, str]:
    """Tags by which Ray reserves GPUs for a step. A generating stage needs none: its shards have their own."""
    if not cards or not stage.gpu or stage.name in GENERATING:
        return {}
    return {"dagster-ray/config": json.dumps({"num_gpus": cards})}
