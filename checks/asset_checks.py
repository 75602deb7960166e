"""Checks as Dagster shows them: asked in the step that makes or finds the artifact, so an artifact is never there unjudged.

A blocking check that fails stops what is made from the artifact in the same run. Belongs here: the wrapping. Not here: any
judgement (`registry.py`), or the release's own gate (`gates.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from checks.check import TABLE
from checks.registry import Subject, check_key, checks_of, evaluate
from resources.artifacts import Artifacts
from resources.asset_keys import Step, key_of
from resources.store import Artifact
from speed_assets.recipe import Recipe


def specs_of(step: Step, recipe: Recipe) -> list[dg.AssetCheckSpec]:
    """The checks of an artifact's asset."""
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=key_of(step),
            description=check.description,
            blocking=check.blocking,
            metadata={"check_key": check_key(check, recipe)},
        )
        for check in checks_of(step[0])
    ]


def results_of(artifact: Artifact, artifacts: Artifacts) -> Iterator[dg.AssetCheckResult]:
    """What the checks say of an artifact, kept with it. One that passed under the same thresholds is not asked again."""
    recipe = artifacts.recipe
    for check in checks_of(artifact.asset):
        key = check_key(check, recipe)
        outcome = artifacts.outcome(artifact, check.name, key)
        if outcome is None or not outcome["passed"]:
            subject = Subject(artifact, recipe, artifact.partition, artifacts.store)
            outcome = asdict(evaluate(check, subject))
            artifacts.record(artifact, check.name, key, outcome)
        yield dg.AssetCheckResult(
            check_name=check.name,
            asset_key=key_of((artifact.asset, artifact.partition)),
            passed=outcome["passed"],
            severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
            description=outcome["reason"],
            metadata=_shown(outcome["metadata"]),
        )


def _shown(metadata: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """Metadata for the UI. Text that a model wrote is shown as plain text or JSON, never as Markdown."""
    shown: dict[str, dg.MetadataValue[Any]] = {}
    for name, value in metadata.items():
        if isinstance(value, bool):
            shown[name] = dg.MetadataValue.bool(value)
        elif isinstance(value, int):
            shown[name] = dg.MetadataValue.int(value)
        elif isinstance(value, float):
            shown[name] = dg.MetadataValue.float(value)
        elif isinstance(value, str):
            shown[name] = dg.MetadataValue.text(value)
        elif name == TABLE:
            shown[name] = dg.MetadataValue.table([dg.TableRecord(row) for row in value])
        else:
            shown[name] = dg.MetadataValue.json(value)
    return shown
