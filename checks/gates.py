"""The gate before a release: every blocking check of every upstream artifact is evaluated again.

Dagster's blocking checks only block assets of the same run, so a release that relied on them could be made by
materializing it alone. This gate reads artifacts, not the run history.

Belongs here: refusals of a release, and gates that failed above what a run makes. Not here: Dagster.
"""

from __future__ import annotations

from collections.abc import Collection

from checks.registry import Subject, check_key, checks_of, evaluate
from resources.store.artifacts import Artifacts, artifact_label
from speed_assets.domain.gate_refusals import GateRefusal
from speed_assets.domain.graph import sources


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


def failed_above(artifacts: Artifacts, launched: Collection[tuple[str, str | None]]) -> list[str]:
    """Warnings about gates that failed for what a run reuses, one sentence each; outcomes are read, nothing is evaluated.

    Args:
        artifacts: of the recipe.
        launched: stage and task type of each artifact that the run makes.
    """
    above: set[tuple[str, str | None]] = set()
    waiting = list(launched)
    while waiting:
        for source in sources(artifacts.graph, *waiting.pop()):
            if source not in above:
                above.add(source)
                waiting.append(source)
    found = []
    for stage, partition in artifacts.in_build_order():
        if (stage.name, partition) not in above.difference(launched):
            continue
        artifact = artifacts.peek(stage.name, partition)
        for check in checks_of(stage.name):
            if artifact is None or not check.blocking:
                continue
            outcome = artifacts.load_outcome(artifact, check.name, check_key(check, artifacts.recipe))
            if outcome and not outcome["passed"]:
                found.append(
                    f"this run builds on {artifact_label(stage.name, partition)}, whose gate {check.name} failed "
                    f"({outcome['reason']}): nothing made from it can be released, so correct that first"
                )
    return found
