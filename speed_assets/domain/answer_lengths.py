"""Token limits of answers, computed from the number of words that each prompt asks for.

A lower limit would cut valid answers off. A much higher one would let a model ramble, and the upper bound of the cost
would be useless.

Belongs here: words asked for, and limits from words. Not here: what is drawn (`attributes.py`), whether a text has its
length (`rules/lengths.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from speed_assets.domain.prompts import PromptKind
from speed_assets.domain.task_types import TASK_TYPES

_WORDS = re.compile(r"(at least|less than)? ?(\d+)(?: to (\d+))? words")
_UNIT_WORDS = {"phrase": 15, "sentence": 40, "passage": 150}
"""Words of a long one of its kind (ours)."""
_LABEL_WORDS = 12
_SHORT_TEXT_WORDS = 40
"""Words of a text that a prompt calls short: a phrase or a sentence (ours)."""
LONG_TEXT_WORDS = 300
"""Words that prompts of long matching ask for at least [R: SPEED's released prompts]."""
TASK_WORDS = 60
"""Words of one task with the classes that it names (ours: most have 10 to 30)."""
REASON_WORDS = 80
"""Words of a reason of one or two sentences (ours)."""


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """From words to tokens. Fields as in the recipe's section `answers`."""

    tokens_per_word: float
    margin: float
    open_factor: float
    open_words: int
    structure_tokens: int
    thought_tokens: int
    cut_growth: float

    def limit(self, words: int, cuts: int = 0) -> int:
        """Tokens of an answer of so many words, after it was cut off `cuts` times.

        >>> AnswerLengths(1.5, 1.5, 2.0, 100, 60, 0, 2.0).limit(100)
        285
        """
        once = math.ceil(words * self.tokens_per_word * self.margin) + self.structure_tokens + self.thought_tokens
        return self.grown(once, cuts)

    def grown(self, limit: int, cuts: int) -> int:
        """A limit after an answer under it was cut off `cuts` times."""
        return math.ceil(limit * self.cut_growth**cuts)

    def words(self, kind: PromptKind, task_type: str, attributes: Mapping[str, str], count: int = 1) -> int:
        """Words that the answer to a prompt may need when it does what is asked.

        Args:
            kind: the kind of prompt.
            task_type: its task type.
            attributes: those drawn for a synthesis prompt; of a revision, those of the draft's prompt.
            count: tasks that a brainstorm asks for.
        """
        if kind == "brainstorm":
            return TASK_WORDS * count
        if kind == "judge":
            return REASON_WORDS
        record = sum(self._field_words(task_type, attributes))
        return record + (REASON_WORDS if kind == "revise" else 0)

    def most_words(
        self, kind: PromptKind, task_type: str, values: Mapping[str, tuple[str, ...]], count: int = 1
    ) -> int:
        """The largest number of words that any draw of the attributes may ask for.

        Args:
            kind: the kind of prompt.
            task_type: its task type.
            values: {attribute: values that may be drawn}.
            count: tasks that a brainstorm asks for.
        """
        longest = {name: max(options, key=self._bound) for name, options in values.items()}
        if "unit" in values:
            longest["unit"] = max(values["unit"], key=lambda unit: _UNIT_WORDS.get(unit, 0))
        return self.words(kind, task_type, longest, count)

    def _field_words(self, task_type: str, attributes: Mapping[str, str]) -> tuple[int, ...]:
        if task_type == "grounded_classification":
            return (_LABEL_WORDS,) * 2
        if task_type == "grounded_sts":
            return (_UNIT_WORDS["sentence"],) * 2
        if task_type == "grounded_matching_long":
            return (self._bound(attributes.get("document_length", "200 words")) + self.open_words,) * 2
        if task_type == "classification":
            return self._bound(attributes.get("text_length", "200 words")), _LABEL_WORDS, _LABEL_WORDS
        if task_type == "retrieval":
            # Prompts ask for at least so many words of a document, whose attribute names the number alone.
            document = self._bound(attributes.get("document_length", "500 words")) + self.open_words
            return self._bound(attributes.get("query_length", "15 words")), document, document
        if task_type == "sts":
            return (_UNIT_WORDS.get(attributes.get("unit", "passage"), _UNIT_WORDS["passage"]),) * 3
        if task_type == "matching_long":
            return (math.ceil(self.open_factor * LONG_TEXT_WORDS),) * 2
        return (_SHORT_TEXT_WORDS,) * len(TASK_TYPES[task_type].keys)

    def _bound(self, value: str) -> int:
        """Most words of an attribute; one without an upper bound gets `open_factor` times its lower one, and no fewer than
        `open_words` beyond it."""
        least, most = words_allowed(value)
        return most if most is not None else max(math.ceil(self.open_factor * least), least + self.open_words)


@lru_cache(maxsize=256)
def words_allowed(value: str) -> tuple[int, int | None]:
    """Fewest and most words that an attribute such as `at least 50 words` allows; None is no bound.

    >>> words_allowed("5 to 15 words"), words_allowed("less than 10 words"), words_allowed("100 words")
    ((5, 15), (0, 10), (100, 100))
    """
    match = _WORDS.search(value)
    if match is None:
        return 0, None
    bound, first, last = match.groups()
    if bound == "at least":
        return int(first), None
    if bound == "less than":
        return 0, int(first)
    return int(first), int(last or first)
