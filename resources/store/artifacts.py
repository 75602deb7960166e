"""Which artifact is the one: fingerprints from recipe and inputs, artifacts found by fingerprint.

A fingerprint depends on nothing but the recipe and the content of the inputs. So the artifact of an
asset under a recipe is determined, two recipes can share a home, and going back to an old recipe
costs nothing.

Belongs here: fingerprints, look-up, the outcomes of checks. Not here: making anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from resources.inputs.external_digests import external_digest
from resources.store.store import Artifact, Sealed, Store
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import Stage, sources, upstream
from speed_assets.errors import SpeedError
from speed_assets.recipe import Recipe

Inputs = dict[str, dict[str | None, Artifact]]
_Said = dict[str, dict[str | None, Sealed]]


class NotMaterialized(SpeedError, LookupError):
    """An artifact that is needed does not exist under this recipe."""

    def __init__(self, asset: str, partition: str | None) -> None:
        self.asset, self.partition = asset, partition
        super().__init__(f"{label(asset, partition)} is not materialized under this recipe: materialize it first")


def label(asset: str, partition: str | None) -> str:
    """`asset` or `asset/partition`, as its key in Dagster reads."""
    return f"{asset}/{partition}" if partition else asset


def _input_name(asset: str, partition: str | None) -> str:
    """How a fingerprint names an input: as it was named when artifacts of old homes were made."""
    return f"{asset}[{partition}]" if partition else asset


def _digest_read(artifact: Sealed, part: str | None) -> str:
    """The digest of an input, or of the part of it that is read: what is not read need not be the same."""
    return str(artifact.metadata["parts"][part]) if part else artifact.digest


def partitions_of(stage: Stage) -> tuple[str | None, ...]:
    """The task types that a stage has an artifact for, else the one nameless partition."""
    return stage.task_types or (None,)


class Artifacts:
    """The artifacts of one recipe in one store."""

    def __init__(self, recipe: Recipe, store: Store) -> None:
        self.recipe = recipe
        self.store = store
        self.graph = recipe.graph()

    def find(self, asset: str, partition: str | None = None) -> Artifact | None:
        """The artifact under this recipe, or None when it or something above it does not exist."""
        try:
            fingerprint = self.fingerprint(asset, partition)
        except NotMaterialized:
            return None
        return self.store.find(asset, fingerprint)

    def look(self, asset: str, partition: str | None = None) -> Sealed | None:
        """What `find` would find says of itself; its files are not fetched."""
        return self._look(asset, partition, {})

    def get(self, asset: str, partition: str | None = None) -> Artifact:
        """The artifact under this recipe. Raises NotMaterialized."""
        artifact = self.find(asset, partition)
        if artifact is None:
            raise NotMaterialized(asset, partition)
        return artifact

    def inputs(self, asset: str, partition: str | None = None) -> Inputs:
        """{input asset: {partition: artifact}}. Raises NotMaterialized for the first that is missing."""
        inputs: Inputs = {}
        for name, group in self._inputs(self.graph[asset], partition, {}).items():
            inputs[name] = {}
            for part, said in group.items():
                artifact = self.store.find(name, said.fingerprint)
                if artifact is None:
                    raise NotMaterialized(name, part)
                inputs[name][part] = artifact
        return inputs

    def made_of(self, asset: str, partition: str | None = None) -> dict[tuple[str, str | None], str]:
        """{(input asset, partition): digest of its whole content}, also where only a part of it is read, as Dagster compares
        it. Raises NotMaterialized."""
        inputs = self._inputs(self.graph[asset], partition, {})
        return {(name, part): said.digest for name, group in inputs.items() for part, said in group.items()}

    def lineage(self, asset: str, partition: str | None = None) -> dict[str, Any]:
        """All that the fingerprint is made of, as plain values. Raises NotMaterialized."""
        return self._lineage(self.graph[asset], partition, {})

    def externals(self, asset: str, partition: str | None = None) -> dict[str, str]:
        """{external: digest} of what lies outside and the asset is made from, as it is now. Raises RecipeError."""
        return {name: external_digest(self.recipe, name, partition) for name in self.graph[asset].externals}

    def fingerprint(self, asset: str, partition: str | None = None) -> str:
        """64 hex digits. Raises NotMaterialized when an input does not exist."""
        return digest(self.lineage(asset, partition))

    def code_version(self, asset: str, partition: str | None = None) -> str:
        """What Dagster compares to tell that the code or the recipe of an asset has changed."""
        stage = self.graph[asset]
        try:
            externals = self.externals(asset, partition)
        except (OSError, ValueError) as error:
            externals = {"unreadable": type(error).__name__}
        return f"{stage.version}-{digest([self.recipe.part(stage, partition), externals])[:12]}"

    def everything(self, above: str | None = None) -> Iterator[tuple[Stage, str | None]]:
        """Every (stage, partition) in an order in which inputs come first; only what the asset `above` is made from."""
        wanted = set(self.graph) if above is None else upstream(self.graph, [above]) - {above}
        for stage in self.graph.values():
            if stage.name not in wanted:
                continue
            for partition in partitions_of(stage):
                yield stage, partition

    def _look(self, asset: str, partition: str | None, known: dict[Any, Sealed | None]) -> Sealed | None:
        key = (asset, partition)
        if key not in known:
            try:
                fingerprint = digest(self._lineage(self.graph[asset], partition, known))
            except NotMaterialized:
                known[key] = None
            else:
                known[key] = self.store.look(asset, fingerprint)
        return known[key]

    def _inputs(self, stage: Stage, partition: str | None, known: dict[Any, Sealed | None]) -> _Said:
        inputs: _Said = {name: {} for name in stage.inputs}
        for name, part in sources(self.graph, stage.name, partition):
            said = self._look(name, part, known)
            if said is None:
                raise NotMaterialized(name, part)
            inputs[name][part] = said
        return inputs

    def _lineage(self, stage: Stage, partition: str | None, known: dict[Any, Sealed | None]) -> dict[str, Any]:
        inputs = self._inputs(stage, partition, known)
        return {
            "stage": stage.name,
            "version": stage.version,
            "partition": partition,
            "recipe": self.recipe.part(stage, partition),
            "externals": self.externals(stage.name, partition),
            "inputs": {
                _input_name(name, p): _digest_read(a, stage.takes if name == "task_list" else None)
                for name, group in inputs.items()
                for p, a in group.items()
            },
        }

    def record(self, artifact: Artifact, check: str, key: str, outcome: Mapping[str, Any]) -> None:
        """Keep what a check said of an artifact; `key` names the check's version and thresholds."""
        said = {"key": key, "digest": artifact.digest, **outcome}
        self.store.keep(_outcome_of(artifact, check), json.dumps(said, sort_keys=True, default=str))

    def outcome(self, artifact: Sealed, check: str, key: str) -> dict[str, Any] | None:
        """What the check said of this artifact under the same thresholds, or None if it was not asked."""
        try:
            outcome: dict[str, Any] = json.loads(self.store.kept(_outcome_of(artifact, check)) or "{}")
        except ValueError:
            return None
        # Two machines may have made one fingerprint with other bytes: what was said of the one is not said of the other.
        same = outcome.get("key") == key and outcome.get("digest", artifact.digest) == artifact.digest
        return outcome if same else None


def _outcome_of(artifact: Sealed, check: str) -> str:
    return f"checks/{artifact.asset}/{artifact.fingerprint[:24]}/{check}.json"
