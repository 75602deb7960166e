"""What is missing before a run begins: `speed doctor`, and the first seconds of `run`, `study`, `rehearse` and `plan`.

Every probe is a small function that returns findings. Those of the network run at the same time as the others, and none may
delay the run for longer than `SECONDS`. Nothing is sent but one paid call of one token (`teacher_probes.py`).

Belongs here: the list of probes, running them, what a run makes of them. Not here: the probes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from resources.ledger.database import LedgerError
from resources.redaction import redacted_message
from resources.store.artifacts import Artifacts, partitions_of
from resources.store.shared_store import store_of
from resources.store.store import StoreError
from speed_assets.domain.graph import Stage
from speed_assets.orchestration.doctor import engine_probes, input_probes, machine_probes, model_probes, teacher_probes
from speed_assets.orchestration.doctor.finding import Finding, as_json, as_text, error, in_words, ok, warning
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Recipe, RecipeError, load_recipe

__all__ = ["Finding", "as_json", "as_text", "begin", "calls_are_due", "diagnose", "examine", "in_words", "missing"]

SECONDS = 18.0
"""Seconds after which probes that have not ended are reported as such."""
VARIABLE = "SPEED_DOCTOR"
"""Environment variable: `off` lets a run begin whatever is wrong."""
Probe = Callable[[], list[Finding]]


def diagnose(recipe: Recipe, home: Path, *, network: bool = True) -> list[Finding]:
    """What is missing or wrong before a run of this recipe.

    Args:
        recipe: what is to be run.
        home: where.
        network: whether the teacher and the model hub may be asked; the teacher is asked one call of one token at most.

    Returns:
        Findings in the order of the probes; a probe that fails or does not end is a warning itself.
    """
    return _all_of(_probes(recipe, home, network))


def _probes(recipe: Recipe, home: Path, network: bool) -> list[tuple[str, Probe]]:
    """Every probe by its name, in the order in which findings are shown."""
    free: list[tuple[str, Probe]] = [
        ("topics", lambda: input_probes.topics(recipe)),
        ("prompts", lambda: input_probes.prompts(recipe)),
        ("evaluation", lambda: input_probes.evaluation(recipe)),
        ("examples", lambda: input_probes.examples(recipe)),
        ("prices", lambda: input_probes.prices(recipe)),
        ("batches", lambda: input_probes.batches(recipe)),
        ("key", lambda: teacher_probes.key(recipe)),
        ("home", lambda: machine_probes.home(recipe, home)),
        ("disk", lambda: machine_probes.disk(recipe, home)),
        ("memory", lambda: machine_probes.memory(recipe, home)),
        ("locale", lambda: machine_probes.languages(recipe, home)),
        ("clock", lambda: machine_probes.clock(recipe, home)),
        ("ports", lambda: machine_probes.ports(recipe, home)),
        ("engine", lambda: engine_probes.engine(recipe, home)),
        ("gpu", lambda: engine_probes.gpu(recipe, home)),
        ("model", lambda: model_probes.models(recipe, home, network=network)),
    ]
    asked: list[tuple[str, Probe]] = [
        ("mteb tasks", lambda: input_probes.mteb_names(recipe)),
        ("endpoint", lambda: teacher_probes.endpoint(recipe, home)),
    ]
    return [*free, *asked] if network else free


def _all_of(probes: Sequence[tuple[str, Probe]]) -> list[Finding]:
    """Findings of all probes, each in a thread of its own: one that hangs holds nobody up."""
    came: dict[int, list[Finding]] = {}

    def carry_out(place: int, name: str, probe: Probe) -> None:
        try:
            came[place] = probe()
        except Exception as problem:
            came[place] = [warning(name, f"could not be checked ({redacted_message(problem)})", "speed doctor --json")]

    until = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=carry_out, args=(place, name, probe), daemon=True)
        for place, (name, probe) in enumerate(probes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    found = []
    for place, (name, _) in enumerate(probes):
        late = [warning(name, f"was not checked within {SECONDS:g} s", "speed doctor, once more")]
        found += came.get(place, late)
    return found


def examine(name: str, topics: str | None, home: Path, *, network: bool = True) -> list[Finding]:
    """`diagnose` of a recipe by its name or file; a recipe that cannot be read is a finding itself."""
    try:
        recipe = load_recipe(name, topics)
    except RecipeError as problem:
        return [error("recipe", str(problem), f"correct {name}")]
    return [ok("recipe", f"{recipe.name}, {len(recipe.graph())} stages"), *diagnose(recipe, home, network=network)]


def missing(recipe: Recipe, home: Path) -> list[str]:
    """What the probes find that ask nobody, one sentence each: for a plan. Crowded prompts are a plan's own warning."""
    if os.environ.get(VARIABLE) == "off":
        return []
    found = [finding for finding in diagnose(recipe, home, network=False) if finding.status != "ok"]
    return [in_words(finding) for finding in found if not (finding.name == "topics" and finding.status == "warning")]


