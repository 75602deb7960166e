"""Running a recipe: what is stale is launched through Dagster, what is fresh is left alone.

Belongs here: telling stale from fresh, launching in order, and the report of a run. Not here: how a
stage makes its artifact, or printing (`cli.py`).
"""

from __future__ import annotations

import os
import resource
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy.exc import DBAPIError

from checks.registry import check_key, checks_of
from resources import disk, gpu, living
from resources.artifacts import Artifacts, label, partitions_of
from resources.externals import pin_revisions
from resources.foresight import warnings_before
from resources.home import POSTGRES_VARIABLE, prepare
from resources.ledger import Ledger
from resources.plainly import causes, plainly
from resources.progress import ProgressFor, quiet
from resources.releases import released
from resources.runner import Runner
from resources.shared_store import SharedStore, store_of
from resources.store import Artifact, Sealed, StoreError
from speed_assets.assets.stage import RUN_TAG
from speed_assets.build import build_defs
from speed_assets.domain.graph import Graph
from speed_assets.domain.versions import told
from speed_assets.recipe import Recipe, RecipeError

Say = Callable[[str], None]
TRUTH_OF = ("junior_data", "senior_data", "revised_data", "final_triplets")
_CODE_VERSION = "dagster/code_version"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class RunReport:
    """What a run did. `made` and `reused` map `asset[partition]` to seconds; `errors` is empty on success."""

    recipe: str
    run: str = ""
    made: dict[str, float] = field(default_factory=dict)
    reused: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wall_s: float = 0.0


def segments(graph: Graph) -> Iterator[list[str]]:
    """Stages in launching order: each segment is all partitioned or all not, so one run per partition serves it."""
    waiting, done = list(graph), set[str]()
    partitioned = False
    while waiting:
        segment: list[str] = []
        for name in waiting:
            stage = graph[name]
            if stage.partitioned == partitioned and all(i in done or i in segment for i in stage.inputs):
                segment.append(name)
        waiting = [name for name in waiting if name not in segment]
        done.update(segment)
        partitioned = not partitioned
        if segment:
            yield segment


@dataclass(frozen=True)
class Seen:
    """What Dagster was last told of an artifact; all None when it never was. `made_of` maps inputs to content digests."""

    fingerprint: str | None = None
    digest: str | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)
    code_version: str | None = None


class Instance:
    """What this product asks of a Dagster instance, in one place."""

    def __init__(self, dagster: dg.DagsterInstance) -> None:
        self.dagster = dagster

    @classmethod
    def of(cls, home: Path) -> Instance:
        """The instance of a home, which becomes that of this process and of those it starts."""
        dagster_home = prepare(home)
        os.environ["DAGSTER_HOME"] = str(dagster_home)
        os.environ["SPEED_HOME"] = str(home)
        with _storage_explained(), (dagster_home / ".opening").open("w") as turn:
            flock(turn, LOCK_EX)  # its tables are made without asking whether another process makes them
            dagster = dg.DagsterInstance.get()
            gpu.limit(dagster)
        return cls(dagster)

    def seen(self, asset: str, partition: str | None) -> Seen:
        """The latest materialization of an asset and partition."""
        records = self.dagster.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None),
            limit=1,
        ).records
        materialization = records[0].asset_materialization if records else None
        if materialization is None:
            return Seen()
        value = {name: entry.value for name, entry in materialization.metadata.items()}
        made_of = value.get("made_of")
        return Seen(
            fingerprint=str(value.get("fingerprint")),
            digest=str(value.get("digest")),
            made_of=made_of if isinstance(made_of, dict) else {},
            code_version=(materialization.tags or {}).get(_CODE_VERSION),
        )

    def at_rest(self) -> Instance:
        """The same while nothing is launched: Dagster is asked once for each artifact."""
        still = Instance(self.dagster)
        still.seen = cache(self.seen)  # type: ignore[method-assign]
        return still

    def beside(self, artifacts: Artifacts, asset: str, needed: Collection[str | None]) -> tuple[str, set[str | None]]:
        """The code version that Dagster is told for an asset of which these partitions are stale, and the other ones
        that look stale with them (`domain/versions.py`)."""
        recorded = {p: self.seen(asset, p).code_version for p in partitions_of(artifacts.graph[asset])}
        return told(artifacts.code_version(asset), recorded, needed)


@contextmanager
def _storage_explained() -> Iterator[None]:
    """Raise StoreError, with what to do, where Dagster's storage in PostgreSQL cannot be used or has gone away."""
    try:
        yield
    except StoreError:  # explained already, and perhaps of the ledger's database
        raise
    except Exception as error:
        found = next((cause for cause in causes(error) if isinstance(cause, DBAPIError)), None)
        if found is None or not os.environ.get(POSTGRES_VARIABLE):
            raise
        raise StoreError(
            f"Dagster's storage in PostgreSQL ({POSTGRES_VARIABLE}) cannot be used ({plainly(found.orig or found)}): see "
            "that the database runs and lets you in, then run again: what is finished is kept"
        ) from None


