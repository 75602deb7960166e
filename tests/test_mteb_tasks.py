"""mteb's own tasks as they are scored: aggregates, instructions, tasks that load their own data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("mteb")
import mteb

from speed_assets.domain.instructions import PUBLISHED, published_instruction
from speed_assets.domain.statistics import samples_by_model, score_interval
from speed_assets.workers import encoders, evaluate, task_texts
from tests.support.mteb_tasks import Forum, OneSplit, aggregate, metadata
from tests.support.static_embedder import write_embedder


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
