"""What other readers say of rows: where values stand, and which rows a threshold rejects."""

from __future__ import annotations

import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from speed_assets.domain.scoring import find_by_score, find_doubted, value_spans


@given(st.dictionaries(st.text(), st.text(), max_size=4), st.booleans())
def test_values_are_found_where_they_stand(record: dict[str, str], ascii_only: bool) -> None:
    line = json.dumps(record, ensure_ascii=ascii_only)
    assert [json.loads(f'"{line[begin:end]}"') for begin, end in value_spans(line)] == list(record.values())


def test_rows_beyond_a_bound_are_found_and_unknown_ones_pass() -> None:
    rows = pl.DataFrame({"role": [0.5, 0.04, None, 0.1]})
    nothing = (None, None)
    assert find_by_score("role", "low", least=0.1)(rows).rows() == [nothing, ("low", "0.04"), nothing, nothing]
    assert find_by_score("role", "high", most=0.1)(rows).rows() == [("high", "0.5"), nothing, nothing, nothing]


def test_a_row_in_doubt_carries_what_the_revisor_said() -> None:
    rows = pl.DataFrame({"doubt": [None, "the positive is off"]})
    assert find_doubted(rows).rows() == [(None, None), ("doubted", "the positive is off")]
