"""Why a release is refused, as values that pass from the gates to who shows them.

Belongs here: these values. Not here: the gates (`checks/gates.py`), the tables of a candidate (`checks/candidate.py`), the
failure of a run (`assets/stage.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class GateRefusal:
    """A gate that failed, or an artifact that is missing."""

    stage: str
    partition: str | None
    """The task type, or None where the stage has one artifact."""
    check: str | None
    """The name of the gate, or None where there is no artifact to check."""
    sentence: str
    """For a person: the artifact, the number and its threshold, and what to do."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Every reason against a release, and the candidate next to the release in use."""

    reasons: Sequence[GateRefusal]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By name, rows of plain cells: `scores`, `rows`, `gates`."""
    compare_with: str | None = None
    """How the fingerprint of the release in use begins; None where there is none."""
