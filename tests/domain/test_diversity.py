"""Diversity: known values of every measure, and bounds that hold whatever the texts."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.attributes import ATTRIBUTES, draw_attributes
from speed_assets.domain.diversity_measures import (
    attribute_use,
    distinct_ngram_shares,
    diversity,
    normalized_entropy,
    random_rows,
    share_distance,
    topic_coverage,
    vendi_score,
)
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.task_types import TOPIC_TYPES

TEXTS = st.lists(st.text("ab ü.", max_size=12), min_size=1, max_size=12)
COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=9)


@pytest.mark.parametrize("rows", [1, 2, 17, 60])
def test_vendi_counts_what_is_different(rows: int) -> None:
    same = pl.Series(["the same Words, again"] * rows)
    disjoint = pl.Series([f"one{i} two{i} two{i}" for i in range(rows)])
    assert vendi_score(same) == pytest.approx(1)
    assert vendi_score(disjoint) == pytest.approx(rows)
    assert vendi_score(pl.concat([same, pl.Series(["other"] * rows)])) == pytest.approx(2)


def test_vendi_is_what_the_definition_says() -> None:
    counts = np.array([[1, 1, 0], [0, 1, 2], [3, 0, 1]], dtype=float)
    texts = pl.Series([" ".join(w for w, n in zip("abc", row, strict=True) for _ in range(int(n))) for row in counts])
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    weights = np.linalg.eigvalsh(unit @ unit.T / 3)
    assert vendi_score(texts) == pytest.approx(math.exp(-sum(w * math.log(w) for w in weights if w > 1e-12)))


def test_vendi_takes_more_words_than_fit_at_once() -> None:
    texts = pl.Series([" ".join(f"w{i}x{j}" for j in range(3000)) for i in range(3)] * 2)
    assert vendi_score(texts) == pytest.approx(3)


@given(TEXTS)
def test_vendi_lies_between_one_and_the_number_of_texts(texts: list[str]) -> None:
    score = vendi_score(pl.Series(texts, dtype=pl.String))
    assert 1 - 1e-9 <= score <= len(texts) + 1e-9
    assert vendi_score(pl.Series(texts[::-1], dtype=pl.String)) == pytest.approx(score)
    doubled = vendi_score(pl.Series(texts * 2, dtype=pl.String))
    assert doubled == pytest.approx(score), "each text twice is no more diverse"


def test_vendi_of_nothing() -> None:
    assert vendi_score(pl.Series([], dtype=pl.String)) == 0
    assert vendi_score(pl.Series(["", " .", None])) == pytest.approx(1)


@given(COUNTS)
def test_entropy_is_a_share(counts: list[int]) -> None:
    share = normalized_entropy(counts)
    assert 0 <= share <= 1
    assert (share == 0) == (sum(count > 0 for count in counts) < 2)
    assert normalized_entropy(counts[::-1]) == pytest.approx(share)
    assert (share > 1 - 1e-12) == (len(set(counts)) == 1 and counts[0] > 0)


def test_entropy_needs_a_choice() -> None:
    with pytest.raises(ValueError, match="several values"):
        normalized_entropy([3])


@given(COUNTS, COUNTS)
def test_distance_of_shares_is_a_distance(one: list[int], other: list[int]) -> None:
    a, b = ({str(i): n for i, n in enumerate(counts)} for counts in (one, other))
    assert 0 <= share_distance(a, b) <= 1 + 1e-12
    assert share_distance(a, b) == pytest.approx(share_distance(b, a))
    assert share_distance(a, {name: 3 * count for name, count in a.items()}) == pytest.approx(0)
    if sum(one):
        assert share_distance(a, {"elsewhere": 1}) == pytest.approx(1)


def test_the_papers_mix_has_no_distance_to_itself() -> None:
    assert share_distance({"c": 7, "r": 7, "s": 7, "m": 2}, {"c": 700, "r": 700, "s": 700, "m": 200}) == 0


def test_distinct_ngrams_do_not_cross_texts() -> None:
    texts = pl.Series(["a b c", "A b, d", None, "x"])
    assert distinct_ngram_shares(texts) == {"1": round(5 / 7, 4), "2": round(3 / 4, 4), "3": 1.0}
    assert distinct_ngram_shares(pl.Series(["same here now"] * 10)) == {"1": 0.1, "2": 0.1, "3": 0.1}
    assert distinct_ngram_shares(pl.Series([None, None], dtype=pl.String)) == {"1": 0.0, "2": 0.0, "3": 0.0}


@given(TEXTS)
def test_distinct_counts_as_a_loop_counts(texts: list[str]) -> None:
    found = distinct_ngram_shares(pl.Series(texts, dtype=pl.String))
    split = [("".join(c if c in "abü" else " " for c in text)).split() or [""] for text in texts]
    for length in (1, 2, 3):
        grams = [tuple(words[i : i + length]) for words in split for i in range(len(words) - length + 1)]
        assert found[str(length)] == (round(len(set(grams)) / len(grams), 4) if grams else 0.0)


def pairs(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"task_type": pl.String, "topic": pl.String}, orient="row")


def test_a_topic_is_covered_by_a_row_of_a_task_type_that_was_asked() -> None:
    asked = pairs(("sts", "a"), ("sts", "b"), ("retrieval", "a"), ("retrieval", "c"))
    kept = pairs(("sts", "a"), ("sts", "a"), ("retrieval", "c"), ("sts", "never asked"))
    found = topic_coverage(kept, asked)
    assert (found["asked"], found["covered"], found["share"]) == (3, 2, round(2 / 3, 4))
    assert found["by_task_type"] == {"sts": 0.5, "retrieval": 0.5}
    assert found["missing"] == ["b"]
    assert topic_coverage(kept, asked.clear())["share"] == 1


def test_attributes_are_those_that_were_drawn() -> None:
    ids = [f"row{i}" for i in range(3000)]
    rows = pl.DataFrame({"row_id": ids, "task_type": ["retrieval"] * len(ids)})
    used = {use["attribute"]: use for use in attribute_use(rows, 5)}
    assert list(used) == [attribute.name for attribute in ATTRIBUTES["retrieval"]]
    assert all(use["distance"] < 0.05 and use["never"] == [] for use in used.values())
    assert 1300 < used["difficulty"]["rows"] < 1700, "half of the prompts name a difficulty"
    drawn = [draw_attributes("retrieval", seed_for(5, "attributes", row_id))["clarity"] for row_id in ids]
    clear = rows.filter(pl.Series(drawn) == "clear")
    clarity = next(use for use in attribute_use(clear, 5) if use["attribute"] == "clarity")
    assert clarity["never"] == ["understandable with some effort", "ambiguous"]
    assert (clarity["entropy"], clarity["distance"]) == (0, 0.4)


def table(rows: int) -> pl.DataFrame:
    kinds = [TOPIC_TYPES[i % 3] for i in range(rows)]
    return pl.DataFrame(
        {
            "row_id": [f"r{i}" for i in range(rows)],
            "task_type": kinds,
            "topic": [f"t{i % 4}" for i in range(rows)],
            "query": [f"query {i}" for i in range(rows)],
            "positive": [f"positive {i}" for i in range(rows)],
            "negative": [None] * rows,
        },
        schema_overrides={"negative": pl.String},
    )


def test_everything_at_once_on_a_bounded_sample() -> None:
    intended = dict.fromkeys(TOPIC_TYPES, 0) | dict.fromkeys(TOPIC_TYPES[:3], 7)
    found = diversity(
        table(300), table(300).select("task_type", "topic"), intended, rows_max=100, vendi_rows_max=30, seed=1
    )
    assert (found["rows"], found["vendi"]["rows"]) == (100, 30)
    assert found["topics"]["share"] == 1
    assert found["task_types"]["distance"] == 0
    assert set(found["distinct"]) == {"query", "positive", "negative"}
    assert found["vendi"]["per_row"] == pytest.approx(found["vendi"]["score"] / 30, abs=1e-3)


def test_no_rows_have_no_diversity() -> None:
    intended = dict.fromkeys(TOPIC_TYPES, 1)
    nothing = table(3).clear()
    found = diversity(nothing, table(3).select("task_type", "topic"), intended, rows_max=10, vendi_rows_max=10, seed=1)
    assert (found["topics"]["share"], found["task_types"]["distance"], found["vendi"]["score"]) == (0, 1, 0)
    assert found["attributes"] == []


def test_a_sample_is_named_by_its_seed() -> None:
    rows = table(50)
    assert random_rows(rows, 10, 3).equals(random_rows(rows, 10, 3))
    assert random_rows(rows, 5, 3).equals(random_rows(rows, 10, 3).head(5))
    assert not random_rows(rows, 10, 3).equals(random_rows(rows, 10, 4))
    assert sorted(random_rows(rows, 99, 3)["row_id"]) == sorted(rows["row_id"])
