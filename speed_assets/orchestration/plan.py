"""What a run would do and what it would cost, before anything is sent: `speed plan`, a dry run.

Stages that only ask the teacher are made in a temporary store: answers come from the ledger; calls that the ledger has no
answer for are counted and get a placeholder. So the plan counts new calls exactly. Where every answer is in the ledger, the
result is exact too, and the plan can tell whether anything downstream changes at all. For stages downstream of a placeholder,
the plan estimates rows and calls from the recipe and time from earlier runs (`plan_estimates.py`).

Belongs here: planning. Not here: running (`runs.py`), fingerprints (`resources/store/artifacts.py`), printing (`plan_text.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from resources.compute.runner import Runner
from resources.ledger.accounts import cost_report
from resources.ledger.calls import CallContext
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff
from resources.store.artifacts import Artifacts, NotMaterialized, artifact_label
from resources.store.shared_store import store_of
from resources.store.snapshot import Snapshot
from resources.store.store import Store
from resources.teacher.known_dialects import DialectBook
from speed_assets.assets.stage import make
from speed_assets.build import FUNCTIONS
from speed_assets.domain.graph import EXAMPLES, PASSAGES, Graph, Stage, sources
from speed_assets.orchestration.dry_teacher import DryTeacher, OverlayStore, RequiredCalls
from speed_assets.orchestration.home_environment import home_environment
from speed_assets.orchestration.plan_blocks import PlannedBlocks, planned_blocks
from speed_assets.orchestration.plan_costs import cost_of_step, saved_by_batches
from speed_assets.orchestration.plan_estimates import (
    EXACT_ROWS_MAX,
    attempts_of,
    estimated_calls,
    expected_calls,
    expected_rows,
    expected_seconds,
)
from speed_assets.orchestration.plan_reasons import reason_to_make
from speed_assets.orchestration.plan_warnings import warnings_before
from speed_assets.orchestration.staleness import FAILED, Instance, code_version_for_staleness, stale_reason
from speed_assets.recipe import GivenTriplets, Recipe, without_places


@dataclass(frozen=True, slots=True)
class Step:
    """One artifact in the plan; None is unknown.

    `action` is `reuse` (a cache hit), `make`, or `record`: the artifact exists, but Dagster or a check has not recorded it as
    it is, which costs nothing. `calls` are new teacher calls, `calls_most` include every further attempt that the recipe
    allows, `known_calls` are those that the ledger answers. Tokens and money are of the new calls: likely, least, and most with
    every further attempt cut off at its larger limit (`plan_costs.py`). `seconds` are those of the latest artifact, scaled to
    as many rows.
    """

    asset: str
    partition: str | None
    action: str
    why: str
    calls: int = 0
    known_calls: int = 0
    prompt_tokens: int | None = 0
    output_tokens: int | None = 0
    money: float | None = 0.0
    rows: int | None = None
    seconds: float | None = 0.0
    gpu: bool = False
    calls_most: int = 0
    money_most: float | None = 0.0
    money_least: float | None = 0.0
    prompt_tokens_least: int = 0
    prompt_tokens_most: int = 0
    output_tokens_least: int = 0
    output_tokens_most: int = 0
    failed_above: tuple[str, ...] = ()
    """Gates that failed upstream, as `gate of asset`: a run stops there."""
    given: bool = False
    """The user gives it: `make` only copies or filters it, and asks nobody."""

    @property
    def failed_gate(self) -> str | None:
        """The gate of the artifact itself that failed; None where none did."""
        if self.action != "record" or not self.why.endswith(f" {FAILED}"):
            return None
        return f"{self.why.split()[1]} of {self.name}"

    @property
    def name(self) -> str:
        """`asset/task type`, or the asset's name alone."""
        return artifact_label(self.asset, self.partition)


