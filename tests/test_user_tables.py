"""Tables of the user: columns that the recipe names, and cells that are lists or no text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.inputs.example_files import examples_digest, read_examples
from resources.inputs.judged_queries import read_judged_queries
from speed_assets.orchestration.doctor import input_probes
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Examples, GivenTriplets, OwnEvaluation, Recipe, RecipeError
from tests.support.given import with_given
from tests.support.tiny import tiny_data, tiny_recipe

Read = Callable[..., Any]


def written(folder: Path, rows: list[dict[str, Any]], name: str = "own.jsonl") -> str:
    file = folder / name
    if name.endswith(".parquet"):
        pl.DataFrame(rows).write_parquet(file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def examples(file: str, **more: Any) -> pl.DataFrame:
    return read_examples(Examples(file=file, **more))


def triplets(file: str, **more: Any) -> pl.DataFrame:
    return read_examples(GivenTriplets(file=file, **more), "given.final_triplets")


def judged(file: str, **more: Any) -> Any:
    return read_judged_queries(OwnEvaluation(rows=0, queries=file, **more))


def recipe_with(file: str, **more: Any) -> Recipe:
    teacher = {**tiny_data()["teacher"], "engine": "openai", "endpoint": "http://127.0.0.1:1/v1"}
    return tiny_recipe(teacher=teacher, examples={"file": file, **more})


@pytest.mark.parametrize(
    ("read", "role", "field"),
    [
        (examples, "positive", "examples.columns.positive"),
        (examples, "task_type", "examples.columns.task_type"),
        (triplets, "negative", "given.final_triplets.columns.negative"),
        (judged, "passage", "own_evaluation.columns.passage"),
    ],
)
def test_a_column_that_the_recipe_names_has_to_be_there(read: Read, role: str, field: str, tmp_path: Path) -> None:
    file = written(tmp_path, [{"question": "a", "positive": "c", "answer": "b"}])
    columns = {"query": "question"}
    read(file, columns=columns)  # columns with their usual names may be missing
    with pytest.raises(RecipeError, match=rf"no column anwser, which {field} names \(it has answer, ") as caught:
        read(file, columns={**columns, role: "anwser"})
    assert "\n" not in str(caught.value)


def test_a_mistyped_column_ends_plan_and_doctor(tmp_path: Path) -> None:
    file = written(tmp_path, [{"query": "a", "answer": "b"}])
    for recipe in (
        recipe_with(file, columns={"positive": "anwser"}),
        with_given(tmp_path, final_triplets={"file": file, "columns": {"positive": "anwser"}}),
    ):
        with pytest.raises(RecipeError, match="no column anwser"):
            plan(recipe, tmp_path / "home")
        (found,) = (
            [*input_probes.examples(recipe), *input_probes.given_rows(recipe)]
            if recipe.given
            else (input_probes.examples(recipe))
        )
        assert (found.status, "no column anwser" in found.line) == ("error", True)


def test_a_recipe_that_states_every_column_is_the_same(tmp_path: Path) -> None:
    """What `speed run --set` and rehearsals read is a dump, which states the usual names, too."""
    recipe = recipe_with(written(tmp_path, [{"query": "a", "positive": "b", "negative": "c"}]))
    again = Recipe.model_validate(recipe.model_dump())
    assert again.examples is not None
    assert read_examples(again.examples)["positive"].to_list() == ["b"]


@pytest.mark.parametrize("name", ["own.jsonl", "own.parquet"])
@pytest.mark.parametrize("read", [examples, triplets])
def test_a_list_of_positives_gives_a_row_each(read: Read, name: str, tmp_path: Path) -> None:
    rows = [{"query": "q", "positive": ["one", " two ", "", None]}, {"query": "r", "positive": None}]
    found = read(written(tmp_path, rows, name))
    assert found.select("query", "positive", "line").rows() == [("q", "one", 1), ("q", "two", 1), ("r", None, 2)]


def test_texts_next_to_lists_stay_apart(tmp_path: Path) -> None:
    """polars gives all cells of such a column as text, those of lists in the notation of JSON."""
    rows = [{"query": "q", "positive": "[1] is a text"}, {"query": "r", "positive": ["one", "two"]}]
    assert examples(written(tmp_path, rows))["positive"].to_list() == ["[1] is a text", "one", "two"]


@pytest.mark.parametrize("read", [examples, triplets])
@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("own.jsonl", {"query": ["a"], "positive": "b"}, "column query holds a list, and has to be one text"),
        ("own.jsonl", {"query": "a", "positive": {"text": "b"}}, "column positive holds an object"),
        (
            "own.jsonl",
            {"query": "a", "positive": [1.5, 2.5]},
            "column positive holds a list of other things than texts",
        ),
        ("own.jsonl", {"query": "a", "positive": True}, "column positive holds true or false"),
        ("own.jsonl", {"query": "a", "negative": [["b"]]}, "column negative holds a list of other things"),
        ("own.parquet", {"query": "a", "positive": b"b"}, "column positive holds bytes"),
    ],
)
def test_other_values_are_refused_with_their_row(
    read: Read, name: str, row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good = {key: type(value)() if key != "query" else value for key, value in row.items()}
    with pytest.raises(RecipeError, match=message) as caught:
        read(written(tmp_path, [row, good], name))
    assert f"{name}: row 1, " in str(caught.value)


def test_a_number_is_its_digits(tmp_path: Path) -> None:
    assert examples(written(tmp_path, [{"query": 12, "positive": 0.5}]))["positive"].to_list() == ["0.5"]


def test_lists_of_positives_are_read_otherwise_and_so_another_input(tmp_path: Path) -> None:
    section = Examples(file=written(tmp_path, [{"query": "q", "positive": ["a"]}]))
    other = Examples(file=section.file, columns={"positive": "other", "query": "query"})
    assert examples_digest(section) != examples_digest(Examples(file=section.file, columns={"positive": "query"}))
    with pytest.raises(RecipeError, match="no column other"):
        examples_digest(other)


def test_judged_queries_may_have_lists_of_what_answers_them(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "document": ["d1", "d2"], "passage": None},
        {"query": "r", "document": None, "passage": ["one", "two"]},
    ]
    found = judged(written(tmp_path, rows))
    assert [document for _, document, _ in found.judgements[:2]] == ["d1", "d2"]
    assert list(found.texts.values()) == ["one", "two"]
    assert len(found.judgements) == 4
    with pytest.raises(RecipeError, match="row 1, column query holds a list"):
        judged(written(tmp_path, [{"query": ["q"]}]))
    with pytest.raises(RecipeError, match="row 1, column passage holds bytes"):
        judged(written(tmp_path, [{"query": "q", "passage": b"x"}], "own.parquet"))
