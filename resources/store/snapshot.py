"""The artifacts of a recipe at one moment, for a plan: each external is read once, and each artifact is looked up once.

Belongs here: what a plan may cache. Not here: how an artifact is found (`artifacts.py`).
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from resources.store.artifacts import Artifacts
from resources.store.store import ArtifactManifest, Store
from speed_assets.recipe import Recipe


class Snapshot(Artifacts):
    """As `Artifacts`, valid while no file or artifact changes, so not for a run.

    An artifact that was not found is looked up again, since a plan makes some in its own temporary store.
    """

    def __init__(self, recipe: Recipe, store: Store) -> None:
        super().__init__(recipe, store)
        self._externals: dict[tuple[str, str | None], dict[str, str]] = {}
        self._found: dict[tuple[str, str | None], ArtifactManifest] = {}

    @override
    def externals(self, asset: str, partition: str | None = None) -> dict[str, str]:
        """As in `Artifacts`; read once."""
        key = (asset, partition)
        if key not in self._externals:
            self._externals[key] = self.read_externals(asset, partition)
        return self._externals[key]

    @override
    def _peek(
        self, asset: str, partition: str | None, cached: dict[Any, ArtifactManifest | None]
    ) -> ArtifactManifest | None:
        key = (asset, partition)
        if key not in self._found:
            artifact = super()._peek(asset, partition, cached)
            if artifact is None:
                return None
            self._found[key] = artifact
        return self._found[key]
