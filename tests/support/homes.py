"""What a home has made under a recipe, to compare two homes.

Belongs here: that comparison. Not here: making homes.
"""

from __future__ import annotations

from pathlib import Path

from resources.store.artifacts import Artifacts, artifact_label
from resources.store.store import Store
from speed_assets.recipe import Recipe


def digests(recipe: Recipe, home: Path) -> dict[str, str]:
    """{artifact: content digest} of every artifact but the release, whose manifest contains times and costs."""
    artifacts = Artifacts(recipe, Store(home))
    found = {
        artifact_label(stage.name, part): artifacts.fetch(stage.name, part)
        for stage, part in artifacts.in_build_order()
    }
    return {name: artifact.digest for name, artifact in found.items() if artifact and name != "release"}
