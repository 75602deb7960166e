"""Prompts: the words for a model, from templates that are data (`prompt_sets/*.yaml`).

Belongs here: the names that other modules use. Every part has a module of its own: `prompt_set.py`, `layout.py`, `set_checks.py`,
`answer_schemas.py`, `compact.py`. Not here: what is drawn (`attributes.py`), what a model answers (`parsing.py`).
"""

from speed_assets.domain.prompts.answer_schemas import list_schema, schema_for
from speed_assets.domain.prompts.compact import CompactPrompt, read_compact
from speed_assets.domain.prompts.layout import PROMPT_KINDS, PromptKind
from speed_assets.domain.prompts.prompt_set import EXAMPLES_SHOWN, PromptSet

__all__ = [
    "EXAMPLES_SHOWN",
    "PROMPT_KINDS",
    "CompactPrompt",
    "PromptKind",
    "PromptSet",
    "list_schema",
    "read_compact",
    "schema_for",
]