def stale_reason(artifacts: Artifacts, instance: Instance, artifact: Sealed | None) -> str | None:
    """Why the step of this artifact has to be launched, or None when it is there, checked and known to Dagster as it is."""
    if artifact is None:
        return "not made yet under this recipe"
    for check in checks_of(artifact.asset):
        outcome = artifacts.outcome(artifact, check.name, check_key(check, artifacts.recipe))
        if outcome is None:
            return f"check {check.name} has not been asked"
        if check.blocking and not outcome["passed"]:
            return f"check {check.name} failed"
    seen = instance.seen(artifact.asset, artifact.partition)
    if seen.fingerprint != artifact.fingerprint:
        return "another recipe was materialized last" if seen.fingerprint else "Dagster has not seen it yet"
    for (name, part), content in artifacts.made_of(artifact.asset, artifact.partition).items():
        if not seen.made_of.get(label(name, part)) == content == instance.seen(name, part).digest:
            return f"Dagster saw it beside another {label(name, part)}"
    return None


@_storage_explained()
def run(
    recipe: Recipe,
    home: Path,
    *,
    select: str | None = None,
    progress: ProgressFor = quiet,
    say: Say = lambda _line: None,
    runner: Runner | None = None,
) -> RunReport:
    """Materialize what is stale, in order; stop at the first failure. `select` is a Dagster asset selection.

    Runs that follow each other may share a `runner`, and with it its warm processes; then the caller closes it.
    """
    started = time.monotonic()
    for line in warnings_before(recipe):
        say(f"warning: {line}")
    report = RunReport(recipe.name, run=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}")
    instance = Instance.of(home)
    pin_revisions(recipe)
    Ledger.at(home).database.close()  # one that cannot be used is told before anything is made
    living.bury(instance.dagster)
    gpu.free_slots(instance.dagster)
    own = Runner(home, recipe.runtime.threads, recipe.runtime.warm_start) if runner is None else None
    runner = runner or own
    assert runner is not None
    artifacts = Artifacts(recipe, store_of(home).open())
    defs = build_defs(recipe, home, progress=progress, runner=runner)
    job = defs.resolve_job_def("everything")
    versions = {name: artifacts.code_version(name) for name in artifacts.graph}
    wanted = set(artifacts.graph)
    if select:
        wanted = _selected(select, defs, artifacts.graph)
    try:
        for segment in segments(artifacts.graph):
            names = [name for name in segment if name in wanted]
            if not names:
                continue
            launched = _stale(artifacts, instance, names, report)
            for partition, stale in launched.items():
                if not stale:
                    continue
                runner.warm_up()
                result = job.execute_in_process(
                    instance=instance.dagster,
                    asset_selection=[dg.AssetKey(name) for name in stale],
                    partition_key=partition,
                    raise_on_error=False,
                    run_config=_QUIET,
                    tags={"speed/recipe": recipe.name, RUN_TAG: report.run, **living.run_tags(instance.dagster)},
                )
                _collect(result, partition, report, say)
                if any(_interrupted(event) for event in result.all_events):
                    raise KeyboardInterrupt  # Dagster takes it for a failure of the step
                if not result.success:
                    _explain_failure(result, partition, report)
                    if full := disk.trouble("\n".join(report.errors), home):
                        report.errors.append(full)
                    if changed := [
                        name for name, version in versions.items() if artifacts.code_version(name) != version
                    ]:
                        report.errors.append(
                            f"what {', '.join(changed)} is made from was changed while the run was under way (a topic "
                            "file, a base model or an evaluation set): run again; what is finished is kept"
                        )
                    return report
    finally:
        if own is not None:
            own.close()
        for line in artifacts.store.damaged:
            say(f"damaged: {line}")
        report.wall_s = time.monotonic() - started
    return report


def _selected(select: str, defs: dg.Definitions, graph: Graph) -> set[str]:
    try:
        keys = dg.AssetSelection.from_string(select).resolve(defs.resolve_asset_graph())
    except (dg.DagsterError, ValueError) as error:
        words = str(error).strip().splitlines()[0]
        raise RecipeError(f"--select {select}: {words}; the assets are {', '.join(graph)}") from None
    return {key.to_user_string() for key in keys}


