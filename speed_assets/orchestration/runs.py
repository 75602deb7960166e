"""Running a recipe: everything that is stale is launched as one Dagster run; everything else is reused.

Belongs here: launching. Not here: what is stale (`plan.py`, `staleness.py`), how steps run at the same time (`lanes.py`), how a
stage makes its artifact, the report (`run_report.py`), printing (`speed_assets/cli`).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from checks.gates import failed_above
from checks.registry import check_key, checks_of
from resources.compute.parallel_jobs import runner_of
from resources.compute.runner import Runner
from resources.dagster_internals import InMemoryJob, SerializableErrorInfo, execute_run_iterator
from resources.inputs.base_models import pin_revisions
from resources.instance import gpu_pool, run_liveness
from resources.ledger.ledger import Ledger
from resources.progress import Progress, ProgressFor, no_progress
from resources.redaction import masked
from resources.releases.releases import promote_new_release
from resources.store import storage_errors
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.asset_keys import Step, key_of, step_of
from resources.store.current_block import block_in_words
from resources.store.shared_store import store_of
from resources.store.snapshot import Snapshot
from speed_assets.assets.stage import RUN_TAG
from speed_assets.build import build_defs
from speed_assets.domain.graph import Graph
from speed_assets.orchestration import doctor
from speed_assets.orchestration.home_environment import home_environment
from speed_assets.orchestration.plan import Plan, plan
from speed_assets.orchestration.recipe_of_run import CHANGED_TAG, RECIPE_TAG
from speed_assets.orchestration.run_events import (
    Say,
    collect,
    error_of,
    explain_failure,
    is_interrupt,
    root_cause,
    without_class_name,
)
from speed_assets.orchestration.run_report import RunReport
from speed_assets.orchestration.staleness import Instance, explained_postgres_errors
from speed_assets.recipe import Recipe, RecipeError, changes_in_words

OVERALL = "all assets"
"""Label of the progress of the run itself: assets made, of those launched."""
_NO_CONSOLE_LOG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@explained_postgres_errors()
def run(
    recipe: Recipe,
    home: Path,
    *,
    select: str | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: ProgressFor = no_progress,
    say: Say = lambda _line: None,
    runner: Runner | None = None,
    check_first: bool = False,
    findings: Sequence[doctor.Finding] = (),
) -> RunReport:
    """Materialize everything that `speed plan` does not reuse, in one Dagster run.

    A step that fails stops everything downstream of it; everything else is finished. Each further block of
    `final_triplets.wanted` is a Dagster run of its own, which follows at once.

    Args:
        recipe: the recipe to run.
        home: the folder with artifacts, ledger and Dagster instance; it is created if it does not exist.
        select: a Dagster asset selection, in which the name of a stage means all its task types; None is everything.
        changes: the fields that `recipe` has changed for this run; they are in a tag of the run.
        progress: gets the progress of each stage, as (done, total, note).
        say: gets lines for a person.
        runner: starts the worker processes. Runs that follow each other may share one, and with it its warm processes; the
            caller closes it.
        check_first: begin with the probes of `speed doctor`; what they find is printed and written to the run's log.
        findings: what the caller's own probes found; it is written to the run's log.

    Returns:
        The report; a stage that failed is in its `errors`, not raised.

    Raises:
        RecipeError: when the recipe or the selection cannot be used, or a probe finds an error.
        StoreError: when the home, its ledger or its Dagster storage cannot be used.
        KeyboardInterrupt: when the run is interrupted.
    """
    with home_environment(home):
        tags = {RECIPE_TAG: recipe.name} | ({CHANGED_TAG: masked(changes_in_words(changes))} if changes else {})
        block, report = _run(recipe, home, select, tags, progress, say, runner, check_first, findings)
        while (further := _further_block(block, home)) is not None:
            say(block_in_words(block, further))
            before = report
            block, report = _run(further, home, select, tags, progress, say, runner, False, ())
            report.add_earlier(before)
        return report


def _further_block(block: Recipe, home: Path) -> Recipe | None:
    """The recipe of the block after a finished one; None where there is none, or another gate failed: more rows do not help then."""
    artifacts = Artifacts(block, store_of(home))
    if artifacts.recipe == block:
        return None
    finished = Artifacts(block, artifacts.store, further_blocks=False)
    triplets = finished.get("final_triplets")
    for check in checks_of("final_triplets"):
        outcome = finished.load_outcome(triplets, check.name, check_key(check, block))
        if check.blocking and check.name != "wanted_rows" and outcome and not outcome["passed"]:
            return None
    return artifacts.recipe


def _run(
    recipe: Recipe,
    home: Path,
    select: str | None,
    tags: Mapping[str, str],
    progress: ProgressFor,
    say: Say,
    runner: Runner | None,
    check_first: bool,
    findings: Sequence[doctor.Finding],
) -> tuple[Recipe, RunReport]:
    """One Dagster run of the current block of a recipe: the recipe of that block, and the report."""
    started = time.monotonic()
    report = RunReport(recipe.name, run=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}")
    instance = Instance.of(home)
    Ledger.at(home).database.close()  # an unusable ledger is reported before anything is made
    run_liveness.mark_dead_runs_failed(instance.dagster)
    gpu_pool.free_slots_of_ended_runs(instance.dagster)
    own = runner_of(home, recipe.runtime) if runner is None else None
    runner = runner or own
    assert runner is not None
    artifacts = Artifacts(recipe, store_of(home).open())
    # What a plan finds damaged and what a step does goes into one list, and to the terminal at the end.
    reports = artifacts.store.damage_reports
    build = partial(build_defs, recipe, home, progress=progress, runner=runner, damage_reports=reports)
    try:
        defs = build() if select else None
        wanted = _selected(select, defs, artifacts.graph) if select and defs else None
        checked = doctor.Beginning()
        if check_first:
            checked = doctor.begin(recipe, home, say, steps=wanted, instance=instance, store=artifacts.store)
        first_use = pin_revisions(recipe)  # of a hub model: what was defined and planned so far is of no commit
        defs = build() if defs is None or first_use else defs
        planned = None if first_use else checked.plan
        planned = planned or plan(recipe, artifacts.store.home, instance, artifacts.store)
        launched = _stale(planned, Snapshot(recipe, artifacts.store), wanted, report, say)
        if launched:
            runner.warm_up()
            job = defs.resolve_job_def("everything")
            found = [*findings, *checked.findings]
            _launch(job, instance, launched, artifacts, tags, report, say, progress(OVERALL), found)
    finally:
        if own is not None:
            own.close()
        for line in dict.fromkeys(reports):
            say(f"damaged: {line}")
        report.wall_s = time.monotonic() - started
    return artifacts.recipe, report


def _selected(select: str, defs: dg.Definitions, graph: Graph) -> set[Step]:
    """The artifacts that a selection names. Raises RecipeError."""
    by_type = [name for name, stage in graph.items() if stage.partitioned]
    named = re.compile(rf"(key:)?\b({'|'.join(by_type)})\b(?!/)") if by_type else None
    types = sorted({task_type for stage in graph.values() for task_type in stage.task_types})
    steps: set[Step] = set()
    refused = None
    for task_type in types or [""]:
        text = named.sub(partial(_of_type, task_type), select) if named else select
        try:
            keys = dg.AssetSelection.from_string(text).resolve(defs.resolve_asset_graph())
        except (dg.DagsterError, ValueError) as error:
            refused = str(error).strip().splitlines()[0]
        else:
            steps |= {step_of(key) for key in keys}
    if refused and not steps:
        raise RecipeError(f"--select {select}: {refused}; the assets are {', '.join(graph)}")
    return steps


def _of_type(task_type: str, name: re.Match[str]) -> str:
    """The name of a stage's asset of one task type, quoted where Dagster's syntax asks for it."""
    key = f"{name[2]}/{task_type}"
    return f'key:"{key}"' if name[1] else key


def _stale(planned: Plan, artifacts: Artifacts, wanted: set[Step] | None, report: RunReport, say: Say) -> list[Step]:
    """The artifacts to launch: those that the plan makes or records. Reused ones go into the report."""
    for line in planned.warnings:
        say(f"warning: {line}")
    launched = []
    for step in planned.steps:
        if wanted is not None and (step.asset, step.partition) not in wanted:
            continue
        artifact = artifacts.fetch(step.asset, step.partition) if step.action == "reuse" else None
        if artifact is None:
            launched.append((step.asset, step.partition))
            continue
        artifacts.store.share(artifact)
        if artifacts.graph[step.asset].kind == "release":
            promote_new_release(artifacts.store, artifact.fingerprint)
        report.reused[step.name] = 0.0
        report.metadata[step.name] = dict(artifact.metadata)
    for line in failed_above(artifacts, launched):
        say(f"warning: {line}")
    return launched


def _launch(
    job: dg.JobDefinition,
    instance: Instance,
    launched: list[Step],
    artifacts: Artifacts,
    tags: Mapping[str, str],
    report: RunReport,
    say: Say,
    progress: Progress,
    findings: Sequence[doctor.Finding],
) -> None:
    """Run these steps as one Dagster run, and fill in the report. Raises KeyboardInterrupt when it is interrupted."""
    keys = {key_of(step) for step in launched}
    versions = {step: artifacts.code_version(*step) for step in launched}
    subset = job.get_subset(asset_selection=keys)
    run = instance.dagster.create_run_for_job(
        subset,
        run_config=_NO_CONSOLE_LOG,
        tags={**tags, RUN_TAG: report.run, **run_liveness.liveness_tags(instance.dagster)},
        asset_selection=frozenset(keys),
    )
    doctor.write_to_run_log(findings, run, instance.dagster)
    failures: list[SerializableErrorInfo] = []
    finished = 0
    for event in execute_run_iterator(InMemoryJob(job), run, instance.dagster):
        collect(event, report, say)
        if event.is_step_materialization:
            finished += 1
            progress(finished, len(launched), "")
        if event.is_step_failure or event.event_type is dg.DagsterEventType.PIPELINE_FAILURE:
            error = error_of(event)
            if error is not None and is_interrupt(error):
                raise KeyboardInterrupt  # Dagster reports it as a failure of the step
            explain_failure(event, report, failures)
    ended = instance.dagster.get_run_by_id(run.run_id)
    if ended is not None and ended.status is dg.DagsterRunStatus.SUCCESS:
        return
    _add_causes(report, artifacts, versions, failures)


def _add_causes(
    report: RunReport, artifacts: Artifacts, versions: dict[Step, str], failures: list[SerializableErrorInfo]
) -> None:
    """Complete the errors of a run that failed: those of no step, the storage's, inputs that changed meanwhile."""
    if not report.errors:
        report.errors += [without_class_name(root_cause(error).message) for error in failures]
    if full := storage_errors.storage_problem("\n".join(report.errors), artifacts.store.home):
        report.errors.append(full)
    if changed := [
        artifact_label(*step) for step, version in versions.items() if artifacts.code_version(*step) != version
    ]:
        report.errors.append(
            f"an input of {', '.join(changed)} changed during the run (a topic file, a base model or an "
            "evaluation set): run again; what is finished is kept"
        )
    if not report.errors:
        report.errors.append("the run failed; its log in the UI says more")
