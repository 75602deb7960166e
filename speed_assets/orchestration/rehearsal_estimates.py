"""What the full recipe will take, extrapolated from its rehearsal: calls, tokens, money, hours of models, disk.

Calls follow from the recipe's numbers, in proportion to the attempts that the rehearsal needed. Tokens and money are the mean
of the rehearsal's calls, with a bootstrap interval. Times of a few rows overestimate: a card that writes eight rows is nearly
idle. So hours of models have three numbers: the rehearsal's time for each row, the time if a batch of the recipe takes no
longer than a batch of the rehearsal, and their geometric mean as the likely one.

Belongs here: extrapolating. Not here: measuring (`rehearsal_measures.py`), running (`rehearse.py`), printing.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from resources.inputs.example_files import read_examples
from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff, in_currency
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.domain.fingerprints import seed_for
from speed_assets.orchestration.calls_by_numbers import calls_of
from speed_assets.orchestration.rehearsal_measures import StageMeasures
from speed_assets.orchestration.rehearse import Rehearsed
from speed_assets.recipe import PerTaskType, Recipe

DRAWS = 1_000
"""Bootstrap draws of the mean of a call; the interval holds 95 of 100 of them (ours)."""
_WRITERS = ("junior_data", "senior_data", "revised_data")


@dataclass(frozen=True)
class Interval:
    """A likely number, and the lowest and highest that are plausible."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> Interval:
        """All three multiplied by `factor`."""
        return Interval(self.low * factor, self.likely * factor, self.high * factor)


NOTHING = Interval(0.0, 0.0, 0.0)


def full_recipe(
    recipe: Recipe, rehearsed: Rehearsed, lines: Sequence[StageMeasures], skipped: bool = False
) -> dict[str, Any]:
    """Estimates for the full recipe: calls, tokens, money, hours of models, disk; intervals as {low, likely, high}.

    Args:
        recipe: the real one.
        rehearsed: its rehearsal, run.
        lines: `stage_measures` of it.
        skipped: whether the recipe's own evaluation was left out; its hours are then unknown.
    """
    by_stage = {line.stage: line for line in lines}
    wanted, small = calls_of(recipe), calls_of(rehearsed.recipe)
    calls, tokens, money = 0.0, NOTHING, NOTHING
    priced, per_call = True, _per_call(rehearsed, recipe)
    for stage, count in wanted.items():
        line = by_stage.get(stage)
        again = line.calls / small[stage] if line and small.get(stage) and line.calls else 1.0
        calls += count * again
        if stage in per_call:
            tokens += per_call[stage]["tokens"].times(count * again)
            cost = per_call[stage]["money"]
            priced = priced and cost is not None
            money += cost.times(count * again) if cost is not None else NOTHING
        elif count:
            priced = False
    hours = {line.stage: _hours(recipe, rehearsed.recipe, line) for line in lines}
    models = {name: span for name, span in hours.items() if span is not None}
    if skipped:
        models.pop("mteb_scores", None)
    return {
        "calls": round(calls),
        "teacher_tokens": asdict(tokens),
        "money": asdict(money) if priced else None,
        "currency": Tariff.of(recipe).currency or None,
        "model_hours": asdict(sum(models.values(), NOTHING)),
        "model_hours_by_stage": {name: asdict(span) for name, span in models.items()},
        "evaluation": "not measured (--skip-evaluation)" if skipped else "measured",
        "disk_gb": asdict(_disk(recipe, rehearsed)),
    }


def _per_call(rehearsed: Rehearsed, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Mean tokens and money of a call by stage, from the rehearsal's own ledger, at the price of the real recipe's mode."""
    tariff = Tariff.of(recipe)
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for call in accounts.read_calls(Ledger.at(rehearsed.home)):
        if call["prompt_tokens"] is not None and call["output_tokens"] is not None:
            found[call["stage"]].append((call["prompt_tokens"], call["output_tokens"]))
    by_stage = {}
    for stage, pairs in found.items():
        costs = [in_currency(tariff.cost(*pair)) for pair in pairs]
        known = [cost for cost in costs if cost is not None]
        by_stage[stage] = {
            "tokens": mean_interval([sum(pair) for pair in pairs], stage),
            "money": mean_interval(known, stage) if len(known) == len(costs) else None,
        }
    return by_stage


def mean_interval(values: Sequence[float], name: str) -> Interval:
    """The mean, with the bootstrap's 95 % interval over the chance of which calls were made."""
    rng = random.Random(seed_for(1, "rehearsal", name))
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(DRAWS))
    return Interval(means[int(0.025 * DRAWS)], sum(values) / len(values), means[int(0.975 * DRAWS) - 1])


