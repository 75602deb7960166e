"""Names of artifacts as Dagster's asset keys: `topics`, `senior_data/retrieval`.

Belongs here: the two directions. Not here: what an artifact is (`artifacts.py`).
"""

from __future__ import annotations

import dagster as dg

from speed_assets.domain.task_types import TASK_TYPE_NAMES

Step = tuple[str, str | None]
"""An artifact of a recipe: its stage, and its task type where the stage has one for each."""


def key_of(step: Step) -> dg.AssetKey:
    """The key of an artifact's asset.

    >>> key_of(("senior_data", "sts")).to_user_string(), key_of(("topics", None)).to_user_string()
    ('senior_data/sts', 'topics')
    """
    return dg.AssetKey([part for part in step if part])


def step_of(key: dg.AssetKey) -> Step:
    """The artifact of an asset key: the reverse of `key_of`."""
    *above, last = key.path
    return (above[-1], last) if above and last in TASK_TYPE_NAMES else (last, None)
