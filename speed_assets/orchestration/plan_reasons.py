"""Why a stage has to be made: what differs from its newest artifact.

Belongs here: comparing lineages. Not here: what is stale (`staleness.py`), what it takes (`plan_estimates.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resources.store.artifacts import Artifacts, NotMaterialized, artifact_label
from resources.store.store import Store
from speed_assets.domain.graph import Stage


def newest_manifest(store: Store, asset: str, partition: str | None) -> dict[str, Any] | None:
    """The manifest of the artifact of this asset that was made last, under any recipe; None when there is none."""
    return max(store.manifests(asset, partition), key=lambda manifest: float(manifest["created"]), default=None)


def reason_to_make(artifacts: Artifacts, store: Store, stage: Stage, partition: str | None) -> str:
    """Why an artifact has to be made, in a few words: what differs from the newest one of its asset.

    Args:
        artifacts: of the recipe, or a plan's snapshot of them.
        store: of the home, where the newest artifact is looked up.
        stage, partition: the artifact.

    Returns:
        At most three changes and the number of further ones; or that none was made, that an input is missing, or that the
        newest artifact was damaged.
    """
    before = newest_manifest(store, stage.name, partition)
    if before is None:
        return "not made yet in this home"
    try:
        now = artifacts.lineage(stage.name, partition)
    except NotMaterialized as missing:
        return f"{artifact_label(missing.asset, missing.partition)} has to be made first"
    changes = list(_differences(before["lineage"], now))
    return "; ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "") or "it was damaged"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in [*now, *(key for key in before if key not in now)]:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        here = f"{path}.{name}" if path else name
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, "" if not path and name in ("recipe", "inputs", "externals") else here)
        elif path == "" and name in ("version", "stage", "partition"):
            yield f"the stage's code changed (version {old} -> {new})"
        elif isinstance(new, str) and len(new) >= 32:
            yield f"{here} changed"
        else:
            yield f"{here} {old} -> {new}"
