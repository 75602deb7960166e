"""`speed show`: the state of every artifact of a recipe.

Belongs here: reading states. Not here: what makes an artifact stale (`staleness.py`), printing (`speed_assets/cli`).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from resources.store.artifacts import Artifacts, artifact_label, partitions_of
from resources.store.shared_store import store_of
from resources.store.store import Artifact
from speed_assets.orchestration.staleness import Instance, stale_reason
from speed_assets.recipe import Recipe, RecipeError


def asset_states(recipe: Recipe, home: Path, asset: str | None = None) -> dict[str, dict[str, Any]]:
    """The state of every artifact, or of one asset's with metadata and lineage.

    Args:
        recipe: the recipe whose artifacts are read.
        home: the home that they are in.
        asset: an asset of the recipe; None is all of them.

    Returns:
        {name: {"state": `fresh` or why it is stale, "rows", "seconds", "path"}}, unknown values as None.

    Raises:
        RecipeError: when the recipe has no such asset.
    """
    artifacts = Artifacts(recipe, store_of(home))
    recorded = Instance.of(home).last_materializations(
        [(stage.name, part) for stage, part in artifacts.in_build_order()]
    )
    if asset and asset not in artifacts.graph:
        close = difflib.get_close_matches(asset, artifacts.graph, 1)
        hint = f". Did you mean {close[0]}?" if close else ""
        raise RecipeError(f"no asset {asset} in recipe {recipe.name}; it has {', '.join(artifacts.graph)}{hint}")
    states: dict[str, dict[str, Any]] = {}
    for stage in artifacts.graph.values():
        for partition in partitions_of(stage) if asset in (None, stage.name) else ():
            artifact = artifacts.peek(stage.name, partition)
            states[artifact_label(stage.name, partition)] = {
                "state": stale_reason(artifacts, recorded, artifact) or "fresh",
                "rows": artifact.metadata.get("rows") if artifact else None,
                "seconds": artifact.metadata.get("seconds") if artifact else None,
                "path": str(artifact.path) if isinstance(artifact, Artifact) else None,
                **({"metadata": artifact.metadata, "lineage": artifact.lineage} if asset and artifact else {}),
            }
    return states
