"""Pools: what retrievers find for a query, and what two verdicts on a passage say."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.parsing import parse_relevance
from speed_assets.domain.pooling import (
    RETRIEVED,
    agreed,
    drawn_at_random,
    pool_counts,
    pool_of,
    retriever_counts,
)
from speed_assets.domain.prompts import PromptSet, relevance_digest, relevance_prompt, relevance_schema

verdicts = st.one_of(st.tuples(st.booleans(), st.booleans()), st.sampled_from(["not_json", "cut_off"]))


@given(verdicts, verdicts)
def test_only_what_both_orders_say_is_relevant(first: tuple[bool, bool] | str, second: tuple[bool, bool] | str) -> None:
    found = agreed(first, second)
    read = [verdict for verdict in (first, second) if not isinstance(verdict, str)]
    assert len(found.known) == len(read)
    assert (found.relevant is None) == (found.problem is not None)
    if found.relevant:
        assert read == [first, second]
        assert first[1]
        assert second[0]
    if len(read) < 2:
        assert found.problem is not None
        assert found.problem.startswith("unreadable:")


def test_a_pool_has_each_passage_of_a_query_once() -> None:
    rows = [("q", "a", "bm25", 1), ("q", "b", "bm25", 2), ("q", "b", "m", 1), ("r", "a", "m", 1), ("q", "c", "m", 2)]
    without = pl.DataFrame({"row_id": ["q"], "passage_id": ["a"]})
    pool = pool_of(pl.DataFrame(rows, schema=RETRIEVED, orient="row"), without)
    assert pool.rows() == [("q", "b", "bm25, m", 1), ("r", "a", "m", 1), ("q", "c", "m", 2)]
    judged = pool.with_columns(
        relevant=pl.Series([True, None, False], dtype=pl.Boolean),
        problem=pl.Series([None, "orders_disagree", None], dtype=pl.String),
    )
    counts = pool_counts(judged, 2)
    assert (counts["judged"], counts["relevant"], counts["orders_disagree"], counts["unreadable"]) == (3, 1, 1, 0)
    assert counts["orders_agree_share"] == pytest.approx(0.6667)
    assert [line["relevant_found_alone"] for line in retriever_counts(judged, ["bm25", "m"])] == [0, 0]
    assert pool_counts(judged.clear(), 0)["relevant_share"] is None


def test_another_passage_changes_few_draws() -> None:
    ids = sorted(f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(200))
    queries = [f"row{number}" for number in range(100)]
    before = [drawn_at_random(query, ids, 1, ()) for query in queries]
    after = [drawn_at_random(query, [*ids[:50], *ids[51:]], 1, ()) for query in queries]
    assert len(set(before)) > 50
    assert sum(one != other for one, other in zip(before, after, strict=True)) < 6
    assert drawn_at_random("row1", ids, 1, {str(before[1])}) != before[1]
    assert drawn_at_random("row1", ids[:1], 1, set(ids)) is None
    assert drawn_at_random("row1", [], 1, ()) is None


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ('{"reason": "x", "first": true, "second": false}', (True, False)),
        ('```json\n{"first": "yes", "second": 0}\n```', (True, False)),
        ('{"first": true}', "missing_key:second"),
        ('{"first": true, "second": "maybe"}', "wrong_type:second"),
        ("both", "not_json"),
    ],
)
def test_verdicts_are_read(raw: str, read: object) -> None:
    assert parse_relevance(raw) == read
    assert parse_relevance(raw, finished=False) == "cut_off"


@given(st.text())
def test_any_text_is_a_verdict_or_a_problem(raw: str) -> None:
    found = parse_relevance(raw)
    assert isinstance(found, str) or len(found) == 2


@pytest.mark.parametrize("name", ["full", "compact"])
def test_the_prompt_shows_query_and_passages_and_they_close_no_tag(name: str) -> None:
    prompts = PromptSet.load(name)
    prompt = relevance_prompt(prompts, "q {first}", "one </first> </query>", "two\nlines")
    assert "q {first}" in prompt
    assert prompt.count("</first>") == (1 if name == "full" else 0)
    assert set(relevance_schema()["properties"]) == {"reason", "first", "second"}
    assert relevance_digest(prompts) != relevance_digest(
        prompts.reworded({"relevance": "{query}: {first} or {second}"})
    )
    with pytest.raises(ValueError, match="relevance must name"):
        relevance_prompt(prompts.reworded({"relevance": "{query} {first}"}), "a", "b", "c")


def test_blocks_give_what_one_search_gives() -> None:
    from speed_assets.workers.pool_passages import Nearest, by_words

    rng = np.random.default_rng(1)
    similarities = rng.normal(size=(7, 100)).astype(np.float32)
    best = Nearest(7, 5)
    for start in range(0, 100, 33):
        best.add(similarities[:, start : start + 33], start)
    assert (best.places == np.argsort(-similarities, axis=1, kind="stable")[:, :5]).all()
    found = by_words(pl.Series(["blue lamp", "??", "nothing here"]), pl.Series(["a lamp", "a blue lamp", "a sofa"]), 2)
    assert found.tolist() == [[1, 0], [-1, -1], [-1, -1]]
