"""Every check of every asset, in one tuple.

Belongs here: the list, look-up, evaluation, the key of an outcome. Not here: the checks themselves (`tables.py`,
`models.py`, `scores.py`; expectations on rows and columns in `suites.py`).
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from checks import models, scores, tables
from checks.check import Check, Outcome, Subject
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import Recipe

__all__ = ["CHECKS", "Check", "Outcome", "Subject", "check_key", "checks_of", "evaluate"]

CHECKS: tuple[Check, ...] = (*tables.CHECKS, *models.CHECKS, *scores.CHECKS)


def checks_of(asset: str) -> tuple[Check, ...]:
    """The checks of one asset, in the order in which they are shown."""
    return tuple(check for check in CHECKS if check.asset == asset)


def check_key(check: Check, recipe: Recipe) -> str:
    """64 hex digits over the check, its version, its thresholds and the fields that it reads. An outcome under another key is out of date."""
    return digest(
        {
            "asset": check.asset,
            "check": check.name,
            "version": check.version,
            "thresholds": recipe.checks.model_dump(mode="json", include=set(check.thresholds)),
            **({"fields": [_plain(attrgetter(name)(recipe)) for name in check.fields]} if check.fields else {}),
        }
    )


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def evaluate(check: Check, subject: Subject) -> Outcome:
    """Evaluate a check. One that raises has failed: what was not judged has not passed.

    Args:
        check: It sees no thresholds but its own.
        subject: The artifact and the recipe.
    """
    declared = SimpleNamespace(**{name: getattr(subject.recipe.checks, name) for name in check.thresholds})
    try:
        return check.evaluate(replace(subject, recipe=subject.recipe.model_copy(update={"checks": declared})))
    except Exception as error:
        reason = f"the check could not be carried out ({type(error).__name__}: {error}): mend the artifact or the check"
        return Outcome(False, reason, {"error": type(error).__name__})
