"""Running a recipe: what is stale is launched as one Dagster run, what is fresh is left alone.

Belongs here: launching, and the report of a run. Not here: telling stale from fresh (`plan.py`, `staleness.py`), how steps
run side by side (`lanes.py`), how a stage makes its artifact, or printing (`cli.py`).
"""

from __future__ import annotations

import re
import resource
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import execute_run_iterator
from dagster_shared.error import SerializableErrorInfo

from checks.registry import check_key, checks_of
from resources.compute.runner import Runner
from resources.inputs.base_models import pin_revisions
from resources.instance import gpu_pool, run_liveness
from resources.ledger.ledger import Ledger
from resources.progress import ProgressFor, no_progress
from resources.releases.releases import promote_new_release
from resources.store import storage_errors
from resources.store.artifacts import Artifacts, artifact_label, partitions_of
from resources.store.asset_keys import Step, key_of, step_of
from resources.store.shared_store import SharedStore, store_of
from resources.store.store import Artifact
from speed_assets.assets.stage import REFUSED, RUN_TAG
from speed_assets.build import build_defs
from speed_assets.domain.graph import Graph
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.staleness import Instance, storage_explained
from speed_assets.recipe import Recipe, RecipeError

Say = Callable[[str], None]
TRUTH_OF = ("junior_data", "senior_data", "revised_data", "final_triplets")
_OF_TEACHER = ("CapReached", "TeacherUnavailable", "LedgerError")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class RunReport:
    """What a run did. `made` and `reused` map `asset/task type` to seconds; `errors` is empty on success."""

    recipe: str
    run: str = ""
    made: dict[str, float] = field(default_factory=dict)
    reused: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wall_s: float = 0.0


@storage_explained()
def run(
    recipe: Recipe,
    home: Path,
    *,
    select: str | None = None,
    progress: ProgressFor = no_progress,
    say: Say = lambda _line: None,
    runner: Runner | None = None,
) -> RunReport:
    """Materialize what `speed plan` does not reuse, in one Dagster run. `select` is a Dagster asset selection, in which the
    name of a stage stands for all its task types.

    A step that fails stops what is made from it; what does not depend on it is finished. Runs that follow each other may
    share a `runner`, and with it its warm processes; then the caller closes it. Raises RecipeError, StoreError, LedgerError,
    and KeyboardInterrupt when the run is interrupted.
    """
    started = time.monotonic()
    report = RunReport(recipe.name, run=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}")
    instance = Instance.of(home)
    pin_revisions(recipe)
    Ledger.at(home).database.close()  # one that cannot be used is told before anything is made
    run_liveness.mark_dead_runs_failed(instance.dagster)
    gpu_pool.free_slots_of_ended_runs(instance.dagster)
    own = Runner(home, recipe.runtime.threads, recipe.runtime.warm_start) if runner is None else None
    runner = runner or own
    assert runner is not None
    artifacts = Artifacts(recipe, store_of(home).open())
    defs = build_defs(recipe, home, progress=progress, runner=runner)
    try:
        wanted = _selected(select, defs, artifacts.graph) if select else None
        launched = _stale(recipe, artifacts, instance, wanted, report, say)
        if launched:
            runner.warm_up()
            _launch(defs.resolve_job_def("everything"), instance, launched, artifacts, report, say)
    finally:
        if own is not None:
            own.close()
        for line in artifacts.store.damage_reports:
            say(f"damaged: {line}")
        report.wall_s = time.monotonic() - started
    return report


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


def _stale(
    recipe: Recipe,
    artifacts: Artifacts,
    instance: Instance,
    wanted: set[Step] | None,
    report: RunReport,
    say: Say,
) -> list[Step]:
    """The artifacts to launch: those that a plan makes or records. What it reuses goes into the report."""
    planned = plan(recipe, artifacts.store.home, instance, artifacts.store)
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
    return launched


