"""The first seconds of a run: which findings count for what it makes, its log, and its end where something is missing.

`speed run`, `study` and `rehearse` call `begin`; a run that Dagster launches (from the UI, by the sensor or the schedule) calls
`before_run`. Both do so once, in the process of the run, before its first step.

Belongs here: what a run and a plan make of findings. Not here: finding (`diagnosis.py` and the probes).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg

from resources.dagster_internals import DagsterLogManager
from resources.ledger.database import LedgerError
from resources.store.asset_keys import Step, step_of
from resources.store.home import speed_home
from resources.store.shared_store import store_of
from resources.store.snapshot import Snapshot
from resources.store.store import Store, StoreError
from speed_assets.domain.graph import Stage, sources
from speed_assets.orchestration.doctor.diagnosis import diagnose
from speed_assets.orchestration.doctor.finding import Finding, in_words
from speed_assets.orchestration.plan import Plan, plan
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import Recipe, RecipeError

VARIABLE = "SPEED_DOCTOR"
"""Environment variable: `off` starts a run without probes."""
_OF_TEACHER = frozenset(
    ("key", "batches", "prices", "endpoint", "server", "server clock", "answer", "structured output", "model behind")
)
_OF_MODELS = frozenset(("packages", "engine", "gpu", "cuda", "model", "mteb tasks", "ports", "memory"))
_INPUTS = {"topics": "topic_file", "prompts": "prompt:", "evaluation": "evaluation_", "corpus": "corpus_files"}
"""By the name of a finding, what the externals of the stages begin with that read this input."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What was checked before a run.

    Attributes:
        findings: Those that count for what the run makes.
        plan: The plan of the recipe, where one had to be made to see whether calls are due.
    """

    findings: tuple[Finding, ...] = ()
    plan: Plan | None = None

    def raise_errors(self) -> None:
        """Raise RecipeError with every error and what mends it; return where there is none."""
        errors = [in_words(finding) for finding in self.findings if finding.status == "error"]
        if errors:
            several = f"{len(errors)} things are missing\n  " if len(errors) > 1 else ""
            last = f"\n  speed doctor shows all that was checked; {VARIABLE}=off begins all the same"
            raise RecipeError(several + "\n  ".join(errors) + last)


def begin(
    recipe: Recipe,
    home: Path,
    say: Callable[[str], None],
    *,
    steps: Collection[Step] | None = None,
    instance: Instance | None = None,
    store: Store | None = None,
) -> Beginning:
    """The first seconds of a run: print every warning, and end before anything is made where something is missing.

    Args:
        recipe: what is to be run.
        home: where.
        say: takes a line.
        steps: the artifacts that the run may make; None is all of the recipe.
        instance: the home's Dagster instance, unless another one is given.
        store: the home's store, unless one is given.

    Returns:
        What was found, and the plan, if one was made.

    Raises:
        RecipeError: with every error and what mends it.
    """
    found = _check(recipe, home, steps, instance, store)
    for finding in found.findings:
        if finding.status == "warning" and finding.name != "topics":  # the plan of a run warns of crowded prompts
            say(f"warning: {in_words(finding)}")
    found.raise_errors()
    return found


def before_run(recipe: Recipe, run: dg.DagsterRun, instance: dg.DagsterInstance, key_prefix: str | None = None) -> None:
    """`begin` for a run that Dagster has launched: every finding is a line of the run's log.

    Args:
        recipe: the recipe of the run.
        run: the run, of which no step has begun.
        instance: its Dagster instance.
        key_prefix: of the recipe's assets, where the run may have others.

    Raises:
        RecipeError: with every error and what mends it; the run fails with this message.
    """
    own = [key for key in run.asset_selection or () if key_prefix in (None, key.path[0])]
    steps = {step_of(key) for key in own} if run.asset_selection else None
    found = _check(recipe, speed_home(), steps, Instance(instance, key_prefix), None)
    write_to_run_log(found.findings, run, instance)
    found.raise_errors()


def write_to_run_log(findings: Collection[Finding], run: dg.DagsterRun, instance: dg.DagsterInstance) -> None:
    """Write one line for each finding to the log of a run, as information, warning or error."""
    if not findings:
        return
    log = DagsterLogManager.create(loggers=[], instance=instance, dagster_run=run)
    levels = {"ok": log.info, "warning": log.warning, "error": log.error}
    for finding in findings:
        levels[finding.status](f"doctor: {finding.status}: {in_words(finding)}")


def missing(recipe: Recipe, home: Path) -> list[str]:
    """What the probes find that contact no server, one sentence each: for a plan. Crowded prompts are a plan's own warning."""
    if os.environ.get(VARIABLE) == "off":
        return []
    found = [finding for finding in diagnose(recipe, home, network=False) if finding.status != "ok"]
    return [in_words(finding) for finding in found if not (finding.name == "topics" and finding.status == "warning")]


