"""Replies of the chat completions API: answers, refusals, and what to do about each. Pure; online and batch share it.

Belongs here: reading and redacting a server's replies, and naming endpoint and key in messages. Not here: bodies
(`domain/dialect.py`), what a completion contains (`domain/replies.py`), sending (`endpoint.py`, `batch_client.py`), the pace
of sending (`pacing.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from resources.ledger.calls import TeacherAnswer, TeacherRequest
from resources.redaction import masked
from speed_assets.domain.dialect import Refusal
from speed_assets.domain.fingerprints import canonical_json
from speed_assets.domain.replies import CURES, Reply, read_completion, read_less_than_sent, sane_prompt_tokens
from speed_assets.recipe import Teacher

CHAT_PATH = "/chat/completions"
KEY_HEADER = "X-Client-Request-Id"
"""Header that carries the request's key, for tracing; a server may ignore it."""
NO_KEY = "none"
"""Sent where no key is set: the client needs one, and servers without keys ignore it."""
ERROR_CHARACTERS = 300
"""Longest server message in an error, in characters. Ours."""
SERVED_CHARACTERS = 400
"""Longest name of the model behind a reply that is kept, in characters. Ours."""
Secret = str | tuple[str, ...] | None
"""What is redacted from every message and text: the key, and the values of additional headers."""
_RETRYABLE = frozenset((408, 409, 429))
_OVERLOADED = frozenset((408, 429, 503, 529))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_FILTERED = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "content management policy")
"""Codes and phrases of refusals by a content filter (Azure, OpenAI)."""
_TOO_SHORT = "max_tokens or model output limit was reached"
"""OpenAI's 400 where a reasoning model has used up its tokens before it answers (github.com/spiceai/spiceai#7126)."""
_MODEL_UNKNOWN = ("model_not_found", "model_not_available")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of sending one request once.

    `answered`: `answer` is the model's. `nothing`: `answer` names a paid reply without one. `refused`: `answer.error` has the
    server's message, for this row only. `again`: may succeed when sent again. `hopeless`: no request can succeed until the
    user changes something.
    """

    kind: Literal["answered", "nothing", "refused", "again", "hopeless"]
    words: str = ""
    answer: TeacherAnswer | None = None
    overloaded: bool = False
    """The server asks for fewer requests."""


def read_reply(
    status: int,
    body: bytes | Any,
    teacher: Teacher,
    key: Secret,
    request: TeacherRequest | None = None,
    location: str | None = None,
    read_min: float | None = None,
) -> Outcome:
    """The outcome of a reply.

    Args:
        status: HTTP status.
        body: Bytes of the body, or its JSON value.
        teacher: The recipe's section, for messages.
        key: Secrets to redact.
        request: The request, where it is at hand: its prompt is compared with the tokens that the server reports.
        location: The header of a redirect.
        read_min: Share of `least_tokens` of a prompt that a server has to report; None skips the check.

    Returns:
        The outcome, with every text redacted.
    """
    if isinstance(body, bytes):
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        text = redacted_beginning(body, key)
    else:
        value, text = body, json.dumps(body)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # Gemini sends its errors in a list of one
    if 200 <= status < 300:
        return _read_completion(value, text, teacher, key, request, read_min)
    if status in _REDIRECTS:
        to = _address(location or "") or "another address"
        return Outcome(
            "hopeless",
            f"{endpoint_name(teacher)} redirects to {redact_and_shorten(to, key)} ({status}), and a key follows no redirect: set "
            "teacher.endpoint to that address if it is yours",
        )
    fields = _error(value)
    words = f"{status}: {redact_and_shorten(fields.get('message') or text or 'no words', key)}"
    if fields.get("code") == "insufficient_quota" or status == 402:
        return Outcome("hopeless", f"{endpoint_name(teacher)} reports that the account has no money left ({words})")
    if status in _RETRYABLE or (status >= 500 and status != 501):
        return Outcome("again", words, overloaded=status in _OVERLOADED)
    if status in (401, 403) and not _filtered(fields):
        return Outcome("hopeless", f"{endpoint_name(teacher)} refuses {key_name(teacher)} ({words})")
    if status == 404 and fields.get("code") in _MODEL_UNKNOWN:
        name = request.model if request else teacher.model
        return Outcome(
            "hopeless", f"{endpoint_name(teacher)} does not know the model {name} ({words}): set teacher.model"
        )
    return _refused(status, {name: _without_key(text, key) for name, text in fields.items()}, words)


def _refused(status: int, fields: dict[str, str], words: str) -> Outcome:
    """A refusal of this one request."""
    message = fields.get("message", "")
    if _filtered(fields):
        return Outcome("refused", words, TeacherAnswer("", error=words))
    if _TOO_SHORT in message:
        return Outcome("nothing", words, TeacherAnswer("", finished=False, kind="thoughts"))
    refusal = Refusal(status, message, fields.get("param", ""), fields.get("code", ""))
    return Outcome("refused", words, TeacherAnswer("", error=words, refusal=refusal))


def _filtered(fields: dict[str, str]) -> bool:
    low = f"{fields.get('code', '')} {fields.get('message', '')}".casefold()
    return any(word in low for word in _FILTERED)


def _read_completion(
    value: Any, text: str, teacher: Teacher, key: Secret, request: TeacherRequest | None, read_min: float | None
) -> Outcome:
    reply = read_completion(value, tool_asked=bool(request and request.dialect.structure == "tool_call"))
    if reply.kind == "error":
        words = f"an error with status 200: {redact_and_shorten(reply.words, key)}"
        if reply.output_tokens:  # paid for: booked, and asked again as often as other replies without an answer
            return Outcome("nothing", words, _answer(reply, "", key, request, "error", words))
        return Outcome("again", words)
    if reply.kind == "unreadable":
        return Outcome("again", f"the body is no chat completion: {redact_and_shorten(text, key)!r}")
    if request and read_less_than_sent(reply, request.prompt, read_min):
        words = (
            f"{endpoint_name(teacher)} reports {reply.prompt_tokens} tokens read of a prompt of "
            f"{len(request.prompt.split())} words: {CURES['not_read']}"
        )
        return Outcome("nothing", words, _answer(reply, "", key, request, "not_read", words))
    if reply.kind in ("answer", "cut"):
        return Outcome("answered", answer=_answer(reply, reply.text, key, request))
    words = f"no answer ({reply.kind}): {redact_and_shorten(reply.words, key)}"
    # A request whose tokens went to thoughts is sent again with a larger limit, as after any answer that was cut off.
    error = None if reply.finished is False and reply.kind in ("thoughts", "empty") else words
    return Outcome("nothing", words, _answer(reply, "", key, request, reply.kind, error))


def _answer(
    reply: Reply,
    text: str,
    key: Secret,
    request: TeacherRequest | None,
    kind: str = "answer",
    error: str | None = None,
) -> TeacherAnswer:
    # A lone surrogate cannot be stored: the answer must equal what a later run finds in the ledger.
    text = _without_key(text, key).encode("utf-8", "replace").decode()
    prompt_tokens = reply.prompt_tokens
    if request:
        written = len(request.prompt.encode("utf-8", "replace"))
        written += len(canonical_json(dict(request.schema))) if request.schema else 0
        prompt_tokens = sane_prompt_tokens(prompt_tokens, written)
    served = _without_key(reply.served, key)[:SERVED_CHARACTERS] if reply.served else None
    return TeacherAnswer(
        text, prompt_tokens, reply.output_tokens, error=error, finished=reply.finished, kind=kind, served=served
    )


def _error(value: Any) -> dict[str, str]:
    """The texts of an error body: OpenAI nests them under `error`, others do not, or send a bare text."""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    message = error.get("message") or error.get("detail") or error.get("error")
    if isinstance(metadata := error.get("metadata"), dict) and isinstance(metadata.get("raw"), str):
        message = f"{message}: {metadata['raw']}"  # OpenRouter: the message of its provider
    texts = {"message": message if isinstance(message, str) else json.dumps(message) if message else None}
    return {
        name: text
        for name, text in (texts | {"code": error.get("code"), "param": error.get("param")}).items()
        if isinstance(text, str)
    }


def redact_and_shorten(words: str, key: Secret) -> str:
    """A server's message on one line, without secrets and control characters, at most `ERROR_CHARACTERS` long."""
    words = " ".join(_without_key(words, key).split())
    words = "".join(letter if letter.isprintable() else "\ufffd" for letter in words)
    return words if len(words) <= ERROR_CHARACTERS else words[: ERROR_CHARACTERS - 1] + "…"