def _launch(
    job: dg.JobDefinition,
    instance: Instance,
    launched: list[Step],
    artifacts: Artifacts,
    report: RunReport,
    say: Say,
) -> None:
    """Carry out these steps as one Dagster run, and fill in the report. Raises KeyboardInterrupt when it is interrupted."""
    keys = {key_of(step) for step in launched}
    versions = {step: artifacts.code_version(*step) for step in launched}
    subset = job.get_subset(asset_selection=keys)
    run = instance.dagster.create_run_for_job(
        subset,
        run_config=_QUIET,
        tags={"speed/recipe": report.recipe, RUN_TAG: report.run, **run_liveness.liveness_tags(instance.dagster)},
        asset_selection=frozenset(keys),
    )
    failures: list[SerializableErrorInfo] = []
    for event in execute_run_iterator(InMemoryJob(job), run, instance.dagster):
        _collect(event, report, say)
        if event.is_step_failure or event.event_type is dg.DagsterEventType.PIPELINE_FAILURE:
            error = _error_of(event)
            if error is not None and _is_interrupt(error):
                raise KeyboardInterrupt  # Dagster takes it for a failure of the step
            _explain(event, report, failures)
    ended = instance.dagster.get_run_by_id(run.run_id)
    if ended is not None and ended.status is dg.DagsterRunStatus.SUCCESS:
        return
    if not report.errors:
        report.errors += [_plain(_first(error).message) for error in failures]
    if full := storage_errors.storage_problem("\n".join(report.errors), artifacts.store.home):
        report.errors.append(full)
    if changed := [
        artifact_label(*step) for step, version in versions.items() if artifacts.code_version(*step) != version
    ]:
        report.errors.append(
            f"what {', '.join(changed)} is made from was changed while the run was under way (a topic "
            "file, a base model or an evaluation set): run again; what is finished is kept"
        )
    if not report.errors:
        report.errors.append("the run failed; its log in the UI says more")


def _collect(event: dg.DagsterEvent, report: RunReport, say: Say) -> None:
    """Take note of what was materialized and what checks said."""
    if event.is_step_materialization:
        materialization = event.step_materialization_data.materialization
        name = materialization.asset_key.to_user_string()
        metadata: dict[str, Any] = {key: value.value for key, value in materialization.metadata.items()}
        seconds = float(metadata["step_seconds"])
        reused = bool(metadata["reused"])
        (report.reused if reused else report.made)[name] = seconds
        report.metadata[name] = metadata
        rows = f", {metadata['rows']:,} rows" if metadata.get("rows") is not None else ""
        say(f"{'reused' if reused else 'made  '} {name:<34}{seconds:7.1f} s{rows}")
    elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        evaluation = event.asset_check_evaluation_data
        name = evaluation.asset_key.to_user_string()
        if evaluation.passed or name == "release":  # what stands against a release is said when it is refused
            return
        gate = evaluation.severity is dg.AssetCheckSeverity.ERROR
        say(f"{'FAILED' if gate else 'warning'}: check {evaluation.check_name} of {name}: {evaluation.description}")
        if evaluation.blocking:
            report.errors.append(f"check {evaluation.check_name} of {name} failed: {evaluation.description}")


