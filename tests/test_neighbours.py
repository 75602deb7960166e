"""Rows by meaning: twins, evaluation texts said in other words, and negatives mined from other rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets import embedding
from speed_assets.assets.negatives import of_other_documents
from speed_assets.assets.triplets import filtered
from speed_assets.domain.near_duplicates import repeats_by_pairs
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import RECIPES, FinalTriplets, Recipe, RecipeError, parse_recipe
from speed_assets.workers import mine_negatives, similarities
from tests.support.static_embedder import write_embedder
from tests.support.tiny import tiny_data, tiny_recipe

ROWS = pl.DataFrame(
    [
        ("r0", "retrieval", "who mends old clocks", "a workshop for clocks and watches", "clocks of the sea"),
        ("r1", "retrieval", "old clocks, who mends", "watches and clocks: a workshop", "the price of bread"),
        ("r2", "retrieval", "how is rye bread baked", "an oven, rye flour and a day", "an oven of rye flour"),
        ("r3", "matching_short", "boats for a calm lake", "rowing on lakes", None),
    ],
    schema=["row_id", "task_type", "query", "positive", "negative"],
    orient="row",
).with_columns(task=pl.lit("Given a question, find an answer."))


def silent(_done: int, _total: int, _note: str) -> None:
    pass


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_embedder(tmp_path_factory.mktemp("embedder"))


def rows_from(worker: Any, embedder: str, rows: pl.DataFrame, folder: Path, **params: Any) -> pl.DataFrame:
    rows.write_parquet(folder / "rows.parquet")
    files = {"rows": str(folder / "rows.parquet"), "out": str(folder / "out.parquet")}
    worker.run({"model": embedder, "batch_size": 8, **files, **params}, silent)
    return pl.read_parquet(folder / "out.parquet")


def measure(embedder: str, rows: pl.DataFrame, folder: Path, texts: list[str] | None) -> pl.DataFrame:
    file = folder / "texts.parquet"
    pl.DataFrame({"task": [f"task {i}" for i in range(len(texts or []))], "text": texts or []}).write_parquet(file)
    return rows_from(
        similarities,
        embedder,
        rows,
        folder,
        evaluation=None if texts is None else str(file),
        twin_min=0.6,
        twins_max=100,
        twins=str(folder / "twins.parquet"),
    )


def test_twins_and_evaluation_texts_are_found_in_other_order(embedder: str, tmp_path: Path) -> None:
    near = measure(embedder, ROWS, tmp_path, ["a day, rye flour and an oven", "nothing of the kind"])
    assert near["row_id"].to_list() == ROWS["row_id"].to_list()
    assert pl.read_parquet(tmp_path / "twins.parquet").select("a", "b").rows() == [(0, 1)]
    assert near["evaluation"][2] == "task 0"
    assert near["evaluation_similarity"][2] > 0.7
    assert max(near["evaluation_similarity"].gather([0, 1, 3])) < 0.7
    assert near["negative_similarity"].is_null().to_list() == [False, False, False, True]
    without = measure(embedder, ROWS, tmp_path, None)
    assert without["evaluation"].null_count() == ROWS.height
    assert measure(embedder, ROWS.clear(), tmp_path, ["some text"]).is_empty()


def test_what_is_too_near_goes_to_the_quarantine_with_its_reason(embedder: str, tmp_path: Path) -> None:
    near = measure(embedder, ROWS, tmp_path, ["a day, rye flour and an oven"])
    rows = ROWS.with_columns(
        near["evaluation_similarity"], near["evaluation"], topic=pl.lit("t"), task=pl.lit("t"), place=pl.int_range(4)
    )
    section = FinalTriplets.model_validate(
        {"near_duplicates": {"semantic": 0.65}, "contamination": {"similarity": 0.7}}
    )
    funnel = filtered(rows, section, {}, 1, twins=pl.read_parquet(tmp_path / "twins.parquet"))
    assert sorted(funnel.quarantine.select("row_id", "reason", "detail").rows()) == [
        ("r1", "near_duplicate_semantic", "r0"),
        ("r2", "contamination_similar", "task 0"),
    ]
    assert funnel.rows["row_id"].to_list() == ["r0", "r3"]


def test_a_row_goes_only_for_resembling_one_that_stays() -> None:
    rows = pl.DataFrame({"row_id": ["a", "b", "c"], "quality": [3.0, 2.0, 1.0], "place": [5, 7, 9]})
    chain = pl.DataFrame({"a": [5, 7, 1], "b": [7, 9, 5]})
    assert repeats_by_pairs(rows, chain).rows() == [("b", "a")], (
        "c resembles b alone, and b is gone; place 1 is not there"
    )


def test_mined_negatives_are_others_positives_below_the_margin(embedder: str, tmp_path: Path) -> None:
    pairs = pl.concat(
        [ROWS.with_columns(task_type=pl.lit("matching_short")), ROWS.with_columns(row_id="row_id" + pl.lit("x"))]
    )
    mined = rows_from(mine_negatives, embedder, pairs, tmp_path, per_row=1, rank_min=0, relative_margin=0.05)
    own = dict(pairs.select("row_id", "positive").iter_rows())
    kind = dict(pairs.select("row_id", "task_type").iter_rows())
    positives = {name: set(pairs.filter(task_type=name)["positive"]) for name in set(pairs["task_type"])}
    assert mined.height >= 3
    for row_id, negative, right, wrong in mined.iter_rows():
        assert negative != own[row_id]
        assert negative in positives[kind[row_id]]
        assert wrong <= 0.95 * right + 1e-6


def with_prompts(embedder: str, folder: Path, prompts: dict[str, str], default: str | None = None) -> str:
    """The same model, which says what stands before its texts."""
    model = SentenceTransformer(embedder, device="cpu")
    model.prompts, model.default_prompt_name = prompts, default
    model.save(str(folder))
    return str(folder)


def spy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model reads from now on."""
    read: list[str] = []
    encode = SentenceTransformer.encode

    def kept(self: SentenceTransformer, inputs: list[str], **how: Any) -> Any:
        assert not any(self.prompts.values())
        assert self.default_prompt_name is None
        read.extend(inputs)
        return encode(self, inputs, **how)

    monkeypatch.setattr(SentenceTransformer, "encode", kept)
    return read


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document", "alike"),
    [
        ({"query": "query: ", "passage": "passage: "}, None, "query: ", "passage: ", ""),
        ({"query": "query: ", "document": "text: ", "STS": "same: "}, None, "query: ", "text: ", "same: "),
        ({"all": "each: "}, "all", "each: ", "each: ", "each: "),
        (
            {"instruction": "Instruct: {task}\nQuery: ", "query": "", "document": ""},
            None,
            "Instruct: Given a question, find an answer.\nQuery: ",
            "",
            "Instruct: ",
        ),
    ],
)
def test_texts_have_the_models_own_prompts(
    embedder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompts: dict[str, str],
    default: str | None,
    query: str,
    document: str,
    alike: str,
) -> None:
    prompted = with_prompts(embedder, tmp_path / "model", prompts, default)
    read = spy(monkeypatch)
    near = measure(prompted, ROWS, tmp_path, ["a day, rye flour and an oven", ROWS["positive"][0]])
    assert f"{query}who mends old clocks" in read
    assert f"{document}rowing on lakes" in read
    assert f"{document}the price of bread" in read
    assert any(text.startswith(alike) and text.endswith("a day, rye flour and an oven") for text in read)
    assert near["evaluation_similarity"][0] == pytest.approx(1, abs=1e-5), "the same text under the same prompt"
    read.clear()
    pairs = ROWS.with_columns(task_type=pl.lit("retrieval"))
    mined = rows_from(mine_negatives, prompted, pairs, tmp_path, per_row=1, rank_min=0, relative_margin=0.0)
    assert mined.height
    assert set(mined["negative"]) <= set(ROWS["positive"]), "negatives are kept without prompts"
    assert {text for text in read if "old clocks" in text} == {
        f"{query}who mends old clocks",
        f"{query}old clocks, who mends",
    }


