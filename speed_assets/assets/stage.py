"""From a stage of the graph to a Dagster asset: resolve inputs -> fingerprint -> reuse or make -> result.

Every asset goes through `asset_for`, so every asset resumes, is reused and reports in the same way.

Belongs here: that way. Not here: what any one stage does, what its function gets (`stage_run.py`), how its page looks
(`asset_page.py`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from resources.compute.runner import Runner
from resources.dagster_internals import DagsterExecutionInterruptedError
from resources.instance import gpu_pool
from resources.ledger.calls import CallContext
from resources.progress import Progress
from resources.redaction import masked, masked_errors
from resources.releases.releases import promote_new_release
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.asset_keys import key_of, name_among
from resources.store.store import Artifact
from resources.teacher.teacher import Teacher
from speed_assets.assets.asset_page import CELL_CHARACTERS, describe, source_of, table_of
from speed_assets.assets.stage_run import StageFunction, StageRun
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.gate_refusals import Refusal
from speed_assets.domain.graph import Stage, shown_sources
from speed_assets.recipe import RecipeError

OWNERS = ["team:speed"]
RUN_TAG = "speed/run"
RESOURCES = ("artifacts", "runner", "teacher", "progress")
"""What the step of every asset asks Dagster for."""
REFUSED = "refused"
"""Metadata of a failure: the fields of each `GateRefusal` of a release."""
SAMPLE_ROWS = 5
INTERRUPTED = "interrupted: finished work is kept, and the next run resumes from it"
AS_OF = "(As of the last reload of the definitions.)"
"""What is said of why an asset is stale: Dagster keeps its description until the next reload, also when a run has made it."""
FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=8), fail_window=timedelta(days=32))
"""Of scores and releases: the weekly schedule missed once, and a month without it (ours). A reused artifact counts as fresh."""


class Interrupted(dg.Failure):
    """A step that was interrupted: Ctrl-C, or *Terminate* in the UI."""


Gate = Callable[[Artifacts], Refusal | None]
"""From the artifacts of a recipe to the reasons against making the last of them; None when there is no reason."""
Tables = Mapping[str, dg.MetadataValue[Any]]


@dataclass(frozen=True, slots=True)
class AssetChecks:
    """The checks of an asset, asked in the step that makes or reuses its artifact."""

    specs: Sequence[dg.AssetCheckSpec] = ()
    results: Callable[[Artifact, Artifacts], Iterable[dg.AssetCheckResult]] = lambda _artifact, _artifacts: ()
    """Their results for an artifact."""
    results_if_refused: Callable[[Sequence[Mapping[str, Any]], Tables], Iterable[dg.AssetCheckResult]] = (
        lambda _reasons, _tables: ()
    )
    """Their results for a candidate that the gate refused for these reasons, with the tables of the refusal."""
    gate: Gate | None = None
    """Reasons against making the artifact."""


def asset_for(
    stage: Stage,
    partition: str | None,
    function: StageFunction,
    artifacts: Artifacts,
    *,
    checks: AssetChecks = AssetChecks(),
    code_version: str | None = None,
    note: str | None = None,
    step_tags: Mapping[str, str] | None = None,
) -> dg.AssetsDefinition:
    """The Dagster asset of a stage, or of one task type of it.

    Args:
        stage: the stage.
        partition: the task type; None where the stage has one artifact.
        function: what makes the artifact.
        artifacts, checks: those of the recipe, those of the asset.
        code_version: the version that Dagster records; None takes that of code and recipe.
        note: why the asset is stale; its page begins with it.
        step_tags: what the step needs, for an executor.
    """
    prefix = artifacts.key_prefix

    @dg.asset(
        key=key_of((stage.name, partition), prefix),
        deps=[key_of(source, prefix) for source in shown_sources(artifacts.graph, stage.name, partition)],
        check_specs=checks.specs,
        group_name=f"{prefix.replace('-', '_')}/{stage.group_of(partition)}" if prefix else stage.group_of(partition),
        kinds={stage.kind, "python"},
        owners=OWNERS,
        code_version=code_version or artifacts.code_version(stage.name, partition),
        description=f"{note} {AS_OF}\n\n{stage.description}" if note else stage.description,
        metadata=source_of(function),
        freshness_policy=FRESHNESS if stage.kind in ("scores", "release") else None,
        required_resource_keys={name_among(prefix, name) for name in RESOURCES},
        pool=gpu_pool.GPU_POOL if stage.gpu else None,
        op_tags=dict(step_tags or {}),
    )
    def materialize(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
        try:
            with masked_errors():
                yield from _results(context, stage, function, partition, checks, prefix)
        except DagsterExecutionInterruptedError:
            raise Interrupted(INTERRUPTED, allow_retries=False) from None

    return materialize


def _results(
    context: dg.AssetExecutionContext,
    stage: Stage,
    function: StageFunction,
    partition: str | None,
    checks: AssetChecks,
    prefix: str | None,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
    """What a step reports: the artifact with its checks, or the checks of a candidate that the gate refused."""
    artifacts, runner, teacher, progress = (getattr(context.resources, name_among(prefix, name)) for name in RESOURCES)
    started = time.monotonic()
    report = _logged(progress(artifact_label(stage.name, partition)), context.log.info)
    calls = CallContext(run_of(context.run), stage.name, partition)
    given = (artifacts, runner, teacher, calls, report)
    try:
        artifact, reused = make(stage, function, partition, *given, gate=checks.gate)
    except dg.Failure as failure:
        tables = {name: value for name, value in failure.metadata.items() if name != REFUSED}
        yield from checks.results_if_refused(_reasons_of(failure), tables)
        raise
    _announce(context, artifacts, artifact, reused)
    made_of = artifacts.input_digests(stage.name, partition)
    result: dg.MaterializeResult = dg.MaterializeResult(  # type: ignore[type-arg]
        data_version=dg.DataVersion(artifact.digest[:32]),
        metadata=describe(artifact, reused, time.monotonic() - started, made_of),
        check_results=list(checks.results(artifact, artifacts)),
    )
    # Dagster shows only checks of the latest materialization: those of two runs at once must not mix.
    with artifacts.store.recording(artifact_label(stage.name, partition)):
        yield result


def _announce(context: dg.AssetExecutionContext, artifacts: Artifacts, artifact: Artifact, reused: bool) -> None:
    """Write to the log of the run what was made or reused; a release becomes the latest one."""
    if artifacts.graph[artifact.asset].kind == "release":
        promote_new_release(artifacts.store, artifact.fingerprint)
    for line in artifacts.store.damage_reports:
        context.log.warning(masked(line))
    name, how = artifact_label(artifact.asset, artifact.partition), "reused" if reused else "made"
    context.log.info(f"{name}: {how} {artifact.fingerprint[:12]}")


def _reasons_of(failure: dg.Failure) -> list[Mapping[str, Any]]:
    reasons = failure.metadata.get(REFUSED)
    return reasons.value if reasons and isinstance(reasons.value, list) else []


def run_of(run: dg.DagsterRun) -> str:
    """The id under which calls are paid and capped: that of `speed run`, else Dagster's."""
    return run.tags.get(RUN_TAG) or run.run_id