def _error_of(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    """What a step failed of, or the run where no step did: what it needs could not be opened."""
    return event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error


def _is_interrupt(error: SerializableErrorInfo | None) -> bool:
    """Whether Ctrl-C or SIGTERM is what it all began with."""
    while error is not None:
        if error.cls_name == DagsterExecutionInterruptedError.__name__:
            return True
        error = error.cause
    return False


def _explain(event: dg.DagsterEvent, report: RunReport, failures: list[SerializableErrorInfo]) -> None:
    """Errors in words that say what failed; a refused release lists its reasons."""
    error = _error_of(event)
    if error is not None:
        failures.append(error)
    if not event.is_step_failure:
        return
    data = event.step_failure_data
    if data.user_failure_data is not None:
        refused = data.user_failure_data.metadata.get(REFUSED)
        if refused is not None and isinstance(refused.value, list):
            report.refused += [refusal["sentence"] for refusal in refused.value]
        report.errors.append(data.user_failure_data.description or "failed")
    elif data.error is not None:
        first = _first(data.error)
        if "AssetCheckFailed" not in (first.cls_name or ""):
            name, message = str(event.step_key).replace("__", "/"), _plain(first.message)
            # What keeps one stage from the teacher keeps all: it is said once.
            head = message.split(": ")[0] if first.cls_name in _OF_TEACHER else message
            if not any(head in error for error in report.errors):
                report.errors.append(f"{name}: {message}")


def _first(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The error that it all began with."""
    while error.cause is not None:
        error = error.cause
    return error


def _plain(message: str) -> str:
    """An exception's own words, without the name of its class."""
    head, _, rest = message.strip().partition(": ")
    return rest if rest and " " not in head else message.strip()


def summary(report: RunReport, artifacts: Artifacts) -> dict[str, Any]:
    """The JSON object that ends a run: shares are of 0..1, times in seconds, memory in GB."""
    graph = artifacts.graph
    partitions = {name: [artifact_label(name, p) for p in partitions_of(stage)] for name, stage in graph.items()}
    calls = [report.metadata[name] for name in report.made]
    release = artifacts.peek("release")
    scores = artifacts.peek("mteb_scores")
    seconds = {name: round(sum(report.made.get(p, 0.0) for p in parts), 1) for name, parts in partitions.items()}
    return {
        "recipe": report.recipe,
        "run": report.run,
        "wall_s": round(report.wall_s, 1),
        "teacher_calls": sum(int(m.get("teacher_calls") or 0) for m in calls),
        "reused_calls": sum(int(m.get("reused_calls") or 0) for m in calls),
        "trained": [n for n, s in graph.items() if s.kind == "model" and any(p in report.made for p in partitions[n])],
        "reused": [n for n in graph if all(p in report.reused for p in partitions[n])],
        "checks": check_counts(artifacts),
        "scores": scores.metadata["scores"] if scores else {},
        "truth": {name: share for name in TRUTH_OF if name in graph and (share := _truth(artifacts, name))},
        "release": str(release.path) if isinstance(release, Artifact) else None,
        "refused": report.refused,
        "errors": report.errors,
        "stage_s": {name: s for name, s in seconds.items() if s},
        "peak_rss_gb": round(_peak_rss(), 2),
        **({"shared_store": store.traffic()} if isinstance(store := artifacts.store, SharedStore) else {}),
    }


def check_counts(artifacts: Artifacts) -> dict[str, int]:
    """What the checks last said of the artifacts of this recipe."""
    counts = {"passed": 0, "failed": 0, "warned": 0}
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.peek(stage.name, partition)
        for check in checks_of(stage.name) if artifact else ():
            assert artifact is not None
            outcome = artifacts.load_outcome(artifact, check.name, check_key(check, artifacts.recipe))
            if outcome is not None:
                counts["passed" if outcome["passed"] else "failed" if check.blocking else "warned"] += 1
    return counts


def _truth(artifacts: Artifacts, name: str) -> dict[str, float] | None:
    """Known truth of a table over its partitions, as shares of the rows asked for."""
    found = [artifacts.peek(name, p) for p in partitions_of(artifacts.graph[name])]
    known = [(a.metadata["asked"], a.metadata["truth"]) for a in found if a is not None and "truth" in a.metadata]
    asked = sum(count for count, _ in known)
    if not asked or len(known) < len(found):
        return None
    return {part: round(sum(n * t[part] for n, t in known) / asked, 4) for part in known[0][1]}


def _peak_rss() -> float:
    """Largest resident memory of this process plus that of its largest child, in GB."""
    kilobytes = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kilobytes / 1e6
