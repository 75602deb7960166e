"""Generates text over HTTP: from a server of this worker's own on loopback, or from any OpenAI-compatible one.

An own server stays loaded between the jobs of a resident worker (`resident.py`) and takes further adapters as it goes.
It listens on loopback with a key drawn for it, and ends with this worker.

Belongs here: the server's life, requests, retries. Not here: rows and their journal (`streaming.py`).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
from transformers import AutoTokenizer

from speed_assets.domain.fingerprints import digest
from speed_assets.workers.adapters import lora_rank
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import GenerateHttp, Params
from speed_assets.workers.journal import Output
from speed_assets.workers.streaming import EngineDied, Request, Stream, held_to

START_SECONDS = 1800
"""Longest that a server may take to load its model."""
REQUEST_SECONDS = 1800
"""Longest that one row may take, waiting in the server's queue included."""
RETRIES = 5
"""Times that a request is sent again after a broken connection or a server's 408, 409, 429 or 5xx."""
REFUSED_MAX = 20
"""Rows refused with none answered before them, after which the job ends: then it is not the rows."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write one output for each row of the table `prompts` (row_id, candidate, prompt, maybe max_new_tokens) to `out`.

    `batch_rows` requests are under way at a time. A row that the server refuses gets an empty output and its words in
    `error`.

    Args:
        params: of a job of kind `GenerateHttp`. The columns of `out` are those of `generate.run`.
        report: gets the progress, in rows.

    Raises:
        EngineDied: the own server ended.
        ValueError: the endpoint does not serve the model.
        openai.APIError: the server stays broken.
    """
    job = GenerateHttp.read(params)
    stream = Stream(job, report)
    if stream.unfinished:
        server = Endpoint(job.endpoint) if job.endpoint else own_server(job)
        model, context = server.model(job)
        tokenizer = AutoTokenizer.from_pretrained(job.model, revision=job.revision, trust_remote_code=False)
        ends = stream.use(tokenizer, context)
        try:
            asyncio.run(_generate(stream, server, model, ends, job))
        except (openai.APIConnectionError, openai.InternalServerError) as error:
            if isinstance(server, Server) and server.ended(20):
                raise EngineDied(f"the vLLM server died (log: {server.log})") from error
            raise
    return {**stream.close(), "engine": f"server at {job.endpoint or 'loopback'}"}


class Endpoint:
    """An OpenAI-compatible server, given by its base URL (with or without `/v1`)."""

    key = "none"

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """The reply to one request, whatever its status."""
        return httpx.post(self.url + path, json=body, headers=self._headers(), timeout=REQUEST_SECONDS)

    def models(self) -> dict[str, dict[str, Any]]:
        """What the server serves, by name."""
        answer = httpx.get(f"{self.url}/v1/models", headers=self._headers(), timeout=60)
        answer.raise_for_status()
        return {entry["id"]: entry for entry in answer.json()["data"]}

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def model(self, job: GenerateHttp) -> tuple[str, int]:
        """(the name under which the job's model is served, its room in tokens); loads the job's adapter where it can.

        Raises:
            ValueError: the server does not serve the model under that name.
        """
        served = self.models()
        name = job.adapter or job.model
        if name not in served and job.adapter:
            self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": name})
            served = self.models()
        if name not in served:
            raise ValueError(
                f"the server at {self.url} serves {', '.join(served) or 'nothing'}, not {name}: serve it under that "
                "name (an adapter needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and the same disk), or leave "
                "generator.endpoint null so that the stage starts a server of its own"
            )
        context = served[name].get("max_model_len") or served.get(job.model, {}).get("max_model_len")
        return name, int(context or job.max_model_length or 2**31)


class Server(Endpoint):
    """vLLM on loopback, in a process group of its own that ends with this process."""

    def __init__(self, python: str, arguments: list[str], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{port}")
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1," + os.environ.get("NO_PROXY", "")
        self.key, self.log = secrets.token_urlsafe(24), log
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "VLLM_API_KEY": self.key,  # not an argument: those are for all to see
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        if not gpu():
            environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
            environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # else a third process for one core
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [python, "-m", "speed_assets.workers.serve", "--host", "127.0.0.1", "--port", str(port), *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def ready(self) -> Server:
        """Wait until it answers.

        Raises:
            RuntimeError: it ended instead, or takes too long.
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.ended():
                raise RuntimeError(f"the vLLM server did not start ({_last_error(self.log)}; log: {self.log})")
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=10).status_code == 200:
                    return self
            time.sleep(0.2)
        self.close()
        raise RuntimeError(f"the vLLM server did not start within {START_SECONDS} s (log: {self.log})")

    def ended(self, patience: float = 0.0) -> bool:
        """Whether the server's process is gone, at the latest after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        return self._process.returncode is not None

    def close(self) -> None:
        """End the server and all that it has started."""
        for stop, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, stop)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["its log is empty"])[-1][-300:]


