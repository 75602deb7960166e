"""Scores of rows: a model's least likely token, and models of other rows that expose what does not fit."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from speed_assets.assets import row_scores as stage
from speed_assets.assets.triplets import scored
from speed_assets.microworld import toy_language as lang
from speed_assets.microworld.toy_records import TaskRequest, write_record
from speed_assets.recipe import RECIPES, RecipeError, RowScores, parse_recipe
from speed_assets.workers import consistency, likelihood
from tests.support.tiny import tiny_data
from tests.support.tiny_text import CONTEXT, write_model


def silent(_done: int, _total: int, _note: str) -> None:
    pass


# Likelihood

RECORDS = ['{"a": "oboe"}', '{"a": "an oboe, and a longer text"}', '{"a": ""}', json.dumps({"a": "x" * CONTEXT})]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def read(
    model: str,
    folder: Path,
    records: list[str] = RECORDS,
    batch_rows: int = 2,
    value: int | None = None,
    tokens: int | None = None,
) -> list[float | None]:
    rows = pl.DataFrame({"row_id": [f"r{i}" for i in range(len(records))], "prompt": "write\n", "record": records})
    rows = rows.with_columns(value=pl.lit(value, pl.Int64))
    folder.mkdir(exist_ok=True)
    rows.write_parquet(folder / "rows.parquet")
    params = {
        "model": model,
        "dtype": "float32",
        "rows": str(folder / "rows.parquet"),
        "out": str(folder / "out.parquet"),
        "journal": str(folder / "journal"),
        "batch_rows": batch_rows,
        "tokens": tokens,
    }
    likelihood.run(params, silent)
    out = pl.read_parquet(folder / "out.parquet")
    assert out["row_id"].to_list() == rows["row_id"].to_list()
    return out["least_likely"].to_list()


def test_a_forward_pass_is_cut_by_tokens_and_changes_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [json.dumps({"a": "oboe " * (1 + row * 7 % 5)}) for row in range(20)]
    whole = read(model, tmp_path / "whole", records, batch_rows=20)
    widths: list[tuple[int, int]] = []
    forward = Qwen3ForCausalLM.forward

    def counted(self: Any, input_ids: torch.Tensor, **given: Any) -> Any:
        output = forward(self, input_ids=input_ids, **given)
        widths.append((input_ids.numel(), output.logits.shape[0] * output.logits.shape[1]))
        return output

    monkeypatch.setattr(Qwen3ForCausalLM, "forward", counted)
    monkeypatch.setattr(likelihood, "CHUNK", 5)
    cut = read(model, tmp_path / "cut", records, batch_rows=20, tokens=100)
    assert cut == pytest.approx(whole, abs=2e-4)
    assert len(widths) > 5
    assert all(tokens <= 100 for tokens, _ in widths)
    assert all(kept < tokens for tokens, kept in widths)  # the prompts' logits are not there


def test_the_least_likely_token_of_the_values_is_that_of_the_model(model: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    expected = []
    for record in RECORDS[:2]:
        before, after = tokenizer("write\n")["input_ids"], tokenizer(record)["input_ids"]
        with torch.inference_mode():
            said = weights(torch.tensor([before + after])).logits[0].log_softmax(-1)
        values = range(len('{"a": "'), len(record) - len('"}'))  # a token is a byte here
        expected.append(min(float(said[len(before) + at - 1, after[at]]) for at in values))
    found = read(model, tmp_path)
    assert found[:2] == pytest.approx(expected, abs=1e-3)
    assert found[2:] == [None, None], "nothing said, and more than the model can read"


def test_the_batch_changes_nothing_and_what_is_read_is_not_read_again(model: str, tmp_path: Path) -> None:
    alone = read(model, tmp_path / "alone", batch_rows=1)
    together = read(model, tmp_path / "together", batch_rows=4)
    assert together[:2] == pytest.approx(alone[:2], abs=1e-3)
    (shard,) = (tmp_path / "together" / "journal").glob("*.parquet")
    pl.read_parquet(shard).with_columns(least_likely=pl.lit(-1.0)).write_parquet(shard)
    assert read(model, tmp_path / "together", batch_rows=4) == [-1.0] * 4, "taken from the journal"
    assert read(model, tmp_path / "together", [*RECORDS[:3], '{"a": "z"}'], batch_rows=4) != [-1.0] * 4, "other rows"


def test_parts_of_a_reading_are_the_same_batches_and_share_a_journal(model: str, tmp_path: Path) -> None:
    records = [f'{{"a": "{"oboe " * (row % 5)}{row}"}}' for row in range(23)]
    rows = pl.DataFrame({"row_id": [f"r{row}" for row in range(23)], "prompt": "write\n", "record": records})
    rows = rows.with_columns(value=pl.lit(None, pl.Int64))
    found = {}
    for parts in (1, 2, 3, 50):
        read_rows = []
        for number, part in enumerate(stage._parts(rows, batch_rows=4, parts=parts)):
            part.write_parquet(tmp_path / "rows.parquet")
            params = {"model": model, "dtype": "float32", "rows": str(tmp_path / "rows.parquet"), "batch_rows": 4}
            out = tmp_path / f"{parts}_{number}.parquet"
            likelihood.run({**params, "out": str(out), "journal": str(tmp_path / "journal")}, silent)
            read_rows.append(pl.read_parquet(out))
        found[parts] = pl.concat(read_rows).sort("row_id"), len(read_rows)
        assert len(list((tmp_path / "journal").glob("*.parquet"))) == 6, "the same batches whatever the number of parts"
    assert [count for _, count in found.values()] == [1, 2, 3, 6]
    assert all(table.equals(found[1][0]) for table, _ in found.values())


def test_one_value_is_read_in_its_place(model: str, tmp_path: Path) -> None:
    record = '{"a": "oboe", "b": "a violin"}'
    both = read(model, tmp_path / "both", [record])
    alone = [read(model, tmp_path / str(value), [record], value=value) for value in (0, 1)]
    assert both[0] == pytest.approx(min(alone[0][0], alone[1][0]), abs=1e-4)  # type: ignore[type-var]
    assert alone[0] != alone[1]


# Consistency

ROWS = 1_500
SWAPPED, DOCUMENT_AS_QUERY = range(0, 30), range(30, 60)


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Right retrieval rows, but for some whose positive and negative are swapped, and some without a real query."""
    rng = random.Random(5)
    made = []
    for number in range(ROWS):
        asked = TaskRequest(f"topic {number % 40}", (rng.choice(lang.ASPECTS),))
        query, positive, negative = write_record("retrieval", asked, rng).values()
        if number in SWAPPED:
            positive, negative = negative, positive
        if number in DOCUMENT_AS_QUERY:
            query = lang.write_document(asked.topic, asked.aspects[0], rng)
        made.append((f"r{number}", "retrieval", query, positive, negative))
    return pl.DataFrame(made, schema=["row_id", "task_type", "query", "positive", "negative"], orient="row")


