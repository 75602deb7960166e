"""The five task types of SPEED and their record formats (paper section 3.1, authors' repository), and rows from passages.

Belongs here: what a record of a task type consists of. Not here: prompts (`prompts/`), parsing (`parsing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

TaskTypeName = Literal["classification", "retrieval", "sts", "matching_short", "matching_long", "grounded"]
TASK_TYPE_NAMES: tuple[TaskTypeName, ...] = get_args(TaskTypeName)
GROUNDED: TaskTypeName = "grounded"
"""Retrieval rows that are written from a passage of the user's corpus: the passage is the positive, the writer gives the query."""
TOPIC_TYPES: tuple[TaskTypeName, ...] = tuple(name for name in TASK_TYPE_NAMES if name != GROUNDED)
"""Task types whose rows are written about a topic."""

TRIPLET_FIELDS = ("query", "positive", "negative")


@dataclass(frozen=True, slots=True)
class TaskType:
    """One task type: its keys in model output, in the order (query, positive[, negative])."""

    name: TaskTypeName
    keys: tuple[str, ...]
    has_brainstorm: bool
    description: str

    @property
    def grounded(self) -> bool:
        """The positive is a passage, which the writer is shown and does not write."""
        return self.name == GROUNDED

    @property
    def has_negative(self) -> bool:
        """Whether a record has a hard negative."""
        return len(self.keys) == 3

    @property
    def labels(self) -> bool:
        """Positive and negative are labels, not texts."""
        return self.name == "classification"

    def triplet(self, record: Mapping[str, str]) -> dict[str, str | None]:
        """{query, positive, negative} of a parsed record; absent keys and negatives are None.

        >>> TASK_TYPES["matching_short"].triplet({"input": "a", "positive_document": "b"})
        {'query': 'a', 'positive': 'b', 'negative': None}
        """
        named = dict(zip(TRIPLET_FIELDS, self.keys, strict=False))
        return {field: record.get(named[field]) if field in named else None for field in TRIPLET_FIELDS}

    def record(self, triplet: Mapping[str, str | None]) -> dict[str, str]:
        """The inverse of `triplet`: the record in the keys of model output, absent fields left out."""
        pairs = zip(self.keys, TRIPLET_FIELDS, strict=False)
        return {key: value for key, field in pairs if (value := triplet.get(field)) is not None}


TASK_TYPES: dict[str, TaskType] = {
    t.name: t
    for t in (
        TaskType(
            "classification",
            ("input_text", "label", "misleading_label"),
            True,
            "a long text, its class label, and a label that misleads",
        ),
        TaskType(
            "retrieval",
            ("user_query", "positive_document", "hard_negative_document"),
            True,
            "a query, a document that answers it, and one that only seems to",
        ),
        TaskType("sts", ("S1", "S2", "S3"), False, "a text, a near paraphrase, and a looser relative"),
        TaskType("matching_short", ("input", "positive_document"), True, "two short texts that match"),
        TaskType("matching_long", ("input", "positive_document"), True, "two long texts that match"),
        TaskType("grounded", ("user_query",), False, "a query that a passage of the corpus answers"),
    )
}