_RUNNING: dict[str, Server] = {}


@atexit.register
def _close_all() -> None:
    while _RUNNING:
        _RUNNING.popitem()[1].close()


def own_server(job: GenerateHttp) -> Server:
    """The server of a job: the one that runs if it serves, otherwise a new one in its place."""
    assert job.engine_python is not None  # where there is no endpoint
    arguments = server_arguments(job)
    name = digest([job.engine_python, arguments])
    if name not in _RUNNING or _RUNNING[name].ended():
        _close_all()
        _RUNNING[name] = Server(job.engine_python, arguments, Path(job.folder) / "server.log").ready()
    return _RUNNING[name]


def server_arguments(job: GenerateHttp) -> list[str]:
    """Arguments of vLLM's server for a job. For those on a CPU see `generate_vllm.ON_CPU`; one process less, too."""
    arguments = {
        "--model": job.model,
        "--served-model-name": job.model,
        "--dtype": job.dtype,
        "--max-num-seqs": job.batch_rows,
        "--revision": job.revision,
        "--tokenizer-revision": job.revision,
        "--max-model-len": job.max_model_length,
        "--generation-config": "vllm",  # no sampling but ours
    }
    flat = [str(part) for pair in arguments.items() if pair[1] is not None for part in pair]
    if job.adapter:
        flat += ["--enable-lora", "--max-loras", "1", "--max-cpu-loras", "4"]
        flat += ["--max-lora-rank", str(lora_rank(job.adapter))]
    if gpu():
        return [*flat, "--gpu-memory-utilization", str(job.gpu_memory_share)]
    return [*flat, "--enforce-eager", "--no-enable-chunked-prefill", "--distributed-executor-backend", "uni"]


def gpu() -> bool:
    """Whether the machine has an NVIDIA card, found without the engine's own environment."""
    return Path("/dev/nvidiactl").exists()


async def _generate(stream: Stream, server: Endpoint, model: str, ends: Sequence[int], job: GenerateHttp) -> None:
    refused = 0

    async def work(client: openai.AsyncOpenAI, waiting: Iterator[Request]) -> None:
        nonlocal refused
        for request in waiting:
            try:
                output = await _ask(client, model, request, ends, job)
                refused = -1
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                words = " ".join(str(error.message).split())[:500]
                output = Output(request.position, "", len(request.ids), 0, False, f"refused by the server: {words}")
                if refused >= 0:
                    refused += 1
                    if refused > REFUSED_MAX:
                        raise ValueError(f"{server.url} refuses every row: {words}") from error
            stream.finish([output])

    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key=server.key,
        max_retries=RETRIES,
        timeout=REQUEST_SECONDS,
        http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),  # rows go to this server and no other
    ) as client:
        for chunks in stream.groups():
            waiting = (request for chunk in chunks for request in chunk)
            await asyncio.gather(*(work(client, waiting) for _ in range(job.batch_rows)))


async def _ask(
    client: openai.AsyncOpenAI, model: str, request: Request, ends: Sequence[int], job: GenerateHttp
) -> Output:
    schema = job.schema
    form: dict[str, Any] = {}
    if schema and job.endpoint:
        form = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "record", "schema": schema, "strict": True},
            }
        }
    elif schema:  # our own server is a vLLM
        form = {"structured_outputs": held_to(schema, job.whitespace_max)}
    answer = await client.completions.create(
        model=model,
        prompt=request.ids,
        max_tokens=request.limit,
        temperature=job.temperature,
        top_p=job.top_p,
        seed=request.seed,
        # vLLM's own field: another server ignores it, and stops at the end tokens of the model's files.
        extra_body={"stop_token_ids": list(ends), **form},
    )
    choice, usage = answer.choices[0], answer.usage
    return Output(
        position=request.position,
        output=choice.text,
        prompt_tokens=len(request.ids),
        output_tokens=usage.completion_tokens if usage else 0,
        finished=choice.finish_reason == "stop",
    )
