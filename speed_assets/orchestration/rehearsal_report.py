"""What a rehearsal measured, and what the full recipe will take by these measurements.

Calls follow from the recipe's numbers, in proportion to how often the rehearsal had to ask for what it wanted. Tokens and
money are the mean of the rehearsal's calls, with a bootstrap interval. Times of a few rows say less than they seem to: a card
that writes eight rows is nearly idle. So work of models has three numbers: as fast for each row as the rehearsal, as if a
batch of the recipe took no longer than a batch of the rehearsal, and their geometric mean as what is likely.

Belongs here: measuring and extrapolating. Not here: running (`rehearse.py`), printing (`cli.py`).
"""

from __future__ import annotations

import random
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, sqrt
from typing import Any

import polars as pl

from checks.registry import Subject, checks_of, evaluate
from resources.inputs.enough_topics import topic_counts
from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff, in_currency
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.store import UNHASHED_DIR, Artifact, Store
from speed_assets.assets.stand_ins import FILE
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.graph import Stage
from speed_assets.domain.judging import orders
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES
from speed_assets.domain.topic_growth import calls_at_most
from speed_assets.orchestration.rehearse import Rehearsed
from speed_assets.recipe import Checks, PerTaskType, Recipe

DRAWS = 1_000
"""Bootstrap draws of the mean of a call; the interval holds 95 of 100 of them (ours)."""
CUT_OFF = "cut_off"
_WRITERS = ("junior_data", "senior_data", "revised_data")


@dataclass(frozen=True)
class Interval:
    """A number and how far off it may be."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> Interval:
        """Every one of the three times `factor`."""
        return Interval(self.low * factor, self.likely * factor, self.high * factor)


NOTHING = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Line:
    """One stage of the table. None: the stage has no such thing, or nobody knows."""

    stage: str
    made: int
    whole: int | None
    """Rows that are whole without a stand-in."""
    cut: int | None
    stand_ins: int
    seconds: float
    calls: int
    tokens: int | None
    """Of the teacher, prompt and output; of a generator what it wrote."""
    money: float | None
    asked: int | None = None


def table(rehearsed: Rehearsed) -> list[Line]:
    """A line for each stage that was made, its task types together."""
    artifacts = Artifacts(rehearsed.recipe, Store(rehearsed.home))
    lines = []
    for stage in artifacts.graph.values():
        found = [
            artifacts.fetch(name.name, part) for name, part in artifacts.in_build_order() if name.name == stage.name
        ]
        made = [artifact for artifact in found if artifact is not None]
        if made:
            lines.append(_line(stage, made))
    return lines


def _line(stage: Stage, made: Sequence[Artifact]) -> Line:
    said = [artifact.metadata for artifact in made]
    stand_ins = sum(int(m.get("stand_ins") or 0) for m in said)
    rows = sum(int(m.get("rows") or 0) for m in said)
    whole = None
    if stage.kind == "table" and not stage.gathers:
        tables = [artifact.table() for artifact in made]
        valid = [t.filter("valid") if "valid" in t.columns else t for t in tables]
        whole = sum(t.height for t in valid) - stand_ins
    asks = [m for m in said if m.get("teacher_calls") is not None]
    written = [m.get("output_tokens") for m in said if m.get("output_tokens") is not None]
    return Line(
        stage.name,
        rows if stage.kind == "table" else len(made),
        whole,
        _cut(made) if "prompts" in stage.reads and stage.kind == "table" else None,
        stand_ins,
        round(sum(float(m.get("seconds") or 0.0) for m in said), 1),
        sum(int(m["teacher_calls"]) + int(m.get("reused_calls") or 0) for m in asks),
        _total(m.get(name) for m in asks for name in ("teacher_prompt_tokens_total", "teacher_output_tokens_total"))
        if asks
        else sum(int(n or 0) for n in written) or None,
        _total(m.get("teacher_cost_total") for m in asks) if asks else None,
        _total(m.get("asked") for m in said) if stage.kind == "table" else None,
    )


def _cut(made: Iterable[Artifact]) -> int:
    """Answers that were cut off and stayed so."""
    cut = 0
    for artifact in made:
        problems = artifact.metadata.get("problems")
        if isinstance(problems, Mapping):
            cut += int(problems.get(CUT_OFF, 0))
            continue
        aside = artifact.table("quarantine")
        cut += aside.filter(aside["reason"] == CUT_OFF).height if "reason" in aside.columns else 0
    return cut


def _total(values: Iterable[Any]) -> Any:
    """A sum; None as soon as one part of it is unknown."""
    parts = list(values)
    return None if None in parts else sum(parts)


def gates(recipe: Recipe, rehearsed: Rehearsed) -> list[dict[str, Any]]:
    """Every gate of the real recipe that the rehearsal's artifacts would not have passed: {artifact, check, reason}."""
    artifacts = Artifacts(rehearsed.recipe, Store(rehearsed.home))
    judged = rehearsed.recipe.model_copy(update={"checks": _scaled(recipe, rehearsed.recipe)})
    refused = []
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.fetch(stage.name, partition)
        if artifact is None:
            continue
        for check in checks_of(stage.name):
            # Shares and counts are asked of what was really written; whether rows are well-formed of all that are there.
            shown = without_stand_ins(artifact) if check.thresholds else artifact
            subject = Subject(shown, judged, partition, artifacts.store)
            if check.blocking and not (outcome := evaluate(check, subject)).passed:
                name = artifact_label(stage.name, partition)
                refused.append({"artifact": name, "check": check.name, "reason": outcome.reason})
    return refused


