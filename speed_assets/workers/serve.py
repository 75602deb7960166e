"""A vLLM server that ends with the process that started it: `python -m speed_assets.workers.serve ARGUMENTS`.

Runs vLLM's OpenAI-compatible server with these arguments. Its starter holds the other end of stdin and makes it lead
a process group; when stdin closes, the server gets SIGTERM, and the group is killed if it does not.

Belongs here: tying the server's life to its starter's. Not here: arguments (`generate_http.py`).
"""

from __future__ import annotations

import runpy
import sys

from speed_assets.workers.resident import orders

if __name__ == "__main__":
    orders()
    sys.argv[0] = "vllm"
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
