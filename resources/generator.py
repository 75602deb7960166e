"""Generators as an asset sees them: prompts in, raw outputs out, from a worker process of their own.

Belongs here: handing work to the worker. Not here: decoding (`speed_assets/workers/generate.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from resources.runner import Runner
from speed_assets.recipe import Generator as GeneratorSettings
from speed_assets.recipe import Sampling


def generate(
    runner: Runner,
    settings: GeneratorSettings,
    model: str,
    prompts: pl.DataFrame,
    sampling: Sampling,
    seed: int,
    scratch: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> pl.DataFrame:
    """Answers to `prompts` (row_id, candidate, prompt): adds output, prompt_tokens, output_tokens, finished.

    Finished shards lie in `scratch`, so a killed run goes on where it was. Rows come back in their order.
    """
    if settings.engine != "transformers":
        raise NotImplementedError(
            f"generator.engine={settings.engine} is not available in this version: set generator.engine=transformers"
        )
    folder = scratch / "generate"
    folder.mkdir(parents=True, exist_ok=True)
    prompts.select("row_id", "candidate", "prompt").write_parquet(folder / "prompts.parquet")
    runner.run(
        "generate",
        {
            "model": model,
            "revision": settings.revision,
            "dtype": settings.dtype,
            "prompts": str(folder / "prompts.parquet"),
            "out": str(folder / "outputs.parquet"),
            "journal": str(folder / "journal"),
            "seed": seed,
            "batch_rows": settings.batch_rows,
            **sampling.model_dump(),
        },
        folder,
        progress,
    )
    outputs = pl.read_parquet(folder / "outputs.parquet")
    return prompts.join(outputs, on=["row_id", "candidate"], how="left", maintain_order="left", validate="1:1")
