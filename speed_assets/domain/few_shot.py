"""The user's own examples in prompts and as rows: which ones each prompt gets, and which kind of query one is.

Belongs here: drawing and wording. Not here: reading the file (`resources/inputs/example_files.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.grounded import QueryKind
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES

_KEYWORDS_MOST = 6
"""Words of a query without a question mark that passes for keywords (as `grounded.WORDINGS` asks for them)."""
_QUERIES = "These are queries of real users. Write in their manner, about something else:"
_RECORDS = "These are examples of real users. Write in their manner, about something else:"


def drawn_examples(texts: Sequence[str], count: int, seed: int, row_id: str) -> list[str]:
    """The examples in the prompt of one row. Of `count` or fewer one is left out, so that rows differ.

    Args:
        texts: all examples.
        count: how many a prompt gets.
        seed: of the recipe.
        row_id: names the draw.

    >>> len(drawn_examples(["a", "b", "c"], 3, 1, "row"))
    2
    """
    most = max(0, min(count, len(texts) - 1))
    return random.Random(seed_for(seed, "few shot", row_id)).sample(list(texts), most)


def with_examples(prompt: str, task_type: str, examples: Sequence[str]) -> str:
    """The prompt below its examples, each on a line of its own.

    >>> print(with_examples("Write.", "grounded", ["how tall is it"]))
    These are queries of real users. Write in their manner, about something else:
    - how tall is it
    <BLANKLINE>
    Write.
    """
    if not examples:
        return prompt
    lead = _QUERIES if task_type == GROUNDED else _RECORDS
    return "\n".join([lead, *(f"- {example}" for example in examples), "", prompt])


def example_text(task_type: str, row: Mapping[str, str | None], characters: int) -> str:
    """An example as a prompt shows it: the query of a grounded row, else a record with the fields that are there,
    below the text that it is about where a passage gave that.

    Args:
        task_type: of the row.
        row: query, positive, negative.
        characters: of each text at most.
    """
    cut = {field: _shortened(text, characters) for field, text in row.items() if text}
    record = TASK_TYPES[task_type].record(cut)
    if task_type == GROUNDED:
        return record["user_query"]
    given = {"given_text": cut["query"]} if TASK_TYPES[task_type].passage == "query" and "query" in cut else {}
    return json.dumps({**given, **record}, ensure_ascii=False)


def _shortened(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def query_kind(query: str) -> QueryKind:
    """The kind of a query that a person wrote, by its form alone.

    >>> query_kind("how tall is it?"), query_kind("tower height"), query_kind("The tower is taller than any other one there.")
    ('question', 'keyword', 'claim')
    """
    text = query.strip()
    if text.endswith(("?", "\uff1f", "\u061f")):  # also full-width and Arabic
        return "question"
    if text.casefold().startswith("how to "):
        return "how_to"
    return "keyword" if len(text.split()) <= _KEYWORDS_MOST and not text.endswith((".", "\u3002", "!")) else "claim"
