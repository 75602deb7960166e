"""The teacher: its server, how it is asked, and what it may cost."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.dialect import FIELDS, PLAIN, Dialect, Sent, Structure, TokenField
from speed_assets.domain.dialect_presets import PRESETS, preset_for
from speed_assets.recipe.section import NUMBER_MAX, Count, Endpoint, Positive, Rate, SecretVariable, Section, Share

PresetName = Literal[
    "openai", "openai_reasoning", "anthropic", "gemini", "mistral", "deepseek", "openrouter", "azure", "ollama",
    "llama_cpp", "vllm", "sglang", "lm_studio",
]  # fmt: skip
"""Names of `domain/dialect_presets.py`."""


class ErrorRates(Section):
    """Error rates of the microworld's teacher, as shares of its answers; the defaults are ours. A real teacher has no
    such setting."""

    brainstorm: Share = 0.0
    """Share of its brainstorms without a task."""
    write: Share = 0.0
    """Share of its rows with a planted fault."""
    judge: Share = 0.0
    """Share of its verdicts whose best and worst are drawn at random."""
    revise: Share = 0.0
    """Share of its revisions that keep a fault, or change a field that was right."""


class TeacherDialect(Section):
    """Request format of the teacher's server. null is detected: from the address of a known provider, and from what the
    server refuses."""

    probe: bool = True
    """Detect the format: the first request of a kind is sent alone, and what the server refuses is sent in another form, at
    most 8 times for a model. The result is stored in `teachers.json` of the home. false sends exactly these values."""
    preset: PresetName | None = None
    """Provider whose format the detection starts from; null takes the one that `teacher.endpoint` belongs to."""
    token_field: TokenField | None = None
    """Name of the request field with the maximum tokens of an answer."""
    temperature: Sent | None = None
    """Whether the temperature is sent; `unless_default` omits 1, for servers with that default."""
    top_p: Sent | None = None
    """Whether `top_p` is sent; `unless_default` omits 1, for servers with that default."""
    seed: bool | None = None
    """Whether a seed is sent."""
    strict: bool | None = None
    """Ask for schemas in OpenAI's strict mode, in which every key is required and may be null."""
    additional_properties: bool | None = None
    """Set `additionalProperties: false` in schemas."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, for instance `{reasoning_effort: low}`. They are part of the key of every request."""
    headers: dict[str, SecretVariable] = Field(default_factory=dict)
    """Further headers: the name, and the environment variable that holds the value."""

    @model_validator(mode="after")
    def _fields_of_ours(self) -> TeacherDialect:
        _require_sendable(self.extra)
        return self

    def fixed(self) -> dict[str, Any]:
        """What the recipe sets, by the fields of a `Dialect`."""
        fields = self.model_dump(include=set(FIELDS), exclude_none=True)
        return {name: value for name, value in fields.items() if name != "extra" or value}

    def shape(self) -> dict[str, Any]:
        """What of it may shape answers."""
        shape = {name: value for name, value in self.fixed().items() if name in ("strict", "extra")}
        return shape | {name: "never" for name in ("temperature", "top_p") if getattr(self, name) == "never"}


class NonAnswers(Section):
    """How replies are handled that are paid for and contain no answer."""

    attempts: Positive = 2
    """Maximum attempts of a request whose reply is empty or calls an unknown tool (ours). Filtered replies and replies of
    reasoning alone are not retried unchanged."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body for what has no answer yet, in addition to `dialect.extra`: requests that were answered
    without them keep their answers."""

    @model_validator(mode="after")
    def _fields_of_ours(self) -> NonAnswers:
        _require_sendable(self.extra)
        return self


def _require_sendable(extra: dict[str, Any]) -> None:
    """Raise ValueError where fields of a request body are those of other settings, or cannot be sent."""
    ours = {"model", "messages", "stream", "n", "tools", "response_format", *get_args(TokenField)} & set(extra)
    if ours:
        raise ValueError(f"extra.{sorted(ours)[0]} is a field that other settings say")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra holds what no request can carry: {error}") from None


