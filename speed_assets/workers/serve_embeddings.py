"""A release's model over HTTP on loopback: `python -m speed_assets.workers.serve_embeddings FOLDER NAME PORT`.

Answers `POST /v1/embeddings` as OpenAI's API does, and `GET /v1/models` and `/health`. A text is embedded as it was sent, unless
`input_type` (`query` or `document`) asks for the prompt of that side. Requests are embedded one after the other.

Belongs here: HTTP. Not here: the model (`served_model.py`), checking a server (`resources/releases/served.py`).
"""

from __future__ import annotations

import base64
import socket
import sys
from functools import partial
from typing import Any, Literal

import anyio.to_thread
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from speed_assets.workers.host import cores, prepare_process

HOST = "127.0.0.1"
TEXTS_MAX = 2048
"""Texts of a request at most, as OpenAI's API has it."""
BODY_MAX = 32_000_000
"""Bytes of a request at most (ours)."""
BATCH = 32
"""Texts embedded at once (ours)."""


class Refused(Exception):
    """A request that is not answered: status, message and OpenAI's code."""

    def __init__(self, status: int, message: str, code: str = "invalid_request_error") -> None:
        self.status, self.code = status, code
        super().__init__(message)


class Asked(BaseModel):
    """A request for embeddings."""

    model_config = ConfigDict(extra="ignore")
    input: str | list[str]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    input_type: Literal["query", "document"] | None = None
    """As in the APIs of Cohere, Voyage and NVIDIA: which prompt is put before the texts; none without it."""
    task: str | None = None
    """What the instruction of a model names that has one."""


def application(model: Any, name: str) -> Starlette:
    """The server of one model.

    Args:
        model: a `ServedModel`.
        name: what `/v1/models` calls it.
    """
    limiter = anyio.CapacityLimiter(1)

    async def embeddings(request: Request) -> JSONResponse:
        try:
            asked = _asked(await _body(request), name, model.width)
            answer = await anyio.to_thread.run_sync(partial(_answer, model, name, asked), limiter=limiter)
        except Refused as refused:
            error = {"message": str(refused), "type": refused.code, "param": None, "code": refused.code}
            return JSONResponse({"error": error}, refused.status)
        return JSONResponse(answer)

    async def models(_request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "speed"}]})

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "model": name, "dimensions": model.width})

    return Starlette(
        routes=[
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        # A page in a browser may reach loopback under a name of its own; such names are refused.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_MAX:
            raise Refused(413, f"a request has {BODY_MAX:,} bytes at most: send fewer texts")
        parts.append(part)
    return b"".join(parts)


def _asked(body: bytes, name: str, width: int) -> Asked:
    """The request, checked. Raises Refused."""
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1])) or "body"
        hint = "; send texts, not tokens" if where == "input" else ""
        raise Refused(400, f"{where}: {first['msg']}{hint}") from None
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if not 1 <= len(texts) <= TEXTS_MAX:
        raise Refused(400, f"input: {len(texts)} texts; send 1 to {TEXTS_MAX}")
    if not all(texts):
        raise Refused(400, "input: a text is empty")
    if asked.model not in (None, name):
        raise Refused(404, f"this server has the model {name} only (GET /v1/models)", "model_not_found")
    if asked.dimensions not in (None, width):
        raise Refused(400, f"dimensions: this model has {width}, and was not trained to be cut")
    return asked


def _answer(model: Any, name: str, asked: Asked) -> dict[str, Any]:
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    shown = model.shown(texts, asked.input_type, asked.task) if asked.input_type else texts
    vectors = model.encode(shown, BATCH)
    data = [
        {
            "object": "embedding",
            "index": number,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if asked.encoding_format == "base64"
            else vector.tolist(),
        }
        for number, vector in enumerate(vectors)
    ]
    tokens = model.tokens(shown)
    return {
        "object": "list",
        "data": data,
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def main() -> None:
    """Serve the model that the command line names, until a signal ends it.

    Raises:
        SystemExit: With status 2, the port cannot be used.
    """
    folder, name, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        print(f"error: port {port} cannot be used ({error.strerror}): name a free one with --port", file=sys.stderr)
        raise SystemExit(2) from None
    prepare_process(cores())
    from speed_assets.workers.served_model import ServedModel

    server = uvicorn.Server(uvicorn.Config(application(ServedModel(folder), name), log_level="warning", lifespan="off"))
    address = f"http://{HOST}:{listener.getsockname()[1]}/v1"
    print(f"{name} is served at {address}/embeddings; Ctrl-C ends it", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(0) from None
