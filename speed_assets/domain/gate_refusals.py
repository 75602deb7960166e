"""One reason against a release, as a value that passes from the gates to who shows it.

Belongs here: that value. Not here: the gates (`checks/gates.py`), the failure of a run (`assets/release.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


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