def make(
    stage: Stage,
    function: StageFunction,
    partition: str | None,
    artifacts: Artifacts,
    runner: Runner,
    teacher: Teacher,
    context: CallContext,
    progress: Progress,
    *,
    gate: Gate | None = None,
    dry: bool = False,
) -> tuple[Artifact, bool]:
    """The artifact of a stage, reused or made.

    Args:
        stage, function, partition: as in `asset_for`.
        artifacts, runner, teacher, progress: the resources of the run.
        context: in whose name calls are paid.
        gate: reasons against making it; evaluated before anything is written.
        dry: a plan throws it away; it gets no plots.

    Returns:
        The artifact, and whether it was a cache hit.

    Raises:
        NotMaterialized: an input is missing.
        dagster.Failure: the gate has reasons against it; `REFUSED` of its metadata lists them.
        RecipeError: something outside of the recipe changed meanwhile.
    """
    lineage = artifacts.lineage(stage.name, partition)
    fingerprint = digest(lineage)
    if found := _reused(artifacts, stage, fingerprint):
        return found, True
    waiting = partial(progress, 0, 0, "another run is making this: waiting for it")
    with artifacts.store.building(fingerprint, waiting) as out:
        if found := _reused(artifacts, stage, fingerprint):  # another run may have finished it meanwhile
            return found, True
        if gate and (refusal := gate(artifacts)):
            raise _failure_of(refusal)
        run: StageRun[Any] = StageRun.of(
            artifacts.recipe,
            stage,
            partition,
            inputs=artifacts.inputs(stage.name, partition),
            out=out,
            store=artifacts.store,
            runner=runner,
            teacher=teacher,
            context=context,
            progress=progress,
            lineage=lineage,
            upstream=partial(artifacts.upstream_of, stage.name),
            dry=dry,
        )
        artifact = _carried_out(function, run, artifacts, fingerprint)
    artifacts.store.share(artifact)
    return artifact, False


