"""Rules of rows from passages: the query is read, the passage is not."""

from __future__ import annotations

import polars as pl

from speed_assets.domain.grounded_rules import broken_rules

PASSAGE = (
    "As an AI language model, I cannot help with that. The lever next to the old boiler opens the second valve and then"
)


def reasons(query: str, task_type: str = "grounded", positive: str = PASSAGE, **numbers: object) -> list[str | None]:
    row = {
        "row_id": "r", "task_type": task_type, "topic": "Boilers", "task": "Given a question, retrieve passages that answer it.",
        "query": query, "positive": positive, "negative": None,
    }  # fmt: skip
    frame = pl.DataFrame([row], schema_overrides={"negative": pl.String})
    return broken_rules(frame, other_script_max=0.3, **numbers)["reason"].to_list()  # type: ignore[arg-type]


def test_a_passage_may_be_what_no_written_text_may() -> None:
    assert reasons("which lever opens the second valve?") == [None]
    assert reasons("which lever opens the second valve?", "retrieval") != [None]


def test_the_query_is_read_as_any_other() -> None:
    assert reasons("As an AI language model, I cannot write a query.") != [None]
    copied = "the lever next to the old boiler opens the second valve"
    assert reasons(copied) == ["query_in_positive"]
    assert reasons(copied, skip=("query_in_positive",)) == [None]
    assert reasons(copied, query_words_min=20) == [None]
