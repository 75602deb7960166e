"""Attributes: one draw for one seed, whole tables, a guideline order that is one. Their weights: `test_prompts.py`."""

from __future__ import annotations

import random

import pytest

from speed_assets.domain.attributes import ATTRIBUTES, GUIDELINE_ORDER, GUIDELINES, draw_attributes
from speed_assets.domain.task_types import TOPIC_TYPES


@pytest.mark.parametrize("task_type", TOPIC_TYPES)
def test_tables_are_whole(task_type: str) -> None:
    for attribute in ATTRIBUTES[task_type]:
        assert len(attribute.values) == len(attribute.weights) == len(set(attribute.values))
        assert sum(attribute.weights) == pytest.approx(1)
        assert 0 < attribute.presence <= 1


@pytest.mark.parametrize("task_type", TOPIC_TYPES)
def test_a_draw_depends_on_its_seed_only(task_type: str) -> None:
    before = [draw_attributes(task_type, seed) for seed in range(50)]
    random.seed(1)
    assert [draw_attributes(task_type, seed) for seed in reversed(range(50))] == before[::-1]
    names = [attribute.name for attribute in ATTRIBUTES[task_type]] + [GUIDELINE_ORDER] * (task_type in GUIDELINES)
    assert all(list(drawn) == [name for name in names if name in drawn] for drawn in before)


def test_every_guideline_can_come_first() -> None:
    orders = [[int(i) for i in draw_attributes("retrieval", seed)[GUIDELINE_ORDER].split(",")] for seed in range(5000)]
    everyone = list(range(GUIDELINES["retrieval"]))
    assert all(sorted(order) == everyone for order in orders)
    for guideline in everyone:
        share = sum(order[0] == guideline for order in orders) / len(orders)
        assert share == pytest.approx(1 / len(everyone), abs=0.03)


def test_matching_has_no_attributes() -> None:
    assert draw_attributes("matching_short", 1) == draw_attributes("matching_long", 1) == {}
