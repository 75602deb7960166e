"""Revising: what is taken of a revision, what is read again, and what a revisor is trained on."""

from __future__ import annotations

import json

import polars as pl
import pytest

from speed_assets.domain.parsing import parse_revision
from speed_assets.domain.revising import (
    Revised,
    draft_of_row,
    keeps_a_text_of_draft,
    repeat_rarer_kind,
    revise,
    revise_rows,
    without_unchanged_fields,
)

DRAFT = json.dumps({"user_query": "q", "positive_document": "p", "hard_negative_document": "n"})


def test_a_revision_changes_its_fields_only() -> None:
    done = revise("retrieval", DRAFT, '{"reason": "r", "revision": {"positive_document": "better"}}')
    assert json.loads(done.record) == json.loads(DRAFT) | {"positive_document": "better"}
    assert done.changed


def test_a_revision_that_spoils_is_not_taken_and_its_finding_stands() -> None:
    done = revise("retrieval", DRAFT, '{"reason": "r", "revision": {"positive_document": "n"}}')
    assert (done.record, done.changed, done.spoils, done.reason, done.problem) == (DRAFT, False, True, "r", None)


@pytest.mark.parametrize(
    ("answer", "finished", "problem"),
    [
        ("rubbish", None, "not_json"),
        ('{"reason": "r", "revision": {"nonsense": "n"}}', None, "unknown_key"),
        ('{"reason": "r", "revision": "rewrite it"}', None, "wrong_type:revision"),
        ('{"reason": "r", "verdict": "good"}', None, "missing_key:revision"),
        ('{"reason": "r", "revision": {"positive_document": "cut of', False, "cut_off"),
        ('{"reason": "r", "revision": {"positive_document": "cut off.', True, "cut_off"),
        ('{"reason": "what is wrong, or that nothing is", "revision": null}', True, "template_echo"),
        ('{"reason": "r", "revision": {"positive_document": "<the new text>"}}', True, "template_echo"),
        (DRAFT, True, "draft_echo"),
        (json.dumps({"draft": json.loads(DRAFT)}), True, "draft_echo"),
    ],
)
def test_a_revision_that_cannot_be_read_says_nothing(answer: str, finished: bool | None, problem: str) -> None:
    done = revise("retrieval", DRAFT, answer, finished)
    assert done == Revised(DRAFT, False, False, None, problem)


def test_a_draft_that_is_quoted_after_a_revision_does_not_take_its_place() -> None:
    answer = f'{{"reason": "r", "revision": {{"positive_document": "better"}}}}\nThe original draft was: {DRAFT}'
    assert revise("retrieval", DRAFT, answer, True).changed


@pytest.mark.parametrize("said", ["null", "No change", "...", "unchanged"])
def test_a_word_for_no_change_is_no_text(said: str) -> None:
    done = revise("retrieval", DRAFT, json.dumps({"reason": "r", "revision": {"positive_document": said}}), True)
    assert (done.record, done.changed, done.problem) == (DRAFT, False, None)


def test_what_cannot_be_read_changes_no_row_approves_none_and_casts_no_doubt() -> None:
    def read(reading: int, rows: list[int], records: list[str]) -> list[Revised]:
        return [
            Revised(record, False, False, None, "not_json")
            if row == 0 or reading
            else Revised(f"{record}!", True, False, "r")
            for row, record in zip(rows, records, strict=True)
        ]

    mended = revise_rows(["a", "b"], 2, read)
    assert (mended.records, mended.doubts, mended.reasons) == (["a", "b!"], [None, None], [None, "r"])
    assert mended.readable == [False, True]
    assert mended.problems == {"not_json": 2}
    assert [reading["unreadable"] for reading in mended.readings] == [1, 1]


def test_what_was_changed_is_read_again_and_the_last_reading_only_judges() -> None:
    asked: list[tuple[int, list[int]]] = []

    def read(reading: int, rows: list[int], records: list[str]) -> list[Revised]:
        """A revisor that takes a star from each record, and would spoil the third."""
        asked.append((reading, rows))
        return [
            Revised(record, False, True, "spoilt")
            if row == 2
            else Revised(record[:-1], True, False, f"a star at {reading}")
            if record.endswith("*")
            else Revised(record, False, False, "fine")
            for row, record in zip(rows, records, strict=True)
        ]

    drafts = ["a", "b*", "c*", "d***"]
    mended = revise_rows(drafts, 3, read)
    assert asked == [(0, [0, 1, 2, 3]), (1, [1, 3]), (2, [3])]
    assert mended.records == ["a", "b", "c*", "d*"], "the judge changes nothing"
    assert mended.doubts == [None, None, "spoilt", "a star at 2"]
    assert mended.reasons == ["fine", "a star at 0", "spoilt", "a star at 1"]
    assert [reading["rows"] for reading in mended.readings] == [4, 2, 1]
    once = revise_rows(drafts, 1, read)
    assert (once.records, once.doubts) == (["a", "b", "c*", "d**"], [None, None, "spoilt", None])


def test_a_draft_that_cannot_be_read_is_shown_as_it_is_and_can_be_written_again() -> None:
    row = {"query": None, "positive": None, "negative": None, "output": '{"input": "'}
    draft = draft_of_row("matching_short", row)
    assert draft == row["output"]
    kept = revise("matching_short", draft, '{"reason": "gone off, gone off", "revision": null}')
    assert (kept.record, kept.changed) == (draft, False)
    whole = revise("matching_short", draft, '{"reason": "", "revision": {"input": "a b", "positive_document": "c d"}}')
    assert (json.loads(whole.record), whole.changed) == ({"input": "a b", "positive_document": "c d"}, True)


def test_a_revision_that_copies_the_draft_mends_nothing() -> None:
    record = json.loads(DRAFT)
    said = parse_revision("retrieval", json.dumps({"reason": "fine", "revision": record}))
    assert said.changes, "the whole record is there"
    assert not without_unchanged_fields(said, record).changes
    said = parse_revision("retrieval", json.dumps({"reason": "r", "revision": record | {"user_query": "other"}}))
    assert without_unchanged_fields(said, record).changes == {"user_query": "other"}


def test_a_patch_of_one_field_keeps_the_others_of_the_draft() -> None:
    cut = f"{DRAFT} and so I"
    patched = revise("retrieval", cut, '{"reason": "r", "revision": {"positive_document": "better"}}')
    assert patched.changed
    assert keeps_a_text_of_draft("retrieval", cut, patched.record)
    assert keeps_a_text_of_draft("retrieval", cut, cut)
    rewritten = {"user_query": "a", "positive_document": "b", "hard_negative_document": "c"}
    assert not keeps_a_text_of_draft("retrieval", cut, json.dumps(rewritten))


def test_balance_repeats_the_rarer_kind() -> None:
    rows = pl.DataFrame({"id": range(10), "mended": [True] * 2 + [False] * 8})
    balanced = repeat_rarer_kind(rows, 0.5, repeats_max=4)
    assert balanced["mended"].sum() == 8
    assert set(balanced["id"]) == set(range(10))
    capped = repeat_rarer_kind(rows, 0.5)
    assert capped["mended"].sum() == 6, "a row is repeated three times at most"
    assert capped["id"].value_counts().select(pl.col("count").max()).item() == 3
    assert repeat_rarer_kind(rows.filter("mended"), 0.5).height == 2