def _check(
    recipe: Recipe, home: Path, steps: Collection[Step] | None, instance: Instance | None, store: Store | None
) -> Beginning:
    """Diagnose, and keep what counts for a run that may make these artifacts.

    A finding of the teacher counts where the run has new calls for it, one of models and engines where an artifact that they
    make is not there yet: a run that finds everything made sends nothing. Disk space that is missing for models is a warning
    to a run that makes none.
    """
    if os.environ.get(VARIABLE) == "off":
        return Beginning()
    due = _stages_due(recipe, home, steps, store)
    calls, planned = _calls_due(recipe, home, steps, due, instance, store)
    models = any(stage.gpu for stage in due)
    read = {name for stage in due for name in stage.externals}
    silent = {finding for finding, start in _INPUTS.items() if not any(name.startswith(start) for name in read)}
    silent |= (frozenset() if calls else _OF_TEACHER) | (frozenset() if models else _OF_MODELS)
    found = [finding for finding in diagnose(recipe, home, network=calls) if finding.name not in silent]
    if not models:
        found = [
            replace(finding, status="warning") if (finding.name, finding.status) == ("disk", "error") else finding
            for finding in found
        ]
    return Beginning(tuple(found), planned)


def _stages_due(recipe: Recipe, home: Path, steps: Collection[Step] | None, store: Store | None) -> list[Stage]:
    """The stages of which an artifact is wanted and not there, or cannot be looked up: what is wrong has a probe of its own."""
    graph = recipe.graph()
    try:
        artifacts = Snapshot(recipe, store or store_of(home))
    except (RecipeError, StoreError, OSError):
        return list(graph.values())
    absent: set[Step] = set()
    for stage, part in artifacts.in_build_order():
        try:
            there = absent.isdisjoint(sources(graph, stage.name, part)) and artifacts.peek(stage.name, part) is not None
        except (RecipeError, StoreError, OSError):
            there = False
        if not there:
            absent.add((stage.name, part))
    due = {asset for asset, part in absent if steps is None or (asset, part) in steps}
    return [stage for name, stage in graph.items() if name in due]


def _calls_due(
    recipe: Recipe,
    home: Path,
    steps: Collection[Step] | None,
    due: Collection[Stage],
    instance: Instance | None,
    store: Store | None,
) -> tuple[bool, Plan | None]:
    """Whether a run has calls for the teacher that its ledger does not answer, and the plan that was made to see it."""
    if recipe.teacher.engine != "openai" or not any(stage.asks_teacher for stage in due):
        return False, None
    if not home.is_dir():
        return True, None
    try:
        planned = plan(recipe, home, instance, store)
    except (RecipeError, StoreError, LedgerError):
        return True, None  # what is wrong is found by its own probe
    wanted = (step for step in planned.steps if steps is None or (step.asset, step.partition) in steps)
    return any(step.action == "make" and step.calls for step in wanted), planned
