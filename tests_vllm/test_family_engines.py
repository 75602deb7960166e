"""Families of generators on a real vLLM, in process and as a server: the prompt's tokens, the end that was taught, adapters.

Tokenizers and configurations are those of `tests/support/families.py`; what they are to read is settled there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from test_families import ANSWERS, PAIRS, PROMPTS, ROWS, expected
from test_workers_text import silent, training_job

from resources.compute.generator import ModelSource, generate
from resources.compute.runner import Runner
from speed_assets.recipe import Sampling, load_recipe
from speed_assets.workers import dpo, sft
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
    ("name", "engines", "lora", "preferred"),
    [
        ("llama-3-instruct", ("vllm", "vllm_server"), LORA, False),
        ("qwen-2.5-instruct", ("vllm", "vllm_server"), LORA, True),
        ("mistral", ("vllm", "vllm_server"), None, False),
        ("gemma-2-it", ("vllm", "vllm_server"), LORA, True),
        ("smollm-2-instruct", ("vllm", "vllm_server"), LORA, True),
    ],
)
def test_vllm_reads_and_stops_as_it_was_trained(
    name: str,
    engines: tuple[str, ...],
    lora: dict[str, float] | None,
    preferred: bool,
    runners: dict[str, Runner],
    tmp_path: Path,
) -> None:
    """An adapter, a model of full weights, and one that a preference training has merged its adapter into."""
    family = BY_NAME[name]
    base = write_family(family, tmp_path / "base")
    rate = 1e-2 if lora else 3e-3
    params = training_job(base, tmp_path / "sft", ROWS, max_length=None, epochs=20, learning_rate=rate, lora=lora)
    sft.run({**params, "origin": ORIGIN}, silent)
    out = Path(params["out"])
    source = ModelSource(base, None, str(out / "adapter")) if lora else ModelSource(str(out / "model"), None, None)
    if preferred:
        full = training_job(base, tmp_path / "dpo", PAIRS, max_length=None, beta=0.1, nll_weight=0.0, epochs=0.3)
        full["settings"]["learning_rate"] = 1e-6
        dpo.run({**full, "adapter": str(out / "adapter"), "origin": ORIGIN}, silent)
        source = ModelSource(str(Path(full["out"], "model")), None, None)
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