def _hours(recipe: Recipe, small: Recipe, line: StageMeasures) -> Interval | None:
    """Hours of a stage that runs a model, in the full recipe; None for others."""
    stage = recipe.graph()[line.stage]
    if not stage.gpu:
        return None
    rows, had = _size(recipe, line.stage), _size(small, line.stage)
    slow = line.seconds * rows / had / 3600 if had else 0.0
    batch = _batch(recipe, line.stage)
    # A batch of the recipe takes at least as long as one of the rehearsal, and at most as much longer as it has more rows.
    gain = max(1.0, min(batch, rows) / max(1, min(_batch(small, line.stage), had)))
    fast = slow / gain
    return Interval(fast, sqrt(fast * slow), slow)


def _size(recipe: Recipe, stage: str) -> float:
    """Rows that a stage of models works on, passes over them counted."""

    def total(section: Any, field: str) -> int:
        numbers: PerTaskType | None = getattr(section, field, None)
        return numbers.total() if numbers else 0

    seeds, final = recipe.seed_data.rows.total(), _final_rows(recipe)
    epochs = {name: getattr(recipe, name).epochs for name in ("junior_model", "senior_model", "revisor_model") if getattr(recipe, name)}  # fmt: skip
    sizes: dict[str, float] = {
        "junior_model": seeds * epochs.get("junior_model", 0),
        "junior_data": total(recipe.junior_data, "prompts")
        * (recipe.junior_data.candidates if recipe.junior_data else 0),
        "senior_model": total(recipe.preference_pairs, "prompts") * epochs.get("senior_model", 0),
        "senior_data": total(recipe.senior_data, "rows"),
        "revisor_model": total(recipe.revision_data, "rows") * epochs.get("revisor_model", 0),
        "revised_data": total(recipe.senior_data, "rows")
        * (recipe.revised_data.readings if recipe.revised_data else 0),
        "embedding_model": final * recipe.embedding_model.epochs,
        "baseline_models": seeds * recipe.embedding_model.epochs,
        "embedding_reruns": recipe.embedding_reruns.count * final * recipe.embedding_model.epochs,
        "mteb_scores": 1.0,  # the sets are the same
    }
    return sizes.get(stage, float(final))


def _final_rows(recipe: Recipe) -> int:
    if recipe.given and (given := recipe.given.final_triplets):
        rows = read_examples(given, "given.final_triplets").height
        return min(rows, recipe.rehearsal.rows) if recipe.rehearsal else rows
    return (recipe.senior_data.rows if recipe.senior_data else recipe.seed_data.rows).total()


def _batch(recipe: Recipe, stage: str) -> int:
    """Rows that a stage works on at once."""
    if stage in _WRITERS or stage == "row_scores":
        return recipe.generator.batch_rows if recipe.generator else 1
    section = (
        recipe.embedding_model if stage in ("baseline_models", "embedding_reruns") else getattr(recipe, stage, None)
    )
    return int(getattr(section, "micro_batch_size", None) or getattr(section, "batch_size", None) or 1)


def _disk(recipe: Recipe, rehearsed: Rehearsed) -> Interval:
    """Gigabytes: models as large as the rehearsal's, tables in proportion to their rows."""
    artifacts = Artifacts(rehearsed.recipe, Store(rehearsed.home))
    fixed, growing = 0.0, 0.0
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.fetch(stage.name, partition)
        if artifact is None:
            continue
        size = sum(file.stat().st_size for file in artifact.path.rglob("*") if file.is_file())
        had = _size(rehearsed.recipe, stage.name)
        if stage.kind == "table" and had:
            growing += size * _size(recipe, stage.name) / had
        else:
            fixed += size
    # Parquet of many rows is smaller than as many files of few; checkpoints of a training are a model more for a while.
    return Interval(fixed + growing / 4, fixed + growing / 2, 2 * fixed + growing).times(1e-9)
