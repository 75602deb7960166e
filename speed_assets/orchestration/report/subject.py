"""What a report is about: the artifacts of a home's latest state, of a run, or of a release.

Belongs here: finding those artifacts and the outcomes of their checks. Not here: what a page says of them (`contents.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from checks.registry import CHECKS, check_key, checks_of
from resources.releases.releases import Release, current_release, find_release, list_releases
from resources.store.artifacts import Artifacts, partitions_of
from resources.store.asset_keys import Step, step_of
from resources.store.shared_store import store_of
from resources.store.store import UNHASHED_DIR, Artifact, ArtifactManifest, Store, StoreError
from speed_assets.assets.stage import RUN_TAG
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import Recipe

_RUNS = 200
"""Latest runs among which an id is looked for."""


@dataclass(frozen=True)
class Subject:
    """The artifacts of a report. `inputs` has every stage, also those that are not made, inputs first.

    Attributes:
        title: What the report is about, for its head.
        recipe: Name of the recipe.
        published: What a release states of the recipe; empty where that is unknown (a run).
        kinds: Kind of each stage: table, model, scores, release.
        inputs: Direct inputs of each stage.
        artifacts: What is made, by (asset, task type).
        release: The release, where there is one.
        outcomes: Outcomes of checks, by (asset, task type) and check.
        by_run: Steps that the run made; None where the report is about no run.
        missing: Artifacts that are not made, or not in this home.
    """

    title: str
    recipe: str
    published: Mapping[str, Any]
    store: Store
    kinds: Mapping[str, str]
    inputs: Mapping[str, tuple[str, ...]]
    artifacts: Mapping[Step, ArtifactManifest]
    release: Release | None
    previous: Release | None
    outcomes: Mapping[Step, Mapping[str, Mapping[str, Any]]]
    by_run: frozenset[Step] | None = None
    missing: list[str] = field(default_factory=list)

    def of(self, asset: str) -> list[ArtifactManifest]:
        """The artifacts of an asset, over its task types."""
        return [artifact for (name, _), artifact in self.artifacts.items() if name == asset]

    def tables(self, asset: str) -> Iterator[Artifact]:
        """The artifacts of an asset with their files; those whose files cannot be had are left out."""
        for artifact in self.of(asset):
            fetched = self.store.fetch(asset, artifact.fingerprint)
            if fetched is not None:
                yield fetched

    def plots(self, asset: str) -> Iterator[Path]:
        """Plots of an asset that are in this home."""
        for artifact in self.of(asset):
            if isinstance(artifact, Artifact):
                yield from sorted((artifact.path / UNHASHED_DIR).glob("*.png"))


def subject_of(recipe: Recipe, home: Path, name: str | None) -> Subject:
    """The subject that a name stands for.

    Args:
        recipe: The recipe of the home's latest state; a run or a release brings its own.
        home: The home with artifacts and runs.
        name: Folder of a release, or how the fingerprint of a release or the id of a run begins; None is the latest state.

    Raises:
        StoreError: There is no such release or run, or several.
    """
    store = store_of(home)
    if name is None:
        return _of_home(recipe, store)
    releases = [r.fingerprint for r in list_releases(store) if name and r.fingerprint.startswith(name)]
    if releases or Path(name).is_dir():
        return _of_release(store, find_release(store, name))
    instance = Instance.of(home).dagster
    runs = [run for run in instance.get_runs(limit=_RUNS) if name and name in _ids(run)]
    runs = runs or [
        run for run in instance.get_runs(limit=_RUNS) if name and any(i.startswith(name) for i in _ids(run))
    ]
    if len(runs) != 1:
        known = ", ".join(_ids(run)[0] for run in instance.get_runs(limit=5)) or "none"
        raise StoreError(
            f"{len(runs)} releases or runs are called {name!r}: `speed releases` lists releases; the latest runs are {known}"
        )
    return _of_run(recipe, store, instance, runs[0])


def _ids(run: dg.DagsterRun) -> list[str]:
    return [*filter(None, [run.tags.get(RUN_TAG)]), run.run_id]


def _of_home(recipe: Recipe, store: Store) -> Subject:
    artifacts = Artifacts(recipe, store)
    recipe = artifacts.recipe
    found = {step: artifacts.peek(*step) for step in ((s.name, p) for s, p in artifacts.in_build_order())}
    made = {step: artifact for step, artifact in found.items() if artifact is not None}
    outcomes = {
        step: {
            check.name: outcome
            for check in checks_of(step[0])
            if (outcome := artifacts.load_outcome(artifact, check.name, check_key(check, recipe))) is not None
        }
        for step, artifact in made.items()
    }
    release = made.get(("release", None))
    released = find_release(store, release.fingerprint) if isinstance(release, Artifact) else None
    return Subject(
        title=f"latest state of {store.home}",
        recipe=recipe.name,
        published=recipe.published(),
        store=store,
        kinds={name: stage.kind for name, stage in artifacts.graph.items()},
        inputs={name: tuple(stage.inputs) for name, stage in artifacts.graph.items()},
        artifacts=made,
        release=released,
        previous=_before(store, released) if released else current_release(store, recipe.name),
        outcomes=outcomes,
        missing=[
            name for name, stage in artifacts.graph.items() if any((name, p) not in made for p in partitions_of(stage))
        ],
    )


def _of_release(store: Store, release: Release) -> Subject:
    stated = release.json("manifest.json")["artifacts"]
    made: dict[Step, ArtifactManifest] = {}
    missing = []
    for label, entry in stated.items():
        asset, _, partition = label.partition("/")
        artifact = store.peek(asset, str(entry["fingerprint"]))
        if artifact is None:
            missing.append(label)
        else:
            made[asset, partition or None] = artifact
    made["release", None] = Artifact.of(release.manifest, path=release.path)
    return _from_lineage(
        store,
        made,
        title=f"release {release.short}",
        recipe=str(release.recipe),
        published=release.json("recipe.json"),
        release=release,
        previous=_before(store, release),
        missing=missing,
    )


def _of_run(recipe: Recipe, store: Store, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Subject:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    made: dict[Step, ArtifactManifest] = {}
    missing, reused = [], set()
    for record in records:
        materialization = record.event_log_entry.asset_materialization
        assert materialization is not None
        step = step_of(materialization.asset_key)
        values = {name: entry.value for name, entry in materialization.metadata.items()}
        artifact = store.peek(step[0], str(values.get("fingerprint")))
        if artifact is None:
            missing.append(materialization.asset_key.to_user_string())
            continue
        made[step] = artifact
        if values.get("reused"):
            reused.add(step)
    own = frozenset(made) - reused
    for artifact in _behind(store, made.values()):
        made.setdefault((artifact.asset, artifact.partition), artifact)
    folder = made.get(("release", None))
    release = find_release(store, folder.fingerprint) if folder else None
    name = run.tags.get("speed/recipe", recipe.name)
    return _from_lineage(
        store,
        made,
        title=f"run {_ids(run)[0]}",
        recipe=name,
        published=release.json("recipe.json") if release else recipe.published() if name == recipe.name else {},
        release=release,
        previous=_before(store, release) if release else current_release(store, name),
        by_run=own,
        missing=missing,
    )


def _behind(store: Store, artifacts: Iterable[ArtifactManifest]) -> list[ArtifactManifest]:
    """Everything that these artifacts were made from, found by the content digests in their lineage."""
    waiting, found = list(artifacts), {a.fingerprint: a for a in artifacts}
    by_digest: dict[tuple[str, str | None], dict[str, ArtifactManifest]] = {}
    while waiting:
        for name, digest in waiting.pop().lineage.get("inputs", {}).items():
            asset, _, partition = name.rstrip("]").partition("[")
            step = (asset, partition or None)
            if step not in by_digest:
                by_digest[step] = _by_digest(store, *step)
            artifact = by_digest[step].get(digest)
            if artifact is not None and artifact.fingerprint not in found:
                found[artifact.fingerprint] = artifact
                waiting.append(artifact)
    return list(found.values())


def _by_digest(store: Store, asset: str, partition: str | None) -> dict[str, ArtifactManifest]:
    """Artifacts by their content digest and by those of their parts."""
    found: dict[str, ArtifactManifest] = {}
    for manifest in store.local_manifests(asset, partition):
        artifact = store.peek(asset, manifest["fingerprint"])
        if artifact is not None:
            parts = artifact.metadata.get("parts") or {}
            found |= dict.fromkeys([artifact.digest, *parts.values()], artifact)
    return found


def _from_lineage(store: Store, made: dict[Step, ArtifactManifest], *, release: Release | None, **rest: Any) -> Subject:
    """A subject whose graph is that of the artifacts' lineage."""
    inputs: dict[str, dict[str, None]] = {}
    for (asset, _), artifact in made.items():
        names = [name.partition("[")[0] for name in artifact.lineage.get("inputs", {})]
        inputs.setdefault(asset, {}).update(dict.fromkeys(names))
    for name in [name for names in inputs.values() for name in names]:
        inputs.setdefault(name, {})
    ordered = _inputs_first({name: tuple(names) for name, names in inputs.items()})
    kinds = {name: _kind(made, name) for name in ordered}
    return Subject(
        store=store,
        kinds=kinds,
        inputs=ordered,
        artifacts={step: made[step] for step in sorted(made, key=lambda s: (list(ordered).index(s[0]), s[1] or ""))},
        release=release,
        outcomes={step: _stored_outcomes(store, artifact) for step, artifact in made.items()},
        **rest,
    )


