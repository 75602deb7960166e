"""The teacher: its server, how it is asked, and what it may cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from speed_assets.domain.dialect import FIELDS, PLAIN, Dialect, Sent, Structure, TokenField
from speed_assets.domain.dialect_presets import PRESETS, preset_for
from speed_assets.recipe.section import VARIABLE, Count, Endpoint, Positive, Rate, Section, Share

PresetName = Literal[
    "openai", "openai_reasoning", "anthropic", "gemini", "mistral", "deepseek", "openrouter", "azure", "ollama",
    "llama_cpp", "vllm", "sglang", "lm_studio",
]  # fmt: skip
"""Names of `domain/dialect_presets.py`."""


class ErrorRates(Section):
    """How often the microworld's teacher errs, as a share of its answers. A real teacher has no such knob."""

    brainstorm: Share = 0.0
    write: Share = 0.0
    judge: Share = 0.0
    revise: Share = 0.0


class TeacherDialect(Section):
    """How the server of the teacher wants to be asked. null is found out: by its address where that is known, and by what it
    refuses."""

    probe: bool = True
    """The first request of a kind goes out alone, and what the server refuses of it is said otherwise, at most 8 times for
    a model. What was found is kept in `teachers.json` of the home. False asks as it stands here, and nothing else."""
    preset: PresetName | None = None
    """Server whose known dialect the search begins with; null takes that of `teacher.endpoint` where it is known."""
    token_field: TokenField | None = None
    """Name of the field that says how many tokens an answer may have."""
    temperature: Sent | None = None
    """Whether the temperature is sent; `unless_default` leaves 1 out, for servers with that default."""
    top_p: Sent | None = None
    seed: bool | None = None
    """Whether a seed is sent."""
    strict: bool | None = None
    """Ask for schemas in OpenAI's strict mode, in which every key is required and may be null."""
    additional_properties: bool | None = None
    """Say `additionalProperties: false` in schemas."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the body, for instance `{reasoning_effort: low}`. They are part of every request's name."""
    headers: dict[str, Annotated[str, Field(pattern=VARIABLE)]] = Field(default_factory=dict)
    """Further headers: name, and the environment variable that holds the value."""

    @model_validator(mode="after")
    def _fields_of_ours(self) -> TeacherDialect:
        ours = {"model", "messages", "stream", "n", "tools", "response_format", *get_args(TokenField)} & set(self.extra)
        if ours:
            raise ValueError(f"extra.{sorted(ours)[0]} is a field that other settings say")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra holds what no request can carry: {error}") from None
        return self

    def fixed(self) -> dict[str, Any]:
        """What the recipe says, by the fields of a `Dialect`."""
        said = self.model_dump(include=set(FIELDS), exclude_none=True)
        return {name: value for name, value in said.items() if name != "extra" or value}

    def shape(self) -> dict[str, Any]:
        """What of it may shape answers."""
        shape = {name: value for name, value in self.fixed().items() if name in ("strict", "extra")}
        return shape | {name: "never" for name in ("temperature", "top_p") if getattr(self, name) == "never"}


class NonAnswers(Section):
    """What is done about replies that are paid for and hold no answer."""

    attempts: Positive = 2
    """Times that a request is sent while the reply is empty or calls a tool that nobody asked for (ours); what was filtered,
    or was all thoughts, is not sent again as it was."""


