"""A model that wants to write nothing but new lines, held to a schema: it ends, and says what the schema asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch  # noqa: TID253 - a model is made here
from transformers import AutoTokenizer, PhiConfig, PhiForCausalLM  # noqa: TID253 - a model is made here

from resources.compute.generator import ModelSource, generate
from resources.compute.runner import Runner
from speed_assets.domain.prompts import schema_for
from speed_assets.recipe import Sampling, load_recipe
from tests.support.families import LLAMA_3, write_family

RECIPE = load_recipe("offline")
SCHEMA = schema_for("synthesis", "sts")
ROWS = pl.DataFrame({"row_id": ["a", "b", "c"], "candidate": [0, 0, 0], "prompt": ["write", "a", "record"]})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """Weights are drawn; the bias of the output layer says new line first, closing quote second."""
    folder = tmp_path_factory.mktemp("base")
    write_family(LLAMA_3, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = PhiForCausalLM(config)
    with torch.no_grad():
        for text, bias in (("\n", 40.0), ('"', 20.0)):
            (token,) = tokenizer.encode(text, add_special_tokens=False)
            model.lm_head.bias[token] = bias
    model.save_pretrained(folder)
    return ModelSource(str(folder), None, None)


@pytest.fixture(scope="module", params=["vllm", "vllm_server"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Runner]]:
    runner = Runner(tmp_path_factory.mktemp("home"), threads=2, warm=False)
    yield request.param, runner
    runner.close()


def test_a_loop_of_white_space_ends(engine: tuple[str, Runner], base: ModelSource, tmp_path: Path) -> None:
    name, runner = engine

    def outputs(whitespace_max: int | None) -> pl.DataFrame:
        settings = RECIPE.generator.model_copy(
            update={
                "engine": name,
                "structured": True,
                "batch_rows": 4,
                "whitespace_max": whitespace_max,
                "chat": "never",
            }
        )
        return generate(
            runner,
            settings,
            RECIPE.runtime,
            base,
            ROWS,
            Sampling(temperature=0.0, max_new_tokens=400),
            1,
            tmp_path / str(whitespace_max),
            None,
            SCHEMA,
        )

    free = outputs(None)
    assert not free["finished"].any(), "without a bound it writes new lines until its tokens are used up"
    assert (free["output_tokens"] == 400).all()
    held = outputs(RECIPE.generator.whitespace_max)
    assert held["finished"].all()
    for output in held["output"]:
        assert set(json.loads(output)) == set(SCHEMA["properties"])
        assert "\n" * 12 in output
        assert "\n" * 13 not in output
