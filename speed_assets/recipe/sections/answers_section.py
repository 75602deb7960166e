"""How an answer is drawn, and how many tokens it may have."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
)

from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.recipe.section import NUMBER_MAX, Count, Positive, Rate, Section


class Sampling(Section):
    temperature: Annotated[float, Field(ge=0, le=2)]
    """0 is greedy (paper: 1.0 everywhere, 0 for the judge)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus (paper: 1.0)."""
    max_new_tokens: Positive | None = None
    """Maximum tokens of an answer. null follows from the words that each prompt asks for (`answers`): SPEED's repository has
    800 for all, which cuts off every second pair of documents of 500 words."""


class Answers(Section):
    """How many tokens an answer may have where `sampling.max_new_tokens` is null. All numbers are ours."""

    tokens_per_word: Rate = 1.5
    """Tokens that an English word needs, JSON included (measured: 1.31 on XQuAD's paragraphs with a LLaMA-3-like
    vocabulary; small vocabularies and other languages need more)."""
    margin: Annotated[float, Field(ge=1, le=NUMBER_MAX)] = 1.5
    """Factor on the words asked for, before an answer is cut off."""
    open_factor: Annotated[float, Field(ge=1, le=NUMBER_MAX)] = 2.0
    """Room for an answer of `at least N` words, in multiples of N."""
    open_words: Count = 100
    """Minimum room beyond N for such an answer, in words."""
    structure_tokens: Positive = 60
    """Tokens of keys, quotes and brackets."""
    thought_tokens: Count = 0
    """Tokens of reasoning before the answer, for models that reason."""
    cut_growth: Annotated[float, Field(ge=1, le=NUMBER_MAX)] = 2.0
    """Factor on the limit for each retry of an answer that was cut off."""

    def lengths(self) -> AnswerLengths:
        """The same as the domain's value."""
        return AnswerLengths(**self.model_dump())
