"""Records as text: the one form in which an answer is trained on, shown to a judge and given to a revisor.

A model's own text may hold fences, prose, drafts, or slips that a repair mended. Whoever learns from it learns those too,
so what is taught is written again from what was read.

Belongs here: from values to text. Not here: from text to values (`parsing.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from speed_assets.domain.task_types import TASK_TYPES


def canonical_record(task_type: str, row: Mapping[str, str | None]) -> str:
    """The record of a row (query, positive, negative) as one line of JSON, keys in the order of the task type.

    >>> canonical_record("matching_short", {"query": "a", "positive": "b", "negative": None})
    '{"input": "a", "positive_document": "b"}'
    """
    return json.dumps(TASK_TYPES[task_type].record(row), ensure_ascii=False)


def canonical_revision(reason: str, changes: Mapping[str, str]) -> str:
    """A revision as one line of JSON; without changes it is null.

    >>> canonical_revision("nothing is wrong", {})
    '{"reason": "nothing is wrong", "revision": null}'
    """
    return json.dumps({"reason": reason, "revision": dict(changes) or None}, ensure_ascii=False)
