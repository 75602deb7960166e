"""Servers of the chat API that refuse, answer and count as providers do in public, on loopback.

Each `Species` plays one provider or engine: what it refuses and in which words, where its model's thoughts stand, how it says
that an answer was filtered or cut. The source of each is given in `speed_assets/domain/dialect_presets.py`. `Case` is something
that happens to the first `times` requests.

Belongs here: dialects and quirks. Not here: connections, faults and batches (`tests/support/teacher_server.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from speed_assets.domain.fingerprints import digest
from speed_assets.microworld.simulated_teacher import MicroworldTeacher
from tests.support.teacher_server import Answer, Faults, TeacherServer

Body = dict[str, Any]
Refused = tuple[int, Any]
LONG = "Ollama reads the first 4,096 tokens. " * 1000


def openai_error(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refused:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def plain(body: Body) -> Refused | None:
    """A server that takes all of it."""
    return None


def openai_chat(body: Body) -> Refused | None:
    asked = body.get("response_format") or {}
    if asked.get("type") == "json_schema" and asked["json_schema"].get("strict"):
        return _strict_problem(asked["json_schema"]["schema"])
    if asked.get("type") == "json_object" and "json" not in body["messages"][-1]["content"].casefold():
        return openai_error(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )
    return None


def _strict_problem(schema: Any) -> Refused | None:
    """Strict mode: every object closed, every key required."""
    if isinstance(schema, list):
        return next((found for item in schema if (found := _strict_problem(item))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return openai_error(
                "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be "
                "supplied and to be false.",
                "response_format",
            )
        if set(schema.get("required", ())) != set(schema["properties"]):
            return openai_error(
                "Invalid schema for response_format 'answer': In context=(), 'required' is required to be supplied and to "
                "be an array including every key in properties.",
                "response_format",
            )
    return next((found for item in schema.values() if (found := _strict_problem(item))), None)


def openai_reasoning(body: Body) -> Refused | None:
    if "max_tokens" in body:
        return openai_error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if body.get("temperature", 1) != 1:
        return openai_error(
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. Only the default (1) "
            "value is supported.",
            "temperature",
            "unsupported_value",
        )
    if "top_p" in body:
        return openai_error(
            "Unsupported parameter: 'top_p' is not supported with this model.", "top_p", "unsupported_parameter"
        )
    return openai_chat(body)


def anthropic(body: Body) -> Refused | None:
    if "temperature" in body and "top_p" in body:
        return _anthropic_error(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        )
    return None


def anthropic_new(body: Body) -> Refused | None:
    """Opus 4.7 and later."""
    named = next((name for name in ("temperature", "top_p") if name in body), None)
    return _anthropic_error(f"`{named}` is deprecated for this model.") if named else None


def _anthropic_error(message: str) -> Refused:
    return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_1"}


def gemini(body: Body) -> Refused | None:
    if "seed" in body:
        return _gemini_error('Invalid JSON payload received. Unknown name "seed": Cannot find field.')
    text = json.dumps(body.get("response_format") or body.get("tools") or {})
    if "additionalProperties" in text:
        return _gemini_error(
            'Invalid JSON payload received. Unknown name "additionalProperties" at '
            "'generation_config.response_schema': Cannot find field."
        )
    if "anyOf" in text:
        return _gemini_error("Request contains an invalid argument.")
    return None


def _gemini_error(message: str) -> Refused:
    return 400, [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]


def mistral(body: Body) -> Refused | None:
    known = {
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "response_format",
        "random_seed",
        "tools",
        "tool_choice",
    }
    extra = sorted(set(body) - known)
    if not extra:
        return None
    detail = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": body[name]}
        for name in extra
    ]
    message = {"detail": detail}
    return 422, {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": None}


def deepseek(body: Body) -> Refused | None:
    asked = body.get("response_format") or {}
    if asked.get("type") == "json_schema":
        return openai_error("This response_format type is unavailable now", code="invalid_request_error")
    if asked.get("type") == "json_object" and "json" not in body["messages"][-1]["content"].casefold():
        return openai_error(
            "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.",
            code="invalid_request_error",
        )
    return None


def lm_studio(body: Body) -> Refused | None:
    if (body.get("response_format") or {}).get("type") == "json_object":
        return 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
    return None


def vague(body: Body) -> Refused | None:
    """A gateway that takes the four oldest fields and does not say what is wrong with others."""
    if set(body) - {"model", "messages", "max_tokens", "temperature"}:
        return 400, {"detail": "Bad Request"}
    return None


@dataclass(frozen=True)
class Species:
    """One server. `thoughts` says where its model's thoughts stand in a reply."""

    refuses: Callable[[Body], Refused | None]
    thoughts: str = "reasoning_content"
    filtered: Callable[[], Refused] | None = None
    """A refusal by its filter; where there is none, the reply says `content_filter`."""
    enforces: bool = True
    """Answers follow a schema that was asked for."""
    preset: str | None = None


def azure_filter() -> Refused:
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your "
        "prompt and retry."
    )
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
    error = {"message": message, "type": None, "param": "prompt", "code": "content_filter", "innererror": inner}
    return 400, {"error": error | {"status": 400}}