@dataclass(frozen=True, slots=True)
class Plan:
    """Every artifact of a recipe in order, and the sums. A sum with an unknown part is unknown."""

    recipe: str
    steps: Sequence[Step]
    currency: str | None
    code_versions: Mapping[str, str]
    """By the name of a step, the code version by which Dagster shows it as stale or fresh (`staleness.py`)."""
    own_versions: Mapping[str, str]
    """By the name of a step, the code version that code and recipe give it."""
    warnings: Sequence[str] = ()
    """Numbers of the recipe that will harm the result, one sentence each."""
    mode: str = "online"
    """How calls are made (`calls.mode`)."""
    batch_saves: float | None = None
    """Money that batch files save of what is likely, or would save; None is unknown, or there is nothing to save."""
    blocks: PlannedBlocks | None = None
    """Rows that are wanted, and further blocks of them; None where no number is wanted, or the triplets are made."""

    def as_json(self) -> dict[str, Any]:
        """Sums over the steps to make, and every step, as plain values."""
        made = [step for step in self.steps if step.action == "make"]
        return {
            "recipe": self.recipe,
            "make": [step.name for step in made],
            "given": [step.name for step in self.steps if step.given],
            "reuse": [step.name for step in self.steps if step.action == "reuse"],
            "record": [step.name for step in self.steps if step.action == "record"],
            "calls": sum(step.calls for step in made),
            "calls_most": sum(step.calls_most for step in made),
            "known_calls": sum(step.known_calls for step in made),
            "prompt_tokens": _sum(step.prompt_tokens for step in made),
            "output_tokens": _sum(step.output_tokens for step in made),
            "prompt_tokens_least": _sum(step.prompt_tokens_least for step in made),
            "prompt_tokens_most": _sum(step.prompt_tokens_most for step in made),
            "output_tokens_least": _sum(step.output_tokens_least for step in made),
            "output_tokens_most": _sum(step.output_tokens_most for step in made),
            "money": _sum(step.money for step in made),
            "money_least": _sum(step.money_least for step in made),
            "money_most": _sum(step.money_most for step in made),
            "mode": self.mode,
            "batch_saves": self.batch_saves,
            "currency": self.currency,
            "rows": _sum(step.rows for step in made if step.rows is not None),
            "seconds": _sum(step.seconds for step in made),
            "gpu_seconds": _sum(step.seconds for step in made if step.gpu),
            "blocks": None if self.blocks is None else asdict(self.blocks),
            "warnings": list(self.warnings),
            "steps": [asdict(step) for step in self.steps],
        }


def _sum(values: Iterator[Any]) -> Any:
    total: Any = 0
    for value in values:
        if value is None:
            return None
        total += value
    return round(total, 6)


def plan(recipe: Recipe, home: Path, instance: Instance | None = None, store: Store | None = None) -> Plan:
    """What `speed run` would do now in this home: a dry run that sends nothing and makes no artifact.

    A home that does not exist yet is created: its folders, its ledger, and a Dagster instance without runs.

    Args:
        recipe: the recipe to plan.
        home: the folder with artifacts, ledger and Dagster instance.
        instance: the home's Dagster instance, unless another one is given.
        store: the home's store, unless one is given: a store verifies the bytes of an artifact once.

    Returns:
        Every artifact of the recipe in the order of the graph, with what making it takes.

    Raises:
        RecipeError: where `topics.refuse` forbids what the recipe asks for, or a file of the recipe cannot be read.
        StoreError: where the home, its ledger or its Dagster storage cannot be used.
    """
    with home_environment(home):
        return _Planner(recipe, home, instance or Instance.of(home), store or store_of(home)).plan()


class _Planner:
    """One dry run over the graph."""

    def __init__(self, recipe: Recipe, home: Path, instance: Instance, store: Store) -> None:
        self._home = home
        self._real = Artifacts(recipe, store)
        recipe = self._recipe = self._real.recipe
        self._warnings = [*warnings_before(recipe), *estimated_calls(recipe)]
        self._recorded = instance.last_materializations(
            [(stage.name, part) for stage, part in self._real.in_build_order()]
        )
        self._ledger = Ledger.at(home)
        self._tariff = Tariff.of(recipe)

    @cached_property
    def _paid(self) -> dict[str, Any]:
        """What the calls of each asset have cost before; read only where something has to be made."""
        return {entry["asset"]: entry for entry in cost_report(self._ledger)["by"]["asset"]}

    def plan(self) -> Plan:
        with tempfile.TemporaryDirectory() as temporary:
            steps = _with_failed_gates(self._steps(Path(temporary)), self._real.graph)
        own = {step.name: self._real.code_version(step.asset, step.partition) for step in steps}
        versions = {
            step.name: code_version_for_staleness(
                own[step.name], self._recorded[step.asset, step.partition].code_version, step.action != "reuse"
            )
            for step in steps
        }
        saved = saved_by_batches(self._recipe, _sum(step.money for step in steps))
        currency = self._tariff.currency or None
        warnings = [*self._warnings, *_failed_gates(steps)]
        writes = any(step.asset == "final_triplets" and step.action == "make" for step in steps)
        blocks = planned_blocks(self._recipe) if writes else None
        return Plan(self._recipe.name, steps, currency, versions, own, warnings, self._recipe.calls.mode, saved, blocks)

    def _steps(self, temporary: Path) -> list[Step]:
        overlay = OverlayStore(temporary, self._real.store)
        overlay.open()
        artifacts = Snapshot(self._recipe, overlay)
        teacher = DryTeacher(self._recipe, self._ledger, DialectBook(self._recipe.teacher, self._home))
        runner = Runner(temporary, warm=False)
        steps = []
        for stage, partition in artifacts.in_build_order():
            found = artifacts.peek(stage.name, partition)
            if found is not None:
                why = stale_reason(artifacts, self._recorded, found)
                action = "record" if why else "reuse"
                steps.append(Step(stage.name, partition, action, why or "nothing changed", given=stage.given))
                continue
            why = reason_to_make(artifacts, self._real.store, stage, partition)
            required = _dry_run(artifacts, stage, partition, teacher, runner, overlay)
            steps.append(self._step_to_make(stage, partition, why, required))
        return steps

    def _step_to_make(self, stage: Stage, partition: str | None, why: str, required: RequiredCalls | None) -> Step:
        recipe = self._recipe
        if stage.given:
            why = f"{why} (given: {_place(recipe, stage)})"
        rows = expected_rows(recipe, stage.name, partition)
        seconds = expected_seconds(self._real.store, stage, partition, rows)
        step = Step(stage.name, partition, "make", why, rows=rows, seconds=seconds, gpu=stage.gpu, given=stage.given)
        if not _asks_teacher(stage):
            return step
        calls = len(required.new) if required else expected_calls(recipe, stage.name, partition)
        attempts = attempts_of(recipe, stage.name)
        least = 0 if stage.gpu and required is None else calls  # what a model finds decides how many
        requests = required.new if required else None
        cost = cost_of_step(recipe, stage.name, partition, calls, least, attempts, requests, self._paid)
        prompt, output = cost.tokens.prompt, cost.tokens.output
        return replace(
            step,
            calls=calls,
            calls_most=calls * attempts,
            known_calls=required.cached if required else 0,
            prompt_tokens=prompt.likely,
            prompt_tokens_least=prompt.least,
            prompt_tokens_most=prompt.most,
            output_tokens=output.likely,
            output_tokens_least=output.least,
            output_tokens_most=output.most,
            money_least=cost.money[0],
            money=cost.money[1],
            money_most=cost.money[2],
        )


