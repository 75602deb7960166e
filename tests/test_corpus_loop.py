"""From documents to a release: passages, rows written from them, and what a changed document costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.store.artifacts import Artifacts
from resources.store.store import Artifact, Store
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import RECIPES, Recipe, RecipeError, parse_recipe
from tests.support.reading_teacher import note, reading, write_corpus
from tests.support.teacher_server import TeacherServer
from tests.support.tiny import tiny_data

ROWS = {"classification": 0, "retrieval": 24, "sts": 0, "matching_short": 0, "matching_long": 0}
CALLS: dict[str, Any] = {"concurrency_start": 8, "backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 20.0}


@pytest.fixture(scope="module")
def server() -> Iterator[TeacherServer]:
    with TeacherServer(reading()) as server:
        yield server


def own_set(root: Path) -> Path:
    """An evaluation folder as people have them."""
    folder = root / "own_search"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    texts = [f"A text that tells of {word} alone." for word in ("kettles", "ladders", "anchors", "violins")]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{n}", "text": t}) + "\n" for n, t in enumerate(texts))
    )
    queries = [{"_id": f"q{n}", "text": word} for n, word in enumerate(("kettles", "ladders", "anchors"))]
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(3))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def recipe_of(url: str, root: Path, share: float = 1.0, **corpus: Any) -> Recipe:
    """The teacher's rows alone, from the documents below `root`."""
    data = tiny_data()
    data |= {
        "name": "own",
        "row_scores": None,
        "row_verdicts": None,
        "mined_negatives": None,
        "prompts": {"set": "full"},
    }
    data["corpus"] = {"path": str(root / "corpus"), "share": share, "tokens_max": 128, "tokens_min": 16, **corpus}
    data["queries"] = {"personas": ["a caretaker", "an heir"]}
    data["teacher"] = {**data["teacher"], "engine": "openai", "endpoint": url}
    data["calls"] = CALLS
    data["seed_data"]["rows"] = ROWS
    data["final_triplets"] = {"source": "seed_data", "rules": {}}
    data["mteb_scores"] = {"baselines": [], "untrained": True, "bm25": False}
    data["embedding_reruns"] = {"count": 0}
    data["evaluation"] = {"local": [str(own_set(root))]}
    data["own_evaluation"] = {"rows": 6, "sampling": {"temperature": 1.0}}
    data["embedding_model"] |= {"epochs": 2, "average_last": 1}
    return parse_recipe(data, RECIPES / "own.yaml")


def found(recipe: Recipe, home: Path, asset: str, partition: str | None = None) -> Artifact:
    return Artifacts(recipe, Store(home)).get(asset, partition)


def test_the_share_of_rows_from_passages_is_a_number(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2)
    graphs = {}
    for share in (0.0, 0.25, 1.0):
        recipe = recipe_of("http://127.0.0.1:1/v1", tmp_path, share)
        assert (recipe.seed_data.rows.retrieval, recipe.seed_data.rows.grounded) == (24 - 24 * share, 24 * share)
        again = Recipe.model_validate(recipe.model_dump())
        assert again == recipe
        graphs[share] = recipe.graph()
    assert graphs[0.0]["passages"].task_types == ("grounded",), "for the evaluation alone"
    assert graphs[0.25]["seed_data"].task_types == ("retrieval", "grounded")
    assert {"topics", "task_list"} <= set(graphs[0.25])
    assert not {"topics", "task_list"} & set(graphs[1.0]), "nobody needs a topic"
    assert "passages" in graphs[1.0]


def test_no_rows_from_passages_are_none_after_a_dump(tmp_path: Path) -> None:
    """A dump leaves zeros out, and a reader fills in the share where nothing is said."""
    write_corpus(tmp_path / "corpus", 2)
    data = recipe_of("http://127.0.0.1:1/v1", tmp_path, 0.5).model_dump()
    data["seed_data"]["rows"] |= {"retrieval": 24, "grounded": 0}
    data["final_triplets"]["wanted"] = {
        "rows": {**ROWS, "retrieval": 8, "grounded": 0},
        "candidates_max": {**ROWS, "retrieval": 80},
    }
    recipe = Recipe.model_validate(data)
    assert (recipe.seed_data.rows.retrieval, recipe.seed_data.rows.grounded) == (24, 0)
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    assert Recipe.model_validate(recipe.model_dump(mode="json")).digest() == recipe.digest()


def test_sections_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    data = recipe_of("http://127.0.0.1:1/v1", tmp_path).model_dump()
    for change, message in (
        ({"corpus": None}, "`corpus` is missing"),
        ({"corpus": {"path": "x", "tokens_max": 20, "tokens_min": 15}}, "more than half of tokens_max"),
        ({"corpus": {"path": "x", "encoding": "utf-99"}}, "no encoding that Python knows"),
        ({"queries": {"keyword": 0, "question": 0, "how_to": 0, "claim": 0}}, "no kind of query has a weight"),
        (
            {"teacher": {"engine": "microworld", "model": "m"}, "prompts": {"set": "compact"}},
            "a corpus needs a real teacher",
        ),
    ):
        with pytest.raises((RecipeError, ValueError), match=message):
            Recipe.model_validate(data | change)


