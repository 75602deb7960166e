"""Every probe of `speed doctor`, run at the same time; none may delay a run for longer than `SECONDS`.

Each probe is a small function that returns findings. Nothing is sent but one paid call of one token (`teacher_probes.py`).

Belongs here: the list of probes, and running them. Not here: the probes, what a run makes of findings (`beginning.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from resources.redaction import redacted_message
from speed_assets.orchestration.doctor import (
    corpus_probes,
    engine_probes,
    input_probes,
    machine_probes,
    model_probes,
    teacher_probes,
)
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.recipe import Recipe, RecipeError, load_recipe

SECONDS = 18.0
"""Seconds after which probes that have not ended are reported as such."""
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
        ("judged queries", lambda: input_probes.judged_queries(recipe)),
        ("given rows", lambda: input_probes.given_rows(recipe)),
        ("corpus", lambda: corpus_probes.corpus(recipe, network=network)),
        ("languages", lambda: corpus_probes.text_languages(recipe)),
        ("prices", lambda: input_probes.prices(recipe)),
        ("batches", lambda: input_probes.batches(recipe)),
        ("key", lambda: teacher_probes.key(recipe)),
        ("home", lambda: machine_probes.home(recipe, home)),
        ("disk", lambda: machine_probes.disk(recipe, home)),
        ("memory", lambda: machine_probes.memory(recipe, home)),
        ("locale", lambda: machine_probes.languages(recipe, home)),
        ("clock", lambda: machine_probes.clock(recipe, home)),
        ("ports", lambda: machine_probes.ports(recipe, home)),
        ("packages", engine_probes.packages),
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


def examine(name: str, topics: Path | str | None, home: Path, *, network: bool = True) -> list[Finding]:
    """`diagnose` a recipe by its name or file.

    Args:
        name: of a shipped recipe, or a YAML file.
        topics: a topic file, in place of the recipe's.
        home, network: as `diagnose` takes them.

    Returns:
        The findings; a recipe that cannot be read is the only finding.
    """
    try:
        recipe = load_recipe(name, topics)
    except RecipeError as problem:
        return [error("recipe", str(problem), f"correct {name}")]
    return [ok("recipe", f"{recipe.name}, {len(recipe.graph())} stages"), *diagnose(recipe, home, network=network)]
