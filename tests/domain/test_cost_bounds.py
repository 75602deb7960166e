"""Bounds of what calls take: in order for every kind of prompt, and what was paid before is within them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain import cost_bounds
from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.domain.attributes import ATTRIBUTES
from speed_assets.domain.cost_bounds import Bounds, Tokens
from speed_assets.domain.prompts import PROMPT_KINDS
from speed_assets.domain.task_types import TASK_TYPE_NAMES

LENGTHS = AnswerLengths(1.5, 1.5, 2.0, 100, 60, 0, 2.0)


def in_order(bounds: Bounds) -> bool:
    return 0 <= bounds.least <= bounds.likely <= bounds.most


@pytest.mark.parametrize("task_type", TASK_TYPE_NAMES)
@pytest.mark.parametrize("kind", PROMPT_KINDS)
@pytest.mark.parametrize("limit", [None, 5, 4000])
def test_least_likely_and_most_are_in_order(kind: str, task_type: str, limit: int | None) -> None:
    values = {attribute.name: attribute.values for attribute in ATTRIBUTES[task_type]}
    answer = cost_bounds.answer(LENGTHS, kind, task_type, values, limit)  # type: ignore[arg-type]
    assert in_order(answer)
    assert limit is None or answer.most == limit
    assert in_order(cost_bounds.prompt(LENGTHS, kind, 2000, answer, 5, 1500))  # type: ignore[arg-type]


@given(st.integers(1, 10**6), st.integers(1, 5), st.floats(1, 4), st.tuples(st.floats(0, 10**5), st.floats(0, 10**5)))
def test_what_was_paid_before_is_within_the_bounds(
    number: int, attempts: int, growth: float, mean: tuple[float, float]
) -> None:
    first = Tokens(Bounds(10, 20, 30).times(number), Bounds(1, 50, 200).times(number))
    every = cost_bounds.with_attempts(cost_bounds.as_before(first, number, mean), number, attempts, growth)
    assert in_order(every.prompt)
    assert in_order(every.output)
    assert every.prompt.likely == round(number * mean[0])
    assert every.output.most >= first.output.most


def test_a_text_has_a_token_for_three_to_six_characters() -> None:
    assert cost_bounds.of_characters(0) == Bounds(0, 0, 0)
    assert cost_bounds.of_characters(1200) == Bounds(200, 300, 400)
