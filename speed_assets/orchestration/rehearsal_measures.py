"""What a rehearsal measured: rows, calls, tokens and seconds of each stage, and the gates it would not have passed.

Belongs here: measuring. Not here: extrapolating (`rehearsal_estimates.py`), running (`rehearse.py`), printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import polars as pl
from typing_extensions import override

from checks.registry import Subject, checks_of, evaluate
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.store import UNHASHED_DIR, Artifact, Store
from speed_assets.assets.stand_ins import FILE
from speed_assets.domain.graph import Stage
from speed_assets.orchestration.rehearse import Rehearsed
from speed_assets.recipe import Checks, Recipe

CUT_OFF = "cut_off"


@dataclass(frozen=True)
class StageMeasures:
    """One stage of a rehearsal. None: the stage has no such number, or it is unknown."""

    stage: str
    made: int
    valid: int | None
    """Valid rows, stand-ins not counted."""
    cut: int | None
    """Answers that were cut off at the limit of tokens, after every attempt."""
    stand_ins: int
    seconds: float
    calls: int
    tokens: int | None
    """Of the teacher, prompt and output; of a generator what it wrote."""
    money: float | None
    asked: int | None = None


def stage_measures(rehearsed: Rehearsed) -> list[StageMeasures]:
    """The measures of each stage that was made, its task types together."""
    artifacts = Artifacts(rehearsed.recipe, Store(rehearsed.home))
    lines = []
    for stage in artifacts.graph.values():
        found = [
            artifacts.fetch(name.name, part) for name, part in artifacts.in_build_order() if name.name == stage.name
        ]
        made = [artifact for artifact in found if artifact is not None]
        if made:
            lines.append(_measures_of(stage, made))
    return lines


def _measures_of(stage: Stage, made: Sequence[Artifact]) -> StageMeasures:
    metadata = [artifact.metadata for artifact in made]
    stand_ins = sum(int(m.get("stand_ins") or 0) for m in metadata)
    rows = sum(int(m.get("rows") or 0) for m in metadata)
    valid_rows = None
    if stage.kind == "table" and not stage.gathers:
        tables = [artifact.table() for artifact in made]
        valid = [t.filter("valid") if "valid" in t.columns else t for t in tables]
        valid_rows = sum(t.height for t in valid) - stand_ins
    asks = [m for m in metadata if m.get("teacher_calls") is not None]
    written = [m.get("output_tokens") for m in metadata if m.get("output_tokens") is not None]
    return StageMeasures(
        stage.name,
        rows if stage.kind == "table" else len(made),
        valid_rows,
        _cut(made) if "prompts" in stage.reads and stage.kind == "table" else None,
        stand_ins,
        round(sum(float(m.get("seconds") or 0.0) for m in metadata), 1),
        sum(int(m["teacher_calls"]) + int(m.get("reused_calls") or 0) for m in asks),
        _total(m.get(name) for m in asks for name in ("teacher_prompt_tokens_total", "teacher_output_tokens_total"))
        if asks
        else sum(int(n or 0) for n in written) or None,
        _total(m.get("teacher_cost_total") for m in asks) if asks else None,
        _total(m.get("asked") for m in metadata) if stage.kind == "table" else None,
    )


def _cut(made: Iterable[Artifact]) -> int:
    """Answers that were cut off at the limit of tokens, after every attempt."""
    cut = 0
    for artifact in made:
        problems = artifact.metadata.get("problems")
        if isinstance(problems, Mapping):
            cut += int(problems.get(CUT_OFF, 0))
            continue
        rejected = artifact.table("quarantine")
        cut += rejected.filter(rejected["reason"] == CUT_OFF).height if "reason" in rejected.columns else 0
    return cut


def _total(values: Iterable[Any]) -> Any:
    """A sum; None as soon as one part of it is unknown."""
    parts = list(values)
    return None if None in parts else sum(parts)


def failed_gates(recipe: Recipe, rehearsed: Rehearsed) -> list[dict[str, Any]]:
    """Every gate of the real recipe that the rehearsal's artifacts would have failed: {artifact, check, reason}."""
    artifacts = Artifacts(rehearsed.recipe, Store(rehearsed.home))
    judged = rehearsed.recipe.model_copy(update={"checks": _scaled(recipe, rehearsed.recipe)})
    refused = []
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.fetch(stage.name, partition)
        if artifact is None:
            continue
        for check in checks_of(stage.name):
            # Shares and counts are measured without stand-ins; whether rows are well-formed is checked on all rows.
            judged_artifact = without_stand_ins(artifact) if check.thresholds else artifact
            subject = Subject(judged_artifact, judged, partition, artifacts.store)
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
    """The artifact without its stand-ins: their rows are invalid, or absent where the table has no column `valid`."""
    file = artifact.path / UNHASHED_DIR / FILE
    if not file.exists():
        return artifact
    marked = pl.read_parquet(file)

    class WithoutStandIns(Artifact):
        @override
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

    return WithoutStandIns(**{field.name: getattr(artifact, field.name) for field in fields(artifact)})
