"""Judging, revising, choosing rows: the rules of the loop on small values."""

from __future__ import annotations

import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.judging import agree, in_order, orders
from speed_assets.domain.parsing import Verdict
from speed_assets.domain.revising import as_draft, balance, revise
from speed_assets.domain.rows import draw_tasks


def test_what_two_orders_agree_on_is_a_preference() -> None:
    candidates = ["a", "b", "c"]
    forward, backward = orders(3)
    assert in_order(candidates, backward) == ["c", "b", "a"]
    preference, why = agree(candidates, [(forward, Verdict(0, 2, "")), (backward, Verdict(2, 0, ""))])
    assert why is None
    assert preference is not None
    assert (preference.chosen, preference.rejected) == ("a", "c")


def test_a_judge_that_always_takes_the_first_makes_no_pair() -> None:
    verdicts = [(order, Verdict(0, 2, "")) for order in orders(3)]
    assert agree(["a", "b", "c"], verdicts) == (None, "orders_disagree")
    assert agree(["a", "b", "c"], [(orders(3)[0], "not_json")]) == (None, "unreadable_verdict")
    assert agree(["a", "a"], [(o, Verdict(0, 1, "")) for o in orders(2)]) == (None, "same_text")


DRAFT = json.dumps({"user_query": "q", "positive_document": "p", "hard_negative_document": "n"})


def test_a_revision_changes_its_fields_only() -> None:
    done = revise("retrieval", DRAFT, '{"reason": "r", "revision": {"positive_document": "better"}}')
    assert json.loads(done.record) == json.loads(DRAFT) | {"positive_document": "better"}
    assert done.changed


def test_a_revision_that_spoils_or_cannot_be_read_is_not_taken() -> None:
    for answer in ("rubbish", '{"reason": "r", "revision": {"positive_document": "n"}}'):
        done = revise("retrieval", DRAFT, answer)
        assert (done.record, done.changed, done.refused) == (DRAFT, False, True)


def test_a_draft_that_cannot_be_read_is_shown_as_it_is_and_can_be_written_anew() -> None:
    row = {"query": None, "positive": None, "negative": None, "output": '{"input": "'}
    draft = as_draft("matching_short", row)
    assert draft == row["output"]
    kept = revise("matching_short", draft, '{"reason": "gone off, gone off", "revision": null}')
    assert (kept.record, kept.changed) == (draft, False)
    whole = revise("matching_short", draft, '{"reason": "", "revision": {"input": "a b", "positive_document": "c d"}}')
    assert (json.loads(whole.record), whole.changed) == ({"input": "a b", "positive_document": "c d"}, True)


def test_balance_repeats_the_rarer_kind() -> None:
    rows = pl.DataFrame({"id": range(10), "mended": [True] * 2 + [False] * 8})
    balanced = balance(rows, 0.5)
    assert balanced["mended"].sum() == 8
    assert set(balanced["id"]) == set(range(10))
    assert balance(rows.filter("mended"), 0.5).height == 2


@given(st.sets(st.text("abcdef", min_size=1), min_size=1), st.integers(0, 40))
def test_rows_go_round_the_tasks_in_an_order_of_their_own(ids: set[str], rows: int) -> None:
    pairs = [(f"topic of {i}", i) for i in sorted(ids)]
    drawn = draw_tasks(pairs, rows, 1, "stage")
    assert len(drawn) == rows == len(set(drawn))
    assert drawn == draw_tasks(pairs[::-1], rows, 1, "stage")
    reworded = draw_tasks([(topic, task.upper()) for topic, task in pairs], rows, 1, "stage")
    assert [(task.upper(), draw) for task, draw in drawn] == reworded
