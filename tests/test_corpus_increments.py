"""One percent of the documents: what it costs, and that nothing of a removed document is in the next release."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.corpus_increments import left_of, measure, sentences_of, spread
from speed_assets.assets.junior import seed_data
from speed_assets.assets.own_evaluation import own_evaluation
from speed_assets.domain.graph import PASSAGES
from speed_assets.recipe import Recipe
from tests.support.reading_teacher import note, write_corpus
from tests.test_corpus_loop import recipe_of
from tests.test_grounded_rows import Reader, Table, passages_of, run_of

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


class Loop:
    """Passages, first rows and the own set of a corpus, made again after each change in one ledger; without a process."""

    def __init__(self, root: Path, documents: int, rows: int) -> None:
        write_corpus(root / "corpus", documents)
        data = recipe_of("http://127.0.0.1:1/v1", root).model_dump()
        data["seed_data"]["rows"] |= {"retrieval": 0, "grounded": rows}
        data["own_evaluation"]["rows"] = rows // 10
        self.recipe, self.root, self.turn = Recipe.model_validate(data), root, 0
        self.tables: dict[str, pl.DataFrame] = {}
        self.seen: set[tuple[str, ...]] = set()

    def run(self) -> tuple[int, int]:
        """(calls, rows that were in no table before)."""
        self.turn += 1
        made, home = passages_of(self.recipe, self.root / f"run{self.turn}"), self.root / "home"
        reader = Reader()
        passages = Table(made.tables["data"])
        self.tables = {f"passages {name}": table for name, table in made.tables.items()}
        for stage, partition, write in (("seed_data", "grounded", seed_data), ("own_evaluation", None, own_evaluation)):
            run = run_of(self.recipe, home, stage, partition, {PASSAGES: {"grounded": passages}}, reader)
            write(run)
            self.tables |= {f"{stage} {name}": table for name, table in run.tables.items()}
        rows = {
            row
            for name in ("seed_data data", "own_evaluation data")
            for row in self.tables[name].select("row_id", "query").rows()
        }
        new = len(rows - self.seen)
        self.seen |= rows
        return reader.asked, new

    def holding(self, texts: list[str]) -> list[str]:
        """Tables in which one of the texts stands."""
        folder = self.root / f"tables{self.turn}"
        folder.mkdir()
        for name, table in self.tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        return [Path(file).stem for file in left_of(texts, [folder])]


@pytest.mark.parametrize("rows", [300, 500])
def test_one_percent_of_the_documents_asks_one_percent_again(rows: int, tmp_path: Path) -> None:
    """3 of 300 documents, a row for about each second passage, or for nearly each."""
    loop = Loop(tmp_path, 300, rows)
    full, _ = loop.run()
    assert full >= rows
    names = sorted(set(loop.tables["passages data"]["document_id"]))[7::97][:3]
    corpus = tmp_path / "corpus"
    shares = {}
    for name in names:
        (corpus / name).write_text((corpus / name).read_text().replace("before we could", "long before we had to", 1))
    shares["changed"] = loop.run()
    for number in range(300, 303):
        (corpus / f"note{number}.md").write_text(note(number))
    shares["added"] = loop.run()
    gone = [text for name in names for text in sentences_of(corpus / name)]
    passages = loop.tables["passages data"].filter(pl.col("document_id").is_in(names))["passage_id"].implode()
    queries = loop.tables["seed_data data"].filter(pl.col("task_id").is_in(passages))["query"].to_list()
    assert len(gone) > 20
    assert queries
    assert len(loop.holding([*gone, *queries])) >= 2, "the search finds what is there"
    for name in names:
        (corpus / name).unlink()
    shares["removed"] = loop.run()
    assert loop.holding([*gone, *queries]) == []
    measured = {change: (round(calls / full, 4), round(new / rows, 4)) for change, (calls, new) in shares.items()}
    for change, (calls, new) in shares.items():
        assert calls <= SHARE_MAX * full, (change, measured)
        assert new <= SHARE_MAX * rows, (change, measured)


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
