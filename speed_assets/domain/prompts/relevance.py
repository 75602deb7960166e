"""The prompt that asks whether two passages answer a query, each by itself.

Belongs here: rendering it from a prompt set, its digest, the form of its answer. Not here: its wording (`prompt_sets/`), reading
an answer (`parsing.py`), what verdicts in two orders say (`domain/pooling.py`).
"""

from __future__ import annotations

import re
from typing import Any

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.prompts.answer_schemas import object_schema
from speed_assets.domain.prompts.layout import filled, placeholders
from speed_assets.domain.prompts.prompt_set import PromptSet

RELEVANCE_KEYS = ("first", "second")
"""Keys of the answer, one for each passage; the placeholders of the passages have the same names."""
_PLACEHOLDERS = {"query", *RELEVANCE_KEYS}
_TAGS = re.compile(r"</(?=(?:query|first|second)\b)")


def relevance_prompt(prompts: PromptSet, query: str, first: str, second: str) -> str:
    """The prompt that asks of two passages whether they answer a query.

    Args:
        prompts: The set whose wording is used.
        query: As it was typed.
        first: The passage that is shown first.
        second: The other one.

    Raises:
        ValueError: The set's template does not name the query and both passages, or names something else.
    """
    values = {"query": query, "first": first, "second": second}
    return filled(_template(prompts), {name: _material(text, prompts.one_line) for name, text in values.items()})


def relevance_digest(prompts: PromptSet) -> str:
    """sha256 over all that shapes the prompt. Raises ValueError as `relevance_prompt` does."""
    return digest([prompts.version, "relevance", _template(prompts), prompts.one_line])


def relevance_schema() -> dict[str, Any]:
    """The JSON schema of an answer."""
    return object_schema({"reason": {"type": "string"}, **{key: {"type": "boolean"} for key in RELEVANCE_KEYS}})


def _template(prompts: PromptSet) -> str:
    template = filled(str(prompts.source.get("relevance", "")), prompts.source.get("parts", {}))
    if placeholders(template) != _PLACEHOLDERS:
        raise ValueError(
            f"prompt set {prompts.name}: relevance must name {{query}}, {{first}} and {{second}}, and nothing else"
        )
    return template


def _material(text: str, one_line: bool) -> str:
    """A text inside the template: it cannot close a tag of it."""
    return _TAGS.sub("</ ", " ".join(text.split()) if one_line else text.strip())