def _scaled(recipe: Recipe, small: Recipe) -> Checks:
    """The real thresholds; a number of rows in proportion to what the rehearsal asks for."""
    if not (recipe.preference_pairs and small.preference_pairs):
        return recipe.checks
    share = small.preference_pairs.prompts.total() / max(1, recipe.preference_pairs.prompts.total())
    return recipe.checks.model_copy(update={"pairs_min": ceil(share * recipe.checks.pairs_min)})


def without_stand_ins(artifact: Artifact) -> Artifact:
    """The artifact as if nothing had stood in: such rows are not whole, or not there."""
    file = artifact.path / UNHASHED_DIR / FILE
    if not file.exists():
        return artifact
    marked = pl.read_parquet(file)

    class Honest(Artifact):
        def table(self, name: str = "data") -> pl.DataFrame:
            rows = artifact.table(name)
            if name != "data":
                return rows
            key = ["row_id", "candidate"] if "candidate" in rows.columns else ["row_id"]
            of_them = rows.join(
                marked.select(key).with_columns(stands_in=True), on=key, how="left", maintain_order="left"
            )
            stands_in = of_them["stands_in"].fill_null(False)
            if "valid" in rows.columns:
                return rows.with_columns(valid=rows["valid"] & ~stands_in)
            return rows.filter(~stands_in)

    return Honest(**{field.name: getattr(artifact, field.name) for field in fields(artifact)})


# The full recipe


def calls_of(recipe: Recipe) -> dict[str, int]:
    """Teacher calls of each stage by the recipe's numbers, each asked once."""
    graph, wanted = recipe.graph(), {}
    expand = recipe.topics.expand
    if expand:
        named = topic_counts(recipe.topics.model_copy(update={"expand": None}))["synthesis"]
        wanted["topic_tree"] = calls_at_most(named, expand.children, expand.levels, expand.target, 1)[0]
    wanted["task_list"] = sum(tasks_of(recipe, name) for name in TASK_TYPE_NAMES if TASK_TYPES[name].has_brainstorm)
    wanted["seed_data"] = recipe.seed_data.rows.total()
    if recipe.preference_pairs and recipe.junior_data:
        judges = 1 + len(recipe.preference_pairs.panel)
        shown = min(2, len(orders(recipe.junior_data.candidates)))
        wanted["preference_pairs"] = recipe.preference_pairs.prompts.total() * shown * judges
    if recipe.revision_data:
        wanted["revision_data"] = recipe.revision_data.rows.total()
    if recipe.row_verdicts:
        wanted["row_verdicts"] = recipe.row_verdicts.rows.total()
    if recipe.mined_negatives:
        wanted["mined_negatives"] = 2 * recipe.mined_negatives.doubts_max
    return {name: count for name, count in wanted.items() if name in graph}


def tasks_of(recipe: Recipe, task_type: str) -> int:
    """Topics that tasks of this type are brainstormed for, at most: no more than rows are wanted of."""
    graph, topics = recipe.graph(), topic_counts(recipe.topics)
    drawn = {
        part: min(
            topics[part], sum(n for stage, n in recipe.rows_wanted(task_type).items() if graph[stage].takes == part)
        )
        for part in ("synthesis", "alignment")
    }
    if recipe.topics.alignment in (None, recipe.topics.file):
        return min(topics["synthesis"], sum(drawn.values()))
    # Alignment topics of a file of their own are mostly others than those of the synthesis.
    return sum(drawn.values())


