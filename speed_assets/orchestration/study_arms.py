"""The arms of a study: the recipes that are made from one recipe, and the results of each.

Belongs here: deriving recipes, the result of an arm. Not here: running arms (`study.py`), comparing them (`study_report.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speed_assets.domain.statistics import (
    TaskSamples,
)
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.recipe import Checks, PerTaskType, Recipe, RecipeError, with_changes

SPEED = "speed"
"""The arm with the recipe as it is."""
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no_revisor": {"final_triplets.source": "senior_data"},
    "no_dpo": {"senior_data.writer": "junior_model"},
    "junior_only": {"senior_data.writer": "junior_model", "final_triplets.source": "senior_data"},
    "no_distil": {"embedding_model.distil": None, "reranker_scores": None},
}


@dataclass(frozen=True)
class Result:
    """One arm under one seed. `right` is the share of its training rows that is entirely right, if the microworld can tell."""

    calls: int
    rows: int
    right: float | None
    scores: Mapping[str, float]
    samples: Mapping[str, TaskSamples]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.scores.values())))


Results = Mapping[str, Sequence[Result]]
"""By arm, one for each seed, in the order of the seeds."""


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values, by dotted path. Raises RecipeError when they do not fit together."""
    try:
        return Recipe.model_validate(with_changes(recipe.model_dump(), changes))
    except ValueError as error:
        raise RecipeError(f"{recipe.name} cannot be studied with {dict(changes)}: {error}") from None


def arms(recipe: Recipe, seed: int) -> dict[str, Recipe]:
    """The arms with generators under this seed, larger ones first, since smaller ones reuse their rows.

    Returns:
        Recipes by the name of the arm.

    Raises:
        RecipeError: when the recipe leaves out a part of the loop, or an arm cannot be made from it.
    """
    if given := recipe.given_names():
        raise RecipeError(
            f"{recipe.name} has given.{given[0]}: a study makes every part of the loop itself; remove `given`"
        )
    if recipe.senior_data is None or (recipe.final_triplets.source, recipe.senior_data.writer) != (
        "revised_data",
        "senior_model",
    ):
        raise RecipeError(
            f"{recipe.name} leaves out a part of the loop: a study begins with final_triplets.source=revised_data and "
            "senior_data.writer=senior_model, and leaves out the parts itself"
        )
    if "no_distil" in recipe.study.ablations and recipe.embedding_model.distil is None:
        raise RecipeError(
            f"{recipe.name} learns from no other model: set embedding_model.distil, or take no_distil out of study.ablations"
        )
    alone = {"baselines": (), "untrained": False, "bm25": False}
    speed = changed(
        recipe,
        {
            "seed": seed,
            "final_triplets.wanted": None,  # arms differ in what they ask for
            "topics.refuse": False,  # a gate as well, and arms with more rows of fewer topics are part of the comparison
            "mteb_scores": alone,
            "embedding_reruns": {"count": 0},
            "checks": Checks.waived().model_dump(),
        },
    )
    settings = recipe.study
    found = {at_share(share): _share(speed, share) for share in sizes(recipe)}
    for name in settings.ablations:
        found[name] = changed(_share(speed, settings.ablation_share), ABLATIONS[name])
    return found


def sizes(recipe: Recipe) -> list[float]:
    """Shares of `senior_data.rows` that the complete loop is run with, the largest first."""
    shares = {1.0, *recipe.study.scaling, *([recipe.study.ablation_share] if recipe.study.ablations else [])}
    return sorted(shares, reverse=True)


def at_share(share: float) -> str:
    """The name of the arm with this share of the rows."""
    return SPEED if share == 1 else f"{SPEED}_{share:g}"


def _share(recipe: Recipe, share: float) -> Recipe:
    assert recipe.senior_data is not None
    rows = recipe.senior_data.rows.model_dump()
    return changed(recipe, {"senior_data.rows": {name: round(share * count) for name, count in rows.items()}})


def teacher_name(multiple: int) -> str:
    """The name of the teacher-only arm with so many times SPEED's calls."""
    return "teacher_n" if multiple == 1 else f"teacher_{multiple}n"


def teacher_only(speed: Recipe, rows: int) -> Recipe:
    """The recipe whose triplets are `rows` examples of the teacher, on the topics that SPEED writes about.

    Examples and the alignment of generators are the same stage, so the alignment's own topics are left out. Every call left
    from brainstorming is an example: the teacher reads none of its own rows, and nothing is fitted to such verdicts.
    """
    assert speed.senior_data is not None
    wanted = apportion(rows, speed.senior_data.rows)
    return changed(
        speed,
        {
            "final_triplets.source": "seed_data",
            "final_triplets.scores.calibration": None,
            "topics.alignment": None,
            "seed_data.rows": wanted.model_dump(),
            "row_verdicts": None,
        },
    )


def apportion(total: int, proportions: PerTaskType) -> PerTaskType:
    """`total` rows in these proportions, exactly: rows that rounding leaves over go to the largest remainders.

    >>> apportion(10, PerTaskType(classification=1, retrieval=1, sts=1, matching_short=0, matching_long=0)).retrieval
    3
    """
    weights = {name: getattr(proportions, name) for name in TASK_TYPE_NAMES}
    parts = sum(weights.values())
    shares = {name: divmod(total * weight, parts) for name, weight in weights.items()}
    left = total - sum(quotient for quotient, _ in shares.values())
    most = sorted(shares, key=lambda name: -shares[name][1])[:left]
    return PerTaskType(**{name: quotient + (name in most) for name, (quotient, _) in shares.items()})