class Teacher(Section):
    engine: Literal["microworld", "openai"]
    model: str
    """Model name at the endpoint (paper: gpt-4o-2024-05-13)."""
    revision: str | None = None
    endpoint: Endpoint | None = None
    """Base URL of an OpenAI-compatible server, without any secret; null with the microworld."""
    key_variable: Annotated[str, Field(pattern=VARIABLE)] | None = None
    """Name of the environment variable that holds the key. The key itself never stands in a recipe."""
    structured_output: Structure = "json_schema"
    """What is asked of the server besides the prompt; answers are parsed strictly whether it obeys or not. `tool_call` takes
    the arguments of the one tool that the model must call; `structured_outputs` is vLLM's own field. A server that refuses a
    form is asked in a weaker one (`dialect.probe`)."""
    dialect: TeacherDialect = TeacherDialect()
    non_answers: NonAnswers = NonAnswers()
    error_rates: ErrorRates = ErrorRates()

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what stands at its default: recipes of before have the digests that they had."""
        dumped: dict[str, Any] = dump(self)
        for name in ("dialect", "non_answers"):
            if getattr(self, name) == type(self).model_fields[name].default:
                dumped.pop(name, None)
        return dumped

    def first_dialect(self, model: str) -> Dialect:
        """The dialect that a search begins with: what the recipe says, else what is known of the server's address."""
        known = PRESETS[name].dialect if (name := self.dialect.preset or preset_for(self.endpoint, model)) else PLAIN
        said = self.structured_output != type(self).model_fields["structured_output"].default
        form = replace(known, structure=self.structured_output) if said else known
        return replace(form, **self.dialect.fixed())

    def said_dialect(self) -> Dialect:
        """The dialect with nothing but what the recipe says: requests were named by it before there was a search."""
        return replace(PLAIN, structure=self.structured_output, **self.dialect.fixed())


class Calls(Section):
    """How teacher calls are made. Nothing here changes what is asked, so nothing here is in a fingerprint."""

    mode: Literal["online", "batch"] = "online"
    """`batch` sends the provider's batch files: cheaper, and hours slower. Both share the ledger."""
    concurrency_start: Positive = 8
    """Calls in flight at first; grows by one for each round without trouble, halves at a refusal for load."""
    concurrency_max: Positive = 64
    timeout_s: Rate = 120.0
    """Seconds until an answer that has not come counts as a broken connection."""
    attempts: Positive = 8
    """Times that one request is sent before it counts as failed."""
    backoff_s: Rate = 0.5
    """Seconds: the first wait is drawn from 0..this, each further one from twice the range (full jitter)."""
    backoff_max_s: Rate = 60.0
    """Seconds: the longest wait, also when the server asks for longer."""
    breaker_s: Rate = 300.0
    """Seconds in which not one call succeeds, after which the run ends and says why."""
    stop_after: Positive = 8
    """Requests that are refused, or get a reply without an answer, before the first answer of all, after which the run ends and
    says what mends it (ours)."""
    read_min: Annotated[float, Field(gt=0, le=2)] | None = 0.8
    """Fewest tokens that a server says it has read for each word of a prompt; fewer mean that it cut the prompt, and the run
    ends. Tokenizers in use make at least one (1.3 in English prose). null does not ask (ours)."""
    model_changed: Literal["warn", "stop"] = "warn"
    """What is done when the server names another model in the middle of an artifact."""
    reply_bytes_max: Positive = 16_000_000
    """Bytes of a reply at most, unpacked; a longer one counts as a broken connection (ours: 1,000 times a long answer)."""
    batch_rows: Positive = 20_000
    """Requests in one batch file (OpenAI takes 50,000 and 200 MB)."""
    batch_poll_s: Rate = 30.0
    """Seconds between two looks at a batch."""
    batch_hours: Positive = 24
    """Hours that the provider is given for a batch; what has not come by then is asked again."""


class Price(Section):
    """Price of one model. Null is unknown, and then no cost is told: never 0, never guessed."""

    input_per_million: Annotated[float, Field(ge=0)] | None = None
    """Money for a million prompt tokens."""
    output_per_million: Annotated[float, Field(ge=0)] | None = None
    """Money for a million output tokens."""
    batch_factor: Share = 1.0
    """What a batch call costs, as a share of an online one (OpenAI: 0.5)."""


class Prices(Section):
    """A price table; costs are told with its version."""

    version: str
    """Date or name of the table, for instance `2024-10-18`."""
    currency: str = "USD"
    models: dict[str, Price]
    """By the teacher's model name."""


class Cap(Section):
    """The most that may be spent; null is no cap. A cap on money needs a known price."""

    calls: Count | None = None
    money: Annotated[float, Field(ge=0)] | None = None


class Money(Section):
    """Prices and caps. What is paid, and when to stop: never what is asked, so never in a fingerprint."""

    prices: Prices | None = None
    run: Cap = Cap()
    """For one run."""
    stage: Cap = Cap()
    """For one stage in one run, all its task types together."""
    day: Cap = Cap()
    """For one day (UTC), all runs of the home together."""