def full(recipe: Recipe, rehearsed: Rehearsed, lines: Sequence[Line], skipped: bool = False) -> dict[str, Any]:
    """What the full recipe will take: calls, tokens, money, hours of models, disk; intervals as {low, likely, high}.

    Args:
        recipe: the real one.
        rehearsed: its rehearsal, run.
        lines: `table` of it.
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
    told = {}
    for stage, pairs in found.items():
        costs = [in_currency(tariff.cost(*pair)) for pair in pairs]
        known = [cost for cost in costs if cost is not None]
        told[stage] = {
            "tokens": mean_interval([sum(pair) for pair in pairs], stage),
            "money": mean_interval(known, stage) if len(known) == len(costs) else None,
        }
    return told


def mean_interval(values: Sequence[float], name: str) -> Interval:
    """The mean, with the bootstrap's 95 % interval over the chance of which calls were made."""
    rng = random.Random(seed_for(1, "rehearsal", name))
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(DRAWS))
    return Interval(means[int(0.025 * DRAWS)], sum(values) / len(values), means[int(0.975 * DRAWS) - 1])


def _hours(recipe: Recipe, small: Recipe, line: Line) -> Interval | None:
    """Hours of a stage that runs a model, in the full recipe; None for others."""
    stage = recipe.graph()[line.stage]
    if not stage.gpu:
        return None
    rows, had = _size(recipe, line.stage), _size(small, line.stage)
    slow = line.seconds * rows / had / 3600 if had else 0.0
    batch = _batch(recipe, line.stage)
    # A batch of the recipe takes at least as long as one of the rehearsal, and at most as long as so many more rows.
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


def as_json(recipe: Recipe, rehearsed: Rehearsed, skipped: bool) -> dict[str, Any]:
    """The report of a rehearsal as plain values."""
    lines = table(rehearsed)
    report = rehearsed.report
    release = Artifacts(rehearsed.recipe, Store(rehearsed.home)).peek("release")
    refused = gates(recipe, rehearsed)
    return {
        "recipe": recipe.name,
        "home": str(rehearsed.home),
        "wall_s": round(report.wall_s, 1),
        "stages": [asdict(line) for line in lines],
        "gates_that_would_refuse": refused,
        "reached_the_end": release is not None,
        "release": ("would be refused" if refused else "would be made") if release is not None else "not reached",
        "errors": report.errors,
        "full": full(recipe, rehearsed, lines, skipped) if lines else None,
    }


def as_text(told: Mapping[str, Any]) -> list[str]:
    """The report for a terminal of 80 columns."""
    lines = ["", f"{'stage':<17}{'made':>7}{'whole':>7}{'cut':>5}{'s':>8}{'calls':>7}{'tokens':>10}{'money':>10}"]
    for stage in told["stages"]:
        cells = [_cell(stage[name]) for name in ("made", "whole", "cut")]
        money = "-" if stage["money"] is None else f"{stage['money']:.4f}"
        marked = "*" if stage["stand_ins"] else ""
        lines.append(
            f"{stage['stage'] + marked:<17}{cells[0]:>7}{cells[1]:>7}{cells[2]:>5}{stage['seconds']:>8.1f}"
            f"{_cell(stage['calls'] or None):>7}{_cell(stage['tokens']):>10}{money:>10}"
        )
    if any(stage["stand_ins"] for stage in told["stages"]):
        count = sum(stage["stand_ins"] for stage in told["stages"])
        lines += ["* the teacher's examples stand in for what was not whole,", f"  {count} rows in all; they are not counted as whole"]  # fmt: skip
    refused = told["gates_that_would_refuse"]
    lines += ["", f"gates that would have refused (told here, not enforced): {len(refused)}"]
    for gate in refused:
        lines += textwrap.wrap(
            f"{gate['artifact']} {gate['check']}: {gate['reason']}", 78, initial_indent="  ", subsequent_indent="    "
        )
    lines += ["", f"release: {told['release']}"]
    ahead = told["full"]
    if ahead is None:
        return lines
    currency = ahead["currency"] or ""
    lines += [
        "",
        "the full recipe by these measurements     low      likely        high",
        f"{'teacher calls':<34}{'':>10}{ahead['calls']:>12,}",
        _span("teacher tokens", ahead["teacher_tokens"], "{:,.0f}"),
        _span(f"money {currency}", ahead["money"], "{:,.2f}")
        if ahead["money"]
        else f"{'money':<34}{'':>10}{'unknown':>12}",
        _span("hours of models (GPU or CPU)", ahead["model_hours"], "{:,.2f}"),
        _span("disk, GB", ahead["disk_gb"], "{:,.2f}"),
    ]
    if ahead["evaluation"] != "measured":
        lines.append("evaluation was left out here: its hours are not in these")
    return lines


def _cell(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _span(name: str, span: Mapping[str, float], shape: str) -> str:
    low, likely, high = (shape.format(span[part]) for part in ("low", "likely", "high"))
    return f"{name:<34}{low:>10}{likely:>12}{high:>12}"
