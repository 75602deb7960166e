"""The artifacts of a recipe: fingerprints from recipe and inputs, artifacts by fingerprint.

A fingerprint depends on nothing but the recipe and the content of the inputs. So the artifact of an asset under a recipe is
determined, two recipes can share a home, and going back to an old recipe costs nothing.

Belongs here: fingerprints, look-up, outcomes of checks. Not here: building artifacts (`speed_assets/assets`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from resources.inputs.external_digests import external_digest
from resources.store.current_block import current_block
from resources.store.store import Artifact, ArtifactManifest, Store
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import PASSAGES, Stage, sources, upstream
from speed_assets.domain.wanted_rows import share_is_kept
from speed_assets.errors import SpeedError
from speed_assets.recipe import Recipe

Inputs = dict[str, dict[str | None, Artifact]]
_InputManifests = dict[str, dict[str | None, ArtifactManifest]]


class NotMaterialized(SpeedError, LookupError):
    """An artifact that is needed does not exist under this recipe."""

    def __init__(self, asset: str, partition: str | None) -> None:
        self.asset, self.partition = asset, partition
        super().__init__(
            f"{artifact_label(asset, partition)} is not materialized under this recipe: materialize it first"
        )


def artifact_label(asset: str, partition: str | None) -> str:
    """`asset` or `asset/partition`, as its key in Dagster reads."""
    return f"{asset}/{partition}" if partition else asset


def _input_name(asset: str, partition: str | None) -> str:
    """The name of an input in a fingerprint: that of the first version, so that old homes keep their fingerprints."""
    return f"{asset}[{partition}]" if partition else asset


def _digest_read(artifact: ArtifactManifest, part: str | None) -> str:
    """The digest of an input, or of only the part of it that the stage reads."""
    return str(artifact.metadata["parts"][part]) if part else artifact.digest


def partitions_of(stage: Stage) -> tuple[str | None, ...]:
    """The task types that a stage has an artifact for; (None,) for a stage with one artifact."""
    return stage.task_types or (None,)


class Artifacts:
    """The artifacts of one recipe in one store.

    Its methods take the name of an asset and the task type (`partition`) of a stage that has one artifact for each.
    """

    def __init__(
        self, recipe: Recipe, store: Store, key_prefix: str | None = None, *, further_blocks: bool = True
    ) -> None:
        """`self.recipe` asks for the rows of the current block of `final_triplets.wanted`.

        Args:
            recipe: asks for the rows of the first block.
            store: with the artifacts.
            key_prefix: begins the keys of the assets (`asset_keys.key_of`).
            further_blocks: False keeps to the rows that the recipe asks for.
        """
        self.store = store
        self.key_prefix = key_prefix
        self.recipe = current_block(recipe, self._passed) if further_blocks else recipe
        self.graph = recipe.graph()

    def _passed(self, recipe: Recipe) -> Mapping[str, int] | None:
        triplets = Artifacts(recipe, self.store, further_blocks=False).peek("final_triplets")
        if triplets is None:
            return None
        passed: dict[str, int] = triplets.metadata["task_types"]
        kept = share_is_kept(sum(passed.values()), triplets.metadata["rows_in"], recipe.checks.kept_min)
        return passed if kept else None

    def fetch(self, asset: str, partition: str | None = None) -> Artifact | None:
        """The valid artifact under this recipe; None when it or one of its inputs does not exist."""
        try:
            fingerprint = self.fingerprint(asset, partition)
        except NotMaterialized:
            return None
        return self.store.fetch(asset, fingerprint)

    def peek(self, asset: str, partition: str | None = None) -> ArtifactManifest | None:
        """The manifest of the artifact that `fetch` would return, without fetching its files."""
        return self._peek(asset, partition, {})

    def get(self, asset: str, partition: str | None = None) -> Artifact:
        """The artifact under this recipe. Raises NotMaterialized."""
        artifact = self.fetch(asset, partition)
        if artifact is None:
            raise NotMaterialized(asset, partition)
        return artifact

    def inputs(self, asset: str, partition: str | None = None) -> Inputs:
        """{input asset: {partition: artifact}}. Raises NotMaterialized for the first that is missing."""
        inputs: Inputs = {}
        for name, group in self._inputs(self.graph[asset], partition, {}).items():
            inputs[name] = {}
            for part, manifest in group.items():
                artifact = self.store.fetch(name, manifest.fingerprint)
                if artifact is None:
                    raise NotMaterialized(name, part)
                inputs[name][part] = artifact
        return inputs

    def input_digests(self, asset: str, partition: str | None = None) -> dict[tuple[str, str | None], str]:
        """{(input asset, partition): content digest}, of the complete input also where the stage reads only a part, as Dagster
        compares complete inputs. Raises NotMaterialized."""
        inputs = self._inputs(self.graph[asset], partition, {})
        return {(name, part): manifest.digest for name, group in inputs.items() for part, manifest in group.items()}

    def lineage(self, asset: str, partition: str | None = None) -> dict[str, Any]:
        """The JSON values that the fingerprint is the digest of. Raises NotMaterialized."""
        return self._lineage(self.graph[asset], partition, {})

    def externals(self, asset: str, partition: str | None = None) -> dict[str, str]:
        """{external input: digest} of an asset; a `Snapshot` reads each once. Raises RecipeError."""
        return self.read_externals(asset, partition)

    def read_externals(self, asset: str, partition: str | None = None) -> dict[str, str]:
        """{external input: digest} of an asset, as the files are now. Raises RecipeError."""
        return {name: external_digest(self.recipe, name, partition) for name in self.graph[asset].externals}

    def fingerprint(self, asset: str, partition: str | None = None) -> str:
        """64 hex digits. Raises NotMaterialized when an input does not exist."""
        return digest(self.lineage(asset, partition))

    def code_version(self, asset: str, partition: str | None = None) -> str:
        """The version by which Dagster sees that code or recipe of an asset have changed."""
        stage = self.graph[asset]
        try:
            externals = self.externals(asset, partition)
        except (OSError, ValueError) as error:
            externals = {"unreadable": type(error).__name__}
        return f"{stage.version}-{digest([self.recipe.part(stage, partition), externals])[:12]}"

    def in_build_order(self, above: str | None = None) -> Iterator[tuple[Stage, str | None]]:
        """Every (stage, partition), inputs first; with `above`, only those upstream of that asset."""
        wanted = set(self.graph) if above is None else upstream(self.graph, [above]) - {above}
        for stage in self.graph.values():
            if stage.name not in wanted:
                continue
            for partition in partitions_of(stage):
                yield stage, partition

    def upstream_of(self, asset: str) -> Iterator[tuple[Stage, str | None, Artifact]]:
        """Everything that the artifact of an asset is made from, directly or not. Raises NotMaterialized."""
        for stage, partition in self.in_build_order(above=asset):
            yield stage, partition, self.get(stage.name, partition)

    def _peek(
        self, asset: str, partition: str | None, cached: dict[Any, ArtifactManifest | None]
    ) -> ArtifactManifest | None:
        key = (asset, partition)
        if key not in cached:
            try:
                fingerprint = digest(self._lineage(self.graph[asset], partition, cached))
            except NotMaterialized:
                cached[key] = None
            else:
                cached[key] = self.store.peek(asset, fingerprint)
        return cached[key]

    def _inputs(
        self, stage: Stage, partition: str | None, cached: dict[Any, ArtifactManifest | None]
    ) -> _InputManifests:
        inputs: _InputManifests = {name: {} for name in stage.inputs}
        for name, part in sources(self.graph, stage.name, partition):
            manifest = self._peek(name, part, cached)
            if manifest is None:
                raise NotMaterialized(name, part)
            inputs[name][part] = manifest
        return inputs

    def _lineage(
        self, stage: Stage, partition: str | None, cached: dict[Any, ArtifactManifest | None]
    ) -> dict[str, Any]:
        inputs = self._inputs(stage, partition, cached)
        return {
            "stage": stage.name,
            "version": stage.version,
            "partition": partition,
            "recipe": self.recipe.part(stage, partition),
            "externals": self.externals(stage.name, partition),
            "inputs": {
                _input_name(name, p): _digest_read(a, stage.takes if name in ("task_list", PASSAGES) else None)
                for name, group in inputs.items()
                for p, a in group.items()
            },
        }

    def save_outcome(self, artifact: Artifact, check: str, key: str, outcome: Mapping[str, Any]) -> None:
        """Save the outcome of a check of an artifact.

        Args:
            artifact: What was checked.
            check: Name of the check.
            key: Digest of the check's version and thresholds.
            outcome: The result, as JSON values.
        """
        entry = {"key": key, "digest": artifact.digest, **outcome}
        self.store.save_text(_outcome_of(artifact, check), json.dumps(entry, sort_keys=True, default=str))

    def load_outcome(self, artifact: ArtifactManifest, check: str, key: str) -> dict[str, Any] | None:
        """The saved outcome of a check of this artifact under the same version and thresholds; None when it has not run."""
        try:
            outcome = json.loads(self.store.load_text(_outcome_of(artifact, check)) or "{}")
        except (ValueError, RecursionError):
            return None
        if not isinstance(outcome, dict):
            return None
        # Two machines may have built one fingerprint with different bytes: an outcome holds for the bytes it was found with.
        same = outcome.get("key") == key and outcome.get("digest", artifact.digest) == artifact.digest
        return outcome if same else None


def _outcome_of(artifact: ArtifactManifest, check: str) -> str:
    return f"checks/{artifact.asset}/{artifact.fingerprint[:24]}/{check}.json"
