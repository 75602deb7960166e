"""A teacher call in the words of the chat completions API: bodies, answers, refusals. Pure; online and batch share it.

Belongs here: what is said to a server and how its words are read. Not here: sending (`endpoint.py`,
`provider_batch.py`), the pace of sending (`pacing.py`), reading the model's text (`domain/parsing.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from resources.calls import TeacherAnswer, TeacherRequest
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.recipe import Teacher

PATH = "/chat/completions"
KEY_HEADER = "X-Client-Request-Id"
"""Carries the request's key: for tracing at the server, which may ignore it."""
NO_KEY = "none"
"""Sent where no key is set: the client wants one, and servers without keys do not look."""
ERROR_CHARACTERS = 300
"""A server's words are shortened to this in errors."""
_FINISHED = {
    **dict.fromkeys(("stop", "end_turn", "eos"), True),
    # Mistral says model_length at the end of its context; a filter leaves out the rest of an answer.
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens", "content_filter", "error"), False),
}
"""What a server's `finish_reason` says: the model ended by itself, or was cut off, mostly at the token limit."""
_RETRYABLE = frozenset((408, 409, 429))
_OVERLOADED = frozenset((408, 429, 503, 529))


def chat_body(request: TeacherRequest, structured_output: str) -> dict[str, Any]:
    """The request as a chat completions body.

    `seed` is sent where sampling is random. It does not depend on the endpoint's URL, so a server that honours it
    gives the same answers at another address.
    """
    parameters = request.parameters
    body: dict[str, Any] = {
        "model": request.model,
        "messages": request.messages,
        "temperature": parameters["temperature"],
        "top_p": parameters["top_p"],
        "max_tokens": parameters["max_new_tokens"],
    }
    if parameters["temperature"] > 0:
        # 31 bits: some servers keep seeds in a C int.
        body["seed"] = seed_for(0, "teacher-call", digest(request.named() | {"endpoint": None})) >> 32
    if request.schema and structured_output == "json_schema":
        schema = {"name": "answer", "strict": True, "schema": strict_schema(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.schema and structured_output == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as OpenAI's strict mode takes it (platform.openai.com/docs/guides/structured-outputs).

    An object at the root, no unknown keys, every key required; what was optional may be null instead. Our parsers
    read a list inside an object as the list, and null as absent.

    >>> strict_schema({"type": "array", "items": {"type": "string"}})["required"]
    ['tasks']
    """
    if schema.get("type") != "object":
        schema = {"type": "object", "properties": {"tasks": schema}, "required": ["tasks"]}
    strict: dict[str, Any] = _strict(schema)
    return strict


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("type") != "object":
        return {key: _strict(value) for key, value in schema.items()}
    properties = {}
    for name, value in schema["properties"].items():
        optional = name not in schema.get("required", ())
        properties[name] = {"anyOf": [_strict(value), {"type": "null"}]} if optional else _strict(value)
    return {**schema, "properties": properties, "required": list(properties), "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of sending one request once.

    `answered`: `answer` is the model's. `refused`: `answer.error` has the server's words, for this row only.
    `again`: may come right if sent again. `hopeless`: no request can come right until somebody changes something.
    """

    kind: Literal["answered", "refused", "again", "hopeless"]
    words: str = ""
    answer: TeacherAnswer | None = None
    overloaded: bool = False
    """The server asks for fewer requests."""


def read_reply(status: int, body: bytes | Any, teacher: Teacher, key: str | None) -> Outcome:
    """What a reply says. `body` is bytes from the wire, or a value that was read already."""
    if isinstance(body, bytes):
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        text = body[:4000].decode("utf-8", "replace")
    else:
        value, text = body, json.dumps(body)
    if 200 <= status < 300:
        return _read_completion(value, text, key)
    said = _error(value)
    words = f"{status}: {shorten(said.get('message') or text or 'no words', key)}"
    if said.get("code") == "insufficient_quota" or status == 402:
        return Outcome("hopeless", f"{where(teacher)} says that nothing is left to pay with ({words})")
    if status in _RETRYABLE or status >= 500:
        return Outcome("again", words, overloaded=status in _OVERLOADED)
    if status in (401, 403):
        return Outcome("hopeless", f"{where(teacher)} refuses {whose(teacher)} ({words})")
    if status == 400 and teacher.structured_output != "none" and "response_format" in words + said.get("param", ""):
        return Outcome(
            "hopeless",
            f"{where(teacher)} does not take teacher.structured_output={teacher.structured_output} ({words}): set it "
            "to json_object or none; answers are parsed strictly all the same",
        )
    return Outcome("refused", words, TeacherAnswer("", error=words))


def _read_completion(value: Any, text: str, key: str | None) -> Outcome:
    finished = None
    try:
        choice = value["choices"][0]
        message = choice["message"]
        finished = _FINISHED.get(str(choice.get("finish_reason")).casefold())
        content = message.get("content")  # never `reasoning`, `reasoning_content` or parts of another type: thoughts
        if isinstance(content, list):  # parts, as some servers send them
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        content = content if content is not None else message.get("refusal") or ""
        usage = value.get("usage") or {}
        counts = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    except (KeyError, IndexError, TypeError, AttributeError):
        content, counts = None, (None, None)
    if not isinstance(content, str):
        if said := _error(value).get("message"):
            return Outcome("again", f"an error with status 200: {shorten(said, key)}")
        return Outcome("again", f"the body is no chat completion: {shorten(text, key)!r}")
    # A lone surrogate could not be kept: what is handed on must equal what a later run finds in the ledger.
    text = content.encode("utf-8", "replace").decode()
    return Outcome("answered", answer=TeacherAnswer(text, *counts, finished=finished))


def _count(value: Any) -> int | None:
    """A number of tokens; None for what is none, or more than any database holds or any model reads."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _error(value: Any) -> dict[str, str]:
    """The texts of an error body: OpenAI nests them under `error`, others do not, or send only a text."""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    message = error.get("message") or error.get("detail")
    texts = {"message": message if isinstance(message, str) else json.dumps(message) if message else None}
    return {
        name: text
        for name, text in (texts | {"code": error.get("code"), "param": error.get("param")}).items()
        if isinstance(text, str)
    }


def shorten(words: str, key: str | None) -> str:
    """A server's words on one line, without the key, at most `ERROR_CHARACTERS` long."""
    if key:
        words = words.replace(key, "[key]")
    words = " ".join(words.split())
    return words if len(words) <= ERROR_CHARACTERS else words[: ERROR_CHARACTERS - 1] + "…"


def where(teacher: Teacher) -> str:
    """The endpoint as errors name it: without a password that its URL may hold."""
    parts = urlsplit(teacher.endpoint or "")
    return f"the teacher at {urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))}"


def whose(teacher: Teacher) -> str:
    """The key as errors name it: by its variable."""
    if teacher.key_variable:
        return f"the key in {teacher.key_variable}"
    return "a call without a key (teacher.key_variable names the environment variable that holds one)"


def key_problem(teacher: Teacher, key: str | None) -> str | None:
    """Why this key cannot be sent; None when it can. Never shows it."""
    if teacher.key_variable and not key:
        return f"{where(teacher)} wants a key: set the environment variable {teacher.key_variable}"
    if key and not (key.isascii() and key.isprintable() and key.strip() == key):
        return f"{whose(teacher)} holds white space or characters that no header can carry: set it anew"
    return None