def _reused(artifacts: Artifacts, stage: Stage, fingerprint: str) -> Artifact | None:
    """The artifact, where it is there; it is shared then, since whoever made it may have been killed before it could."""
    found = artifacts.store.fetch(stage.name, fingerprint)
    if found:
        artifacts.store.share(found)
    return found


def _carried_out(function: StageFunction, run: StageRun[Any], artifacts: Artifacts, fingerprint: str) -> Artifact:
    """The artifact that the function of a stage writes, complete in the store."""
    started = time.monotonic()
    metadata = function(run)
    now = artifacts.read_externals(run.stage.name, run.partition)
    if changed := [name for name, content in run.externals.items() if now[name] != content]:
        raise RecipeError(
            f"{artifact_label(run.stage.name, run.partition)}: {', '.join(changed)} changed while it was made from it: run again"
        )
    metadata["seconds"] = round(time.monotonic() - started, 2)
    if "data" in run.tables:
        metadata |= _table_metadata(run.tables)
    return artifacts.store.seal(
        run.stage.name, fingerprint, run.out, partition=run.partition, metadata=metadata, lineage=run.lineage
    )


def _failure_of(refusal: Refusal) -> dg.Failure:
    lines = [f"- {reason.sentence}" for reason in refusal.reasons]
    if refusal.compare_with:
        lines.append(
            f"`speed diff {refusal.compare_with} --now` compares the candidate with the release in use, with the --set of this run if it had one"
        )
    return dg.Failure(
        description="\n".join(["release refused:", *lines]),
        metadata={
            REFUSED: dg.MetadataValue.json([asdict(reason) for reason in refusal.reasons]),
            **{name: table_of(rows) for name, rows in refusal.tables.items()},
        },
        allow_retries=False,
    )


def _table_metadata(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    data = tables["data"]
    described: dict[str, Any] = {
        "rows": data.height,
        "columns": {name: str(dtype) for name, dtype in data.schema.items()},
        "sample": [{k: _cell(v) for k, v in row.items()} for row in data.head(SAMPLE_ROWS).iter_rows(named=True)],
    }
    if "quarantine" in tables:
        described["quarantined"] = tables["quarantine"].height
    return described


def _cell(value: Any) -> Any:
    return value[:CELL_CHARACTERS] if isinstance(value, str) else value


def _logged(progress: Progress, log: Callable[[str], None], every: float = 15.0) -> Progress:
    """Progress that also reaches the run's log, at most every `every` seconds."""
    last = [time.monotonic()]

    def report(done: int, total: int, note: str) -> None:
        progress(done, total, note)
        if time.monotonic() - last[0] >= every:
            last[0] = time.monotonic()
            log(masked(f"{note}: {done}/{total}"))

    return report