def begin(recipe: Recipe, home: Path, say: Callable[[str], None], *, everything: bool = True) -> None:
    """The first seconds of a run: say every warning, and end before anything is made where something is missing.

    What is found of the teacher counts where the run has new calls for it, and what is found of models and engines where an
    artifact that they make is not there yet: a run that finds everything made asks nobody.

    Args:
        recipe: what is to be run.
        home: where.
        say: takes a line.
        everything: whether all of the recipe is run; of a selection nobody knows here what it asks, so only the home, its
            disk and the like are reported, as warnings.

    Raises:
        RecipeError: with every error and what mends it.
    """
    if os.environ.get(VARIABLE) == "off":
        return
    calls = everything and calls_are_due(recipe, home)
    models_due = everything and not _made(recipe, home, lambda stage: stage.gpu)
    silent = (frozenset() if calls else _OF_TEACHER) | (frozenset() if models_due else _OF_MODELS)
    found = diagnose(recipe, home, network=calls)
    errors = []
    for finding in found:
        if finding.status == "ok" or finding.name in silent:
            continue
        if finding.status == "error" and everything:
            errors.append(in_words(finding))
        elif finding.name != "topics":  # the run itself warns of crowded prompts, and refuses what it cannot read
            say(f"warning: {in_words(finding)}")
    if errors:
        several = f"{len(errors)} things are missing\n  " if len(errors) > 1 else ""
        last = f"\n  speed doctor shows all that was checked; {VARIABLE}=off begins all the same"
        raise RecipeError(several + "\n  ".join(errors) + last)


_OF_TEACHER = frozenset(
    ("key", "batches", "prices", "endpoint", "server", "server clock", "answer", "structured output", "model behind")
)
_OF_MODELS = frozenset(("engine", "gpu", "cuda", "model", "mteb tasks", "ports", "memory"))


def calls_are_due(recipe: Recipe, home: Path) -> bool:
    """Whether a run has calls for the teacher that its ledger does not answer. Where every artifact that is made of answers
    is there, that takes milliseconds; else it takes a plan."""
    if recipe.teacher.engine != "openai" or _made(recipe, home, lambda stage: stage.asks_teacher):
        return False
    try:
        return not home.is_dir() or plan(recipe, home).as_json()["calls"] > 0
    except (RecipeError, StoreError, LedgerError):
        return True  # what is wrong is found by its own probe


def _made(recipe: Recipe, home: Path, which: Callable[[Stage], bool]) -> bool:
    """Whether all artifacts of some stages are there."""
    try:
        artifacts = Artifacts(recipe, store_of(home))
        return all(
            artifacts.peek(stage.name, part) is not None
            for stage in artifacts.graph.values()
            if which(stage)
            for part in partitions_of(stage)
        )
    except (RecipeError, StoreError):
        return False