def _without_key(text: str, key: Secret) -> str:
    for secret in (key,) if isinstance(key, str) else key or ():
        text = text.replace(secret, "[key]") if secret else text
    return masked(text)


def redacted_beginning(body: bytes, key: Secret) -> str:
    """The first 4,000 bytes of a body as text; a secret that the cut would divide is redacted before it."""
    longest = max((len(secret) for secret in ((key,) if isinstance(key, str) else key or ())), default=0)
    return _without_key(body[: 4000 + longest].decode("utf-8", "replace"), key)[:4000]


def _address(url: str) -> str:
    """Scheme, host and path of an address: the rest may contain secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def endpoint_name(teacher: Teacher) -> str:
    """The endpoint as messages name it, without a password in its URL."""
    return f"the teacher at {_address(teacher.endpoint or '')}"


def key_name(teacher: Teacher) -> str:
    """The key as messages name it: by its environment variable."""
    if teacher.key_variable:
        return f"the key in {teacher.key_variable}"
    return "a call without a key (teacher.key_variable names the environment variable that holds one)"


def key_problem(teacher: Teacher, key: str | None) -> str | None:
    """Why this key cannot be sent; None when it can. Never contains the key."""
    if teacher.key_variable and not key:
        return f"{endpoint_name(teacher)} needs a key: set the environment variable {teacher.key_variable}"
    if key and not (key.isascii() and key.isprintable() and key.strip() == key):
        return f"{key_name(teacher)} contains white space or characters that cannot be sent in a header: set it again"
    return None