def _kind(made: Mapping[Step, ArtifactManifest], asset: str) -> str:
    if asset in ("release", "mteb_scores"):
        return {"release": "release", "mteb_scores": "scores"}[asset]
    return "model" if asset.endswith(("_model", "_models", "_reruns")) else "table"


def _inputs_first(inputs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    ordered: dict[str, tuple[str, ...]] = {}

    def add(name: str) -> None:
        if name not in ordered:
            for source in inputs[name]:
                add(source)
            ordered[name] = inputs[name]

    for name in inputs:
        add(name)
    return ordered


def _stored_outcomes(store: Store, artifact: ArtifactManifest) -> dict[str, Mapping[str, Any]]:
    """The latest outcome of each check of these bytes, under the thresholds of that time."""
    found: dict[str, Mapping[str, Any]] = {}
    for check in (check for check in CHECKS if check.asset == artifact.asset):
        text = store.load_text(f"checks/{artifact.asset}/{artifact.fingerprint[:24]}/{check.name}.json")
        try:
            outcome = json.loads(text or "{}")
        except (ValueError, RecursionError):
            continue
        if isinstance(outcome, dict) and "passed" in outcome and outcome.get("digest") == artifact.digest:
            found[check.name] = outcome
    return found


def _before(store: Store, release: Release) -> Release | None:
    """The release of the same recipe before this one."""
    earlier = [r for r in list_releases(store, release.recipe) if r.sort_key < release.sort_key]
    return earlier[0] if earlier else None
