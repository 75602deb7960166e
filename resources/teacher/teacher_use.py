"""What a stage used of the teacher: calls, tokens, money.

Belongs here: the sums of one stage and their names in an artifact's metadata. Not here: the accounts of a ledger
(`resources/ledger/accounts.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resources.ledger.accounts import Spending
from resources.ledger.prices import in_currency


@dataclass(frozen=True, slots=True)
class TeacherUse:
    """What one stage used of the teacher; sums of two are added with `+`.

    Attributes:
        calls: Requests sent to the engine.
        reused: Requests answered from the ledger (cache hits).
        refused: Requests that the server refused.
        asked: Tokens and money of `calls` alone. None is unknown; money is in 10^-9 of the currency.
        total: Tokens and money of all of the stage's answers, cache hits included.
    """

    calls: int
    reused: int
    refused: int
    asked: Spending
    total: Spending
    nothing: Mapping[str, int] = field(default_factory=dict)
    """Paid replies without an answer, by name, including those whose request was sent again."""
    served: Mapping[str, int] = field(default_factory=dict)
    """Answers by the model that the server reports."""
    asked_with: Mapping[str, str] = field(default_factory=dict)
    """The dialect of each model that does not use the plain one, in words."""

    def __add__(self, other: TeacherUse) -> TeacherUse:
        return TeacherUse(
            self.calls + other.calls,
            self.reused + other.reused,
            self.refused + other.refused,
            self.asked + other.asked,
            self.total + other.total,
            dict(Counter(self.nothing) + Counter(other.nothing)),
            dict(Counter(self.served) + Counter(other.served)),
            {**self.asked_with, **other.asked_with},
        )

    def metadata(self) -> dict[str, Any]:
        """The sums under their names in an artifact's metadata; money in units of the currency."""
        return {
            "teacher_calls": self.calls,
            "reused_calls": self.reused,
            "refused_calls": self.refused,
            "replies_without_answer": dict(self.nothing),
            "teacher_served": dict(self.served),
            "teacher_asked_with": dict(self.asked_with),
            "teacher_prompt_tokens": self.asked.prompt_tokens,
            "teacher_output_tokens": self.asked.output_tokens,
            "teacher_cost": in_currency(self.asked.money),
            "teacher_prompt_tokens_total": self.total.prompt_tokens,
            "teacher_output_tokens_total": self.total.output_tokens,
            "teacher_cost_total": in_currency(self.total.money),
            "currency": self.total.currency,
        }
