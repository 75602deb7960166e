"""JSON schemas of answers, for engines that can hold a model to one.

Belongs here: the form of an answer. Not here: reading one (`parsing.py`, `replies.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speed_assets.domain.prompts.layout import PromptKind
from speed_assets.domain.task_types import TASK_TYPES


def list_schema(count: int | None = None) -> dict[str, Any]:
    """The JSON schema of a list of texts: of exactly `count` ones, or of any number."""
    sized = {"minItems": count, "maxItems": count} if count else {}
    return {"type": "array", "items": {"type": "string"}, **sized}


def schema_for(kind: PromptKind, task_type: str, count: int | None = None) -> dict[str, Any]:
    """The JSON schema of an answer.

    A brainstorm answers with a list, which some endpoints accept only inside an object; `parse_tasks` reads both.

    Args:
        kind: Of the prompt.
        task_type: Of the row.
        count: Tasks or candidates, if the number is fixed.
    """
    text = {"type": "string"}
    fields = dict.fromkeys(TASK_TYPES[task_type].keys, text)
    if kind == "brainstorm":
        return list_schema(count)
    if kind == "synthesis":
        return object_schema(fields)
    if kind == "judge":
        number = {"type": "integer", "minimum": 1, **({"maximum": count} if count else {})}
        return object_schema({"reason": text, "best": number, "worst": number})
    patch = object_schema(fields) | {"required": []}
    return object_schema({"reason": text, "revision": {"anyOf": [patch, {"type": "null"}]}})


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def quoted_keys(task_type: str) -> str:
    """The keys of a task type in quotes, as the answer has them: small models copy what looks the same."""
    return ", ".join(f'"{key}"' for key in TASK_TYPES[task_type].keys)
