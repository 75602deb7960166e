"""What a prompt set must hold: its kinds of prompts, the names that a template may use, the layout of its file.

Belongs here: templates as text, and what is wrong with a set. Not here: rendering a prompt (`prompt_set.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from speed_assets.domain.attributes import ATTRIBUTES
from speed_assets.domain.task_types import TASK_TYPES, TaskType

PromptKind = Literal["brainstorm", "synthesis", "judge", "revise"]


PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)


NOTHING_DRAWN = "-"
"""The text in place of the attributes of a prompt if none was drawn."""
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


PLACEHOLDERS: dict[PromptKind, frozenset[str]] = {
    "brainstorm": frozenset(("task_type", "topic", "count", "examples")),
    "synthesis": frozenset(("task_type", "task", "keys", "attributes", "guidelines")),
    "judge": frozenset(("task_type", "task", "keys", "prompt", "candidates")),
    "revise": frozenset(("task_type", "task", "keys", "prompt", "draft")),
}


GROUNDED_PLACEHOLDERS = frozenset(("task_type", "task", "keys", "query_kind", "persona", "passage"))
GIVEN_TEXT_PLACEHOLDERS = frozenset(("task_type", "task", "keys", "attributes", "passage"))
"""What synthesis prompts may name whose passage is the given text, in addition to drawn attributes."""
LANGUAGE_PLACEHOLDERS = frozenset(("query_language", "document_language"))
"""What synthesis prompts of recipes with `languages` may name in addition."""
EXPAND_PLACEHOLDERS = frozenset(("topic", "count", "known"))


NEEDED: dict[PromptKind, str] = {
    "brainstorm": "topic",
    "synthesis": "task",
    "judge": "candidates",
    "revise": "draft",
}
"""The placeholder without which every prompt of a kind and task type would be the same text, or would lack what it asks about."""


_BY_TASK_TYPE = dict.fromkeys(TASK_TYPES, str)


LAYOUT: Mapping[str, Any] = {
    **dict.fromkeys(("version", "candidate", "again", "expand", "relevance"), str),
    "one_line": bool,
    "parts": str,
    "attributes": {attribute.name: str for table in ATTRIBUTES.values() for attribute in table},
    "guidelines": dict.fromkeys(TASK_TYPES, list),
    "examples": dict.fromkeys(TASK_TYPES, list),
    **dict.fromkeys(PROMPT_KINDS, _BY_TASK_TYPE),
}
"""What a set's file may hold: a type for each text, or those of a mapping's keys (`parts` has names of its own)."""


def with_changes(layout: Mapping[str, Any], old: Mapping[str, Any], new: Any, at: str = "") -> dict[str, Any]:
    """`old` with the values of `new` in the places that `new` names.

    Args:
        layout: Types of the values, or a layout for each mapping.
        old: A set's values.
        new: Only the values that differ.
        at: Path of this mapping in the file, for messages.

    Raises:
        ValueError: `new` has a key or a type that the layout does not have.
    """
    if not isinstance(new, Mapping):
        raise ValueError(f"{at or 'the file'} has to be a mapping, this is {type(new).__name__}")
    merged = dict(old)
    for key, value in new.items():
        path = f"{at}.{key}" if at else str(key)
        if key not in layout:
            raise ValueError(f"{path}: unknown; known are {', '.join(layout)}")
        kind = layout[key]
        if key == "parts":
            kind = dict.fromkeys(value, str) if isinstance(value, Mapping) else {}
        if isinstance(kind, Mapping):
            merged[key] = with_changes(kind, old.get(key, {}), value, path)
        elif not isinstance(value, kind):
            raise ValueError(
                f"{path} has to be {'a list' if kind is list else 'text' if kind is str else 'true or false'}"
            )
        else:
            merged[key] = value
    return merged


def languages_needed(shape: TaskType) -> frozenset[str]:
    """The languages that a synthesis prompt of a task type has to name where they are drawn: those of its texts."""
    if shape.passage == "query":  # which is in the language that it is in
        return frozenset() if shape.labels else frozenset(("document_language",))
    return frozenset(("query_language",)) if shape.labels or shape.grounded else LANGUAGE_PLACEHOLDERS


def filled(template: str, values: Mapping[str, str]) -> str:
    """`template` with each `{name}` replaced by its value, in one pass; names without a value stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def placeholders(template: str) -> set[str]:
    """The names in braces in a template."""
    return set(_PLACEHOLDER.findall(template))