class Teacher(Section):
    LEFT_OUT = ("dialect", "non_answers")

    engine: Literal["microworld", "openai", "none"]
    """`microworld` is the simulated teacher of the toy language, without a network; `openai` is any OpenAI-compatible
    server; `none` is no teacher: the user's own `examples` replace it."""
    model: str
    """Model name at the endpoint (paper: gpt-4o-2024-05-13)."""
    revision: str | None = None
    """Revision of the model, where the server has one; it is part of the key of every request."""
    endpoint: Endpoint | None = None
    """Base URL of an OpenAI-compatible server, without credentials; null with the microworld."""
    key_variable: SecretVariable | None = None
    """Name of the environment variable that holds the API key. The key itself is never in a recipe."""
    structured_output: Structure = "json_schema"
    """How the server is asked for structured output; answers are parsed strictly in any case. `tool_call` reads the arguments
    of the one tool that the model must call; `structured_outputs` is a field of vLLM. A server that refuses a form is asked
    in a weaker one (`dialect.probe`)."""
    dialect: TeacherDialect = TeacherDialect()
    non_answers: NonAnswers = NonAnswers()
    error_rates: ErrorRates = ErrorRates()

    def on_this_machine(self) -> bool:
        """Whether what is sent to this teacher stays on this machine."""
        if self.endpoint is None:
            return True
        host = urlsplit(self.endpoint).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def first_dialect(self, model: str) -> Dialect:
        """The dialect that the detection starts from: what the recipe sets, else the preset of the server's address."""
        preset = PRESETS[name].dialect if (name := self.dialect.preset or preset_for(self.endpoint, model)) else PLAIN
        is_set = self.structured_output != type(self).model_fields["structured_output"].default
        form = replace(preset, structure=self.structured_output) if is_set else preset
        return replace(form, **self.fixed_dialect())

    def fixed_dialect(self) -> dict[str, Any]:
        """What the recipe sets of the dialect of new requests, by the fields of a `Dialect`."""
        extra = {**self.dialect.extra, **self.non_answers.extra}
        return self.dialect.fixed() | ({"extra": extra} if extra else {})

    def shape(self) -> dict[str, Any]:
        """What of the dialect may shape answers."""
        shape, fixed = self.dialect.shape(), self.fixed_dialect()
        return shape | ({"extra": fixed["extra"]} if "extra" in fixed else {})

    def recipe_dialect(self) -> Dialect:
        """The dialect with what the recipe sets alone: before the detection existed, it was part of the key of a request."""
        return replace(PLAIN, structure=self.structured_output, **self.dialect.fixed())


class Calls(Section):
    """How requests reach the teacher. Nothing here changes what is asked, so no fingerprint contains it. Numbers without a
    source are ours."""

    mode: Literal["online", "batch"] = "online"
    """`batch` uses the provider's batch files: cheaper, and hours slower. Both use the same ledger."""
    concurrency_start: Positive = 8
    """Requests in flight at the start; grows by one for each round without errors, halves when the server is overloaded."""
    concurrency_max: Positive = 64
    """Maximum requests in flight; while the server answers nothing, one more every 5 s."""
    timeout_s: Rate = 120.0
    """Timeout of a request, in seconds; a request that times out counts as a broken connection."""
    connect_s: Rate = 10.0
    """Timeout of opening a connection, in seconds; such a request has reached no server."""
    attempts: Positive = 8
    """Maximum attempts of a request."""
    backoff_s: Rate = 0.5
    """Seconds: the first wait is drawn from 0 to this, each further one from twice the range (full jitter)."""
    backoff_max_s: Rate = 60.0
    """Maximum wait in seconds, also when the server asks for more."""
    breaker_s: Rate = 300.0
    """Seconds without any successful request after which the run stops."""
    stop_after: Positive = 8
    """Requests that fail before the first answer after which the run stops, with advice (ours)."""
    read_min: Annotated[float, Field(gt=0, le=2)] | None = 0.95
    """Minimum prompt tokens that the server counts, as a share of the fewest that a prompt can have (its words, and the
    punctuation behind them); fewer mean that it truncated the prompt, and the run stops. All eight tokenizers that were
    measured give at least 1.0 (docs/benchmarks.md); below it is room for others. null turns this off (ours)."""
    model_changed: Literal["warn", "stop"] = "warn"
    """What happens when the server reports another model in the middle of an artifact."""
    reply_bytes_max: Positive = 16_000_000
    """Maximum bytes of a reply, unpacked; a longer one counts as a broken connection (ours: 1,000 times a long answer)."""
    batch_rows: Positive = 20_000
    """Requests in one batch file (OpenAI takes 50,000 and 200 MB)."""
    batch_poll_s: Rate = 30.0
    """Seconds between two polls of a batch."""
    batch_hours: Positive = 24
    """Hours after which unanswered requests of a batch are sent again."""


class Price(Section):
    """Price of one model. null is unknown; the cost is then unknown, too, never 0 and never estimated."""

    input_per_million: Annotated[float, Field(ge=0, le=NUMBER_MAX)] | None = None
    """Price of a million prompt tokens, in `prices.currency`."""
    output_per_million: Annotated[float, Field(ge=0, le=NUMBER_MAX)] | None = None
    """Price of a million output tokens, in `prices.currency`."""
    batch_factor: Share = 1.0
    """Price of a batch request as a share of an online request (OpenAI: 0.5)."""


class Prices(Section):
    """A price table; costs are reported with its version."""

    version: str
    """Date or name of the table, for instance `2024-10-18`."""
    currency: str = "USD"
    """Currency of all prices and of budgets of money."""
    models: dict[str, Price]
    """By the teacher's model name."""


class Cap(Section):
    """A budget; null is unlimited. A budget of money needs the prices of the models."""

    calls: Count | None = None
    """Maximum calls."""
    money: Annotated[float, Field(ge=0, le=NUMBER_MAX)] | None = None
    """Maximum money, in `prices.currency`."""


class Money(Section):
    """Prices and budgets. They never change what is asked, so no fingerprint contains them."""

    prices: Prices | None = None
    run: Cap = Cap()
    """For one run."""
    stage: Cap = Cap()
    """For one stage in one run, all its task types together."""
    day: Cap = Cap()
    """For one day (UTC), all runs of the home together."""
