"""Checks as Dagster shows them. A blocking one that fails stops what is downstream in the same run.

Belongs here: the wrapping. Not here: any judgement (`registry.py`), or the release's own gate (`gates.py`).
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from checks.check import TABLE
from checks.registry import Check, Outcome, Subject, check_key, checks_of, evaluate
from speed_assets.recipe import Recipe


def build_asset_checks(recipe: Recipe, partitions_def: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:
    """The checks of every asset of the recipe's graph; those of partitioned assets by partition.

    They need a resource `artifacts` (`resources.artifacts.Artifacts`, or its like): `get` finds what is to be
    judged, `record` keeps the outcome.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # checks by partition are one, and meant
        return [
            _wrap(check, recipe, partitions_def if stage.partitioned else None)
            for stage in recipe.graph().values()
            for check in checks_of(stage.name)
        ]


def _wrap(check: Check, recipe: Recipe, partitions: dg.PartitionsDefinition[str] | None) -> dg.AssetChecksDefinition:
    key = check_key(check, recipe)

    @dg.asset_check(  # type: ignore[untyped-decorator,unused-ignore]
        asset=check.asset,
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        partitions_def=partitions,
        required_resource_keys={"artifacts"},
        metadata={"check_key": key},
    )
    def _check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        partition = context.partition_key if partitions else None
        artifacts = context.resources.artifacts
        try:
            artifact = artifacts.get(check.asset, partition)
        except LookupError as error:
            outcome = Outcome(False, str(error))
        else:
            outcome = evaluate(check, Subject(artifact, recipe, partition, artifacts.store))
            artifacts.record(artifact, check.name, key, asdict(outcome))
        return dg.AssetCheckResult(
            passed=outcome.passed,
            severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
            description=outcome.reason,
            metadata=_shown(outcome.metadata),
        )

    return _check


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
