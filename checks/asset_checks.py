"""Checks as asset checks of Dagster. The step that makes or reuses an artifact evaluates them.

A blocking check that fails stops downstream assets of the same run.

Belongs here: specs and results for Dagster. Not here: any check (`registry.py`), the release's own gate (`gates.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from checks.check import TABLE
from checks.registry import Subject, check_key, checks_of, evaluate
from resources.redaction import masked_values
from resources.store.artifacts import Artifacts
from resources.store.asset_keys import Step, key_of
from resources.store.store import Artifact
from speed_assets.domain.gate_refusals import GateRefusal
from speed_assets.domain.graph import upstream
from speed_assets.domain.rounding import rounded

RELEASE = "release"


def specs_of(step: Step, artifacts: Artifacts) -> list[dg.AssetCheckSpec]:
    """The checks of an artifact's asset.

    A gate of an artifact that only the release reads does not block anything itself: the release evaluates every gate, and its
    refusal lists all that fail.
    """
    feeds_more = any(step[0] in stage.inputs for stage in artifacts.graph.values() if stage.name != RELEASE)
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=key_of(step, artifacts.key_prefix),
            description=check.description,
            blocking=check.blocking and feeds_more,
            metadata={"check_key": check_key(check, artifacts.recipe)},
        )
        for check in checks_of(step[0])
    ]


def results_of(artifact: Artifact, artifacts: Artifacts) -> Iterator[dg.AssetCheckResult]:
    """The outcomes of an artifact's checks, which are stored with it.

    A check that passed under the same thresholds is not evaluated again.
    """
    recipe = artifacts.recipe
    for check in checks_of(artifact.asset):
        key = check_key(check, recipe)
        outcome = artifacts.load_outcome(artifact, check.name, key)
        if outcome is None or not outcome["passed"]:
            subject = Subject(artifact, recipe, artifact.partition, artifacts.store)
            outcome = masked_values(asdict(evaluate(check, subject)))
            artifacts.save_outcome(artifact, check.name, key, outcome)
        yield dg.AssetCheckResult(
            check_name=check.name,
            asset_key=key_of((artifact.asset, artifact.partition), artifacts.key_prefix),
            passed=outcome["passed"],
            severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
            description=outcome["reason"],
            metadata=_shown(outcome["metadata"]),
        )


def gate_specs(artifacts: Artifacts) -> list[dg.AssetCheckSpec]:
    """The gates of a release as checks of it: one for each stage that it is made from and that has gates."""
    graph = artifacts.graph
    above = upstream(graph, [RELEASE]) - {RELEASE}
    return [
        dg.AssetCheckSpec(
            stage.name,
            asset=key_of((RELEASE, None), artifacts.key_prefix),
            description=f"All gates of {stage.name} pass: "
            + ", ".join(check.name for check in checks_of(stage.name) if check.blocking),
        )
        for stage in graph.values()
        if stage.name in above and any(c.blocking for c in checks_of(stage.name))
    ]


TABLES_OF = {"mteb_scores": "scores", "final_triplets": "rows"}
"""The table of a refused candidate that the check of a stage shows."""


def gate_results(
    artifacts: Artifacts,
    refused: Sequence[Mapping[str, Any]] = (),
    tables: Mapping[str, dg.MetadataValue[Any]] | None = None,
) -> Iterator[dg.AssetCheckResult]:
    """The outcome of every gate of a release, or of the candidate that they refused.

    Args:
        artifacts: of the recipe.
        refused: the fields of each `GateRefusal` against the candidate, as JSON values; empty for a release.
        tables: of the refused candidate next to the release in use (`candidate.py`).
    """
    refusals = [GateRefusal(**fields) for fields in refused]
    for spec in gate_specs(artifacts):
        table = (tables or {}).get(TABLES_OF.get(spec.name, ""))
        against = [refusal.sentence for refusal in refusals if refusal.stage == spec.name]
        yield dg.AssetCheckResult(
            check_name=spec.name,
            asset_key=spec.asset_key,
            passed=not against,
            severity=dg.AssetCheckSeverity.ERROR,
            description="\n".join(against) or "all gates pass",
            metadata={TABLE: table} if table is not None else {},
        )


def _shown(metadata: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """Metadata for the UI. Text that a model wrote becomes plain text or JSON, never Markdown."""
    shown: dict[str, dg.MetadataValue[Any]] = {}
    for name, value in metadata.items():
        if isinstance(value, bool):
            shown[name] = dg.MetadataValue.bool(value)
        elif isinstance(value, int):
            shown[name] = dg.MetadataValue.int(value)
        elif isinstance(value, float):
            number = rounded(value)
            shown[name] = dg.MetadataValue.text(number) if isinstance(number, str) else dg.MetadataValue.float(number)
        elif isinstance(value, str):
            shown[name] = dg.MetadataValue.text(value)
        elif _is_table(value):
            shown[name] = dg.MetadataValue.table(
                [dg.TableRecord({column: _cell(cell) for column, cell in row.items()}) for row in value]
            )
        else:
            shown[name] = dg.MetadataValue.json(value)
    return shown


def _cell(value: Any) -> Any:
    """A cell of a table: fractions are rounded as on the pages of assets; anything else stays as it is."""
    return rounded(value) if isinstance(value, float) else value


def _is_table(value: Any) -> bool:
    """Whether a value is rows with the same cells, each plain: example rows, counts, verdicts."""
    if not isinstance(value, list) or not value or not all(isinstance(row, Mapping) and row for row in value):
        return False
    cells = [cell for row in value for cell in row.values()]
    return all(row.keys() == value[0].keys() for row in value) and all(
        cell is None or isinstance(cell, str | int | float) for cell in cells
    )
