"""What a reply of a chat API is: an answer, a cut one, or none, under a name that can be counted.

Whatever a server sends, one of these names comes out, and never an exception. Belongs here: reading one chat completion.
Not here: statuses and errors of a call (`resources/teacher/chat.py`), reading the model's text (`answers.py`, `parsing.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from speed_assets.domain.answers import without_thoughts
from speed_assets.domain.dialect import TOOL

Kind = Literal["answer", "cut", "filtered", "empty", "thoughts", "tool_call", "error", "not_read", "unreadable"]
"""`answer`: the model ended by itself and wrote an answer. `cut`: it was cut off after it had begun to answer. The others are
no answers: a filter or a refusal took it (`filtered`); there is no text (`empty`), or thoughts alone took all tokens
(`thoughts`); a tool was called that nobody asked for; the server failed inside the reply (`error`, to be sent again); the
prompt was not read completely (`not_read`); the body is no chat completion (`unreadable`)."""

PAID_FOR_NOTHING: tuple[Kind, ...] = ("filtered", "empty", "thoughts", "tool_call", "error", "not_read")
"""Replies that are paid for and hold no answer; of errors, those that report tokens written."""
ASKED_AGAIN: tuple[Kind, ...] = ("empty", "tool_call", "error")
"""Of these, those for which another try may help. A filter refuses again; thoughts need more room, or less of them."""

CURES: dict[str, str] = {
    "filtered": "the server's filter takes the answers: another teacher.model, or other topics or prompts",
    "empty": "set teacher.structured_output to json_object or none, or name another teacher.model",
    "thoughts": (
        "the model spends its tokens on thoughts: set teacher.dialect.extra to {reasoning_effort: low} (open models: "
        "{chat_template_kwargs: {enable_thinking: false}}), teacher.non_answers.extra to the same where the answers that there "
        "are shall stay, or answers.thought_tokens to what it needs"
    ),
    "tool_call": "the model calls tools instead of answering: set teacher.structured_output to tool_call, or to none",
    "error": "the server fails within its replies: look at its status, or name another teacher.model",
    "not_read": (
        "the server reads less than the prompt: give the model a longer context (Ollama: OLLAMA_CONTEXT_LENGTH=16384, "
        "llama.cpp: --ctx-size, LM Studio: Context Length), and start it again; if it does read all of it, lower calls.read_min"
    ),
}
"""The field of the recipe, or the setting of the server, that mends a kind of reply."""

_ENDED = frozenset(("stop", "end_turn", "eos", "eos_token", "stop_sequence", "complete"))
_CUT = frozenset(("length", "max_tokens", "model_length", "max_output_tokens", "model_context_window_exceeded"))
_FILTERED = frozenset(
    ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive", "refusal",
     "guardrail_intervened")
)  # fmt: skip
_FAILED = frozenset(
    ("error", "network_error", "insufficient_system_resource", "abort", "failed", "malformed_function_call")
)
"""Reasons that servers give for the end: OpenAI, Mistral (model_length at its context's end), Anthropic, Gemini's names in
OpenAI's place, Z.ai (sensitive, network_error), DeepSeek (insufficient_system_resource), SGLang (abort), OpenRouter (error).
Sources: github.com/genkit-ai/genkit#6259 and github.com/MacPaw/OpenAI#312 (read 2026-11)."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_MOST_TOKENS = 2**31
"""No database holds more, and no model reads as many."""
MAX_TOKENS_PER_BYTE = 4
"""A prompt of more tokens than this for each byte of text and schema is no number to believe: no byte-level tokenizer makes
more than one."""
TEMPLATE_TOKENS = 4096
"""More than any chat template, with tools and a schema in words, puts around a prompt."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One chat completion, read. Token counts are None where the server gives none that can be one."""

    kind: Kind
    text: str = ""
    words: str = ""
    """Why it is no answer."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    """Prompt tokens that the server read from a cache; some do not count them among `prompt_tokens`."""
    finished: bool | None = None
    """True: the server reports that the model ended by itself; False: that it was cut off; None: neither."""
    served: str | None = None
    """The model that the server reports, and its fingerprint."""


def read_completion(value: Any, tool_asked: bool = False) -> Reply:
    """What a JSON body of status 200 is. `tool_asked`: whether the answer is to come as a call of the one tool."""
    counts = _usage(value)
    known = {**counts, "served": _served(value)}
    choice = _first_choice(value)
    if failure := _failure(value, choice):
        return Reply("error", words=failure, **known)
    message = choice.get("message") if choice else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        return Reply("unreadable", words="no chat completion", **known)
    reason = str(choice.get("finish_reason")).casefold()
    known["finished"] = True if reason in _ENDED else False if reason in _CUT else None
    text = _content(message.get("content"))
    if text is None:
        return Reply("unreadable", words="its content is no text", **known)
    called = message.get("tool_calls")
    if tool_asked and (arguments := _arguments(called)) is not None:
        text = arguments
        known["finished"] = True if reason in ("tool_calls", "tool_use", "function_call") else known["finished"]
    refusal = message.get("refusal")
    if reason in _FILTERED or (isinstance(refusal, str) and refusal and not text):
        return Reply("filtered", words=refusal if isinstance(refusal, str) and refusal else reason, **known)
    answer_text = without_thoughts(text)
    if answer_text is not None and answer_text.strip():
        return Reply("cut" if known["finished"] is False else "answer", text, **known)
    if answer_text is None and known["finished"] is not False:
        return Reply(
            "answer", text, **known
        )  # a thought without an end, in a text that nobody says was cut: for its reader
    if called and not text:
        return Reply("tool_call", words=f"a call of {_tool_name(called)}", **known)
    if known["finished"] is False or text.strip() or _has_thoughts(message, value):
        # Where nobody shows them, tokens that ran out before the first word went into thoughts all the same.
        return Reply("thoughts", words="thoughts and no answer", **known)
    return Reply("empty", words="no text", **known)


def sane_prompt_tokens(count: int | None, written_bytes: int) -> int | None:
    """The count, or None for one that a prompt of so many bytes (schema and all) cannot have."""
    absurd = count is not None and count > MAX_TOKENS_PER_BYTE * written_bytes + TEMPLATE_TOKENS
    return None if absurd else count


def least_tokens(text: str) -> int:
    """The fewest tokens that a text can have: its words, and its punctuation where that is no part of a word's token.

    Tokenizers in use cut a text before they look for tokens: at white space, and between a word and the punctuation behind
    it (the pre-tokenizers of GPT, LLaMA 3, Qwen, DeepSeek and Mistral; WordPiece; SentencePiece's split_by_whitespace and
    split_by_unicode_script). GPT-4's take one sign before a word and an English contraction into it. Signs outside of ASCII
    count as letters, since scripts differ. benchmarks/least_tokens.py compares it with eight tokenizers.

    >>> least_tokens("It isn't (yet) read: 4,096 tokens.")
    10
    """
    return sum(1 for _ in _PIECE.finditer(text))


def read_less_than_sent(reply: Reply, prompt: str, share_min: float | None) -> bool:
    """Whether the tokens that the server says it has read are fewer than the prompt can have.

    `share_min` of `least_tokens` have to be read; below 1 it leaves room for tokenizers of another kind.
    """
    if reply.prompt_tokens is None or share_min is None:
        return False
    return reply.prompt_tokens + reply.cached_tokens < int(share_min * least_tokens(prompt))


_SIGN = r"[!-/:-@\[-`{-~]"
_LETTER = r"[^\s\x00-/:-@\[-`{-\x7f]"
_PIECE = re.compile(rf"{_SIGN}?{_LETTER}+(?:'(?:s|t|re|ve|m|ll|d)\b)?|{_SIGN}+", re.IGNORECASE)


def _first_choice(value: Any) -> Mapping[str, Any] | None:
    choices = value.get("choices") if isinstance(value, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else None


def _failure(value: Any, choice: Mapping[str, Any] | None) -> str | None:
    """The words of an error that came with status 200, in the body or in the choice."""
    for place in (choice, value):
        error = place.get("error") if isinstance(place, Mapping) else None
        if error:
            message = error.get("message") if isinstance(error, Mapping) else error
            return str(message or error)
    if choice and str(choice.get("finish_reason")).casefold() in _FAILED:
        return f"finish_reason {choice.get('finish_reason')}"
    return None


def _content(content: Any) -> str | None:
    """The text of a message: a text, or the texts among parts; None for what is neither. Thoughts are parts of other types."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type") in ("text", "output_text", None):
            texts.append(part["text"] if isinstance(part.get("text"), str) else "")
    return "".join(texts)