# In the graph

CHANGES: dict[str, Any] = {"relative_margin": 0.0, "doubt_margin": 0.9, "doubts_max": 6}


def with_embedder(embedder: str) -> Recipe:
    section = {"embedder": {"model": embedder}, "sampling": {"temperature": 0.0, "max_new_tokens": 60}}
    return tiny_recipe(
        row_scores__embedder={"model": embedder},
        final_triplets__near_duplicates__semantic=0.999,
        final_triplets__contamination__similarity=0.999,
        mined_negatives={**section, **CHANGES},
        embedding_model__distil={"weight": 0.5},
    )


@pytest.mark.faults
def test_matching_rows_are_trained_with_mined_negatives_and_doubts_are_asked(embedder: str, tmp_path: Path) -> None:
    recipe = with_embedder(embedder)
    most = plan(recipe, tmp_path).as_json()["calls"]
    report = runs.run(recipe, tmp_path, select="*embedding_model")
    assert report.errors == []
    artifacts = Artifacts(recipe, Store(tmp_path))
    mined, final = artifacts.get("mined_negatives"), artifacts.get("final_triplets")
    matching = final.table().filter(pl.col("task_type").str.starts_with("matching"))
    assert mined.metadata["asked"] == matching.height == mined.table().height + mined.table("quarantine").height
    assert set(mined.table()["row_id"]) <= set(matching["row_id"])
    assert 0 < mined.metadata["teacher_calls"] <= 2 * CHANGES["doubts_max"]
    plain = recipe.model_copy(update={"embedding_model": recipe.embedding_model.model_copy(update={"distil": None})})
    planned = plan(plain, tmp_path).as_json()
    assert planned["calls"] == 0, "margins are kept: with or without them nothing is asked again"
    assert "embedding_model" in planned["make"]
    assert "mined_negatives" in planned["reuse"]
    assert sum(report.metadata[name].get("teacher_calls") or 0 for name in report.made) <= most
    scores = artifacts.get("row_scores")
    assert scores.metadata["written_negatives"]["compared"] > 0
    assert scores.table()["evaluation_similarity"].null_count() == scores.metadata["unscored"]


