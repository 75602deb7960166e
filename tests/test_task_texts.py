"""Worker `task_texts`: which texts of mteb's tasks are kept out of the rows, and the stage that asks for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

pytest.importorskip("mteb")
import mteb
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskPairClassification

from resources.inputs.evaluation_sets import task_texts as texts_in_folder
from speed_assets.assets import evaluation_texts as stage
from speed_assets.assets import writing
from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.graph import Shape, build_graph
from speed_assets.recipe import RECIPES, Recipe, parse_recipe
from speed_assets.workers import encoders, task_texts
from tests.support.mteb_tasks import OneSplit, aggregate, metadata
from tests.support.tiny import tiny_data


def texts(tasks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **params: Any) -> tuple[Any, pl.DataFrame]:
    monkeypatch.setattr(task_texts.mteb, "get_benchmark", lambda name: tasks)
    out = tmp_path / "texts.parquet"
    result = task_texts.run({"tasks": ["all"], "left_out": [], "out": str(out), **params}, lambda *_: None)
    return result, pl.read_parquet(out)


def test_an_aggregate_is_searched_by_its_parts_judged_documents_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, table = texts([aggregate()], tmp_path, monkeypatch)
    assert result["tasks"] == {"ForumCooking": 4, "ForumBoats": 2}
    assert set(table.filter(task="ForumBoats")["text"]) == {"how to moor", "moor with a rope at the quay"}
    assert "an oven is hot" not in set(table["text"])
    left, _ = texts([aggregate()], tmp_path, monkeypatch, left_out=["ForumBoats"])
    assert set(left["tasks"]) == {"ForumCooking"}


class Topics(AbsTaskClassification):
    metadata = metadata("Topics", "Classification", "accuracy", eval_splits=["validation", "test"])
    samples_per_label = 2
    n_experiments = 3

    def load_data(self, *args: Any, **kwargs: Any) -> None:
        def rows(split: str, count: int) -> Dataset:
            return Dataset.from_dict(
                {
                    "id": [f"{split}-{n}" for n in range(count)],
                    "text": [f"{split} text number {n}" for n in range(count)],
                    "label": [n % 2 for n in range(count)],
                    "label_text": [("lost or stolen card", "exchange rate today")[n % 2] for n in range(count)],
                }
            )

        self.dataset = DatasetDict(
            {
                "train": rows("train", 400),
                "validation": rows("valid", 5),
                "test": rows("test", 7),
                "extra": rows("extra", 9),
            }
        )
        self.data_loaded = True


def test_of_a_classification_task_the_rows_that_mteb_draws_are_read_and_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, table = texts([Topics()], tmp_path, monkeypatch)
    found = set(table["text"])
    assert {text.split()[0] for text in found} == {"train", "valid", "test"}, (
        "no labels, no ids, no split without a score"
    )
    assert len([text for text in found if text.startswith("valid")]) == 5
    assert result["unread"] == {"Topics": ["extra", "train"]}

    seen: list[str] = []

    class Listening(Topics):
        pass

    task = Listening()
    task.load_data()

    class Encoder(encoders.LexicalVectors):
        mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "test/listen", "revision": "1"})

        def encode(self, inputs: Any, **kwargs: Any) -> Any:
            batches = list(inputs)
            seen.extend(text for batch in batches for text in batch["text"])
            return super().encode(batches, **kwargs)

    mteb.evaluate(Encoder(), task, cache=None, co2_tracker=False, show_progress_bar=False)
    assert found == set(seen), "just what mteb embeds"


class OldPairs(AbsTaskPairClassification):
    """All pairs in one row, as older sets keep them."""

    metadata = metadata("OldPairs", "PairClassification", "max_ap")

    def load_data(self, *args: Any, **kwargs: Any) -> None:
        pairs = {
            "sentence1": [["one text", "two text"]],
            "sentence2": [["first text", "second text"]],
            "labels": [[1, 0]],
        }
        self.dataset = DatasetDict({"test": Dataset.from_dict(pairs)})
        self.data_loaded = True


def test_texts_are_written_in_blocks_and_once_for_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_texts, "BLOCK", 3)
    result, table = texts([OldPairs(), OneSplit(), OneSplit(), Topics()], tmp_path, monkeypatch)
    assert set(table.filter(task="OldPairs")["text"]) == {"one text", "two text", "first text", "second text"}
    assert table.filter(task="OneSplit").height == result["tasks"]["OneSplit"] == 6
    assert "never scored" not in set(table["text"])
    assert table.is_unique().all()
    file = pq.ParquetFile(tmp_path / "texts.parquet")
    assert file.num_row_groups > 5
    assert max(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)) <= 3


def test_a_task_without_texts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(OneSplit):
        def load_data(self, *args: Any, **kwargs: Any) -> None:
            self.dataset = DatasetDict(
                {"dev": Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "score": [1.0]})}
            )
            self.data_loaded = True

    with pytest.raises(ValueError, match="OneSplit has no texts to look for"):
        texts([Empty()], tmp_path, monkeypatch)
    assert not (tmp_path / "texts.parquet").exists()


def test_a_task_that_cannot_be_loaded_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(OneSplit):
        def load_data(self, *args: Any, **kwargs: Any) -> None:
            raise ConnectionError("no route to the hub")

    with pytest.raises(RuntimeError, match=r"OneSplit cannot be loaded .*no route.*evaluation.unsearched"):
        texts([Gone()], tmp_path, monkeypatch)


def recipe_with(**evaluation: Any) -> Recipe:
    data = tiny_data()
    data["evaluation"] |= evaluation
    return parse_recipe(data, RECIPES / "tiny.yaml")


def test_texts_of_tasks_are_read_first_and_only_where_a_recipe_names_tasks() -> None:
    graph = recipe_with(tasks=["MTEB(eng, v2)"]).graph()
    assert next(iter(graph)) == "evaluation_texts"
    assert "evaluation_texts" in graph["final_triplets"].inputs
    assert "evaluation_texts" not in graph["row_scores"].inputs, "no embedder looks at them"
    for recipe in (recipe_with(), recipe_with(tasks=["STSBenchmark"], unsearched=["STSBenchmark"])):
        assert "evaluation_texts" not in recipe.graph()
    embedded = build_graph(Shape(searched=True, embedded=True))
    assert embedded["row_scores"].inputs == ("revised_data", "senior_model", "evaluation_texts")
    assert build_graph(Shape(source="seed_data", searched=True))["row_scores"].inputs == (
        "seed_data",
        "evaluation_texts",
    )


def test_the_stage_hands_its_texts_to_whoever_looks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_texts.mteb, "get_benchmark", lambda name: [OneSplit(), aggregate()])
    section = recipe_with(tasks=["all"], unsearched=["ForumBoats"], microworld=None, local=[]).evaluation

    class Run:
        recipe = SimpleNamespace(evaluation=section)
        stage = SimpleNamespace(externals=())
        runner = SimpleNamespace(run=lambda job, params, folder, progress: task_texts.run(params, progress))
        progress = staticmethod(lambda *_: None)

        def __init__(self, out: Path) -> None:
            self.out, self.scratch = out, out / "scratch"
            self.inputs: dict[str, Any] = {}
            self.unhashed = out / "aside"
            self.unhashed.mkdir(parents=True)

        def input(self, name: str) -> Any:
            return SimpleNamespace(path=tmp_path / name)

    metadata = stage.evaluation_texts(Run(tmp_path / "evaluation_texts"))  # type: ignore[arg-type]
    assert metadata["texts_of"] == {"OneSplit": 6, "ForumCooking": 4}
    assert metadata["unread_splits"] == {"OneSplit": ["train"]}
    reader = Run(tmp_path / "final_triplets")
    reader.inputs = {"evaluation_texts": {}}
    found = writing.evaluation_texts(reader)  # type: ignore[arg-type]
    assert {task: len(group) for task, group in found.items()} == metadata["texts_of"]
    assert texts_in_folder(reader.out).keys() == found.keys(), "for the check, which asks again"
    index = EvaluationIndex(found, Limits(ngram=8, containment=0.6, words_min=10, neighbour=None))
    copies = index.copies(pl.Series(["How does dough rise?", "something else entirely"]))
    assert copies.rows() == [("ForumCooking", "exact"), (None, None)]
