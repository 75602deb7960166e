"""`speed rehearse`: the complete recipe on a few rows a stage, before the run that costs money.

A rehearsal is a recipe made from the full one: the same endpoint, models, prompts and settings, with fewer rows. It runs in
a home of its own with a ledger of its own, so none of its artifacts and calls mix with the full recipe's. Gates are reported
and not enforced; examples of the teacher replace rows that a model trained on so little cannot write
(`assets/stand_ins.py`), so every later stage is reached.

Belongs here: the smaller recipe, its home, running it. Not here: its measures (`rehearsal_measures.py`) and report
(`rehearsal_report.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from resources.inputs.hub_revisions import REVISIONS_FILE as REVISIONS
from resources.progress import ProgressFor, no_progress
from resources.store.home import prepare_home
from resources.store.store import write_atomically
from speed_assets.orchestration import runs
from speed_assets.orchestration.home_environment import home_environment
from speed_assets.orchestration.run_report import RunReport
from speed_assets.recipe import ROW_COUNTS, Checks, Recipe, RecipeError, Rehearsal

ROWS = 8
"""Rows of each task type in each stage, unless the recipe asks for fewer (ours)."""
_STEPS_MIN = 2
"""Least steps of a training: the first step has the learning rate 0 where there is a warm-up."""
_TINY = Path(__file__).resolve().parents[2] / "recipes" / "natural_sets"
"""Evaluation sets of this project, scored where the recipe's own evaluation is left out."""


@dataclass(frozen=True)
class Rehearsed:
    """A rehearsal that was run: its recipe, its home, and the report of its run."""

    recipe: Recipe
    home: Path
    report: RunReport


def rehearsal_of(recipe: Recipe, rows: int = ROWS, *, skip_evaluation: bool = False) -> Recipe:
    """The recipe with at most `rows` rows of each task type in each stage, and trainings to match.

    Args:
        recipe: the full recipe.
        rows: rows of each task type in each stage; at least 4, since each training has to take several steps.
        skip_evaluation: score small sets of this project in place of the recipe's own.

    Returns:
        The smaller recipe: the same teacher, generator, prompts and sampling; topics, rows, batches and steps cut down;
        every call asked at once (a batch may take a day); gates waived.

    Raises:
        RecipeError: when `rows` is below 4, or the recipe cannot be made smaller.
    """
    if rows < 4:
        raise RecipeError(f"--rows {rows}: a rehearsal needs at least 4 rows a stage, or its trainings take no step")
    data = recipe.model_dump()
    data["name"] = f"{recipe.name[:30]}-rehearsal"
    data["rehearsal"] = Rehearsal(rows=rows).model_dump()
    data["checks"] = Checks.waived().model_dump()
    data["calls"]["mode"] = "online"
    data["final_triplets"].pop("wanted", None)  # a few rows a stage, whatever passes
    _fewer_topics(data["topics"], rows)
    for section, field in ROW_COUNTS:
        if data.get(section):
            numbers = data[section][field]
            data[section][field] = {name: min(rows, number) for name, number in numbers.items()}
    if data["mined_negatives"]:
        data["mined_negatives"]["doubts_max"] = min(rows, data["mined_negatives"]["doubts_max"])
    own = data.get("own_evaluation")
    if own and own.get("pooled"):
        own["rows"] = min(rows, own["rows"])
        if own.get("queries"):
            own["queries_max"] = min(rows, own["queries_max"])
    answers = (data.get("examples") or {}).get("answers")
    if answers:
        answers["queries_max"] = min(rows, answers["queries_max"])
    _shorter_trainings(data, rows)
    if skip_evaluation:
        folders = sorted(str(folder) for folder in _TINY.iterdir() if folder.is_dir())
        data["evaluation"] |= {"tasks": (), "unsearched": (), "local": folders}
    try:
        return Recipe.model_validate(data)
    except ValueError as error:
        raise RecipeError(f"{recipe.name} cannot be rehearsed: {error}") from None


