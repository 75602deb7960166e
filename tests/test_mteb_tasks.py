"""mteb's own tasks as far as nothing is loaded from anywhere: aggregates, instructions, tasks that load themselves, and
which of their texts are kept out of the rows."""

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
from mteb.abstasks import AbsTaskClassification, AbsTaskPairClassification, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.aggregate_task_metadata import AggregateTaskMetadata
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.task_metadata import TaskMetadata

from resources.inputs.evaluation_sets import task_texts as task_texts_beside
from speed_assets.assets import evaluation_texts as stage
from speed_assets.assets import writing
from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.graph import Shape, build_graph
from speed_assets.domain.instructions import PUBLISHED, published_instruction
from speed_assets.domain.statistics import samples_by_model, score_interval
from speed_assets.recipe import RECIPES, Recipe, parse_recipe
from speed_assets.workers import encoders, evaluate, task_texts
from tests.support.static_embedder import write_embedder
from tests.support.tiny import tiny_data


def metadata(name: str, kind: str, score: str, **more: Any) -> TaskMetadata:
    return TaskMetadata(
        name=name, description=name, dataset={"path": f"test/{name}", "revision": "7"}, type=kind,
        category="t2t", eval_splits=more.pop("eval_splits", ["test"]), eval_langs=["eng-Latn"], main_score=score, **more,
    )  # fmt: skip


FORUMS = {
    "Cooking": (["how does dough rise", "what is yeast"], ["dough rises by yeast", "yeast is alive", "an oven is hot"]),
    "Boats": (
        ["how to moor"],
        ["moor with a rope at the quay", "sails catch wind", "a keel is heavy", "oars are long"],
    ),
}


class Forum(AbsTaskRetrieval):
    """A part of an aggregate, which loads its data as tasks of the hub do."""

    loads = 0

    def load_data(self, *args: Any, **kwargs: Any) -> None:
        type(self).loads += 1
        queries, corpus = FORUMS[self.metadata.name.removeprefix("Forum")]
        rows = [{"id": f"d{n}", "title": "", "text": text} for n, text in enumerate(corpus)]
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_list(rows),
                    "queries": Dataset.from_list([{"id": f"q{n}", "text": text} for n, text in enumerate(queries)]),
                    "relevant_docs": {f"q{n}": {f"d{n}": 1} for n in range(len(queries))},
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


def aggregate() -> AbsTaskAggregate:
    parts = [
        type(name, (Forum,), {"metadata": metadata(f"Forum{name}", "Retrieval", "ndcg_at_10")})() for name in FORUMS
    ]
    said = AggregateTaskMetadata(
        name="ForumRetrieval", description="both", tasks=parts, main_score="ndcg_at_10", type="Retrieval",
        eval_splits=["test"],
    )  # fmt: skip
    return type("ForumRetrieval", (AbsTaskAggregate,), {"metadata": said})()


class OneSplit(AbsTaskSTS):
    """A task that loads its data itself, as those of the hub do."""

    metadata = metadata("OneSplit", "STS", "cosine_spearman")

    def load_data(self, *args: Any, **kwargs: Any) -> None:
        pairs = {
            "sentence1": ["the cat sleeps", "rain falls", "bread is warm"],
            "sentence2": ["a cat sleeps", "it rains", "cold is the sea"],
            "score": [5.0, 4.0, 0.0],
        }
        train = {"sentence1": ["never scored"], "sentence2": ["nor this"], "score": [1.0]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(pairs), "train": Dataset.from_dict(train)})
        self.data_loaded = True


def scored(tmp_path: Path, tasks: list[Any], monkeypatch: pytest.MonkeyPatch, out: str = "out") -> tuple[Any, ...]:
    monkeypatch.setattr(evaluate, "named_tasks", lambda names: iter(tasks))
    params = {
        "models": [{"name": "embedding_model", "path": write_embedder(tmp_path / "model"), "digest": "1"}],
        "bm25": True,
        "microworld": None,
        "tasks": ["given"],
        "local": [],
        "out": str(tmp_path / out / "scores.parquet"),
        "samples": str(tmp_path / out / "samples.parquet"),
        "plot": str(tmp_path / out / "scores.png"),
        "cache": str(tmp_path / "cache"),
        "batch_size": 8,
    }
    result = evaluate.run(params, lambda done, total, note: None)
    return result, pl.read_parquet(params["out"]), pl.read_parquet(params["samples"])


def test_an_aggregate_is_scored_as_mteb_scores_it_and_keeps_the_samples_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, table, samples = scored(tmp_path, [aggregate()], monkeypatch)
    model = encoders.encoder_of(str(tmp_path / "model"))
    theirs = mteb.evaluate(model, aggregate(), cache=None, co2_tracker=False, show_progress_bar=False)
    ours = result["scores"]["embedding_model"]["ForumRetrieval"]
    assert ours == pytest.approx(theirs.task_results[-1].get_score(), abs=1e-5)
    assert table.filter(model="embedding_model").select("task", "type", "metric", "samples").rows() == [
        ("ForumRetrieval", "Retrieval", "ndcg_at_10", 3)
    ]
    found = samples_by_model(samples)["embedding_model"]["ForumRetrieval"]
    assert list(found) == ["ForumCooking/test/default", "ForumBoats/test/default"]
    assert sum(part.score.mean() for part in found.values()) / 2 == pytest.approx(ours, abs=1e-5), "it can be compared"
    assert score_interval(found, resamples=100, seed=1, alpha=0.1)[1] <= 1

    loads = Forum.loads
    again, same, _ = scored(tmp_path, [aggregate()], monkeypatch, "again")
    assert again["cached"] == 4, "each part of each model is kept for itself"
    assert Forum.loads == loads
    assert same.equals(table)


