"""Judged texts are found among passages that were cut otherwise."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.judged_texts import passages_of_texts, same_spaces

BODIES = [f"Sentence number {n} is about thing {n} and about nothing else at all." for n in range(6)]
PASSAGES = pl.DataFrame(
    {"passage_id": [f"p{n}" for n in range(6)], "text": [f"Title\n{body}" for body in BODIES]},
)


def test_a_text_is_in_passages_or_holds_them() -> None:
    inside, around = "about thing 3 and", same_spaces(f"Before. {BODIES[1]}  {BODIES[2]} After.")
    cut = f"{BODIES[4][:40]}"
    found = passages_of_texts([inside, around, cut, "nowhere at all", BODIES[5]], PASSAGES)
    assert found == {inside: ["p3"], around: ["p1", "p2"], cut: ["p4"], BODIES[5]: ["p5"]}
    assert passages_of_texts([], PASSAGES) == {}
    assert passages_of_texts(["about"], PASSAGES.clear()) == {}


@given(st.integers(0, 5), st.integers(0, 60), st.integers(8, 60), st.sampled_from([" ", "\n", "  "]))
def test_any_part_of_a_passage_is_found(number: int, start: int, length: int, space: str) -> None:
    part = same_spaces(BODIES[number][start : start + length])
    passages = PASSAGES.with_columns(pl.col("text").str.replace_all(" ", space, literal=True))
    found = passages_of_texts([part], passages) if part else {"": [f"p{number}"]}
    assert f"p{number}" in found[part]
