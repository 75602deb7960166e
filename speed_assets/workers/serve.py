"""A vLLM server that ends with the process that started it: `python -m speed_assets.workers.serve ARGUMENTS`.

Runs vLLM's OpenAI-compatible server with these arguments. Its starter holds the other end of stdin and makes it lead
a process group; when stdin closes, the server gets SIGTERM, and the group is killed if it does not.

On a CPU, adapters are multiplied by `vllm_on_cpu.py`. vLLM's engine is another process, which finds that module by the
entry point in `vllm_plugin/`.

Belongs here: tying the server's life to its starter's. Not here: arguments (`generate_http.py`).
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from speed_assets.workers.resident import orders
from speed_assets.workers.vllm_on_cpu import SPINS

PLUGIN = Path(__file__).parent / "vllm_plugin"
"""A folder with the metadata of an installed package, which is all that vLLM needs to find a plugin."""

if __name__ == "__main__":
    orders()
    path = [str(PLUGIN), str(PLUGIN.parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    sys.path.insert(0, str(PLUGIN))
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    sys.argv[0] = "vllm"
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
