"""Worker `evaluate`: scores, their samples and the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import polars as pl
import pytest
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from speed_assets.microworld import toy_language as lang
from speed_assets.microworld.evaluation import evaluation_sets
from speed_assets.workers import embed, encoders, evaluate, held_out
from tests.support.embedding_jobs import (
    SETTINGS,
    evaluation,
    right_triplets,
    silent,
    train,
)

MICROWORLD = {"topics": 12, "rows": 60, "seed": 2}
TASKS = ["Retrieval", "Reranking", "STS", "Classification", "Clustering", "PairClassification"]


@pytest.fixture(scope="module")
def scored(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """An evaluate job over a trained and an untrained model, and its result."""
    folder = tmp_path_factory.mktemp("scored")
    right_triplets(1500).write_parquet(folder / "triplets.parquet")
    common = {
        "base": {"kind": "static", "tokenizer": str(tokenizer), "dimensions": 64},
        "settings": SETTINGS,
        "seed": 3,
        "folder": str(folder / "job"),
        "checkpoint_minutes": 10.0,
    }
    jobs = [
        {
            "name": name,
            "triplets": str(folder / "triplets.parquet"),
            "out": str(folder / name),
            "aside": str(folder / "x"),
        }
        for name in ("trained", "untrained")
    ]
    jobs[1]["untrained"] = "yes"
    embed.run({**common, "models": jobs}, silent)
    params = {
        "models": [
            {"name": name, "path": str(folder / name), "digest": digest}
            for name, digest in (("trained", "a"), ("untrained", "b"))
        ],
        "bm25": True,
        "microworld": MICROWORLD,
        "tasks": [],
        "out": str(folder / "out" / "data.parquet"),
        "samples": str(folder / "out" / "samples.parquet"),
        "plot": str(folder / "out" / "scores.png"),
        "cache": str(folder / "cache"),
        "batch_size": 64,
    }
    return params, evaluate.run(params, silent)


def test_every_model_has_a_score_in_every_task(scored: tuple[dict[str, Any], dict[str, Any]]) -> None:
    params, result = scored
    table = pl.read_parquet(params["out"])
    assert table.columns == ["model", "task", "type", "metric", "score", "samples", *evaluate.IDENTITY]
    assert table.select(evaluate.IDENTITY).null_count().sum_horizontal().item() == 0
    assert dict(table.select("model", "dtype").unique().rows()) == {
        "trained": "float32",
        "untrained": "float32",
        "bm25": "none",
    }
    assert set(table["instruction"]) == {"none"}, "a model without an instruction is asked without one"
    assert table.height == 18
    assert set(table["type"]) == set(TASKS)
    assert table["score"].is_between(0, 1).all()
    assert result["scores"]["bm25"].keys() == result["scores"]["trained"].keys()
    assert set(result["versions"]) == {"mteb", "sentence-transformers", "transformers", "torch"}
    assert Path(params["plot"]).stat().st_size > 1000


def test_training_beats_the_base_and_bm25_in_every_task(scored: tuple[dict[str, Any], dict[str, Any]]) -> None:
    scores = scored[1]["scores"]
    for task in TASKS:
        name = f"Microworld{task}"
        assert scores["trained"][name] > max(scores["untrained"][name], scores["bm25"][name]), name


def test_samples_are_what_the_scores_are_made_of(scored: tuple[dict[str, Any], dict[str, Any]]) -> None:
    params, result = scored
    samples = pl.read_parquet(params["samples"])
    for (model, task), rows in samples.group_by("model", "task"):
        score = result["scores"][model][task]
        if rows["statistic"][0] in ("mean", "replicates"):
            found = rows["score"].mean()
        elif rows["statistic"][0] == "spearman":
            found = spearmanr(rows["predicted"], rows["gold"]).statistic
        else:
            found = average_precision_score(rows["gold"], rows["predicted"])
        assert found == pytest.approx(score, abs=1e-3), (model, task)  # both are rounded
    retrieval = samples.filter(task="MicroworldRetrieval")
    assert retrieval.height == 3 * MICROWORLD["rows"]


def test_results_are_kept_by_digest_and_by_sets(
    scored: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, result = scored
    again = {
        **params,
        "out": str(tmp_path / "again.parquet"),
        "samples": str(tmp_path / "samples.parquet"),
        "bm25": False,
    }
    runs: list[str] = []
    real = encoders.SentenceTransformerEncoderWrapper.encode
    monkeypatch.setattr(
        encoders.SentenceTransformerEncoderWrapper, "encode", lambda *a, **k: (runs.append("run"), real(*a, **k))[1]
    )
    repeated = evaluate.run(again, silent)
    assert not runs, "nothing is embedded twice"
    assert repeated["scores"]["trained"] == result["scores"]["trained"]
    assert repeated["cached"] == 12
    kept, found = (pl.read_parquet(p["samples"]).filter(pl.col("model") != "bm25") for p in (params, again))
    assert kept.equals(found)
    unplotted = {
        **again,
        "models": [{**model, "plotted": False} for model in again["models"]],
        "plot": str(tmp_path / "none.png"),
    }
    assert evaluate.run(unplotted, silent)["cached"] == 12
    assert not (tmp_path / "none.png").exists(), "a share of the models may hold reruns alone"
    swapped = {**again, "models": [{**again["models"][1], "digest": "c", "name": "junior_data only"}]}
    assert evaluate.run(swapped, silent)["scores"]["junior_data only"] == result["scores"]["untrained"]
    other_sets = {**again, "microworld": {**MICROWORLD, "seed": 3}}
    assert evaluate.run(other_sets, silent)["scores"]["trained"] != result["scores"]["trained"]


class Oracle(AbsEncoder):  # type: ignore[misc]
    """Knows what a text says: a direction for each topic and a longer one for each aspect."""

    mteb_model_meta = ModelMeta.create_empty({"name": "test/oracle", "revision": "1"})

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        texts = [text for batch in inputs for text in batch["text"]]
        vectors = np.zeros((len(texts), len(self.topics) + len(lang.ASPECTS)), dtype=np.float32)
        for row, text in enumerate(texts):
            topic = next(t for t in sorted(self.topics, key=len, reverse=True) if lang.read_text(text, t).on_topic)
            vectors[row, self.topics.index(topic)] = 1.2
            vectors[row, len(self.topics) + lang.ASPECTS.index(lang.read_text(text, topic).aspect or "")] = 1
        return vectors


def test_who_knows_the_truth_scores_full_marks() -> None:
    sets = evaluation_sets(**MICROWORLD)
    scores = {}
    for task in held_out.held_out_tasks(sets):
        found = mteb.evaluate(Oracle(sets.topics), task, cache=None, co2_tracker=False, show_progress_bar=False)
        scores[task.metadata.type] = found.task_results[0].get_score()
    for exact in ("Retrieval", "Reranking", "STS", "Classification", "PairClassification"):
        assert scores[exact] == pytest.approx(1, abs=0.001), exact


def test_models_with_a_task_instruction_get_the_task(job: Callable[..., dict[str, Any]]) -> None:
    params = job(instruction="Do: {task}\nQ: {query}")
    train({**params, "untrained": True}, silent)
    encoder = encoders.encoder_of(params["out"])
    metadata = held_out.MicroworldRetrieval.metadata
    assert encoder.get_task_instruction(metadata, None) == f"Do: {metadata.prompt}\nQ: "
    assert encoder.apply_instruction_to_passages is False


def test_lexical_vectors_see_words_and_weigh_rare_ones_more() -> None:
    metadata = held_out.MicroworldSTS.metadata
    lexical = encoders.LexicalVectors()
    batch = [{"text": ["the tea of kings", "the boats of kings", "the boats of tea"]}]
    vectors = lexical.encode(batch, task_metadata=metadata, hf_split="test", hf_subset="default")
    later = lexical.encode(
        [{"text": ["boats", "unheard"]}], task_metadata=metadata, hf_split="test", hf_subset="default"
    )
    assert vectors.shape == (3, 4096)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert later[0] @ vectors[1] > later[0] @ vectors[0] == 0
    assert np.linalg.norm(later[1]) == pytest.approx(1)


def test_names_of_tasks_and_benchmarks_are_resolved() -> None:
    assert [task.metadata.name for task in evaluate._tasks(None, evaluation(["STSBenchmark"]))] == ["STSBenchmark"]
    assert len(list(evaluate._tasks(None, evaluation(["MTEB(eng, v2)"])))) == 41
    with pytest.raises(KeyError, match="STSBenchmrk"):
        list(evaluate._tasks(None, evaluation(["STSBenchmrk"])))
