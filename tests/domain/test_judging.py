"""Judging: what several orders agree on, what a judge leans to, and that a leaning alone makes no pair."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.judging import (
    Order,
    Preference,
    agreed_preference,
    candidates_in_order,
    explained_by_length,
    judge_biases,
    judge_contradicts_itself,
    presentation_orders,
)
from speed_assets.domain.parsing import Verdict

Judge = Callable[[Sequence[str]], Verdict]
Groups = list[tuple[list[str], list[tuple[Order, Verdict | str]]]]
GROUPS = [[f"text {i} {'x' * (i * j % 5)}{j}" for j in range(4)] for i in range(1, 60)]


def judged(judge: Judge) -> Groups:
    """(candidates, [(order, verdict)]) of every group, by a function of the texts as they are shown."""
    return [
        (g, [(order, judge(candidates_in_order(g, order))) for order in presentation_orders(len(g))]) for g in GROUPS
    ]


def hashed(texts: Sequence[str]) -> int:
    return int(hashlib.sha256("".join(sorted(texts)).encode()).hexdigest()[:12], 16)


def report(groups: Groups) -> dict[str, Any]:
    return judge_biases([(g, order, verdict) for g, verdicts in groups for order, verdict in verdicts])


def test_what_two_orders_agree_on_is_a_preference() -> None:
    candidates = ["a", "b", "c"]
    forward, backward = presentation_orders(3)
    assert candidates_in_order(candidates, backward) == ["c", "b", "a"]
    preference, why = agreed_preference(candidates, [(forward, Verdict(0, 2, "")), (backward, Verdict(2, 0, ""))])
    assert why is None
    assert preference is not None
    assert (preference.chosen, preference.rejected) == ("a", "c")


def test_a_judge_that_always_takes_the_first_makes_no_pair() -> None:
    verdicts = [(order, Verdict(0, 2, "")) for order in presentation_orders(3)]
    assert agreed_preference(["a", "b", "c"], verdicts) == (None, "orders_disagree")
    assert agreed_preference(["a", "b", "c"], [(presentation_orders(3)[0], "not_json")]) == (None, "unreadable_verdict")
    assert agreed_preference(["a", "a"], [(o, Verdict(0, 1, "")) for o in presentation_orders(2)]) == (
        None,
        "same_text",
    )


def named(*pairs: tuple[str, str], shown: str = "abcde") -> list[tuple[Order, Verdict | str]]:
    """Verdicts by the letters of best and worst."""
    straight = tuple(range(len(shown)))
    return [(straight, Verdict(shown.index(best), shown.index(worst), "")) for best, worst in pairs]


@pytest.mark.parametrize(
    ("verdicts", "pair", "margin"),
    [
        (named(("a", "e"), ("a", "e")), ("a", "e"), 1.0),
        (named(("a", "e"), ("a", "d")), ("a", "e"), 0.75),
        (named(("b", "e"), ("a", "e")), ("b", "e"), 0.75),
        (named(("a", "e"), ("b", "d")), ("a", "e"), 0.5),
        (named(("a", "b"), ("b", "c")), ("a", "c"), 0.5),
        (named(("b", "d"), ("a", "e"), ("a", "e")), ("a", "e"), 0.6667),
        ([*named(("a", "e"), ("a", "e")), ((0, 1, 2, 3, 4), "not_json")], ("a", "e"), 1.0),
    ],
)
def test_best_and_worst_count_apart(verdicts: Any, pair: tuple[str, str], margin: float) -> None:
    assert agreed_preference("abcde", verdicts) == (Preference(*pair, margin), None)
    assert agreed_preference("abcde", verdicts, margin - 0.01)[0] is not None
    assert margin == 1 or agreed_preference("abcde", verdicts, margin + 0.01) == (None, "low_margin")


@pytest.mark.parametrize(
    ("verdicts", "why"),
    [
        (named(("a", "e"), ("e", "a")), "orders_disagree"),
        ([(presentation_orders(5)[0], "not_json"), (presentation_orders(5)[1], "cut_off")], "unreadable_verdict"),
        ([*named(("a", "e")), (presentation_orders(5)[1], "not_json")], "unreadable_verdict"),
    ],
)
def test_what_is_best_in_one_order_and_worst_in_another_makes_no_pair(verdicts: Any, why: str) -> None:
    assert agreed_preference("abcde", verdicts) == (None, why)


def test_where_one_end_is_contradicted_the_other_verdicts_end_takes_its_place() -> None:
    for verdicts, pair in (
        (named(("a", "e"), ("b", "a")), ("b", "e")),
        (named(("a", "e"), ("e", "b")), ("a", "b")),
    ):
        assert agreed_preference("abcde", verdicts) == (Preference(*pair, 0.5), None)
        assert judge_contradicts_itself("abcde", verdicts) is True, "and the prompt counts as contradicted all the same"


def test_contradictions_are_counted_where_two_verdicts_can_be_read() -> None:
    assert judge_contradicts_itself("abcde", named(("a", "e"), ("e", "a"))) is True
    assert judge_contradicts_itself("abcde", named(("a", "e"), ("b", "d"))) is False
    assert judge_contradicts_itself("abcde", [*named(("a", "e")), (presentation_orders(5)[1], "not_json")]) is None


def test_a_judge_of_whom_nothing_can_be_read_agrees_with_nobody() -> None:
    verdicts: list[tuple[Order, Verdict | str]] = [(order, "not_json") for order in presentation_orders(5)]
    assert agreed_preference("abcde", verdicts) == (None, "unreadable_verdict")
    assert judge_contradicts_itself("abcde", verdicts) is None


def test_a_judge_that_always_takes_the_first_is_exposed_and_makes_no_pair() -> None:
    groups = judged(lambda shown: Verdict(0, len(shown) - 1, "first"))
    assert report(groups)["first_share"] == 1.0
    assert {agreed_preference(g, verdicts) for g, verdicts in groups} == {(None, "orders_disagree")}


def test_a_judge_that_always_takes_the_last_is_exposed_and_makes_no_pair() -> None:
    groups = judged(lambda shown: Verdict(len(shown) - 1, 0, "last"))
    assert report(groups)["last_share"] == 1.0
    assert {agreed_preference(g, verdicts) for g, verdicts in groups} == {(None, "orders_disagree")}


def longest(shown: Sequence[str]) -> Verdict:
    by_length = sorted(range(len(shown)), key=lambda i: len(shown[i]))
    return Verdict(by_length[-1], by_length[0], "longest")


def shortest(shown: Sequence[str]) -> Verdict:
    said = longest(shown)
    return Verdict(said.worst, said.best, "shortest")


@pytest.mark.parametrize("judge", [longest, shortest])
def test_a_judge_of_nothing_but_length_is_exposed_and_makes_no_pair(judge: Judge) -> None:
    groups = judged(judge)
    assert report(groups)["longest_share"] == (1.0 if judge is longest else 0.0)
    decided = [(g, p) for g, verdicts in groups if (p := agreed_preference(g, verdicts)[0]) is not None]
    assert len(decided) > 40
    assert all(explained_by_length(decided, 0.8))


def test_of_a_judge_that_often_takes_the_longest_the_other_verdicts_stay() -> None:
    groups = judged(lambda shown: longest(shown) if hashed(shown) % 10 else shortest(shown))
    decided = [(g, p) for g, verdicts in groups if (p := agreed_preference(g, verdicts)[0]) is not None]
    blamed = explained_by_length(decided, 0.8)
    assert 0.8 < sum(blamed) / len(blamed) < 1
    assert [len(p.chosen) > len(p.rejected) for _, p in decided] == blamed


def test_a_judge_of_quality_loses_no_pair_to_length() -> None:
    def by_hash(shown: Sequence[str]) -> Verdict:
        order = sorted(range(len(shown)), key=lambda i: hashed([shown[i]]))
        return Verdict(order[-1], order[0], "quality")

    decided = [(g, p) for g, verdicts in judged(by_hash) if (p := agreed_preference(g, verdicts)[0]) is not None]
    assert len(decided) > 40
    assert not any(explained_by_length(decided, 0.8))
    assert not any(explained_by_length(decided[:1], 0.8)), "one verdict is no leaning"
    assert explained_by_length([], 0.8) == []


@given(st.integers(2, 6), st.integers(2, 14))
def test_orders_are_different_and_all_of_them_show_each_candidate_everywhere_alike(count: int, wanted: int) -> None:
    found = presentation_orders(count, wanted)
    assert len(set(found)) == len(found) == min(wanted, 2 * count if count > 2 else 2)
    assert found[:2] == (tuple(range(count)), tuple(range(count))[::-1])
    every = presentation_orders(count, 2 * count)
    for place in range(count):
        assert len({[order[place] for order in every].count(candidate) for candidate in range(count)}) == 1


def test_more_orders_decide_what_two_did_not() -> None:
    four = presentation_orders(3, 4)
    verdicts = [(order, Verdict(order.index(0), order.index(2), "")) for order in four]
    verdicts[1] = (four[1], Verdict(four[1].index(1), four[1].index(2), ""))
    assert agreed_preference(["a", "b", "c"], verdicts[:2], 0.8) == (None, "low_margin")
    assert agreed_preference(["a", "b", "c"], verdicts, 0.8) == (Preference("a", "c", 0.875), None)
    assert agreed_preference(["a", "b", "c"], verdicts, 0.9) == (None, "low_margin")
    verdicts[1] = (four[1], Verdict(four[1].index(2), four[1].index(0), ""))
    assert agreed_preference(["a", "b", "c"], verdicts) == (None, "orders_disagree"), (
        "no majority outvotes a contradiction"
    )


def test_ties_are_reported() -> None:
    assert judge_biases([(["a", "b"], (0, 1), "same_best_worst"), (["a", "bb"], (0, 1), Verdict(1, 0, ""))]) == {
        "tie_share": 0.5,
        "first_share": 0.0,
        "last_share": 1.0,
        "longest_share": 1.0,
    }


def test_a_judge_of_content_leans_to_no_place() -> None:
    def content(shown):
        by_text = sorted(range(len(shown)), key=lambda i: hashlib.sha256(shown[i].encode()).digest())
        return Verdict(by_text[0], by_text[-1], "content")

    said = report(judged(content))
    assert said["first_share"] == pytest.approx(0.25, abs=0.12)
    assert abs(said["first_share"] - said["last_share"]) < 0.05
    assert said["longest_share"] < 0.6


def test_unreadable_verdicts_and_equal_lengths_count_for_nothing() -> None:
    said = judge_biases([(["a", "b"], (0, 1), "no verdict"), (["a", "b"], (0, 1), Verdict(1, 0, ""))])
    assert said == {"tie_share": 0.0, "first_share": 0.0, "last_share": 1.0, "longest_share": None}
    assert set(judge_biases([]).values()) == {None}
