"""The yardstick of `overhead.py`: `LLM.generate` and nothing else, in a process with vLLM. Speaks JSON lines.

In: the parameters of a generate job. Out: `{"tokens", "seconds"}`, taken around the call of `LLM.generate` alone.
"""

from __future__ import annotations

import json
import os
import sys
import time

import polars as pl

from speed_assets.workers.host import cores, prepare_process


def main() -> None:
    prepare_process(cores())
    answers = os.dup(1)
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams

    from speed_assets.domain.fingerprints import seed_for
    from speed_assets.workers.generate_vllm import engine_arguments
    from speed_assets.workers.jobs import GenerateVllm

    engine = None
    for line in sys.stdin:
        params = json.loads(line)
        engine = engine or LLM(**engine_arguments(GenerateVllm.read(params)))
        rows = pl.read_parquet(params["prompts"])
        sampling = [
            SamplingParams(
                temperature=params["temperature"],
                top_p=params["top_p"],
                max_tokens=params["max_new_tokens"],
                seed=seed_for(params["seed"], "generate", row_id, candidate),
            )
            for row_id, candidate in rows.select("row_id", "candidate").iter_rows()
        ]
        prompts = rows["prompt"].to_list()
        started = time.monotonic()
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.monotonic() - started
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        os.write(answers, (json.dumps({"tokens": tokens, "seconds": seconds}) + "\n").encode())


if __name__ == "__main__":
    main()
