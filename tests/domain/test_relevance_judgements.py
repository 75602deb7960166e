"""Faults of judgements: each is planted, and refused or reported with its count."""

from __future__ import annotations

import pytest

from speed_assets.domain.relevance_judgements import Judgement, judged, once

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