def _arguments(called: Any) -> str | None:
    """The arguments of the one call that was asked for."""
    if not isinstance(called, list) or len(called) != 1 or _tool_name(called) != TOOL:
        return None
    arguments = called[0]["function"].get("arguments")
    if isinstance(arguments, Mapping):  # some servers decode them
        return json.dumps(arguments, ensure_ascii=False)
    return arguments if isinstance(arguments, str) else None


def _tool_name(called: Any) -> str:
    try:
        return str(called[0]["function"]["name"])
    except (KeyError, IndexError, TypeError):
        return "something"


def _has_thoughts(message: Mapping[str, Any], value: Any) -> bool:
    if any(message.get(name) for name in _THOUGHTS):
        return True
    if isinstance(parts := message.get("content"), list) and any(
        isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning") for part in parts
    ):
        return True
    return bool(_count(_inside(value, ("usage", "completion_tokens_details", "reasoning_tokens"))))


def _usage(value: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": _count(_inside(value, ("usage", "prompt_tokens")))
        or None,  # no prompt has none: 0 is not counted
        "output_tokens": _count(_inside(value, ("usage", "completion_tokens"))),
        "cached_tokens": _count(_inside(value, ("usage", "prompt_tokens_details", "cached_tokens"))) or 0,
    }


def _inside(value: Any, path: Iterable[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(value: Any) -> int | None:
    """A number of tokens; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def _served(value: Any) -> str | None:
    """`MODEL` or `MODEL FINGERPRINT` as the server says them; whoever redacts them cuts them afterwards."""
    answer_text = [_inside(value, (name,)) for name in ("model", "system_fingerprint")]
    words = [" ".join(word.split()) for word in answer_text if isinstance(word, str) and word.strip()]
    return " ".join(words) or None