SPECIES: dict[str, Species] = {
    "openai": Species(openai_chat, "none", preset="openai"),
    "openai_reasoning": Species(openai_reasoning, "counted", preset="openai_reasoning"),
    "anthropic": Species(anthropic, "none", enforces=False, preset="anthropic"),
    "anthropic_new": Species(anthropic_new, "none", enforces=False),
    "gemini": Species(gemini, "counted", preset="gemini"),
    "mistral": Species(mistral, "parts", preset="mistral"),
    "deepseek": Species(deepseek, "reasoning_content", preset="deepseek"),
    "openrouter": Species(plain, "reasoning", preset="openrouter"),
    "azure": Species(openai_chat, "none", azure_filter, preset="azure"),
    "ollama": Species(plain, "reasoning", preset="ollama"),
    "llama_cpp": Species(plain, "reasoning_content", preset="llama_cpp"),
    "vllm": Species(plain, "reasoning", preset="vllm"),
    "sglang": Species(plain, "reasoning_content", preset="sglang"),
    "lm_studio": Species(lm_studio, "reasoning_content", preset="lm_studio"),
    "vague": Species(vague, "inline", enforces=False),
}


@dataclass
class Quirks:
    """What happens to the first `times` requests, and what usage says."""

    case: str = ""
    times: int = 10**9
    usage: Mapping[str, Any] | None = None
    served: str | None = None
    context: int | None = None
    """Prompt tokens that are read at most, without a word (Ollama)."""
    only: Callable[[str], bool] = field(default=lambda _prompt: True)


def by_words(error_rates: Mapping[str, float] | None = None) -> Answer:
    """The microworld's teacher by the prompt alone: the same answer in every dialect."""
    teacher = MicroworldTeacher(**(error_rates or {}))
    return lambda body: teacher.answer(body["messages"][-1]["content"], digest(body["messages"]))


class Zoo(TeacherServer):
    """A server of one species. `refused` counts what it did not take, `quirks` may be changed while it serves."""

    def __init__(
        self, answer: Answer, species: Species, quirks: Quirks | None = None, faults: Faults | None = None
    ) -> None:
        super().__init__(answer, faults)
        self.species, self.quirks = species, quirks or Quirks()
        self.refused: list[str] = []
        self.met = 0

    @override
    def _chat(self, body: Body) -> tuple[int, Any]:
        assert None not in body.values(), "null is never sent"
        if refusal := self.species.refuses(body):
            self.refused.append(json.dumps(refusal[1]))
            return refusal
        seen = body
        if not self.species.enforces:
            seen = {name: value for name, value in body.items() if name not in ("response_format", "tools")}
        status, value = super()._chat(seen)
        if status != 200:
            return status, value
        prompt = body["messages"][-1]["content"]
        case = self.quirks.case if self.met < self.quirks.times and self.quirks.only(prompt) else ""
        self.met += bool(case)
        return self._quirky(case, value, prompt)

    def _quirky(self, case: str, value: Body, prompt: str) -> tuple[int, Any]:  # noqa: C901 - a table of cases
        choice, message = value["choices"][0], value["choices"][0]["message"]
        if case == "filtered":
            if self.species.filtered:
                return self.species.filtered()
            choice["finish_reason"], message["content"] = "content_filter", ""
        elif case == "refusal":
            message |= {"content": None, "refusal": "I'm sorry, I can't help with that."}
        elif case == "error in choice":
            error = {"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream broke"}}
            choice |= {"finish_reason": "error", "error": error}
            message["content"] = message["content"][:5]
        elif case == "only thoughts":
            choice["finish_reason"], message["content"] = "length", ""
            self._think(message, value, "thinking about it " * 20)
        elif case == "empty":
            message["content"] = ""
        elif case == "tool call":
            call = {"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
            choice |= {"finish_reason": "tool_calls"}
            message |= {"content": None, "tool_calls": [call]}
        elif case == "cut":
            choice["finish_reason"], message["content"] = "length", message["content"][:20]
        elif case == "thoughts first":
            self._think(message, value, "let me see")
        elif case == "parts":
            text = message["content"]
            half = len(text) // 2
            message["content"] = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
        elif case == "no usage":
            del value["usage"]
        if self.quirks.usage is not None:
            value["usage"] = dict(self.quirks.usage)
        if self.quirks.context is not None:
            value["usage"]["prompt_tokens"] = min(value["usage"]["prompt_tokens"], self.quirks.context)
        if self.quirks.served is not None:
            value["model"] = self.quirks.served
        return 200, value

    def _think(self, message: Body, value: Body, thought: str) -> None:
        match self.species.thoughts:
            case "none":
                pass  # the provider keeps them to itself, and counts them as output
            case "counted":
                value["usage"]["completion_tokens_details"] = {"reasoning_tokens": 40}
            case "parts":
                thinking = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
                message["content"] = [thinking, {"type": "text", "text": message["content"]}]
            case "inline":
                end = "</think>" if message["content"] else ""
                message["content"] = f"<think>{thought}{end}{message['content']}"
            case name:
                message[name] = thought
