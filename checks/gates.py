"""The gate before a release: every blocking check of every upstream artifact is evaluated again.

Dagster's blocking checks only block assets of the same run, so a release that relied on them could be made by
materializing it alone. This gate reads artifacts, not the run history.

Belongs here: refusals of a release. Not here: Dagster.
"""

from __future__ import annotations

from checks.registry import Subject, checks_of, evaluate
from resources.store.artifacts import Artifacts, artifact_label
from speed_assets.domain.gate_refusals import GateRefusal


def refusals(artifacts: Artifacts) -> list[GateRefusal]:
    """Every reason against a release under the recipe of `artifacts`.

    Returns:
        One refusal for each missing artifact and each gate that fails, in the order of the graph; empty when there is none.
    """
    found: list[GateRefusal] = []
    for stage, partition in artifacts.in_build_order(above="release"):
        name = artifact_label(stage.name, partition)
        artifact = artifacts.fetch(stage.name, partition)
        if artifact is None:
            missing = f"{name} has not been materialized under this recipe"
            found.append(GateRefusal(stage.name, partition, None, missing))
            continue
        subject = Subject(artifact, artifacts.recipe, partition, artifacts.store)
        for check in checks_of(stage.name):
            if check.blocking and not (outcome := evaluate(check, subject)).passed:
                sentence = f"{name} {check.name}: {outcome.reason}"
                found.append(GateRefusal(stage.name, partition, check.name, sentence))
    return found
