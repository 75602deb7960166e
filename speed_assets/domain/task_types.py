"""The five task types of SPEED and their record formats (paper section 3.1, authors' repository), and rows from passages.

Belongs here: what a record of a task type consists of. Not here: prompts (`prompts/`), parsing (`parsing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

TaskTypeName = Literal[
    "classification",
    "retrieval",
    "sts",
    "matching_short",
    "matching_long",
    "grounded",
    "grounded_classification",
    "grounded_sts",
    "grounded_matching_long",
]
TASK_TYPE_NAMES: tuple[TaskTypeName, ...] = get_args(TaskTypeName)
GROUNDED: TaskTypeName = "grounded"
"""Retrieval rows that are written from a passage of the user's corpus: the passage is the positive, the writer gives the query."""
GROUNDED_AS: Mapping[TaskTypeName, TaskTypeName] = {
    "retrieval": GROUNDED,
    "classification": "grounded_classification",
    "sts": "grounded_sts",
    "matching_long": "grounded_matching_long",
}
"""By task type whose rows are written about a topic: that of the same rows, written from passages."""
GROUNDED_TYPES: tuple[TaskTypeName, ...] = tuple(GROUNDED_AS.values())
"""Task types whose rows are written from a passage."""
GIVEN_TEXT_TYPES: tuple[TaskTypeName, ...] = tuple(name for name in GROUNDED_TYPES if name != GROUNDED)
"""Those of them whose passage, or a part of it, is the given text: its place is that of a query, and the writer gives the others."""
TOPIC_TYPES: tuple[TaskTypeName, ...] = tuple(name for name in TASK_TYPE_NAMES if name not in GROUNDED_TYPES)
"""Task types whose rows are written about a topic."""
LABEL_TYPES: tuple[TaskTypeName, ...] = ("classification", "grounded_classification")
"""Task types whose positive and negative are labels, not texts."""
STS_TYPES: tuple[TaskTypeName, ...] = ("sts", "grounded_sts")
"""Task types whose texts are of one kind and graded by their likeness in meaning."""

TRIPLET_FIELDS = ("query", "positive", "negative")


@dataclass(frozen=True, slots=True)
class TaskType:
    """One task type: its keys in model output, in the order of the fields that a writer gives (query, positive[, negative])."""

    name: TaskTypeName
    keys: tuple[str, ...]
    has_brainstorm: bool
    description: str
    passage: Literal["query", "positive"] | None = None
    """The field that is a passage, or a part of one: the writer is shown it and does not write it."""

    @property
    def grounded(self) -> bool:
        """Whether rows are written from a passage."""
        return self.passage is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a triplet that a writer gives, in the order of its keys.

        >>> TASK_TYPES["grounded"].fields, TASK_TYPES["grounded_sts"].fields
        (('query',), ('positive', 'negative'))
        """
        return tuple(field for field in TRIPLET_FIELDS if field != self.passage)[: len(self.keys)]

    @property
    def has_negative(self) -> bool:
        """Whether a row has a hard negative that its writer gives."""
        return "negative" in self.fields

    @property
    def takes_negative(self) -> bool:
        """Whether a row may have a hard negative: one that its writer gives, or one of the user's own next to a passage."""
        return self.has_negative or self.passage == "positive"

    @property
    def labels(self) -> bool:
        """Positive and negative are labels, not texts."""
        return self.name in LABEL_TYPES

    def triplet(self, record: Mapping[str, str]) -> dict[str, str | None]:
        """{query, positive, negative} of a parsed record; absent keys, negatives and the passage are None.

        >>> TASK_TYPES["matching_short"].triplet({"input": "a", "positive_document": "b"})
        {'query': 'a', 'positive': 'b', 'negative': None}
        """
        named = dict(zip(self.fields, self.keys, strict=True))
        return {field: record.get(named[field]) if field in named else None for field in TRIPLET_FIELDS}

    def record(self, triplet: Mapping[str, str | None]) -> dict[str, str]:
        """The inverse of `triplet`: the record in the keys of model output, absent fields left out."""
        pairs = zip(self.keys, self.fields, strict=True)
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
        TaskType("grounded", ("user_query",), False, "a query that a passage of the corpus answers", "positive"),
        TaskType(
            "grounded_classification",
            ("label", "misleading_label"),
            False,
            "a passage of the corpus, its class label, and a label that misleads",
            "query",
        ),
        TaskType(
            "grounded_sts",
            ("S2", "S3"),
            False,
            "a sentence of the corpus, a near paraphrase, and a looser relative",
            "query",
        ),
        TaskType(
            "grounded_matching_long",
            ("positive_document", "hard_negative_document"),
            False,
            "a passage of the corpus, a text that matches it, and one that only seems to",
            "query",
        ),
    )
}