def test_reruns_are_trained_on_the_rows_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame([["r", "q", "p", None, "t", "matching_short"]], schema=embedding.TRAINED_ON, orient="row")
    mined = pl.DataFrame({"row_id": ["r"], "negative": ["mined"]})
    more = pl.DataFrame({"row_id": ["r"], "negative": ["another"], "number": [2]})
    tables = {"final_triplets": {"data": rows}, "mined_negatives": {"data": mined, "more_negatives": more}}
    trained: list[pl.DataFrame] = []

    def train(_run: Any, jobs: dict[str, pl.DataFrame], seeds: Any = None) -> dict[str, Any]:
        trained.extend(jobs.values())
        return {name: {} for name in jobs}

    monkeypatch.setattr(embedding, "_train", train)
    run: Any = SimpleNamespace(
        inputs=tables,
        input=lambda name: SimpleNamespace(table=lambda table="data": tables[name].get(table, pl.DataFrame())),
        section=SimpleNamespace(count=1),
        recipe=SimpleNamespace(seed=1, embedding_model=SimpleNamespace(distil=None)),
    )
    embedding.embedding_model(run)
    embedding.embedding_reruns(run)
    model, rerun = trained
    assert model["negative"].to_list() == ["mined"]
    assert rerun.equals(model)
    run.recipe.embedding_model.distil = SimpleNamespace(weight=1.0)
    tables["mined_negatives"]["data"] = mined.with_columns(
        positive_similarity=pl.lit(0.75), negative_similarity=pl.lit(0.5)
    )
    embedding.embedding_model(run)
    assert trained[-1]["margin"].to_list() == [0.25]
    tables["final_triplets"]["data"] = rows.with_columns(negative=pl.lit("its own"))
    embedding.embedding_model(run)
    assert trained[-1]["margin"].to_list() == [None], "nobody has scored that negative"


def test_thresholds_on_meaning_need_an_embedder() -> None:
    for section, field in (("near_duplicates", "semantic"), ("contamination", "similarity")):
        data = tiny_data()
        data["final_triplets"][section][field] = 0.95
        with pytest.raises(RecipeError, match=rf"`row_scores.embedder` is missing: final_triplets.{section}.{field}"):
            parse_recipe(data, RECIPES / "tiny.yaml")


def test_grounded_rows_get_several_negatives_from_all_passages(embedder: str, tmp_path: Path) -> None:
    passages = ["a workshop for clocks", "clocks of the sea", "a price for clocks and bread", "rowing on lakes"]
    pl.DataFrame({"text": passages}).write_parquet(tmp_path / "passages.parquet")
    rows = pl.DataFrame(
        [("r0", "grounded", "a workshop that mends clocks", passages[0], "Given a question, find an answer.")],
        schema=["row_id", "task_type", "query", "positive", "task"],
        orient="row",
    )
    numbers: dict[str, Any] = {"per_row": 2, "rank_min": 0, "relative_margin": 0.05}
    alone = rows_from(mine_negatives, embedder, rows, tmp_path, **numbers)
    assert alone.is_empty(), "no other row has a positive"
    found = rows_from(mine_negatives, embedder, rows, tmp_path, **numbers, passages=str(tmp_path / "passages.parquet"))
    assert set(found["negative"]) < set(passages[1:])
    assert found.height == 2
    assert (found["negative_similarity"] <= 0.95 * found["positive_similarity"]).all()
    assert found["negative_similarity"].is_sorted(descending=True)


def test_a_negative_is_of_another_document() -> None:
    """A query about centroids named a second passage on centroids as its negative, in a run on natural text."""
    passages = pl.DataFrame(
        {"text": ["a", "b", "c", "twice", "twice"], "document_id": ["one", "one", "two", "one", "three"]}
    )
    mined = pl.DataFrame(
        {
            "row_id": ["r", "r", "r", "r", "s"],
            "positive": ["a", "a", "a", "a", "of no passage"],
            "negative": ["b", "c", "twice", "of no passage", "a"],
        }
    )
    kept = of_other_documents(mined, passages)
    assert kept.rows() == [("r", "c"), ("r", "of no passage"), ("s", "a")]


def test_a_training_takes_as_many_negatives_as_a_row_has() -> None:
    from speed_assets.workers.embed import datasets_of
    from tests.support.embedding_jobs import settings_of

    rows = pl.DataFrame(
        {
            "task_type": ["grounded"] * 3, "task": ["Find it."] * 3, "query": ["a", "b", "c"], "positive": ["A", "B", "C"],
            "negative": ["x", "y", None], "negative_2": ["z", None, None],
        }
    )  # fmt: skip
    found = datasets_of(rows, settings_of())
    assert {name: len(data) for name, data in found.items()} == {"grounded-2": 1, "grounded-1": 1, "grounded-0": 1}
    assert found["grounded-2"].column_names == ["query", "positive", "negative", "negative_2", "label"]
    assert len(found["grounded-2"]["label"][0]) == 4
