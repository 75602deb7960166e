"""Rules of rows from passages: the query is read, the passage is not."""

from __future__ import annotations

import polars as pl
import pytest

from speed_assets.domain.grounded import WORDINGS
from speed_assets.domain.grounded_rules import first_broken_rules_by_source, is_unspecific

PASSAGE = (
    "As an AI language model, I cannot help with that. The lever next to the old boiler opens the second valve and then"
)


def reasons(
    query: str,
    task_type: str = "grounded",
    positive: str = PASSAGE,
    task: str = WORDINGS["question"].task,
    **numbers: object,
) -> list[str | None]:
    row = {
        "row_id": "r", "task_type": task_type, "topic": "Boilers", "task": task,
        "query": query, "positive": positive, "negative": None,
    }  # fmt: skip
    frame = pl.DataFrame([row], schema_overrides={"negative": pl.String})
    return first_broken_rules_by_source(frame, other_script_max=0.3, **numbers)["reason"].to_list()  # type: ignore[arg-type]


def test_a_passage_may_be_what_no_written_text_may() -> None:
    assert reasons("which lever opens the second valve?") == [None]
    assert reasons("which lever opens the second valve?", "retrieval") != [None]


def test_the_query_is_read_as_any_other() -> None:
    assert reasons("As an AI language model, I cannot write a query.") != [None]
    copied = "the lever next to the old boiler opens the second valve"
    assert reasons(copied) == ["query_in_positive"]
    assert reasons(copied, skip=("query_in_positive",)) == [None]
    assert reasons(copied, query_words_min=20) == [None]
    assert reasons("the lever next to the old boiler opens the first valve") == ["query_in_positive"], "a word changed"


def test_a_query_has_the_length_that_its_kind_is_asked_for() -> None:
    """A writer that gives sentences of a passage for keywords is asked again, and teaches nobody."""
    question, keywords = (WORDINGS[kind].task for kind in ("question", "keyword"))
    long = "a lever by the boiler that opens one of the valves when the old house is too cold"
    assert reasons(long, task=keywords, length_tolerance=0.5) == ["too_long"]
    assert reasons(long, task=keywords) == [None]
    assert reasons(long, task=question, length_tolerance=0.5) == [None]
    assert reasons(long, task="Find what I need.", length_tolerance=0.5) == [None], "words of the user's own"
    assert reasons("valve", task=question, length_tolerance=0.5) == ["too_short"]


@pytest.mark.parametrize(
    "query",
    [
        "What is typed.",
        "What would you like to do?",
        "keywords",
        "find the passage",
        "bread and butter",
    ],
)
def test_a_query_that_names_nothing_of_its_passage_is_unspecific(query: str) -> None:
    assert reasons(query) == ["unspecific_query"]
    assert reasons(query, skip=("unspecific_query",)) == [None]
    assert "unspecific_query" not in reasons(query, "retrieval"), "of passages alone"


def test_words_name_a_passage_by_their_beginnings_in_any_script() -> None:
    assert reasons("boilers with two levers") == [None]
    assert not is_unspecific("世界人権宣言の前文", "この世界人権宣言を公布する。")
    assert not is_unspecific("Der Kessel im Keller", "Im Keller steht der alte Kessel.")
    assert is_unspecific("猫", "この世界人権宣言を公布する。")
