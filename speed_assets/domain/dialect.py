"""The dialect of a server's chat API: which fields a request has, and how the dialect follows from refusals.

Belongs here: what a request's body looks like in a dialect, what of it shapes the answer, the next dialect to try after a
refusal. Not here: presets by name (`dialect_presets.py`), sending (`resources/teacher/endpoint.py`), what a reply means
(`replies.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

TokenField = Literal["max_tokens", "max_completion_tokens"]
Sent = Literal["always", "unless_default", "never"]
"""When a sampling parameter is sent. `unless_default` leaves out 1, the default of OpenAI's API; a server with
other defaults (open models often have their own) must be sent them."""
Structure = Literal["json_schema", "json_object", "tool_call", "structured_outputs", "none"]
"""How a request demands JSON: by OpenAI's two response formats, by a call of the one tool, or by vLLM's own field."""

TOOL = "answer"
"""Name of the schema, and of the one tool that a model is asked to call."""
_DEFAULT = 1.0
_WEAKER: dict[Structure, Structure] = {
    "structured_outputs": "json_schema",
    "json_schema": "json_object",
    "tool_call": "json_object",
    "json_object": "none",
}
"""The form to try after a form was refused."""
_FORM = re.compile(
    r"response_format|json_schema|json_object|structured_outputs|\bgrammar\b|\bschema\b|tool_choice|\btools\b|\banyof\b"
    r"|\bunion\b|'json'"
)
"""Words of a refusal that concern the form of the answer (the last is OpenAI's: the prompt has to hold the word json)."""
_OF_A_NUMBER = re.compile(
    r"too (?:large|high|big|small|low)|at most|at least|\breached\b|exceed|maximum|context length"
)
"""Words of a refusal that concern how many tokens are asked for, not how they are asked for."""
_UNKNOWN = re.compile(
    r"invalid argument|invalid request|bad request|unprocessable|cannot find field|unknown (?:name|field|parameter)"
    r"|extra (?:inputs|fields)|not (?:supported|permitted|allowed)|unsupported|unrecognized"
)
"""Words of a refusal that may concern any field."""
ASKABLE = frozenset((400, 404, 405, 415, 422, 500, 501))
"""Statuses after which another dialect may help; most servers send 400 or 422, some 500 for an unknown field."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server's refusal, as far as it names the field."""

    status: int
    message: str
    param: str = ""
    code: str = ""

    @property
    def text(self) -> str:
        return f"{self.param} {self.code} {self.message}".casefold()


@dataclass(frozen=True, slots=True)
class Dialect:
    """The dialect of one server. The default is that of OpenAI's API, which most servers understand."""

    token_field: TokenField = "max_tokens"  # noqa: S105 - tokens of a model
    temperature: Sent = "always"
    top_p: Sent = "always"
    seed: bool = True
    structure: Structure = "json_schema"
    strict: bool = True
    """OpenAI's strict mode: every key is required, what was optional may be null."""
    additional_properties: bool = True
    """Objects of a schema say `additionalProperties: false`, which OpenAI's strict mode wants and others refuse."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the body, as the recipe has them."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, those that differ from the default."""
        plain, mine = asdict(PLAIN), asdict(self)
        return {name: value for name, value in mine.items() if value != plain[name]}

    def in_words(self) -> str:
        """What differs from the default, for people."""
        words: list[str] = []
        if self.token_field != PLAIN.token_field:
            words.append(self.token_field)
        for name in ("temperature", "top_p"):
            if (sent := getattr(self, name)) != "always":
                words.append(f"no {name}" if sent == "never" else f"no {name} of 1")
        if not self.seed:
            words.append("no seed")
        if self.structure != PLAIN.structure:
            words.append({"none": "no form of answers"}.get(self.structure, self.structure))
        if self.structure in ("json_schema", "tool_call"):
            words += [] if self.strict else ["not strict"]
            words += [] if self.additional_properties else ["no additionalProperties"]
        words += [f"{name}={value}" for name, value in self.extra.items()]
        return ", ".join(words) or "the usual fields"


PLAIN = Dialect()


def dialect_from(values: Any) -> Dialect | None:
    """A dialect from plain values of a file; None for what is none."""
    if not isinstance(values, Mapping):
        return None
    allowed: dict[str, Sequence[Any]] = {
        "token_field": get_args(TokenField),
        "temperature": get_args(Sent),
        "top_p": get_args(Sent),
        "structure": get_args(Structure),
        **dict.fromkeys(("seed", "strict", "additional_properties"), (True, False)),
    }
    for name, value in values.items():
        if name == "extra":
            if not isinstance(value, Mapping):
                return None
        elif not isinstance(value, str | bool) or value not in allowed.get(name, ()):
            return None
    return Dialect(**dict(values))


def body_of(
    dialect: Dialect,
    model: str,
    messages: Sequence[Mapping[str, str]],
    parameters: Mapping[str, Any],
    schema: Mapping[str, Any] | None,
    seed: int,
) -> dict[str, Any]:
    """The body of a chat completions request. A field with its default value may be left out; null is never sent.

    Args:
        dialect: how this server is asked.
        model: its name at the endpoint.
        messages: role and content.
        parameters: temperature, top_p, max_new_tokens.
        schema: JSON schema of the answer; None where any text will do.
        seed: sent where sampling is random.
    """
    body: dict[str, Any] = {"model": model, "messages": list(messages)}
    for name in ("temperature", "top_p"):
        if _is_sent(getattr(dialect, name), parameters[name]):
            body[name] = parameters[name]
    body[dialect.token_field] = parameters["max_new_tokens"]
    if dialect.seed and parameters["temperature"] > 0:
        body["seed"] = seed
    if schema:
        body |= _form(dialect, schema)
    return body | dict(dialect.extra)


def shape_of(dialect: Dialect, parameters: Mapping[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of a dialect shapes the answer to a request, and so belongs to its name; nothing of the default dialect does.

    How a field is spelled shapes nothing, and neither does a number that is left out because it has its default value. A seed
    tells answers apart, and changes nothing of how they are drawn.
    """
    shape: dict[str, Any] = {}
    unsent = [
        name
        for name in ("temperature", "top_p")
        if getattr(dialect, name) == "never" and parameters[name] not in (None, _DEFAULT)
    ]
    if unsent:
        shape["unsent"] = unsent
    if schema and dialect.structure in ("json_schema", "tool_call") and not dialect.strict:
        shape["strict"] = False
    if dialect.extra:
        shape["extra"] = dict(dialect.extra)
    return shape


def next_dialect(
    dialect: Dialect, refusal: Refusal, body: Mapping[str, Any], fixed: frozenset[str] = frozenset()
) -> Dialect | None:
    """The dialect to try after a refusal; None where no other one may help.

    What the refusal names is changed, all of it at once: a field that is left out, spelled otherwise, or a weaker form. A
    refusal that names nothing and might concern any field takes away one thing after another. Each step makes the body
    poorer, so the search ends.

    Args:
        dialect: the one that was refused.
        refusal: the server's words.
        body: what was sent.
        fixed: names of fields of `Dialect` that the recipe says, and that are never changed.
    """
    if refusal.status not in ASKABLE:
        return None
    text = refusal.text
    changes = _pointed_at(dialect, text, body)
    if not changes and refusal.status in (400, 415, 422) and _UNKNOWN.search(text):
        changes = _one_less(dialect, body, fixed)
    changes = {name: value for name, value in changes.items() if name not in fixed}
    return replace(dialect, **changes) if changes else None


def _pointed_at(dialect: Dialect, text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Changes to what a refusal names among the fields that were sent."""
    changes: dict[str, Any] = {}
    if re.search(rf"\b{dialect.token_field}\b", text) and not _OF_A_NUMBER.search(text):
        changes["token_field"] = next(name for name in get_args(TokenField) if name != dialect.token_field)
    named = [name for name in ("top_p", "temperature") if name in body and re.search(rf"\b{name}\b", text)]
    if len(named) == 2 and "both" in text:
        named = ["top_p"]  # Anthropic's "cannot both be specified": the temperature is the one that matters
    for name in named:
        could_stay = getattr(dialect, name) == "always" and body[name] == _DEFAULT and "temperature" not in named
        changes[name] = "unless_default" if could_stay else "never"
    if "seed" in body and re.search(r"\bseed\b", text):
        changes["seed"] = False
    if {"response_format", "tools", "structured_outputs"} & set(body):
        changes |= _form_pointed_at(dialect, text)
    return changes


def _form_pointed_at(dialect: Dialect, text: str) -> dict[str, Any]:
    if "additionalproperties" in text and dialect.structure in ("json_schema", "tool_call"):
        if dialect.additional_properties:
            return {"additional_properties": False, "strict": False}  # strict mode wants it
        if re.search(r"required|must be|supplied", text):
            return {"additional_properties": True}
    if re.search(r"\bstrict\b", text) and dialect.strict and dialect.structure in ("json_schema", "tool_call"):
        return {"strict": False}
    if re.search(r"\banyof\b|\bunion\b|\bnull\b", text) and dialect.strict and dialect.structure == "json_schema":
        return {"strict": False}  # what was optional is left out then, and not null
    if _FORM.search(text) and dialect.structure in _WEAKER:
        if dialect.structure == "json_object" and "must be 'json_schema'" in text:
            return {"structure": "json_schema"}  # LM Studio knows no other
        return {"structure": _WEAKER[dialect.structure]}
    return {}


def _one_less(dialect: Dialect, body: Mapping[str, Any], fixed: frozenset[str]) -> dict[str, Any]:
    """The first of a few changes that makes the body poorer, where a refusal does not say what it is about."""
    form = {"response_format", "tools", "structured_outputs"} & set(body)
    steps: list[tuple[bool, dict[str, Any]]] = [
        ("seed" in body, {"seed": False}),
        (bool(form) and dialect.strict and dialect.structure == "json_schema", {"strict": False, "additional_properties": False}),
        (body.get("top_p") == _DEFAULT, {"top_p": "unless_default"}),
        (dialect.token_field == "max_completion_tokens", {"token_field": "max_tokens"}),  # noqa: S105 - tokens of a model
        (bool(form) and dialect.structure in _WEAKER, {"structure": _WEAKER.get(dialect.structure, "none")}),
        ("temperature" in body, {"temperature": "never"}),
        ("top_p" in body, {"top_p": "never"}),
    ]  # fmt: skip
    return next((change for wanted, change in steps if wanted and not fixed & set(change)), {})


def _is_sent(sent: Sent, value: float | None) -> bool:
    return value is not None and (sent == "always" or (sent == "unless_default" and value != _DEFAULT))


def _form(dialect: Dialect, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body that ask for a JSON value of this schema."""
    if dialect.structure == "none":
        return {}
    if dialect.structure == "json_object":
        return {"response_format": {"type": "json_object"}}
    shaped = strict_schema(schema) if dialect.strict else rooted(schema)
    if not dialect.additional_properties:
        shaped = _without(shaped, "additionalProperties")
    if dialect.structure == "structured_outputs":
        return {"structured_outputs": {"json": shaped}}
    strict = {"strict": True} if dialect.strict else {}
    if dialect.structure == "tool_call":
        function = {"name": TOOL, "description": "Takes the answer.", "parameters": shaped, **strict}
        choice = {"type": "function", "function": {"name": TOOL}}
        return {"tools": [{"type": "function", "function": function}], "tool_choice": choice}
    named = {"name": TOOL, **strict, "schema": shaped}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def rooted(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with an object at its root: a list becomes its one key `tasks`, as our parsers read it."""
    if schema.get("type") == "object":
        return dict(schema)
    return {"type": "object", "properties": {"tasks": dict(schema)}, "required": ["tasks"]}


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as OpenAI's strict mode takes it (platform.openai.com/docs/guides/structured-outputs, 2026-10).

    An object at the root, no unknown keys, every key required; what was optional may be null instead. Our parsers
    read a list inside an object as the list, and null as absent.

    >>> strict_schema({"type": "array", "items": {"type": "string"}})["required"]
    ['tasks']
    """
    strict: dict[str, Any] = _strict(rooted(schema))
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


def _without(schema: Any, key: str) -> Any:
    if isinstance(schema, list):
        return [_without(item, key) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {name: _without(value, key) for name, value in schema.items() if name != key}


FIELDS = frozenset(item.name for item in fields(Dialect))
"""Names of what a recipe may fix."""
