"""Families of generators on a real vLLM, in process and as a server: the prompt's tokens, the end that was taught, adapters.

Tokenizers and configurations are those of `tests/support/families.py`; what they are to read is settled there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from test_families import ANSWERS, PROMPTS, ROWS, expected
from test_workers_text import silent, training_job

from resources.compute.generator import ModelSource, generate
from resources.compute.runner import Runner
from speed_assets.recipe import Sampling, load_recipe
from speed_assets.workers import sft
from tests.support.families import BY_NAME, write_family

RECIPE = load_recipe("offline")
ORIGIN = {"base": "tiny", "revision": None, "digest": "0" * 64}
LORA = {"r": 16, "alpha": 32, "dropout": 0.0}


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Runner]]:
    engines = ("vllm", "vllm_server", "transformers")
    runners = {engine: Runner(tmp_path_factory.mktemp("home"), threads=2, warm=False) for engine in engines}
    yield runners
    for runner in runners.values():
        runner.close()


@pytest.mark.parametrize(
    ("name", "engines", "lora"),
    [
        ("llama-3-instruct", ("vllm", "vllm_server"), LORA),
        ("qwen-2.5-instruct", ("vllm",), LORA),
        ("mistral", ("vllm",), None),
    ],
)
def test_vllm_reads_and_stops_as_it_was_trained(
    name: str, engines: tuple[str, ...], lora: dict[str, float] | None, runners: dict[str, Runner], tmp_path: Path
) -> None:
    family = BY_NAME[name]
    base = write_family(family, tmp_path / "base")
    rate = 1e-2 if lora else 3e-3
    params = training_job(base, tmp_path / "sft", ROWS, max_length=None, epochs=20, learning_rate=rate, lora=lora)
    sft.run({**params, "origin": ORIGIN}, silent)
    out = Path(params["out"])
    source = ModelSource(base, None, str(out / "adapter")) if lora else ModelSource(str(out / "model"), None, None)
    prompts = pl.DataFrame(
        [{"row_id": word, "candidate": 0, "prompt": prompt, "max_new_tokens": 20} for word, prompt in PROMPTS.items()]
    )

    def answers(engine: str, source: ModelSource, rows: pl.DataFrame = prompts) -> pl.DataFrame:
        settings = RECIPE.generator.model_copy(update={"engine": engine, "batch_rows": 8})
        folder = tmp_path / f"{engine}-{len(list(tmp_path.iterdir()))}"
        runtime = RECIPE.runtime.model_copy(update={"engine_restarts": 0})
        sampling = Sampling(temperature=0.0, max_new_tokens=200)
        return generate(runners[engine], settings, runtime, source, rows, sampling, 1, folder)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    lengths = [len(expected(family, tokenizer, prompt)) for prompt in PROMPTS.values()]
    for engine in (*engines, "transformers"):
        told = answers(engine, source)
        assert told["prompt_tokens"].to_list() == lengths
        found = {word: json.loads(output) for word, output in told.select("row_id", "output").iter_rows()}
        assert found == {word: {"answer": answer} for word, answer in ANSWERS.items()}, engine
        assert told["finished"].all()
        short = answers(engine, source, prompts.with_columns(max_new_tokens=pl.lit(3)))
        assert set(short["output_tokens"]) == {3}
        assert not short["finished"].any()
