"""Revising: what is taken of a revision, what is read again, and what a revisor is trained on."""

from __future__ import annotations

import json

import polars as pl

from speed_assets.domain.revising import Revised, as_draft, balance, read_through, revise

DRAFT = json.dumps({"user_query": "q", "positive_document": "p", "hard_negative_document": "n"})


def test_a_revision_changes_its_fields_only() -> None:
    done = revise("retrieval", DRAFT, '{"reason": "r", "revision": {"positive_document": "better"}}')
    assert json.loads(done.record) == json.loads(DRAFT) | {"positive_document": "better"}
    assert done.changed


def test_a_revision_that_spoils_or_cannot_be_read_is_not_taken() -> None:
    for answer in ("rubbish", '{"reason": "r", "revision": {"positive_document": "n"}}'):
        done = revise("retrieval", DRAFT, answer)
        assert (done.record, done.changed, done.refused) == (DRAFT, False, True)


def test_what_was_changed_is_read_again_and_the_last_reading_only_judges() -> None:
    asked: list[tuple[int, list[int]]] = []

    def read(reading: int, rows: list[int], records: list[str]) -> list[Revised]:
        """A revisor that takes a star from each record, and cannot be read on the third."""
        asked.append((reading, rows))
        return [
            Revised(record, False, True, "unreadable")
            if row == 2
            else Revised(record[:-1], True, False, f"a star at {reading}")
            if record.endswith("*")
            else Revised(record, False, False, "fine")
            for row, record in zip(rows, records, strict=True)
        ]

    drafts = ["a", "b*", "c*", "d***"]
    mended = read_through(drafts, 3, read)
    assert asked == [(0, [0, 1, 2, 3]), (1, [1, 3]), (2, [3])]
    assert mended.records == ["a", "b", "c*", "d*"], "the judge changes nothing"
    assert mended.doubts == [None, None, "unreadable", "a star at 2"]
    assert mended.reasons == ["fine", "a star at 0", "unreadable", "a star at 1"]
    assert [reading["rows"] for reading in mended.readings] == [4, 2, 1]
    once = read_through(drafts, 1, read)
    assert (once.records, once.doubts) == (["a", "b", "c*", "d**"], [None, None, "unreadable", None])


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
