"""What a run would do and what it would cost, before anything is sent: `speed plan`.

Stages that only ask the teacher are carried out dry, in a temporary store: answers come from the ledger, and what it does
not hold is counted and stands in for itself. So the plan knows exactly which calls are new, and where every answer is known
it knows the result, and whether anything below it changes at all. Stages below a result that nobody knows yet are told by the
recipe's numbers, and their time by what the same stage took before.

Belongs here: planning. Not here: running (`runs.py`), fingerprints (`resources/store/artifacts.py`), printing (`cli.py`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from resources.compute.runner import Runner
from resources.ledger.accounts import cost_of_answers, cost_report
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff
from resources.store.artifacts import Artifacts, NotMaterialized, artifact_label
from resources.store.shared_store import store_of
from resources.store.store import Artifact, ArtifactManifest, Store
from resources.teacher.collecting import Progress
from resources.teacher.known_dialects import DialectBook
from resources.teacher.teacher import Teacher
from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.stage import make
from speed_assets.assets.tasks import UNWRITTEN
from speed_assets.build import FUNCTIONS
from speed_assets.domain.graph import Stage
from speed_assets.domain.judging import orders
from speed_assets.orchestration.plan_costs import Paid, cost_of_step, saved_by_batches
from speed_assets.orchestration.plan_warnings import warnings_before
from speed_assets.orchestration.staleness import Instance, code_version, stale_reason
from speed_assets.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Step:
    """One artifact in the plan. `action` is `reuse`, `record` (it is there, but Dagster or a check has not taken note of it as
    it is, which costs nothing) or `make`.

    `calls` are new teacher calls, `calls_most` those with every further attempt that the recipe allows, `known_calls` those
    that the ledger answers. Tokens and money are of the new calls, as is likely, at least, and at most with every further attempt
    cut off at its larger limit (`plan_costs.py`). `seconds` are those of the last time, for as many rows. None is unknown.
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

    @property
    def name(self) -> str:
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
    """What the numbers of the recipe will spoil, one sentence each."""
    mode: str = "online"
    """How calls are made (`calls.mode`)."""
    batch_saves: float | None = None
    """Money that batch files save of what is likely, or would save; None is unknown, or there is nothing to save."""

    def as_json(self) -> dict[str, Any]:
        made = [step for step in self.steps if step.action == "make"]
        return {
            "recipe": self.recipe,
            "make": [step.name for step in made],
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


@dataclass
class Need:
    """What a dry stage would ask: new requests, and how many the ledger knows."""

    new: list[TeacherRequest] = field(default_factory=list)
    known: int = 0


class DryTeacher(Teacher):
    """A teacher that asks nobody: answers of the ledger, and a text that stands in for each unknown one."""

    def __init__(self, recipe: Recipe, ledger: Ledger, dialects: DialectBook | None = None) -> None:
        super().__init__(recipe, ledger, dialects=dialects)
        self.need = Need()

    def ask(
        self, context: CallContext, requests: Sequence[TeacherRequest], progress: Progress | None = None
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """Known answers as they are. An unknown brainstorm gives tasks that nobody has, so what is written from them is new;
        an unknown expansion gives as many subtopics as it was asked for, so what is asked of them is counted at most."""
        known = self.answers_in_ledger(requests)
        new = {request.key: request for request in requests if request.key not in known}
        self.need = Need([*self.need.new, *new.values()], self.need.known + len(known))  # a stage may ask twice
        count = self._recipe.task_list.per_topic
        if context.stage == "topic_tree" and self._recipe.topics.expand:
            count = self._recipe.topics.expand.children
        for key in new:
            tasks = [f"{UNWRITTEN}{key[:16]}x{number}" for number in range(count)]  # no two alike in any word
            # Not simply empty: what cannot be read may be asked again, and nobody knows yet whether it will be.
            known[key] = (
                TeacherAnswer(json.dumps(tasks))
                if context.stage in ("topic_tree", "task_list")
                else TeacherAnswer("", error="not asked yet")
            )
        nothing = cost_of_answers(self._ledger, [])
        return [known[request.key] for request in requests], TeacherUse(0, 0, 0, nothing, nothing)


class _Overlay(Store):
    """A temporary store that also sees the artifacts of the real one."""

    def __init__(self, home: Path, real: Store) -> None:
        super().__init__(home)
        self._real = real

    def fetch(self, asset: str, fingerprint: str) -> Artifact | None:
        return self._real.fetch(asset, fingerprint) or super().fetch(asset, fingerprint)

    def peek(self, asset: str, fingerprint: str) -> ArtifactManifest | None:
        return self._real.peek(asset, fingerprint) or super().fetch(asset, fingerprint)

    def load_text(self, name: str) -> str | None:
        return self._real.load_text(name)

    def mark_provisional(self, artifact: Artifact) -> None:
        """Its content stands in for one that nobody knows: nothing made from it exists."""
        self._verified[artifact.fingerprint] = replace(artifact, digest=f"provisional:{artifact.fingerprint}")


def plan(recipe: Recipe, home: Path, instance: Instance | None = None, store: Store | None = None) -> Plan:
    """What `speed run` would do now in this home. Sends nothing and changes nothing. `instance` and `store` are the
    home's own unless others are given: a store looks at every byte of an artifact once. Raises RecipeError where `topics.refuse` forbids what the recipe asks for."""
    warnings = warnings_before(recipe)
    real = Artifacts(recipe, store or store_of(home))
    recorded = (instance or Instance.of(home)).recorded([(stage.name, part) for stage, part in real.in_build_order()])
    ledger = Ledger.at(home)
    tariff = Tariff.of(recipe)
    paid = {entry["asset"]: entry for entry in cost_report(ledger)["by"]["asset"]}
    steps = []
    with tempfile.TemporaryDirectory() as temporary:
        overlay = _Overlay(Path(temporary), real.store)
        overlay.open()
        artifacts = Artifacts(recipe, overlay)
        teacher = DryTeacher(recipe, ledger, DialectBook(recipe.teacher, home))
        runner = Runner(Path(temporary), warm=False)
        for stage, partition in artifacts.in_build_order():
            found = artifacts.peek(stage.name, partition)
            if found is not None:
                why = stale_reason(artifacts, recorded, found)
                steps.append(Step(stage.name, partition, "record" if why else "reuse", why or "nothing changed"))
                continue
            why = _why(artifacts, real.store, stage, partition)
            need = _carry_out(artifacts, stage, partition, teacher, runner, overlay)
            steps.append(_step(recipe, real.store, paid, stage, partition, why, need))
    own = {step.name: real.code_version(step.asset, step.partition) for step in steps}
    versions = {
        step.name: code_version(
            own[step.name], recorded[step.asset, step.partition].code_version, step.action != "reuse"
        )
        for step in steps
    }
    saved = saved_by_batches(recipe, _sum(step.money for step in steps))
    return Plan(recipe.name, steps, tariff.currency or None, versions, own, warnings, recipe.calls.mode, saved)


def _asks(stage: Stage) -> bool:
    return stage.asks_teacher


def _carry_out(
    artifacts: Artifacts,
    stage: Stage,
    partition: str | None,
    teacher: DryTeacher,
    runner: Runner,
    overlay: _Overlay,
) -> Need | None:
    """Make the artifact dry if it takes nothing but answers; what it needs, or None where only the recipe can tell."""
    if stage.gpu or (not _asks(stage) and stage.name != "topics"):
        return None
    try:
        inputs = artifacts.inputs(stage.name, partition)
    except NotMaterialized:
        return None
    if (
        any(a.digest.startswith("provisional:") for group in inputs.values() for a in group.values())
        and not stage.takes
        and stage.name != "task_list"  # of a topic that nobody has named yet the call is known, if not its words
    ):
        return None
    teacher.need = Need()
    context = CallContext("plan", stage.name, partition)
    artifact, _ = make(
        stage, FUNCTIONS[stage.name], partition, artifacts, runner, teacher, context, lambda *_progress: None
    )
    if teacher.need.new:
        overlay.mark_provisional(artifact)
    return teacher.need


def _step(
    recipe: Recipe, store: Store, paid: Paid, stage: Stage, partition: str | None, why: str, need: Need | None
) -> Step:
    rows = _rows(recipe, stage.name, partition)
    step = Step(
        stage.name, partition, "make", why, rows=rows, seconds=_seconds(store, stage, partition, rows), gpu=stage.gpu
    )
    if not _asks(stage):
        return step
    calls, attempts = len(need.new) if need else _calls(recipe, stage.name, partition), _attempts(recipe, stage.name)
    least = 0 if stage.name == "mined_negatives" and need is None else calls
    requests = need.new if need else None
    cost = cost_of_step(recipe, stage.name, partition, calls, least, attempts, requests, paid)
    prompt, output = cost.tokens.prompt, cost.tokens.output
    return replace(
        step,
        calls=calls,
        calls_most=calls * attempts,
        known_calls=need.known if need else 0,
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


def _attempts(recipe: Recipe, stage: str) -> int:
    """Times that one answer of a stage is asked for at most."""
    section = recipe.topics.expand if stage == "topic_tree" else getattr(recipe, stage, None)
    return int(getattr(section, "attempts", 1))


def _rows(recipe: Recipe, asset: str, partition: str | None) -> int | None:
    """Rows that a table is asked for, where the recipe says it."""

    def of(numbers: Any) -> int:
        return int(getattr(numbers, str(partition)))

    if asset == "seed_data":
        return of(recipe.seed_data.rows)
    if asset == "junior_data" and recipe.junior_data:
        return of(recipe.junior_data.prompts) * recipe.junior_data.candidates
    if asset == "preference_pairs" and recipe.preference_pairs:
        return of(recipe.preference_pairs.prompts)
    if asset == "revision_data" and recipe.revision_data:
        return of(recipe.revision_data.rows)
    if asset == "row_verdicts" and recipe.row_verdicts:
        return of(recipe.row_verdicts.rows)
    if asset in ("senior_data", "revised_data") and recipe.senior_data:
        return of(recipe.senior_data.rows)
    return None


def _calls(recipe: Recipe, asset: str, partition: str | None) -> int:
    """Teacher calls of a stage whose prompts nobody knows yet: what the recipe asks for."""
    rows = _rows(recipe, asset, partition) or 0
    if asset == "preference_pairs":
        assert recipe.junior_data is not None
        panel = recipe.preference_pairs.panel if recipe.preference_pairs else ()
        return rows * len(orders(recipe.junior_data.candidates)) * (1 + len(panel))
    if asset == "mined_negatives" and recipe.mined_negatives:
        return 2 * recipe.mined_negatives.doubts_max  # at most: how many are in doubt only the embedder can tell
    return rows


def _seconds(store: Store, stage: Stage, partition: str | None, rows: int | None) -> float | None:
    """What the stage took the last time, scaled to as many rows; None when it was never made in this home."""
    manifest = _newest(store, stage.name, partition)
    if manifest is None or "seconds" not in manifest["metadata"]:
        return None
    seconds, before = float(manifest["metadata"]["seconds"]), manifest["metadata"].get("asked")
    return round(seconds * rows / before, 2) if rows and before else seconds


def _newest(store: Store, asset: str, partition: str | None) -> dict[str, Any] | None:
    """The manifest of the artifact of this asset that was made last, under whatever recipe."""
    return max(store.manifests(asset, partition), key=lambda manifest: float(manifest["created"]), default=None)


def _why(artifacts: Artifacts, store: Store, stage: Stage, partition: str | None) -> str:
    """What differs from the newest artifact of this asset, in a few words."""
    before = _newest(store, stage.name, partition)
    if before is None:
        return "not made yet in this home"
    try:
        now = artifacts.lineage(stage.name, partition)
    except NotMaterialized as missing:
        return f"{artifact_label(missing.asset, missing.partition)} is made first"
    changes = list(_differences(before["lineage"], now))
    return "; ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "") or "it was damaged"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in [*now, *(key for key in before if key not in now)]:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        here = f"{path}.{name}" if path else name
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, "" if not path and name in ("recipe", "inputs", "externals") else here)
        elif path == "" and name in ("version", "stage", "partition"):
            yield f"the stage's code changed (version {old} -> {new})"
        elif isinstance(new, str) and len(new) >= 32:
            yield f"{here} changed"
        else:
            yield f"{here} {old} -> {new}"
