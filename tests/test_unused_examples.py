"""Examples that no stage uses: what plan and doctor say of them, and when they refuse the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resources.inputs.unused_examples import example_use, example_warnings
from speed_assets.orchestration.doctor import input_probes
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Recipe, RecipeError
from tests.support.reading_teacher import write_corpus
from tests.test_corpus_loop import recipe_of
from tests.test_examples import URL, own_file, passage, query, with_own

HOSTED = "https://api.example.com/v1"


def rows_of(folder: Path, rows: list[dict[str, Any]]) -> str:
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def recipe(folder: Path, file: str, endpoint: str = URL, **more: Any) -> Recipe:
    write_corpus(folder / "corpus", 2)
    return with_own(recipe_of(URL, folder), file, endpoint, **more)


def pairs(*task_types: str | None) -> list[dict[str, Any]]:
    return [
        {"query": query(500 + n), "positive": passage(500 + n), "task_type": kind} for n, kind in enumerate(task_types)
    ]


def test_examples_that_are_all_used_need_no_words(tmp_path: Path) -> None:
    rows = [*pairs(None, "grounded"), {"query": "where is the ladder"}]
    assert example_warnings(recipe(tmp_path, rows_of(tmp_path, rows))) == []


def test_task_types_that_do_not_exist_are_counted_with_the_known_ones(tmp_path: Path) -> None:
    made = recipe(tmp_path, rows_of(tmp_path, pairs("foo", "foo", "bar", None)))
    (line,) = example_warnings(made)
    assert line.startswith("3 examples have a task type that does not exist, foo (2), bar (1): write one of ")
    assert "grounded_sts" in line
    good, warned = input_probes.examples(made)
    assert (good.status, good.line) == ("ok", "1 of 4 rows")
    assert (warned.status, warned.line) == ("warning", line)


def test_a_task_type_that_no_rows_are_asked_of_is_named(tmp_path: Path) -> None:
    made = recipe(tmp_path, rows_of(tmp_path, pairs("retrieval", "retrieval", "sts", None)))
    lines = example_warnings(made)
    assert [line.split(",")[0] for line in lines] == [
        "2 examples are of the task type retrieval",
        "1 examples are of the task type sts",
    ]
    assert all("give them one that it asks for (grounded)" in line for line in lines)


def test_examples_that_lack_a_field_and_are_not_shown_are_of_no_use(tmp_path: Path) -> None:
    rows = [*pairs(None), {"query": "where is the ladder"}, {"positive": "A text."}]
    (line,) = example_warnings(recipe(tmp_path, rows_of(tmp_path, rows)))
    assert line.startswith("1 grounded examples stand in for no row of seed_data, which takes all of query, positive")
    (line,) = example_warnings(recipe(tmp_path, rows_of(tmp_path, rows), HOSTED))
    assert line.startswith("2 grounded examples stand in for no row")
    assert line.endswith("(examples.few_shot, examples.hosted_teachers)")


@pytest.mark.parametrize(
    ("rows", "more", "why"),
    [
        (
            pairs("foo", "foo"),
            {},
            r"no stage uses any of 2 rows: 2 examples have a task type that does not exist, foo \(2\)",
        ),
        (pairs("retrieval"), {}, "1 examples are of the task type retrieval, of which seed_data asks for no rows"),
        ([{"positive": "a"}], {}, "fill these columns"),
        (pairs(None), {"seed_rows": 0, "few_shot": 0}, "raise examples.seed_rows"),
        (
            [{"query": "same text", "positive": "same text"}],
            {},
            r"no rows of their task type \(same_text 1\), row 1 first",
        ),
    ],
)
def test_a_plan_refuses_a_file_of_which_nothing_is_used(
    rows: list[dict[str, Any]], more: dict[str, Any], why: str, tmp_path: Path
) -> None:
    made = recipe(tmp_path, rows_of(tmp_path, rows), **more)
    with pytest.raises(RecipeError, match=why) as caught:
        plan(made, tmp_path / "home")
    (found,) = input_probes.examples(made)
    assert (found.status, found.line) == ("error", str(caught.value))


def test_there_may_be_no_examples(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2)
    assert example_use(recipe_of(URL, tmp_path)) is None
    assert example_warnings(recipe_of(URL, tmp_path)) == []
    use = example_use(recipe(tmp_path, own_file(tmp_path, 3)))
    assert use is not None
    assert (use.rows, use.used, use.complete) == (3, 3, {"grounded": 3})
