"""Faults of judgements: each is planted, and refused or reported with its count."""

from __future__ import annotations

import pytest

from speed_assets.domain.relevance_judgements import Judgement, candidates_of, judged, judged_apart, once, unjudged

QUERIES = ["q1", "q2"]
TEXTS = {"d1": "the cat", "d2": "a dog", "d3": "The  cat"}


def test_good_judgements_are_taken_as_they_are() -> None:
    found = judged([("q1", "d2", 1.0), ("q2", "d1", 2.0), ("q2", "d3", 0.0)], QUERIES, TEXTS)
    assert found.grades == {"q1": {"d2": 1}, "q2": {"d1": 2, "d3": 0}}
    assert not found.notes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("q1", "d9", 1.0), ("q1", "d1", 1.0)], "1 of 2 judgements point nowhere: no document has the id 'd9'"),
        ([("q9", "d1", 1.0)], "no query has the id 'q9'"),
        ([("q1", "d1", 0.5)], "1 relevance is no integer, such as 0.5 of query 'q1'"),
        ([("q1", "d1", 1.0), ("q1", "d1", 0.0)], "1 pair is judged twice with different grades"),
        ([], "no judgement"),
    ],
)
def test_faults_are_refused(rows: list[Judgement], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judged(rows, QUERIES, TEXTS)


def test_dangling_judgements_can_be_left_out_and_are_counted() -> None:
    found = judged([("q1", "d9", 1.0), ("q1", "d2", 1.0)], QUERIES, TEXTS, drop_dangling=True)
    assert found.grades == {"q1": {"d2": 1}}
    assert found.notes == ["1 of 2 judgements point to no query or document and are left out"]
    with pytest.raises(ValueError, match="no judgement"):
        judged([("q1", "d9", 1.0)], QUERIES, TEXTS, drop_dangling=True)


def test_what_lowers_scores_is_noted() -> None:
    found = judged([("q1", "d1", 1.0), ("q2", "d2", 0.0)], QUERIES, TEXTS | {"d4": " "})
    assert "1 relevant document has the same text as one that is not judged" in found.notes[0]
    assert found.notes[1:] == [
        "1 query has no relevant document: each scores 0 for any model",
        "1 document has no text",
    ]


def test_double_ids_are_refused() -> None:
    once(["a", "b"], "corpus.jsonl")
    with pytest.raises(ValueError, match=r"corpus.jsonl: 1 id stands more than once, such as 'a'"):
        once(["a", "b", "a"], "corpus.jsonl")


def test_a_negative_grade_counts_as_0_and_is_noted() -> None:
    found = judged([("q1", "d2", -2.0), ("q1", "d1", 1.0), ("q1", "d3", 0.0)], QUERIES, TEXTS)
    assert found.grades == {"q1": {"d2": 0, "d1": 1, "d3": 0}}
    assert found.notes == ["1 relevance is below 0 and counts as 0, not relevant"]


def test_queries_without_judgements_are_noted() -> None:
    assert unjudged(["q1", "q2"], {"q1"}) == ["1 of 2 queries has no judgement, such as 'q2', and will not be scored"]
    assert unjudged(["q1"], {"q1"}) == []


def test_equal_queries_that_are_judged_differently_are_noted() -> None:
    texts = {"q1": "cat", "q2": " Cat", "q3": "dog"}
    assert judged_apart({"q1": {"d1": 1}, "q2": {"d1": 1}, "q3": {"d2": 1}}, texts) == []
    (note,) = judged_apart({"q1": {"d1": 1}, "q2": {"d2": 1}}, texts)
    assert note.startswith("1 query has the text of another one and other judgements, such as 'q2' and 'q1'")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("q1", "d99"), "1 of 3 candidates point nowhere: no document has the id 'd99'"),
        (("q9", "d1"), "1 of 3 candidates point nowhere: no query has the id 'q9'"),
    ],
)
def test_candidates_that_point_nowhere_are_refused_or_left_out(pair: tuple[str, str], message: str) -> None:
    pairs, grades = [("q1", "d1"), ("q1", "d2"), pair], {"q1": {"d1": 1}}
    with pytest.raises(ValueError, match=message):
        candidates_of(pairs, grades, QUERIES, TEXTS)
    found, notes = candidates_of(pairs, grades, QUERIES, TEXTS, drop_dangling=True)
    assert found == {"q1": ["d1", "d2"]}
    assert notes == ["1 of 3 candidates point to no query or document and are left out"]


def test_a_judged_query_without_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match="1 judged query has no candidates, such as 'q2'"):
        candidates_of([("q1", "d1")], {"q1": {"d1": 1}, "q2": {"d1": 1}}, QUERIES, TEXTS)


def test_candidates_that_stand_twice_or_lack_what_is_relevant_are_noted() -> None:
    found, notes = candidates_of([("q1", "d2"), ("q1", "d2")], {"q1": {"d1": 1, "d3": 0}}, QUERIES, TEXTS)
    assert found == {"q1": ["d2"]}
    assert notes == [
        "1 candidate stands more than once for a query and counts once",
        "1 relevant document is no candidate of its query: no model can find it",
    ]