def _place(recipe: Recipe, stage: Stage) -> str:
    """The last name, or the name on a hub, of what is given for a stage."""
    section = getattr(recipe.given, stage.name)
    name: str = without_places(section.file if isinstance(section, GivenTriplets) else section.model)
    return name


def _with_failed_gates(steps: list[Step], graph: Graph) -> list[Step]:
    """The steps, each with the gates that failed upstream of it."""
    failed: dict[tuple[str, str | None], tuple[str, ...]] = {}
    found = []
    for step in steps:
        names = [name for source in sources(graph, step.asset, step.partition) for name in failed.get(source, ())]
        above = tuple(dict.fromkeys(names))
        failed[step.asset, step.partition] = above + ((step.failed_gate,) if step.failed_gate else ())
        found.append(replace(step, failed_above=above) if above else step)
    return found


def _failed_gates(steps: Sequence[Step]) -> list[str]:
    """A warning for each gate that failed, with what waits for it."""
    found = []
    for step in steps:
        if (gate := step.failed_gate) is not None:
            waiting = [other.name for other in steps if gate in other.failed_above and other.action != "reuse"]
            below = f"; {len(waiting)} stale assets are downstream of it, {waiting[0]} first" if waiting else ""
            found.append(
                f"gate {gate} failed{below}: a run stops there unless the gate passes now (`speed show {step.asset}`)"
            )
    return found


def _asks_teacher(stage: Stage) -> bool:
    return stage.asks_teacher


def _dry_run(
    artifacts: Artifacts,
    stage: Stage,
    partition: str | None,
    teacher: DryTeacher,
    runner: Runner,
    overlay: OverlayStore,
) -> RequiredCalls | None:
    """Make the artifact in the temporary store, and count its calls; None where that needs more than answers, or takes too long."""
    if (expected_rows(artifacts.recipe, stage.name, partition) or 0) > EXACT_ROWS_MAX:
        return None
    if stage.gpu or (not _asks_teacher(stage) and stage.name not in ("topics", PASSAGES, EXAMPLES)):
        return None
    try:
        inputs = artifacts.inputs(stage.name, partition)
    except NotMaterialized:
        return None
    if (
        any(a.digest.startswith("provisional:") for group in inputs.values() for a in group.values())
        and not stage.takes
        and stage.name != "task_list"  # one call for each topic, also for a topic whose name is a placeholder
    ):
        return None
    teacher.required = RequiredCalls()
    context = CallContext("plan", stage.name, partition)
    artifact, _ = make(
        stage, FUNCTIONS[stage.name], partition, artifacts, runner, teacher, context, lambda *_progress: None, dry=True
    )
    if teacher.required.new:
        overlay.mark_provisional(artifact)
    return teacher.required