@pytest.mark.faults
def test_from_documents_to_scores_and_what_a_changed_document_costs(server: TeacherServer, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 24)
    (tmp_path / "corpus" / "copy.md").write_text(note(3))
    (tmp_path / "corpus" / "scan.png").write_bytes(b"x")
    recipe, home = recipe_of(server.url, tmp_path, boilerplate_documents_min=20), tmp_path / "home"
    planned = plan(recipe, home).as_json()
    report = runs.run(recipe, home)
    assert report.errors == []
    passages = found(recipe, home, "passages", "grounded")
    table, aside = passages.table(), passages.table("quarantine")
    assert {"unknown_kind", "duplicate", "boilerplate"} == set(aside["reason"])
    assert aside.filter(reason="unknown_kind")["detail"][0].startswith("scan.png: ")
    assert 0 < table.filter("held_out")["document_id"].n_unique() < 8
    rows = found(recipe, home, "seed_data", "grounded").table()
    assert rows.height == 24
    written_from = table.filter(pl.col("passage_id").is_in(rows["task_id"].implode()))
    assert not written_from["held_out"].any()
    assert set(rows["positive"]) <= set(table["text"]), "the positive is the passage verbatim"
    assert rows["task"].n_unique() > 2
    assert rows["negative"].null_count() == rows.height
    triplets = found(recipe, home, "final_triplets").table()
    assert triplets.height > 12
    scores = found(recipe, home, "mteb_scores").metadata["scores"]["embedding_model"]
    assert set(scores) == {"own_search", "own_evaluation"}
    own_set_before = found(recipe, home, "own_evaluation")
    own = own_set_before.table()
    held_out = set(table.filter("held_out")["passage_id"])
    assert 0 < own.height <= 6
    assert set(own["passage_id"]) <= held_out

    before = len(server.served)
    assert before == planned["calls"]
    assert 24 < before <= 24 + 2 * 6
    changed = table.filter("alignment").sort("passage_id")["document_id"][0]
    path = tmp_path / "corpus" / changed
    path.write_text(path.read_text().replace("before we could", "long before we had to"))
    of_document = rows.join(table.select(task_id="passage_id", of="document_id"), on="task_id").filter(of=changed)
    assert runs.run(recipe, home).errors == []
    assert 0 < len(server.served) - before <= of_document.height + 2
    again = found(recipe, home, "own_evaluation")
    assert again.digest == own_set_before.digest, "other documents leave it as it is"
    later = found(recipe, home, "seed_data", "grounded").table()
    assert later.join(rows, on=["row_id", "query", "positive"], how="semi").height >= 24 - of_document.height - 2

    latest = found(recipe, home, "passages", "grounded").table()
    gone = {text for one in (table, latest) for text in one.filter(document_id=changed)["text"]}
    path.unlink()  # forgotten: no text of it is in what is made next
    assert runs.run(recipe, home).errors == []
    for asset, partition in (("passages", "grounded"), ("seed_data", "grounded"), ("final_triplets", None)):
        texts = found(recipe, home, asset, partition).table().select(pl.selectors.string()).unpivot()["value"]
        assert not gone & set(texts), asset


def loop_data(url: str, root: Path) -> dict[str, Any]:
    """The loop with generators on the documents below `root`, as the data of a recipe."""
    data = tiny_data()
    asked = {"classification": 0, "retrieval": 16, "sts": 0, "matching_short": 0, "matching_long": 0}
    data |= {"name": "own_loop", "row_scores": None, "row_verdicts": None, "mined_negatives": None}
    data["prompts"] = {"set": "compact"}
    data["corpus"] = {"path": str(root / "corpus"), "tokens_max": 96, "tokens_min": 16}
    data["teacher"] = {**data["teacher"], "engine": "openai", "endpoint": url}
    data["calls"] = CALLS
    for section, field in (
        ("seed_data", "rows"),
        ("preference_pairs", "prompts"),
        ("senior_data", "rows"),
        ("revision_data", "rows"),
    ):
        data[section][field] = asked
    data["seed_data"]["rows"] = {**asked, "retrieval": 48}
    data["junior_data"] |= {"prompts": asked, "candidates": 3}
    for section in ("junior_data", "senior_data", "revised_data"):
        data[section]["sampling"]["max_new_tokens"] = 60
    data["junior_model"] |= {"epochs": 10}
    data["preference_pairs"]["rules"] = None
    data["final_triplets"] = {"source": "revised_data", "rules": {"skip": ["noise", "unfinished"]}}
    data["mteb_scores"] = {"baselines": [], "untrained": True, "bm25": False}
    data["embedding_reruns"] = {"count": 0}
    data["evaluation"] = {"local": [str(own_set(root))]}
    return data


@pytest.mark.faults
def test_generators_learn_to_write_queries_for_passages(server: TeacherServer, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 30)
    data = loop_data(server.url, tmp_path)
    recipe, home = parse_recipe(data, RECIPES / "own_loop.yaml"), tmp_path / "home"
    assert runs.run(recipe, home).errors == []
    senior = found(recipe, home, "senior_data", "grounded").table()
    texts = set(found(recipe, home, "passages", "grounded").table()["text"])
    assert senior["valid"].sum() > 0, senior["problem"].to_list()
    assert set(senior["positive"]) <= texts
    revised = found(recipe, home, "revised_data", "grounded").table()
    assert set(revised["positive"]) <= texts
    pairs = found(recipe, home, "preference_pairs", "grounded").table()
    assert pairs.height > 0
