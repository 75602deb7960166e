"""Evaluation sets in folders: every task type through mteb, descriptions that are wrong, what the recipe makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from resources.inputs.evaluation_sets import check_folder, local_texts, scored_folders
from resources.inputs.external_digests import evaluation_notes, external_digest, folder_digest
from speed_assets.domain.evaluation_folders import read_description
from speed_assets.microworld.evaluation import TASK_NAMES, evaluation_sets
from speed_assets.recipe import Recipe, RecipeError, load_recipe

mteb = pytest.importorskip("mteb")
from speed_assets.workers import evaluate, task_texts  # noqa: E402
from speed_assets.workers.folder_tasks import local_task  # noqa: E402
from speed_assets.workers.held_out import held_out_tasks  # noqa: E402

ANIMALS = ["the cat sleeps", "a cat eats fish", "the dog barks", "a dog runs fast", "the cow gives milk", "a cow eats"]


def folder(root: Path, files: dict[str, Any], **description: Any) -> Path:
    """A set as a user would write it."""
    path = root / description["name"]
    path.mkdir(parents=True)
    (path / "task.yaml").write_text(yaml.safe_dump(description))
    for name, content in files.items():
        if name.endswith(".parquet"):
            pl.DataFrame(content).write_parquet(path / name)
        elif name.endswith(".jsonl"):
            (path / name).write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            (path / name).write_text(content)
    return path


def sts(root: Path) -> Path:
    rows = [
        (ANIMALS[0], "the cat eats", 4),
        (ANIMALS[0], ANIMALS[2], 1),
        (ANIMALS[2], ANIMALS[2], 5),
        (ANIMALS[3], "x", 0),
    ]
    lines = "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows)
    fields = {"score": "similarity"}
    return folder(
        root,
        {"test.tsv": f"sentence1\tsentence2\tsimilarity\n{lines}"},
        name="Animals",
        type="STS",
        splits={"test": "test.tsv"},
        fields=fields,
    )


def pairs(root: Path) -> Path:
    rows = [
        {"sentence1": a, "sentence2": b, "label": int(a.split()[1] == b.split()[1])} for a in ANIMALS for b in ANIMALS
    ]
    return folder(
        root, {"test.jsonl": rows}, name="SameAnimal", type="PairClassification", splits={"test": "test.jsonl"}
    )


def labelled(root: Path, name: str, kind: str) -> Path:
    rows = {"text": ANIMALS * 4, "label": [text.split()[1] for text in ANIMALS] * 4}
    more: dict[str, Any] = {"samples_per_label": 2} if kind == "Classification" else {}
    files = {"train.parquet": rows, "test.parquet": rows}
    splits = {"train": "train.parquet", "test": "test.parquet"}
    return folder(root, files, name=name, type=kind, splits=splits, experiments=3, **more)


def ranking(root: Path, name: str, kind: str) -> Path:
    files: dict[str, Any] = {
        "corpus.jsonl": [{"id": f"d{i}", "text": text} for i, text in enumerate(ANIMALS)],
        "queries.jsonl": [{"id": 1, "text": "cat"}, {"id": 2, "text": "dog"}, {"id": 3, "text": "never asked"}],
        "qrels.tsv": "query_id\tdocument_id\trelevance\n1\td0\t1\n1\td1\t1\n2\td2\t1\n2\td3\t1\n",
    }
    more: dict[str, Any] = {}
    if kind == "Reranking":
        files["candidates.tsv"] = "query_id\tdocument_id\n" + "".join(f"{q}\td{d}\n" for q in (1, 2) for d in range(6))
        more["candidates"] = "candidates.tsv"
    names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "splits": {"test": "qrels.tsv"}}
    return folder(root, files, name=name, type=kind, **names, **more)


def every_kind(root: Path) -> list[Path]:
    return [
        sts(root),
        pairs(root),
        labelled(root, "WhichAnimal", "Classification"),
        labelled(root, "AnimalClusters", "Clustering"),
        ranking(root, "AnimalSearch", "Retrieval"),
        ranking(root, "AnimalRanks", "Reranking"),
    ]


def scored(paths: list[Path], out: Path, cache: Path) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    params = {
        "models": [],
        "bm25": True,
        "microworld": None,
        "tasks": [],
        "local": [{"path": str(path), "digest": folder_digest(str(path))} for path in paths],
        "out": str(out / "scores.parquet"),
        "samples": str(out / "samples.parquet"),
        "plot": str(out / "scores.png"),
        "cache": str(cache),
        "batch_size": 8,
    }
    result = evaluate.run(params, lambda done, total, note: None)
    return result, pl.read_parquet(params["out"]), pl.read_parquet(params["samples"])


def test_every_kind_of_set_is_scored_by_mteb(tmp_path: Path) -> None:
    paths = every_kind(tmp_path / "sets")
    result, table, samples = scored(paths, tmp_path / "one", tmp_path / "cache")
    assert dict(table.select("task", "metric").rows()) == {
        "Animals": "cosine_spearman",
        "SameAnimal": "max_ap",
        "WhichAnimal": "accuracy",
        "AnimalClusters": "v_measure",
        "AnimalSearch": "ndcg_at_10",
        "AnimalRanks": "map_at_1000",
    }
    scores = result["scores"]["bm25"]
    assert scores["Animals"] == pytest.approx(1), "pairs lie in the order of the words they share"
    assert scores["AnimalSearch"] == pytest.approx(1)
    assert scores["AnimalRanks"] == pytest.approx(1)
    assert scores["SameAnimal"] > 0.9
    assert dict(samples.group_by("task").len().rows()) == {
        "Animals": 4, "SameAnimal": 36, "WhichAnimal": 24, "AnimalClusters": 3, "AnimalSearch": 2, "AnimalRanks": 2,
    }  # fmt: skip
    assert table["samples"].to_list() == [samples.filter(task=task).height for task in table["task"]]

    again, same, _ = scored(paths, tmp_path / "two", tmp_path / "cache")
    assert again["cached"] == 6
    assert same.equals(table)
    with (paths[0] / "test.tsv").open("a") as file:
        file.write("a\tb\t2\n")
    changed, other, _ = scored(paths, tmp_path / "three", tmp_path / "cache")
    assert changed["cached"] == 5
    assert other["dataset_revision"][0] != table["dataset_revision"][0]


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two evaluation sets are called Animals"):
        scored([sts(tmp_path / "a"), sts(tmp_path / "b")], tmp_path, tmp_path / "cache")


def recipe_of(*folders: Path) -> Recipe:
    recipe = load_recipe("offline")
    evaluation = recipe.evaluation.model_copy(update={"local": tuple(map(str, folders))})
    return recipe.model_validate({**recipe.model_dump(), "evaluation": evaluation.model_dump()})


def test_two_sets_of_one_name_are_refused_by_a_plan(tmp_path: Path) -> None:
    first, second = sts(tmp_path / "a"), sts(tmp_path / "b")
    with pytest.raises(RecipeError, match="two evaluation sets are called Animals") as error:
        external_digest(recipe_of(first, second), "evaluation_texts", None)
    assert str(second) in str(error.value)
    toy = ranking(tmp_path, "MicroworldRetrieval", "Retrieval")
    with pytest.raises(RecipeError, match="two evaluation sets are called MicroworldRetrieval"):
        external_digest(recipe_of(toy), "evaluation_texts", None)


def test_the_names_of_the_microworlds_sets_are_known_without_mteb() -> None:
    tasks = held_out_tasks(evaluation_sets(topics=8, rows=12, seed=0))
    assert {task.metadata.name for task in tasks} == set(TASK_NAMES)


def test_candidates_that_point_nowhere_are_refused_by_a_plan(tmp_path: Path) -> None:
    path = ranking(tmp_path, "AnimalRanks", "Reranking")
    assert len(evaluation_notes(recipe_of(path))) == 1
    with (path / "candidates.tsv").open("a") as file:
        file.write("1\td99\n")
    for read in (lambda: local_task(path, "0" * 64), lambda: evaluation_notes(recipe_of(path))):
        with pytest.raises(ValueError, match=r"1 of 13 candidates point nowhere: no document has the id 'd99'"):
            read()


def spoilt(file: str, text: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (path / file).write_text(text)

    return spoil


@pytest.mark.parametrize(
    ("make", "spoil", "message"),
    [
        (sts, spoilt("test.tsv", "sentence1\tsentence2\n"), "test.tsv has no column similarity"),
        (sts, spoilt("test.tsv", "sentence1\tsentence2\tsimilarity\n"), "test.tsv has no rows"),
        (sts, spoilt("test.tsv", "sentence1\tsentence2\tsimilarity\na\tb\tmuch\n"), "score holds something"),
        (sts, spoilt("test.tsv", "sentence1\tsentence2\tsimilarity\na\n"), "rows without sentence2, score"),
        (sts, lambda path: (path / "test.tsv").unlink(), "there is no file test.tsv"),
        (
            pairs,
            spoilt("test.jsonl", '{"sentence1": "a", "sentence2": "b", "label": 2}\n'),
            "label of a pair is 0 or 1",
        ),
        (pairs, spoilt("test.jsonl", "{"), "test.jsonl cannot be read"),
        (
            lambda root: ranking(root, "Search", "Retrieval"),
            spoilt("qrels.tsv", "query_id\tdocument_id\trelevance\n9\td0\t1\n"),
            "no query has the id '9'",
        ),
    ],
)
def test_data_that_do_not_fit_are_named(
    tmp_path: Path, make: Callable[[Path], Path], spoil: Callable[[Path], None], message: str
) -> None:
    path = make(tmp_path)
    local_task(path, "0" * 64)
    spoil(path)
    with pytest.raises(ValueError, match=message) as error:
        local_task(path, "0" * 64)
    assert str(path) in str(error.value)
    with pytest.raises(RecipeError):
        check_folder(str(path), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not valid YAML"),
        ("name: a", "type: Field required"),
        ("{name: a, type: STS, splits: {dev: dev.tsv}}", "splits.test"),
        ("{name: a, type: STS, splits: {test: ../test.tsv}}", "must be in its folder"),
        ("{name: a, type: STS, splits: {test: /etc/passwd}}", "must be in its folder"),
        ("{name: a/b, type: STS, splits: {test: t.tsv}}", "name: String should match"),
        ("{name: a, type: Classification, splits: {test: t.tsv}}", "splits.train"),
        ("{name: a, type: Retrieval, splits: {test: t.tsv}}", "corpus"),
        ("{name: a, type: STS, splits: {test: t.tsv}, corpus: c.jsonl}", "only for ranking"),
        ("{name: a, type: STS, splits: {test: t.tsv}, speed: 9}", "speed: Extra inputs"),
        (
            "{name: a, type: Retrieval, splits: {test: t.tsv}, corpus: c.jsonl, queries: q.jsonl, fields: {corpus.titel: head}}",
            "fields: .*there is no role corpus.titel; known are query_id, .*corpus.title",
        ),
        (
            "{name: a, type: Retrieval, splits: {test: t.tsv}, corpus: c.jsonl, queries: q.jsonl, fields: {corpus: {titel: head}}}",
            "fields: .*there is no role corpus; known are",
        ),
        (
            "{name: a, type: STS, splits: {test: t.tsv}, fields: {scores: s}}",
            "no role scores; known are sentence1, sentence2, score",
        ),
    ],
)
def test_a_wrong_description_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_description(text)


def test_a_recipe_scores_folders_that_describe_a_task_and_refuses_wrong_ones_at_once(tmp_path: Path) -> None:
    described, texts = sts(tmp_path / "sets"), tmp_path / "texts"
    texts.mkdir()
    (texts / "a.tsv").write_text("some text that must not be learned\n")
    assert scored_folders([str(texts), str(described)]) == [described]
    recipe = load_recipe("offline")
    evaluation = recipe.evaluation.model_copy(update={"local": (str(described), str(texts)), "microworld": None})
    recipe = recipe.model_validate({**recipe.model_dump(), "evaluation": evaluation.model_dump()})
    assert len(external_digest(recipe, "evaluation_texts", None)) == 64
    assert "evaluation_texts" in recipe.graph()["mteb_scores"].externals
    (described / "test.tsv").unlink()
    with pytest.raises(RecipeError, match=r"evaluation.local: .*task.yaml names test.tsv, which does not exist"):
        external_digest(recipe, "evaluation_texts", None)
    (described / "task.yaml").write_text("name: x\n")
    with pytest.raises(RecipeError, match=r"task.yaml: type: Field required"):
        external_digest(recipe, "evaluation_texts", None)


def test_the_name_of_a_folder_is_in_the_fingerprints_of_what_names_it(tmp_path: Path) -> None:
    """Scores and the table of contamination on a card call a set by the name of its folder."""
    digests = set()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.tsv").write_text("some text that must not be learned\n")
        recipe = load_recipe("offline")
        evaluation = recipe.evaluation.model_copy(update={"local": (str(tmp_path / name),)})
        digests.add(external_digest(recipe.model_copy(update={"evaluation": evaluation}), "evaluation_texts", None))
    assert len(digests) == 2


def test_folders_of_one_name_are_numbered_and_never_named_by_their_path(tmp_path: Path) -> None:
    folders = [tmp_path / parent / "set" for parent in ("a", "b", "c")]
    for path in folders:
        path.mkdir(parents=True)
        (path / "a.tsv").write_text("some text that must not be learned\n")
    assert list(local_texts(map(str, folders))) == ["set", "set (2)", "set (3)"]


def test_the_texts_of_tasks_are_those_that_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {path.name: local_task(path, "0" * 16) for path in every_kind(tmp_path)}
    found = {name: set(task_texts.texts_of(task)) for name, task in tasks.items()}
    of_type = {tasks[name].metadata.name: texts for name, texts in found.items()}
    assert set(ANIMALS) <= of_type["WhichAnimal"]
    assert set(ANIMALS) <= of_type["SameAnimal"]
    assert {"cat", "dog", *ANIMALS[:4]} <= of_type["AnimalSearch"]
    assert not {ANIMALS[4], ANIMALS[5], "d0"} & of_type["AnimalSearch"], "not judged, or no text"
    search = next(task for task in tasks.values() if task.metadata.name == "AnimalSearch")
    monkeypatch.setattr(task_texts.mteb, "get_benchmark", lambda name: [search])
    out = tmp_path / "texts.parquet"
    task_texts.run({"tasks": ["Animals"], "left_out": [], "out": str(out)}, lambda done, total, note: None)
    assert set(pl.read_parquet(out).rows()) == {("AnimalSearch", text) for text in of_type["AnimalSearch"] if text}
