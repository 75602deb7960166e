"""One percent of the documents: what it costs, and that nothing of a removed document is in the next release."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.corpus_increments import left_of, measure, spread

SHARE_MAX = 0.011


@pytest.mark.faults
def test_one_percent_of_the_documents_costs_one_percent(tmp_path: Path) -> None:
    found = measure("teacher", 200, aligned=False, root=tmp_path)
    assert found["full"]["rows"] > 300
    for change in ("changed", "added", "removed"):
        one = found[change]
        assert one["documents"] == 2
        assert one["calls"] <= one["planned_calls"]
        assert one["calls_share"] <= SHARE_MAX, (change, one)
        assert one["rows_share"] <= SHARE_MAX, (change, one)
    removed = found["removed"]
    assert min(removed["searched_for"].values()) > 0
    assert removed["held_before"] > 3, "the search finds what is there"
    assert removed["left"] == []


def test_the_search_reads_tables_and_other_files(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["the old boiler heats", None], "list": [["a"], ["b"]], "n": [1, 2]}).write_parquet(
        tmp_path / "a.parquet"
    )
    pl.DataFrame({"nested": [[{"text": "of the old boiler too"}]]}).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "card.md").write_text("It says: the old boiler.")
    found = left_of(["old boiler"], [tmp_path])
    assert sorted(Path(one).name for one in found) == ["a.parquet", "b.parquet", "card.md"]
    assert left_of(["new boiler"], [tmp_path]) == []


def test_documents_are_spread() -> None:
    assert spread(list("abcdefgh"), 2) == ["a", "e"]
    assert spread(["a"], 3) == ["a"]
