"""The journal of streamed rows: torn ends, resuming, and finding the row that kills an engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speed_assets.workers.journal import FEW, SCHEMA, Journal, Output


def output(position: int, text: str = "x") -> Output:
    return Output(position, text, 3, 2, True)


def work(folder: Path, rows: int, kills: Callable[[int], bool], places: int, crash: str | None) -> Journal | None:
    """One attempt of an engine with so many places; None when a row has killed it."""
    journal = Journal(folder, "j", crash)
    for group in journal.groups(rows):
        for start in range(0, len(group), places):
            under_way = group[start : start + places]
            journal.begin(under_way)
            for row in under_way:  # the others may be done before the one that kills is reached
                if kills(row):
                    journal.close()
                    return None
                journal.finish([output(row)])
    return journal


def attempts(folder: Path, rows: int, kills: Callable[[int], bool], places: int) -> tuple[Journal, int]:
    """The journal when all rows are done, and how often the engine died."""
    crash = None
    for deaths in count():
        assert deaths < 50
        journal = work(folder, rows, kills, places, crash)
        if journal is not None:
            return journal, deaths
        crash = f"death {deaths}"
    raise AssertionError


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "j")
    assert journal.groups(3) == [[0, 1, 2]]
    assert journal.groups(0) == []
    assert dict(journal.table().schema) == SCHEMA
    assert journal.table().is_empty()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(), min_size=1, max_size=6), cut=st.integers(0, 400))
def test_a_torn_end_is_forgotten_and_whole_rows_are_kept(
    texts: list[str], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "j")
    for position, text in enumerate(texts):
        journal.finish([output(position, text)])
    journal.close()
    file = folder / "j.rows.jsonl"
    data = file.read_bytes()[: max(0, file.stat().st_size - cut)]
    file.write_bytes(data)
    again = Journal(folder, "j")
    kept = data.count(b"\n")
    assert again.done == set(range(kept))
    again.finish(output(position, texts[position]) for position in range(kept, len(texts)))
    assert again.table()["output"].to_list() == [t.encode("utf-8", "replace").decode() for t in texts]
    again.close()


@pytest.mark.parametrize(("rows", "places", "deaths"), [(600, 256, 3), (600, 1, 2), (10, 256, 2), (17, 17, 3)])
@pytest.mark.parametrize("poisonous", [0, 9])
def test_one_poisonous_row_is_found_and_no_other_is_lost(
    rows: int, places: int, deaths: int, poisonous: int, tmp_path: Path
) -> None:
    journal, died = attempts(tmp_path, rows, lambda row: row == poisonous, places)
    table = journal.table()
    assert table["position"].to_list() == list(range(rows))
    bad = table.filter(table["error"].is_not_null())
    assert bad["position"].to_list() == [poisonous]
    assert bad["output"].to_list() == [""]
    assert not bad["finished"].any()
    assert "engine died twice on this row" in bad["error"].item()
    assert died <= deaths


def test_every_poisonous_row_is_found_in_the_end(tmp_path: Path) -> None:
    journal, _ = attempts(tmp_path, 300, lambda row: row in (5, 77, 299), 128)
    table = journal.table()
    assert table.filter(table["error"].is_not_null())["position"].to_list() == [5, 77, 299]


def test_a_kill_that_nobody_reported_harms_no_row(tmp_path: Path) -> None:
    for _ in range(4):  # the whole run is killed again and again while one row is under way
        journal = Journal(tmp_path, "j")
        assert journal.groups(1) == [[0]]
        journal.begin([0])
        journal.close()
    assert Journal(tmp_path, "j").groups(1) == [[0]]


def test_rows_that_were_under_way_at_a_crash_run_in_small_groups(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "j")
    journal.begin(range(40))
    journal.finish([output(7)])
    journal.close()
    groups = Journal(tmp_path, "j", "boom").groups(50)
    assert [len(group) for group in groups] == [FEW, FEW, 7, 10]
    assert groups[-1] == list(range(40, 50))
    assert 7 not in {row for group in groups for row in group}


def test_a_crash_by_chance_rejects_no_row(tmp_path: Path) -> None:
    """The same row under way at two crashes, but not alone: it runs alone before it is judged."""
    journal = Journal(tmp_path, "j")
    journal.begin([0, 1])
    journal.close()
    journal = Journal(tmp_path, "j", "boom")
    assert journal.groups(3) == [[0], [1], [2]]
    journal.begin([0, 1])
    journal.close()
    journal = Journal(tmp_path, "j", "boom")
    assert journal.done == set()
