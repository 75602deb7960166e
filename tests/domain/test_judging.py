"""What a judge's leanings show, and that a leaning to a place makes no pair."""

import hashlib

import pytest

from speed_assets.domain.judging import agree, in_order, leanings, orders
from speed_assets.domain.parsing import Verdict

GROUPS = [[f"text {i} {'x' * (i * j % 5)}{j}" for j in range(4)] for i in range(1, 60)]


def judged(judge):
    """(candidates, [(order, verdict)]) of every group, by a function of the texts as they are shown."""
    return [(g, [(order, judge(in_order(g, order))) for order in orders(len(g))]) for g in GROUPS]


def report(groups):
    return leanings([(g, order, verdict) for g, verdicts in groups for order, verdict in verdicts])


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


def test_a_judge_that_always_takes_the_first_is_exposed_and_makes_no_pair():
    groups = judged(lambda shown: Verdict(0, len(shown) - 1, "first"))
    assert report(groups)["first_share"] == 1.0
    assert {agree(g, verdicts) for g, verdicts in groups} == {(None, "orders_disagree")}


def test_a_judge_that_always_takes_the_last_is_exposed_and_makes_no_pair():
    groups = judged(lambda shown: Verdict(len(shown) - 1, 0, "last"))
    assert report(groups)["last_share"] == 1.0
    assert {agree(g, verdicts) for g, verdicts in groups} == {(None, "orders_disagree")}


def test_a_judge_that_always_takes_the_longest_is_exposed():
    def longest(shown):
        by_length = sorted(range(len(shown)), key=lambda i: len(shown[i]))
        return Verdict(by_length[-1], by_length[0], "longest")

    assert report(judged(longest))["longest_share"] == 1.0


def test_a_judge_of_content_leans_to_no_place():
    def content(shown):
        by_text = sorted(range(len(shown)), key=lambda i: hashlib.sha256(shown[i].encode()).digest())
        return Verdict(by_text[0], by_text[-1], "content")

    said = report(judged(content))
    assert said["first_share"] == pytest.approx(0.25, abs=0.12)
    assert abs(said["first_share"] - said["last_share"]) < 0.05
    assert said["longest_share"] < 0.6


def test_unreadable_verdicts_and_equal_lengths_count_for_nothing():
    said = leanings([(["a", "b"], (0, 1), "no verdict"), (["a", "b"], (0, 1), Verdict(1, 0, ""))])
    assert said == {"first_share": 0.0, "last_share": 1.0, "longest_share": None}
    assert leanings([]) == {"first_share": None, "last_share": None, "longest_share": None}
