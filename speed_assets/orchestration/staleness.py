"""Whether Dagster's latest record of an artifact still describes it.

Dagster compares an asset's code version and the data versions of its direct inputs with those of its latest materialization.
`plan.py` also reads the whole graph upstream and the ledger. So that both agree, an asset that the plan reuses keeps the code
version that it was recorded with, and any other asset gets a new one.

Belongs here: reading Dagster's records, and the code version that follows. Not here: what has to be made (`plan.py`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import DBAPIError

from checks.registry import check_key, checks_of
from resources.instance import gpu_pool
from resources.redaction import error_and_causes, redacted_message
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.asset_keys import Step, key_of
from resources.store.home import POSTGRES_VARIABLE, prepare_home
from resources.store.store import ArtifactManifest, StoreError

FAILED = "failed"
"""Last word of the reason where a gate failed."""
_CODE_VERSION = "dagster/code_version"


@dataclass(frozen=True)
class LastMaterialization:
    """Dagster's latest materialization of an asset; all None when there is none.

    `made_of` maps the names of inputs to their content digests.
    """

    fingerprint: str | None = None
    digest: str | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)
    code_version: str | None = None


class Instance:
    """The records of a Dagster instance that this product reads."""

    def __init__(self, dagster: dg.DagsterInstance, key_prefix: str | None = None) -> None:
        self.dagster = dagster
        self.key_prefix = key_prefix

    @classmethod
    def of(cls, home: Path) -> Instance:
        """The Dagster instance of a home, created if there is none yet. The environment stays as it is.

        Raises:
            StoreError: when the home or Dagster's storage cannot be used.
        """
        dagster_home = prepare_home(home)
        with explained_postgres_errors(), (dagster_home / ".opening").open("w") as turn:
            flock(turn, LOCK_EX)  # Dagster creates its tables without checking whether another process does
            dagster = dg.DagsterInstance.from_config(str(dagster_home))
            gpu_pool.limit_gpu_pool(dagster)
        return cls(dagster)

    def last_materializations(self, steps: Collection[Step]) -> dict[Step, LastMaterialization]:
        """The latest materialization of each of these artifacts."""
        keys = {step: key_of(step, self.key_prefix) for step in steps}
        events = self.dagster.get_latest_materialization_events(list(keys.values()))
        found = {}
        for step, key in keys.items():
            event = events.get(key)
            materialization = event.asset_materialization if event else None
            found[step] = _last_materialization(materialization) if materialization else LastMaterialization()
        return found


def _last_materialization(materialization: dg.AssetMaterialization) -> LastMaterialization:
    value = {name: entry.value for name, entry in materialization.metadata.items()}
    made_of = value.get("made_of")
    return LastMaterialization(
        fingerprint=str(value.get("fingerprint")),
        digest=str(value.get("digest")),
        made_of=made_of if isinstance(made_of, dict) else {},
        code_version=(materialization.tags or {}).get(_CODE_VERSION),
    )


@contextmanager
def explained_postgres_errors() -> Iterator[None]:
    """Raise StoreError, with what to do, where Dagster's storage in PostgreSQL cannot be used or was lost."""
    try:
        yield
    except StoreError:  # explained already, and perhaps of the ledger's database
        raise
    except Exception as error:
        found = next((cause for cause in error_and_causes(error) if isinstance(cause, DBAPIError)), None)
        if found is None or not os.environ.get(POSTGRES_VARIABLE):
            raise
        raise StoreError(
            f"Dagster's storage in PostgreSQL ({POSTGRES_VARIABLE}) cannot be used ({redacted_message(found.orig or found)}): see "
            "that the database runs and lets you in, then run again: what is finished is kept"
        ) from None


def stale_reason(
    artifacts: Artifacts, recorded: Mapping[Step, LastMaterialization], artifact: ArtifactManifest | None
) -> str | None:
    """Why the step of this artifact has to be launched; None when the artifact exists, is checked and recorded as it is."""
    if artifact is None:
        return "not made yet under this recipe"
    for check in checks_of(artifact.asset):
        outcome = artifacts.load_outcome(artifact, check.name, check_key(check, artifacts.recipe))
        if outcome is None:
            return f"check {check.name} has not run"
        if check.blocking and not outcome["passed"]:
            return f"check {check.name} {FAILED}"
    last = recorded[artifact.asset, artifact.partition]
    if last.fingerprint != artifact.fingerprint:
        return "another recipe was materialized last" if last.fingerprint else "Dagster has not recorded it yet"
    for source, content in artifacts.input_digests(artifact.asset, artifact.partition).items():
        if not last.made_of.get(artifact_label(*source)) == content == recorded[source].digest:
            return f"Dagster recorded it with another {artifact_label(*source)}"
    return None


def code_version_for_staleness(own: str, recorded: str | None, stale: bool) -> str:
    """The code version by which Dagster shows an asset as stale, or as fresh.

    Args:
        own: the version that code and recipe give.
        recorded: the version of the latest materialization, if there is one.
        stale: whether a run would launch the asset.

    >>> code_version_for_staleness("1-a", "1-b", stale=False)
    '1-b'
    >>> code_version_for_staleness("1-a", "1-b", stale=True), code_version_for_staleness("1-a", "1-a", stale=True)
    ('1-a', '1-a.2')
    """
    if recorded is not None and not stale:
        return recorded
    return own if own != recorded else f"{own}.2"
