"""Cheap first looks of the rules change no reason: with every text read in full, the same rows go for the same reasons."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from benchmarks.human_rows import human_rows
from speed_assets.domain import row_patterns, rules
from speed_assets.domain.rules import expressions
from speed_assets.domain.task_types import TRIPLET_FIELDS
from tests.support.planted_rows import PLANTED

COLUMNS = ["row_id", "task_type", "topic", "task", *TRIPLET_FIELDS]


def unfinished_in_full(text: pl.Expr, *, sentences: bool, languages: tuple[str, ...]) -> pl.Expr:
    long = text.str.count_matches(r"\S+") > expressions.UNFINISHED_WORDS
    assert languages == ("en",)
    end = text.str.tail(24)
    broken = end.str.contains(row_patterns.UNFINISHED_MARK) | end.str.contains(row_patterns.UNFINISHED_WORD)
    if sentences:
        end = text.str.tail(200)
        noted = end.str.contains(row_patterns.STEP) | end.str.contains(row_patterns.AMOUNT_END)
        broken |= (
            text.str.tail(30).str.contains(row_patterns.OPEN_END)
            & text.str.contains(row_patterns.SENTENCES)
            & ~end.str.contains(row_patterns.LAST_LINE_IS_NONE)
            & ~(noted & ~end.str.contains(row_patterns.OPEN_PREPOSITION))
        )
    return broken & long


def same_with_every_text_read(rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """The reasons, after holding them against those without first looks."""

    def reasons() -> pl.DataFrame:
        return rules.first_broken_rules(rows, language_confidence=0.98, other_script_max=0.3, label_words_max=8)

    fast = reasons()
    monkeypatch.setattr(row_patterns, "AS_AN_AI_SUSPECT", "")
    monkeypatch.setattr(row_patterns, "ABOUT_SUSPECT", "")
    monkeypatch.setattr(row_patterns, "OPENING_SUSPECT", "")
    monkeypatch.setattr(expressions, "may_repeat_itself", lambda text: text.is_not_null())
    monkeypatch.setattr(row_patterns, "_MAY_TELL", re.compile(""))
    monkeypatch.setattr(expressions, "ends_unfinished", unfinished_in_full)
    assert reasons().equals(fast)
    return fast


def test_of_planted_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = [row for rows in PLANTED.values() for row in rows]
    made = [{"topic": "Topic", "row_id": f"{number:05d}"} | row for number, row in enumerate(planted)]
    found = same_with_every_text_read(pl.DataFrame(made, infer_schema_length=None).select(COLUMNS), monkeypatch)
    assert {"unfinished", "label_in_text", "as_an_ai", "about_the_document"} <= {*found["reason"]}


def test_of_rows_that_people_wrote(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.concat([made.select(COLUMNS) for made in human_rows(shared / "data").values()])
    same_with_every_text_read(rows.sample(5_000, seed=1), monkeypatch)


def test_a_field_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"row_id": "r", "task_type": "matching_short", "topic": "t", "task": "t", "query": "a tap", "positive": "x"}
    rows = pl.DataFrame([row | {"negative": None}], schema=dict.fromkeys(COLUMNS, pl.String))
    assert same_with_every_text_read(rows, monkeypatch).rows() == [(None, None)]
