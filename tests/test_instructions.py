"""What stands before a text: chosen as mteb chooses it, and drawn for STS rows by their ids."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import polars as pl
import pytest

from speed_assets.assets import embedding
from speed_assets.domain.instructions import SIMILARITY_WORDINGS, instruction_of, prompt_of, with_document_prompt

PROMPTS = [
    {"query": "query: ", "document": "passage: "},
    {"query": "Instruct: x\nQuery:", "document": ""},
    {"Retrieval": "r: ", "Retrieval-document": "d: ", "STS": "s: ", "document": "text: "},
    {"STSBenchmark": "one: ", "NFCorpus-query": "two: ", "Clustering": "c: ", "query": "q: "},
    {},
]


@pytest.mark.parametrize("prompts", PROMPTS)
def test_prompts_are_chosen_as_mteb_chooses_them(prompts: dict[str, str]) -> None:
    abs_encoder = pytest.importorskip("mteb.models.abs_encoder")
    sides = {None: None, "query": "query", "document": "document"}
    types = pytest.importorskip("mteb.types").PromptType
    kinds = {"STSBenchmark": "STS", "NFCorpus": "Retrieval", "RedditClustering": "Clustering"}
    for (name, kind), side in itertools.product(kinds.items(), sides):
        theirs = abs_encoder.get_prompt(
            prompts, SimpleNamespace(name=name, type=kind), None if side is None else types(side)
        )
        assert prompt_of(prompts, kind, side, name) == (theirs or ""), (name, side)  # type: ignore[arg-type]


def test_the_prompt_of_documents_has_the_name_under_which_it_is_looked_for() -> None:
    assert with_document_prompt({"query": "q", "document": "", "passage": "p"})["document"] == "p"
    assert with_document_prompt({"query": "q", "document": "d", "passage": "p"})["document"] == "d"
    assert with_document_prompt({})["document"] == ""


def test_sts_rows_have_one_of_the_wordings_by_their_id_and_other_rows_their_task() -> None:
    ids = [f"row {n}" for n in range(2000)]
    drawn = [instruction_of("sts", "Arts > Music > Violins", name) for name in ids]
    assert drawn == [instruction_of("sts", "another topic", name) for name in ids]
    counts = Counter(drawn)
    assert set(counts) == set(SIMILARITY_WORDINGS)
    assert min(counts.values()) > 400
    settings = SimpleNamespace(sts_instructions=("Same?",))
    rows = pl.DataFrame({"row_id": ["a", "b"], "task_type": ["sts", "retrieval"], "task": ["Arts > Music", "Find it."]})
    told = embedding._instructed(rows, settings)  # type: ignore[arg-type]
    assert told["task"].to_list() == ["Same?", "Find it."]
    assert "row_id" not in told.columns
