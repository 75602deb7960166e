"""The gate before a release: every blocking check of everything upstream, asked again.

Dagster's blocking checks hold back only what is materialized in the same run, so a release that trusted them
could be had by materializing it alone. This gate reads artifacts, not the run history.

Belongs here: the question whether anything stands against a release. Not here: Dagster.
"""

from __future__ import annotations

from checks.registry import Subject, checks_of, evaluate
from resources.store.artifacts import Artifacts, artifact_label


def refusals(artifacts: Artifacts) -> list[str]:
    """Every reason against a release under the recipe of `artifacts`, one sentence each; empty when there is none."""
    reasons: list[str] = []
    for stage, partition in artifacts.in_build_order(above="release"):
        name = artifact_label(stage.name, partition)
        artifact = artifacts.fetch(stage.name, partition)
        if artifact is None:
            reasons.append(f"{name} has not been materialized under this recipe")
            continue
        subject = Subject(artifact, artifacts.recipe, partition, artifacts.store)
        gates = (check for check in checks_of(stage.name) if check.blocking)
        outcomes = ((check, evaluate(check, subject)) for check in gates)
        reasons += [f"{name} {check.name}: {outcome.reason}" for check, outcome in outcomes if not outcome.passed]
    return reasons