def agreement(rows: pl.DataFrame, folder: Path, **changes: Any) -> pl.DataFrame:
    rows.write_parquet(folder / "rows.parquet")
    params = RowScores().model_dump(exclude={"embedder", "twin_min", "twins_max"}) | {"seed": 1} | changes
    consistency.run(params | {"rows": str(folder / "rows.parquet"), "out": str(folder / "out.parquet")}, silent)
    return pl.read_parquet(folder / "out.parquet")


def test_rows_that_do_not_fit_the_others_score_low(rows: pl.DataFrame, tmp_path: Path) -> None:
    scores = agreement(rows, tmp_path)
    assert scores["row_id"].to_list() == rows["row_id"].to_list()
    swapped, no_query = scores[list(SWAPPED)], scores[list(DOCUMENT_AS_QUERY)]
    right = scores[60:]
    assert (swapped["margin"] < 0).mean() > 0.7  # type: ignore[operator]
    assert (right["margin"] < 0).mean() < 0.15  # type: ignore[operator]
    assert (no_query["role"] < 0.1).mean() > 0.9  # type: ignore[operator]
    assert (right["role"] < 0.1).mean() < 0.03  # type: ignore[operator]


def test_the_same_rows_have_the_same_scores(rows: pl.DataFrame, tmp_path: Path) -> None:
    few = rows.head(100)
    assert agreement(few, tmp_path, epochs=2).equals(agreement(few, tmp_path, epochs=2))


def test_rows_without_a_negative_or_too_few_to_learn_from_are_not_blamed(rows: pl.DataFrame, tmp_path: Path) -> None:
    pairs = rows.head(60).with_columns(task_type=pl.lit("matching_long"), negative=pl.lit(None, pl.String))
    assert agreement(pairs, tmp_path, epochs=2).select("role", "margin").unique().rows() == [(1.0, 1.0)]
    assert agreement(rows.head(3), tmp_path).select("role", "margin").unique().rows() == [(1.0, 1.0)]


# Into the funnel


def test_scores_of_other_rows_are_refused(rows: pl.DataFrame) -> None:
    scores = rows.select("row_id").with_columns(
        least_likely=pl.lit(-1.0),
        swapped=pl.lit(None, pl.Float64),
        role=pl.lit(1.0),
        margin=pl.lit(1.0),
        evaluation_similarity=pl.lit(None, pl.Float64),
        evaluation=pl.lit(None, pl.String),
    )
    together = scored(rows, scores)
    assert together["place"].to_list() == list(range(rows.height))
    assert together["quality"].equals(scores["least_likely"])
    assert "quality" not in scored(rows, scores.with_columns(least_likely=pl.lit(None, pl.Float64))).columns
    with pytest.raises(ValueError, match="materialize row_scores again"):
        scored(rows, scores.reverse())


def test_a_threshold_needs_scores() -> None:
    data = tiny_data()
    del data["row_scores"], data["row_verdicts"]
    data["final_triplets"]["scores"] = {"margin_min": 0.0}
    with pytest.raises(RecipeError, match=r"`row_scores` is missing: final_triplets\.scores\.margin_min asks for it"):
        parse_recipe(data, RECIPES / "tiny.yaml")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (
            "row_verdicts",
            "`row_verdicts` is missing: final_triplets.scores.calibration asks for verdicts of the teacher",
        ),
        ("row_scores", "`row_scores` is missing: row_verdicts reads more of the rows that a score finds suspicious"),
    ],
)
def test_calibration_needs_verdicts_and_verdicts_need_scores(missing: str, words: str) -> None:
    data = tiny_data()
    del data[missing]
    with pytest.raises(RecipeError, match=re.escape(words)):
        parse_recipe(data, RECIPES / "tiny.yaml")
