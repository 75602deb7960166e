"""Names of artifacts as Dagster's asset keys: `topics`, `senior_data/retrieval`, `offline/topics` among several recipes.

Belongs here: the two directions. Not here: what an artifact is (`artifacts.py`).
"""

from __future__ import annotations

import dagster as dg

from speed_assets.domain.task_types import TASK_TYPE_NAMES

Step = tuple[str, str | None]
"""An artifact of a recipe: its stage, and its task type where the stage has one for each."""


def key_of(step: Step, prefix: str | None = None) -> dg.AssetKey:
    """The key of an artifact's asset; `prefix` is the name of its recipe where a code location has several.

    >>> key_of(("senior_data", "sts")).to_user_string(), key_of(("topics", None), "laptop").to_user_string()
    ('senior_data/sts', 'laptop/topics')
    """
    return dg.AssetKey([part for part in (prefix, *step) if part])


def step_of(key: dg.AssetKey) -> Step:
    """The artifact of an asset key: the reverse of `key_of`."""
    *above, last = key.path
    return (above[-1], last) if above and last in TASK_TYPE_NAMES else (last, None)


def name_among(prefix: str | None, name: str) -> str:
    """The name of a job, a group or a resource, which may hold no hyphen; `prefix` as in `key_of`.

    >>> name_among(None, "everything"), name_among("my-recipe", "everything")
    ('everything', 'my_recipe__everything')
    """
    return f"{prefix.replace('-', '_')}__{name}" if prefix else name