def _fewer_topics(topics: dict[str, Any], rows: int) -> None:
    """As many topics as there are rows, and no separate alignment topics: each would cost a call for each task type."""
    topics |= {"alignment": None, "limit": min(rows, topics["limit"] or rows)}
    topics["at_least"] = min(topics["at_least"], topics["limit"])
    if topics.get("refuse"):
        topics["refuse"] = False
    if topics.get("expand"):
        children = min(topics["expand"]["children"], rows)
        topics["expand"] |= {"levels": 1, "children": children, "target": topics["limit"] + children}


def _shorter_trainings(data: dict[str, Any], rows: int) -> None:
    """Batches small enough for several steps; micro batches divide them."""
    tables = {
        "junior_model": sum(data["seed_data"]["rows"].values()),
        "senior_model": sum((data["preference_pairs"] or {}).get("prompts", {"": 0}).values()),
        "revisor_model": sum((data["revision_data"] or {}).get("rows", {"": 0}).values()),
        # One task type a batch, and filters that may leave no more than a rehearsal's least.
        "embedding_model": rows,
    }
    for name, size in tables.items():
        section = data[name]
        if not section:
            continue
        batch = max(1, min(section["batch_size"], size // (2 * _STEPS_MIN)))
        section["batch_size"] = max(2, batch) if name == "embedding_model" else batch
        micro = section.get("micro_batch_size")
        if micro:
            section["micro_batch_size"] = max(n for n in range(1, min(micro, section["batch_size"]) + 1) if section["batch_size"] % n == 0)  # fmt: skip
    data["embedding_model"]["epochs"] = min(
        data["embedding_model"]["epochs"], ceil(data["embedding_model"]["average_last"])
    )
    data["embedding_reruns"]["count"] = min(data["embedding_reruns"]["count"], 1)


def home_of(home: Path, recipe: Recipe) -> Path:
    """The home of a recipe's rehearsals, a folder in its own home."""
    return home / "rehearsals" / recipe.name


def rehearse(
    recipe: Recipe,
    home: Path,
    *,
    rows: int = ROWS,
    skip_evaluation: bool = False,
    progress: ProgressFor = no_progress,
    say: Callable[[str], None] = lambda _line: None,
    check_first: bool = False,
) -> Rehearsed:
    """Run the rehearsal of a recipe to its release decision, in `home/rehearsals/NAME`; no other part of `home` changes.

    No shared storage is used. An interrupted rehearsal of the same recipe resumes.

    Args:
        recipe: the full recipe.
        home: its home.
        rows: rows of each task type in each stage, at least 4.
        skip_evaluation: score small sets of this project in place of the recipe's own.
        progress: gets the progress of each stage.
        say: gets lines for a person.
        check_first: as in `runs.run`.

    Returns:
        The smaller recipe, the rehearsal's home and the report of its run.

    Raises:
        RecipeError: when the recipe cannot be rehearsed, its teacher is an address of this machine where nothing listens, or
            one of its models cannot be found.
    """
    small = rehearsal_of(recipe, rows, skip_evaluation=skip_evaluation)
    _check_teacher_listens(recipe)
    place = home_of(home, recipe)
    with home_environment(place, shared=False):
        prepare_home(place)
        _link_models(home, place)
        report = runs.run(small, place, progress=progress, say=say, check_first=check_first)
    return Rehearsed(small, place, report)


def _check_teacher_listens(recipe: Recipe) -> None:
    """Raise RecipeError where a teacher on this machine was not started; a run would wait for it for `calls.breaker_s`."""
    parts = urlsplit(recipe.teacher.endpoint or "")
    if not recipe.asks_teacher() or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        return
    try:
        socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), 5).close()
    except OSError as error:
        raise RecipeError(
            f"nothing answers at {recipe.teacher.endpoint} ({error}): start the teacher's server, or name another one in "
            "teacher.endpoint"
        ) from None


def _link_models(home: Path, place: Path) -> None:
    """Let the rehearsal load the models of the real home: converted ones, and the same commits of those of a hub."""
    (home / "models").mkdir(parents=True, exist_ok=True)
    if not (place / "models").exists():
        (place / "models").symlink_to(home / "models", target_is_directory=True)
    if (home / REVISIONS).exists():
        write_atomically(place / REVISIONS, (home / REVISIONS).read_text(encoding="utf-8"))