def _stale(
    artifacts: Artifacts, instance: Instance, names: list[str], report: RunReport
) -> dict[str | None, list[str]]:
    """The stages of a segment to launch, by partition: those that are stale, what they feed, and what Dagster shows as
    stale beside them."""
    launched: dict[str | None, list[str]] = {p: [] for p in partitions_of(artifacts.graph[names[0]])}
    still = instance.at_rest()
    for name in names:
        fed = set(artifacts.graph[name].inputs)
        found = {p: artifacts.find(name, p) for p, stale in launched.items() if not fed & set(stale)}
        needed = [p for p in launched if stale_reason(artifacts, still, found.get(p))]
        shown = still.beside(artifacts, name, needed)[1]
        for partition, stale in launched.items():
            artifact = found.get(partition)
            if artifact is None or partition in needed or partition in shown:
                stale.append(name)
                continue
            artifacts.store.share(artifact)
            if artifacts.graph[name].kind == "release":
                released(artifacts.store, artifact.fingerprint)
            report.reused[label(name, partition)] = 0.0
            report.metadata[label(name, partition)] = dict(artifact.metadata)
    return launched


def _collect(result: dg.ExecuteInProcessResult, partition: str | None, report: RunReport, say: Say) -> None:
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        name = label(materialization.asset_key.to_user_string(), partition)
        metadata: dict[str, Any] = {key: value.value for key, value in materialization.metadata.items()}
        seconds = float(metadata["step_seconds"])
        reused = bool(metadata["reused"])
        (report.reused if reused else report.made)[name] = seconds
        report.metadata[name] = metadata
        rows = f", {metadata['rows']:,} rows" if metadata.get("rows") is not None else ""
        say(f"{'reused' if reused else 'made  '} {name:<34}{seconds:7.1f} s{rows}")
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            kind = "FAILED" if evaluation.severity is dg.AssetCheckSeverity.ERROR else "warning"
            name = label(evaluation.asset_key.to_user_string(), partition)
            say(f"{kind}: check {evaluation.check_name} of {name}: {evaluation.description}")


def _interrupted(event: dg.DagsterEvent) -> bool:
    """Whether an event says that a step was ended by Ctrl-C or SIGTERM."""
    error = event.step_failure_data.error if event.is_step_failure else _failure_of(event)
    while error is not None:
        if error.cls_name == "DagsterExecutionInterruptedError":
            return True
        error = error.cause
    return False


def _failure_of(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    """What a run failed of where no step did: what it needs could not be opened."""
    return event.job_failure_data.error if event.event_type is dg.DagsterEventType.PIPELINE_FAILURE else None


def _explain_failure(result: dg.ExecuteInProcessResult, partition: str | None, report: RunReport) -> None:
    """Errors in words that say what failed; a refused release lists its reasons."""
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
            name = label(evaluation.asset_key.to_user_string(), partition)
            report.errors.append(f"check {evaluation.check_name} of {name} failed: {evaluation.description}")
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None:
            refused = data.user_failure_data.metadata.get("refused")
            if refused is not None and isinstance(refused.value, list):
                report.refused += refused.value
            report.errors.append(data.user_failure_data.description or "failed")
        elif data.error is not None:
            first = _first(data.error)
            if "AssetCheckFailed" not in (first.cls_name or ""):
                report.errors.append(f"{label(str(event.step_key), partition)}: {_plain(first.message)}")
    if not report.errors:
        found = [error for event in result.all_events if (error := _failure_of(event))]
        report.errors += [_plain(_first(error).message) for error in found]
    if not report.errors:
        report.errors.append("the run failed; its log in the UI says more")


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
    partitions = {name: [label(name, p) for p in partitions_of(stage)] for name, stage in graph.items()}
    calls = [report.metadata[name] for name in report.made]
    release = artifacts.look("release")
    scores = artifacts.look("mteb_scores")
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
    for stage, partition in artifacts.everything():
        artifact = artifacts.look(stage.name, partition)
        for check in checks_of(stage.name) if artifact else ():
            assert artifact is not None
            outcome = artifacts.outcome(artifact, check.name, check_key(check, artifacts.recipe))
            if outcome is not None:
                counts["passed" if outcome["passed"] else "failed" if check.blocking else "warned"] += 1
    return counts


def _truth(artifacts: Artifacts, name: str) -> dict[str, float] | None:
    """Known truth of a table over its partitions, as shares of the rows asked for."""
    found = [artifacts.look(name, p) for p in partitions_of(artifacts.graph[name])]
    known = [(a.metadata["asked"], a.metadata["truth"]) for a in found if a is not None and "truth" in a.metadata]
    asked = sum(count for count, _ in known)
    if not asked or len(known) < len(found):
        return None
    return {part: round(sum(n * t[part] for n, t in known) / asked, 4) for part in known[0][1]}


def _peak_rss() -> float:
    """Largest resident memory of this process plus that of its largest child, in GB."""
    kilobytes = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kilobytes / 1e6
