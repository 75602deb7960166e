"""Prompts: the words for a model, from templates that are data (`prompt_sets/*.yaml`).

Belongs here: the names that other modules use. Every part has a module of its own: `prompt_set.py`, `layout.py`, `set_checks.py`,
`answer_schemas.py`, `relevance.py`, `compact.py`. Not here: what is drawn (`attributes.py`), what a model answers (`parsing.py`).
"""

from speed_assets.domain.prompts.answer_schemas import list_schema, schema_for
from speed_assets.domain.prompts.compact import CompactPrompt, read_compact
from speed_assets.domain.prompts.layout import PROMPT_KINDS, PromptKind
from speed_assets.domain.prompts.prompt_set import EXAMPLES_SHOWN, PromptSet
from speed_assets.domain.prompts.relevance import RELEVANCE_KEYS, relevance_digest, relevance_prompt, relevance_schema

__all__ = [
    "EXAMPLES_SHOWN",
    "PROMPT_KINDS",
    "RELEVANCE_KEYS",
    "CompactPrompt",
    "PromptKind",
    "PromptSet",
    "list_schema",
    "read_compact",
    "relevance_digest",
    "relevance_prompt",
    "relevance_schema",
    "schema_for",
]
