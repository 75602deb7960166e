"""The benchmark that compares the loop with plainer ways on people's queries: its arms, and all of it at a tiny size."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks.human_truth import ARMS, agreement, arm, measure, people
from resources.progress import ProgressLines
from speed_assets.recipe import RECIPES, load_recipe, parse_recipe
from tests.support.reading_teacher import note, reading
from tests.support.static_embedder import write_embedder
from tests.support.teacher_server import TeacherServer
from tests.test_corpus_loop import loop_data


def planted(root: Path, documents: int) -> Path:
    """A set in the layout of people's sets; each query is words of its document."""
    folder = root / "data" / "xquad_en"
    folder.mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": note(n)} for n in range(documents)]
    queries = [{"_id": f"q{n}", "text": " ".join(note(n).split()[4:9])} for n in range(documents)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(documents))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return root / "data"


def test_a_part_of_a_set_keeps_the_queries_that_it_answers(tmp_path: Path) -> None:
    data = planted(tmp_path, 20)
    corpus, folder = people(data, "xquad_en", tmp_path / "out", 8)
    documents = [json.loads(line) for line in corpus.read_text().splitlines()]
    queries = [json.loads(line)["_id"] for line in (folder / "queries.jsonl").read_text().splitlines()]
    assert len(documents) == len(queries) == 8
    assert {one["id"][1:] for one in documents} == {one[1:] for one in queries}
    assert len((folder / "qrels" / "test.tsv").read_text().splitlines()) == 9
    everything, _ = people(data, "xquad_en", tmp_path / "all", None)
    assert len(everything.read_text().splitlines()) == 20


def test_arms_differ_in_what_they_are_named_for(tmp_path: Path) -> None:
    recipe = load_recipe("own_corpus")
    made = {name: arm(recipe, name, 7, tmp_path / "documents.jsonl", 50) for name in ARMS}
    graphs = {name: set(one.graph()) for name, one in made.items()}
    assert graphs["mined"] - graphs["plain"] == {"mined_negatives"}
    assert {"senior_model", "revisor_model", "mined_negatives"} <= graphs["loop"]
    assert not {"junior_model", "revised_data"} & graphs["mined"]
    assert made["plain"].seed_data.rows.grounded == made["mined"].seed_data.rows.grounded == 50
    senior = made["loop"].senior_data
    assert senior is not None
    assert senior.rows.grounded == 50
    assert made["loop"].seed_data == recipe.seed_data
    assert {one.seed for one in made.values()} == {7}


def test_agreement_is_a_rank_correlation_over_models() -> None:
    scores = pl.DataFrame(
        {"model": list("abcabc"), "task": ["human"] * 3 + ["own"] * 3, "score": [0.1, 0.2, 0.3, 0.5, 0.6, 0.9]}
    )
    assert agreement(scores, "human", "own") == {"spearman": 1.0, "p": 0.0, "models": 3}
    assert agreement(scores.filter(pl.col("model") != "c"), "human", "own") is None, "two models have no rank"


@pytest.mark.faults
def test_all_of_it_at_a_tiny_size(tmp_path: Path) -> None:
    data = planted(tmp_path, 30)
    home = tmp_path / "home"
    corpus, folder = people(data, "xquad_en", tmp_path / "out", None)
    embedder = write_embedder(tmp_path / "embedder")
    with TeacherServer(reading()) as server:
        recipe_data = loop_data(server.url, tmp_path)
        recipe_data["mined_negatives"] = {
            "embedder": {"model": embedder},
            "task_types": ["grounded"],
            "sampling": {"temperature": 0.0},
        }
        recipe_data["embedding_model"] |= {"base": embedder, "epochs": 2, "average_last": 1}
        recipe_data["own_evaluation"] = {"rows": 4, "sampling": {"temperature": 1.0}}
        recipe = parse_recipe(recipe_data, RECIPES / "own_loop.yaml")
        found = measure(recipe, home, corpus, folder, [1], 16, ProgressLines())
    assert found["errors"] == []
    assert set(found["scores"]) == {"xquad_en", "own_evaluation"}
    assert set(found["scores"]["xquad_en"]) == {"base", "plain 1", "mined 1", "loop 1"}
    assert set(found["differences"]) == {
        "loop - base", "loop - plain", "loop - mined", "mined - base", "mined - plain", "plain - base",
    }  # fmt: skip
    for value, low, high in found["differences"].values():
        assert low <= value <= high
    assert found["agreement"]["models"] == 4
    json.dumps(found, allow_nan=False)