def test_an_aggregate_whose_mean_is_another_keeps_no_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = aggregate()
    usual = task.task_results_to_scores
    task.task_results_to_scores = lambda results: {
        split: {"default": {"main_score": 0.123, "ndcg_at_10": 0.123}} for split in usual(results)
    }
    result, _, samples = scored(tmp_path, [task], monkeypatch)
    assert result["scores"]["embedding_model"] == {"ForumRetrieval": 0.123}
    assert samples.is_empty()


def test_a_task_that_loads_its_own_data_leaves_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = OneSplit()
    _, table, samples = scored(tmp_path, [task], monkeypatch)
    assert samples.filter(model="embedding_model").height == 3
    assert table["score"].is_not_null().all()
    assert not task.data_loaded, "and its data are let go"


# Instructions


def test_every_task_of_the_english_benchmarks_is_asked_with_an_instruction_of_its_own(tmp_path: Path) -> None:
    model = encoders.Instructed(None, "Instruct: {task}\nQuery: ")  # type: ignore[arg-type]
    generic = {"Retrieve text based on user query.", "Identify categories in user passages.", "Classify user passages."}
    for benchmark in ("MTEB(eng, v1)", "MTEB(eng, v2)"):
        for task in task_texts.flat(task_texts.named_tasks([benchmark])):
            said = task.metadata.prompt
            own = said.get("query") if isinstance(said, dict) else said
            asked = encoders.asked_with(model_of(model), task)
            task_of = asked.removeprefix("Instruct: ").removesuffix("\nQuery: ")
            assert asked == f"Instruct: {task_of}\nQuery: "
            assert task_of not in generic, task.metadata.name
            assert task_of == own or (
                own is None and (task_of == published_instruction(task.metadata.name) or task.metadata.type == "STS")
            )
            if own and published_instruction(task.metadata.name):
                assert published_instruction(task.metadata.name) == own, "mteb carries E5-mistral's"


def model_of(encoder: encoders.Instructed) -> encoders.Instructed:
    encoder.model = object()
    return encoder


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ("FEVERHardNegatives", "FEVER"),
        ("ClimateFEVERHardNegatives.v2", "ClimateFEVER"),
        ("HotpotQAHardNegatives", "HotpotQA"),
        ("Touche2020Retrieval.v3", "Touche2020"),
        ("CQADupstackGamingRetrieval", "CQADupstack"),
        ("QuoraRetrieval", "Quora"),
        ("StackExchangeClusteringP2P.v2", "StackExchangeClusteringP2P"),
        ("ArXivHierarchicalClusteringP2P", "ArxivClusteringP2P"),
        ("MindSmallReranking", "MindSmall"),
        ("SummEvalSummarization.v2", "SummEval"),
        ("MSMARCO-PL", None),
        ("AnimalSearch", None),
    ],
)
def test_later_versions_of_a_task_have_its_instruction(task: str, named: str | None) -> None:
    assert published_instruction(task) == (PUBLISHED[named] if named else None)


def test_braces_in_a_template_and_in_an_instruction_stay_what_they_are() -> None:
    model = model_of(encoders.Instructed(None, "{x} Do: {task}\nQ: "))  # type: ignore[arg-type]
    task = type("T", (OneSplit,), {"metadata": metadata("T", "STS", "cosine_spearman", prompt="find {query}")})()
    assert encoders.asked_with(model, task) == "{x} Do: find {query}\nQ: "


def test_a_model_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_embedder(tmp_path / "model")
    loads: list[str] = []
    usual = encoders.SentenceTransformer

    def load(name: str, **kwargs: Any) -> Any:
        loads.append(name)
        return usual(name, **kwargs)

    monkeypatch.setattr(encoders, "SentenceTransformer", load)
    config = Path(path) / "config_sentence_transformers.json"
    plain = encoders.encoder_of(path)
    config.write_text(config.read_text().replace('"prompts": {', '"prompts": {"instruction": "Do: {task}\\n",'))
    instructed = encoders.encoder_of(path)
    assert isinstance(instructed, encoders.Instructed)
    assert not isinstance(plain, encoders.Instructed)
    assert loads == [path, path]


# Texts


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
        runner = SimpleNamespace(run=lambda job, params, folder, progress: task_texts.run(params, progress))
        progress = staticmethod(lambda *_: None)

        def __init__(self, out: Path) -> None:
            self.out, self.scratch = out, out / "scratch"
            self.inputs: dict[str, Any] = {}
            out.mkdir()

        def input(self, name: str) -> Any:
            return SimpleNamespace(path=tmp_path / name)

    metadata = stage.evaluation_texts(Run(tmp_path / "evaluation_texts"))  # type: ignore[arg-type]
    assert metadata["texts_of"] == {"OneSplit": 6, "ForumCooking": 4}
    assert metadata["unread_splits"] == {"OneSplit": ["train"]}
    reader = Run(tmp_path / "final_triplets")
    reader.inputs = {"evaluation_texts": {}}
    found = writing.evaluation_texts(reader)  # type: ignore[arg-type]
    assert {task: len(group) for task, group in found.items()} == metadata["texts_of"]
    assert task_texts_beside(reader.out).keys() == found.keys(), "for the check, which asks again"
    index = EvaluationIndex(found, Limits(ngram=8, containment=0.6, words_min=10, neighbour=None))
    copies = index.copies(pl.Series(["How does dough rise?", "something else entirely"]))
    assert copies.rows() == [("ForumCooking", "exact"), (None, None)]
