"""One YAML file -> one frozen `Recipe`: every number that shapes a result, with its unit and source.

Belongs here: the shape of a recipe, its validation, reading it from disk. Not here: what a stage does
with a number. Sections carry the names of the assets that read them.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.domain.dialect import FIELDS, PLAIN, Dialect, Sent, Structure, TokenField
from speed_assets.domain.dialect_presets import PRESETS, preset_for
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import DataSource, Graph, Shape, Stage, Writer, build_graph, with_task_types, written_by
from speed_assets.domain.instructions import SIMILARITY_WORDINGS
from speed_assets.domain.rules import RULE_CODES, RuleCode
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TaskTypeName
from speed_assets.domain.training_length import held_out_rows, optimizer_steps
from speed_assets.errors import SpeedError

PROJECT = Path(__file__).resolve().parents[1]
RECIPES = PROJECT / "recipes"
DEFAULT_RECIPE = "offline"

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
PresetName = Literal[
    "openai", "openai_reasoning", "anthropic", "gemini", "mistral", "deepseek", "openrouter", "azure", "ollama",
    "llama_cpp", "vllm", "sglang", "lm_studio",
]  # fmt: skip
"""Names of `domain/dialect_presets.py`."""


def _no_secrets(url: str) -> str:
    """An address that may be kept and shown. Its error never says what stands in it."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or (parts.port or 1) < 1:
            raise ValueError
    except ValueError:
        raise PydanticCustomError("endpoint", "an endpoint is an address such as https://host/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise PydanticCustomError(
            "endpoint",
            "the endpoint holds a user, a password or a query, which ledger, artifacts and releases would keep: set "
            "key_variable to the environment variable that holds the key, or teacher.dialect.headers to those of others",
        )
    return url


Endpoint = Annotated[str, AfterValidator(_no_secrets)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class RecipeError(SpeedError, ValueError):
    """A recipe that cannot be used; the message names every field, its value and what is allowed."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class PerTaskType(Section):
    """One number of rows for each task type."""

    classification: Count
    retrieval: Count
    sts: Count
    matching_short: Count
    matching_long: Count

    def total(self) -> int:
        return sum(getattr(self, name) for name in TASK_TYPE_NAMES)


class Expand(Section):
    """How the teacher grows the topics of `topics.file` into a tree. All numbers are ours; the paper draws from the Open
    Directory, whose branch Sports alone has 15,018 topics."""

    children: Annotated[int, Field(ge=1, le=50)] = 12
    """Subtopics that each topic is asked for."""
    levels: Annotated[int, Field(ge=1, le=4)] = 2
    """Times that the newest topics are asked for subtopics of theirs."""
    target: Positive
    """Topics at most, those of the file among them; no more are asked for subtopics than this needs."""
    attempts: Positive = 2
    """Times that a topic is asked while its answer is no list, or fewer than `enough` of its subtopics are new."""
    enough: Share = 0.5
    """Share of `children` that have to be new, or the topic is asked again, with those that are there already named."""
    sampling: Sampling


class Topics(Section):
    file: str
    """Topic file; a relative path starts at the recipe's folder."""
    alignment: str | None = None
    """Topic file that the alignment stages (seed, junior, preference and revision data) take their tasks from; null takes
    `file`. With a file of its own, new or changed topics retrain no generator."""
    max_levels: Annotated[int, Field(ge=2)] = 4
    """Levels kept of a deeper path: the first and the last half (paper section 3.2)."""
    max_characters: Positive = 200
    """Longer lines are refused (our choice: ODP's longest paths are below)."""
    at_least: Positive = 10
    """Fewer topics than this end the run (our choice: held-out and training topics need some variety)."""
    limit: Positive | None = None
    """Topics taken, by hash of the path; null takes all."""
    expand: Expand | None = None
    """Have the teacher grow the topics into a tree; null takes the file as it is. Alignment topics of a file of their own
    stay as they are."""
    rows_per_prompt_max: Annotated[float, Field(ge=1)] = 3.0
    """Rows for each different prompt, on average, above which `speed plan` and `speed run` warn: such rows differ by the luck
    of sampling alone (ours)."""
    refuse: bool = False
    """Above `rows_per_prompt_max` nothing is asked for at all."""


class Prompts(Section):
    set: Literal["full", "compact"]
    """`full` for real models, `compact` for small ones."""
    file: str | None = None
    """YAML file of your own with what shall be worded otherwise, in the layout of `speed_assets/domain/prompt_sets/`; what
    it leaves out stays as in `set`. Only what it changes is asked anew."""


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
    extra: dict[str, Any] = {}
    """Further fields of the body, for instance `{reasoning_effort: low}`. They are part of every request's name."""
    headers: dict[str, Annotated[str, Field(pattern=_VARIABLE)]] = {}
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
    key_variable: Annotated[str, Field(pattern=_VARIABLE)] | None = None
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


class Sampling(Section):
    temperature: Annotated[float, Field(ge=0, le=2)]
    """0 is greedy (paper: 1.0 everywhere, 0 for the judge)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus (paper: 1.0)."""
    max_new_tokens: Positive | None = None
    """Tokens of an answer at most. null takes, for each prompt, what the words that it asks for need (`answers`): SPEED's
    repository has 800 for all, which cuts every second pair of documents of 500 words."""


class Answers(Section):
    """How many tokens an answer may have where `sampling.max_new_tokens` is null. All numbers are ours."""

    tokens_per_word: Rate = 1.5
    """Tokens that an English word needs, JSON included (measured: 1.31 on XQuAD's paragraphs with a LLaMA-3-like
    vocabulary; small vocabularies and other languages need more)."""
    margin: Annotated[float, Field(ge=1)] = 1.5
    """How far beyond the words asked for a writer may go before it is cut off."""
    open_factor: Annotated[float, Field(ge=1)] = 2.0
    """Words of an answer that was asked for `at least N` words, in multiples of N."""
    open_words: Count = 100
    """Words beyond N that such an answer has room for in any case."""
    structure_tokens: Positive = 60
    """Tokens of keys, quotes and brackets."""
    thought_tokens: Count = 0
    """Tokens that a model may think before it answers; for models that do."""
    cut_growth: Annotated[float, Field(ge=1)] = 2.0
    """Factor on the limit each time that an answer is asked for again because it was cut off."""

    def lengths(self) -> AnswerLengths:
        """The same as the domain's value."""
        return AnswerLengths(**self.model_dump())


class Generator(Section):
    engine: Literal["transformers", "vllm", "vllm_server"]
    """`vllm` loads the model in its own process; `vllm_server` asks a server over HTTP, its own or the one at `endpoint`."""
    base: str
    """`microworld` for the shipped model, a folder, or a hub name (paper: LLaMA-3-8B)."""
    revision: str | None = None
    """Hub revision; required for a hub name so that a run can be repeated."""
    endpoint: Endpoint | None = None
    """Base URL of a running OpenAI-compatible server for `vllm_server`; null starts one on loopback for the stage."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """bfloat16 belongs on a GPU: on most CPUs it is two orders slower."""
    batch_rows: Positive
    """Rows generated together; also the unit that a resumed run repeats (vLLM streams, and repeats none). vLLM needs room
    for as many in its KV cache, or it throws rows out and computes them again: a token of LLaMA-3-8B takes 128 KB, so
    110 GB hold 1,024 rows of 800 tokens, and an 80 GB card 512."""
    structured: bool = False
    """Constrain the decoding to the record's JSON schema (vLLM only)."""
    whitespace_max: Positive | None = 12
    """With `structured`, white-space characters in a row at most, outside of texts: small models are seen to write nothing else
    until their tokens are used up. 12 are a new line and an indent of two levels (ours; vLLM with XGrammar 0.2.4 or later, not a server at
    `endpoint`); null leaves them free."""
    chat: Literal["auto", "never"] = "auto"
    """`auto` asks in the chat template of the base's tokenizer, in training and in generation alike, where there is one and
    the base says that it stops at the end of a turn (base models often carry the template of their instruction-tuned
    twin); `never` asks in plain text (ours)."""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what does not count: recipes of before have the digests that they had."""
        dumped: dict[str, Any] = dump(self)
        if not self.structured:
            dumped.pop("whitespace_max", None)
        return dumped


class Lora(Section):
    r: Positive
    alpha: Positive
    dropout: Share = 0.0


class Training(Section):
    learning_rate: Rate
    batch_size: Positive
    """Rows in one optimizer step."""
    epochs: Rate
    warmup_share: Share = 0.0
    """Share of the steps with a rising learning rate; linear decay follows."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Positive | None = None
    """Tokens of prompt and answer together; longer rows are set aside, not cut. null follows from the data: the longest
    prompt, the most tokens that an answer was given, and its end."""
    held_out: Share = 0.05
    """Share of the rows that is not trained on, drawn by a hash of the row: loss and rewards on it, before and after, judge
    the training. At least 8 rows and at most 256; none where these would be more than a quarter of all (ours)."""
    lora: Lora | None = None
    """Train adapters of this rank and keep them beside the base; null trains every weight."""
    gradient_checkpointing: bool = False
    """Compute activations anew in the backward pass: less memory, a third more time."""
    micro_batch_size: Positive | None = None
    """Rows on a device at once; gradients of a batch are summed over such parts. null is `batch_size`."""

    @model_validator(mode="after")
    def _parts(self) -> Training:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of micro_batch_size={self.micro_batch_size}")
        return self

    def steps(self, rows: int) -> int:
        """Optimizer steps of this training on a table of so many rows, those that are held out among them."""
        return optimizer_steps(rows - held_out_rows(rows, self.held_out), self.batch_size, self.epochs)


class Rules(Section):
    """What is no training row whatever a model may learn from it. All numbers are ours."""

    skip: tuple[RuleCode, ...] = ()
    """Codes of rules that are not applied."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes of the languages that rows are written in."""
    language_confidence: Share | None = None
    """Probability of another language, by the identifier, from which on a text is set aside; null does not ask, which a world
    of its own words needs. 0.98 sets 3 of 13,000 human English texts aside and finds 99.8 % of others (docs/filters.md)."""
    language_characters_min: Positive = 30
    """Bytes of plain words from which on a language can be told."""
    other_script_max: Share = 0.3
    """Largest share of a text's characters that may be letters of scripts in which none of the languages is written."""
    query_words_min: Positive = 8
    """A query of so many words that stands whole in its positive is a copied one; shorter ones are names and phrases."""
    length_tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    """A text may have this share of the fewest words that its prompt asked for, and the most divided by it (documents are
    asked for with at least so many words and have no most); null takes any length."""
    label_words_max: Positive | None = None
    """Most words of a classification label; null takes any length."""
    topic_words_min: Share = 0.0
    """Smallest share of the words of the topic (its last level) that every text of a row must hold, labels aside."""


class SeedData(Section):
    rows: PerTaskType
    """Examples asked of the teacher (paper: 25K)."""
    sampling: Sampling
    attempts: Positive = 1
    """Times that an example is asked for until it is whole; each is a call (paper: none is asked again)."""
    rules: Rules | None = None
    """Rules that an example must keep, as rows of final_triplets do: what breaks one is asked for again with the reason, and
    is never taught. null teaches whatever is whole."""


class TaskList(Section):
    per_topic: Positive = 1
    """Tasks for each topic (paper: one is best)."""
    sampling: Sampling
    attempts: Positive = 3
    """Times that a topic is asked for a task until one stands the rules of tasks (ours; a task is an instruction above many
    rows, and costs one call)."""


class JuniorData(Section):
    prompts: PerTaskType
    candidates: Annotated[int, Field(ge=2)]
    """Candidates for each prompt (the paper's example shows 5; never fixed)."""
    sampling: Sampling


class PreferencePairs(Section):
    prompts: PerTaskType
    """Prompts judged, two calls each: one for each order of the candidates (paper: 10K calls, one order)."""
    sampling: Sampling
    panel: tuple[str, ...] = ()
    """Models at the teacher's endpoint that judge beside the teacher; each is asked in every order, and all verdicts
    count alike."""
    orders_max: Annotated[int, Field(ge=2)] = 2
    """Orders in which candidates may be shown. Two are asked first; as long as they do not agree, two more are."""
    margin_min: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Smallest share that the two have of the readable verdicts' votes, one for best and one for worst each. Of two orders
    0.75 asks for the same best or the same worst in both; 1 for both; 0.5 only that neither is contradicted (ours; docs/benchmarks.md)."""
    rules: Rules | None = None
    """Rules of final_triplets that a chosen answer must keep; null asks for none."""
    length_share_max: Share = 0.8
    """Where more than this share of the verdicts take the longest candidate as best and the shortest as worst, or the
    other way about, those make no pairs: a judge that reads nothing but the length could have given them."""

    @model_validator(mode="after")
    def _repeats(self) -> PreferencePairs:
        if self.orders_max > 2 and self.margin_min == 1:
            raise ValueError("orders_max above 2 repeats what two orders disagreed on: set margin_min below 1")
        return self


class Preference(Training):
    held_out: Share = 0.1
    """As in any training; more than elsewhere, since pairs are few (ours)."""
    beta: Rate
    """Strength of the reference in DPO (paper: 0.1)."""
    nll_weight: Annotated[float, Field(ge=0)]
    """Weight of the chosen answer's likelihood beside the DPO loss (our choice: without it small models unlearn the format)."""


class SeniorData(Section):
    rows: PerTaskType
    """Rows asked of the senior generator (paper: 1.15M raw)."""
    sampling: Sampling
    attempts: Positive = 1
    """Times that a row is asked for until it is whole (paper: none is asked again)."""
    writer: Writer = "senior_model"
    """Model that writes them; `junior_model` leaves out DPO, as in the paper's ablations."""


class RevisionData(Section):
    rows: PerTaskType
    """Junior outputs shown to the teacher, one call each (paper: 10K)."""
    sampling: Sampling


class Revisor(Training):
    mended_share: Share
    """Share of training rows that mend something; whole rows are repeated to reach it (our choice: 0.5, so
    that the revisor learns to leave good rows alone as well as to mend bad ones)."""
    repeats_max: Positive = 3
    """Times that one row may be there for `mended_share` (ours: a strong teacher mends nearly every draft of a weak junior,
    and the few it leaves alone would be learnt by heart)."""


class RevisedData(Section):
    sampling: Sampling
    readings: Positive = 1
    """Times that the revisor reads a row (paper: 1). From the second on it reads what it has changed before, and the
    last of several readings changes nothing: it tells what is still in doubt."""


class Embedder(Section):
    """A finished embedding model, to look at rows with."""

    model: str
    """Folder or hub name."""
    revision: str | None = None
    """Hub revision; with a hub name it is what makes a run repeatable."""
    batch_size: Positive = 64
    """Texts embedded at once."""


class RowScores(Section):
    """Scores of rows by readers that did not write them. The paper has no such step: all numbers are ours."""

    embedder: Embedder | None = None
    """Tells how near texts are in meaning: to each other, to evaluation texts; null does not."""
    twin_min: Share = 0.9
    """Cosine similarity from which on two rows, query and positive together, are kept as alike."""
    twins_max: Positive = 500_000
    """Pairs of rows that are kept at most, the most alike."""

    asymmetric: tuple[TaskTypeName, ...] = ("retrieval",)
    """Task types whose query is another kind of text than its positive."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the rows; each is judged by models trained on the others."""
    rows_max: Positive = 100_000
    """Rows that such a model is trained on at most."""
    words_max: Positive = 50_000
    """Words, or runs of two, that it knows at most."""
    word_rows_min: Positive = 2
    """Texts that such a word must stand in."""
    role_c: Rate = 1.0
    """Inverse strength of the L2 penalty of the model that tells queries from other texts."""
    dimensions: Positive = 64
    """Size of the vectors of the model that tells whether query and document fit."""
    epochs: Positive = 20
    learning_rate: Rate = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    batch_rows: Positive = 64
    """Rows in a step of its training, each with its own negative and a stranger's positive."""


class MinedNegatives(Section):
    """Negatives from the positives of other rows. The paper leaves matching without any: all numbers are ours."""

    embedder: Embedder
    task_types: tuple[TaskTypeName, ...] = ("matching_short", "matching_long")
    """Task types whose rows get one; a row that has a negative keeps it."""
    rank_min: Count = 0
    """Nearest positives of other rows that are passed over, as too likely to be right."""
    relative_margin: Share = 0.05
    """A negative is at most 1 less this share as similar to the query as the positive (NV-Retriever: 0.05)."""
    doubt_margin: Share = 0.1
    """Nearer than 1 less this share of the positive's similarity, a negative is in doubt, and the teacher is asked."""
    doubts_max: Count = 0
    """Rows in doubt that the teacher is asked about at most, two calls each; the others get no negative."""
    sampling: Sampling

    @model_validator(mode="after")
    def _doubts(self) -> MinedNegatives:
        if self.doubt_margin < self.relative_margin:
            raise ValueError("doubt_margin below relative_margin: nothing so near is mined, so nothing is in doubt")
        return self


class Calibration(Section):
    """How rows are set aside by all scores together, from the verdicts of `row_verdicts`: a fit tells how likely a row is
    faulty (`domain/calibration.py`). All numbers are ours, chosen on seeds 1 and 7 of the microworld."""

    wrong_min: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """A row is set aside from this likelihood of being faulty on: at the bound, four good rows are given up for one that
    is faulty, and fewer beyond it."""
    odds_min: Annotated[float, Field(ge=1)] = 1.5
    """And if its odds are at least this many times those of all rows: a teacher that would mend every second row is
    not to have every second row set aside."""
    loss_max: Share = 0.07
    """Share of the good rows that this may cost, as estimated on rows that the fit did not see."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the test whether a score tells faulty rows from others (it is left out otherwise), and of intervals."""
    ridge: Rate = 1.0
    """Penalty on the slope of a score and on what a task type is faulty more or less often: half of this times its square,
    where a row's log-likelihood counts 1."""
    ridge_by_type: Rate = 16.0
    """The same on what a task type's slope is more or less than that: the larger, the more task types learn together."""


class Scores(Section):
    """Rows set aside for their scores: by verdicts of the teacher on this run's rows (`calibration`), or beyond bounds that
    are numbers. What is right for one model, seed or language is not for the next, so numbers are for whoever has
    measured them on rows of the same kind. Null asks nothing of a score. All numbers are ours."""

    calibration: Calibration | None = None
    """Null sets no row aside by its likelihood of being faulty."""
    least_likely_min: Annotated[float, Field(le=0)] | None = None
    """Natural log-probability of the least likely token of what a row says, under the model that wrote it."""
    swapped_max: Annotated[float, Field(le=0)] | None = None
    """The same of the negative, had it been written as the positive: above, the negative answers the query as well."""
    role_min: Share | None = None
    """Probability that each text stands where such texts stand: a query where queries are."""
    margin_min: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Probability that the positive fits the query less the probability that the negative does."""


class NearDuplicates(Section):
    """Of rows that say the same the best one stays. The paper names MinHash and gives no numbers: all are ours."""

    shingle: Positive = 5
    """Characters in a shingle."""
    permutations: Positive = 128
    """Hashes in a sketch."""
    jaccard: Share = 0.9
    """Rows whose query and positive together are at least this similar are one row."""
    query_least: Share | None = None
    """Rows are one row only if their queries alone are at least this similar, too: other questions on one paragraph are other
    rows. Of classification the query alone is then compared, at `jaccard`: of ten thousand texts with one label each is a row
    of its own. Null compares query and positive together, also a label."""
    same_positive_query_least: Share = 0.9
    """`query_least` of rows whose positive is the same, word for word."""
    short_words: Count = 0
    """Texts of fewer words have to reach `short_jaccard`: one other word makes another text of them; 0 makes no difference."""
    short_jaccard: Share = 0.95
    """See `short_words`."""
    query_jaccard: Share | None = None
    """Queries at least this similar make one row of two, whatever their positives; null does not compare them."""
    positive_jaccard: Share | None = None
    """The same for positives."""
    words_min: Count = 12
    """Queries and positives of fewer words are not compared by themselves: labels, short questions."""
    boilerplate: Share = 0.01
    """Shingles in at least this share of the rows are boilerplate: rows must be similar without them, too."""
    semantic: Share | None = None
    """Cosine similarity (of `row_scores.embedder`) from which on two rows say the same; null does not ask."""


class Contamination(Section):
    """Rows that hold text of an evaluation set are removed. The paper describes no such step: all numbers are ours."""

    ngram: Positive = 8
    """Words in an n-gram."""
    containment: Share = 0.6
    """Share of the row's n-grams in an evaluation set, or of an evaluation text's n-grams in the row."""
    words_min: Count = 10
    """Shorter texts are only held against evaluation sets as a whole: one other word is another meaning."""
    neighbour: Share | None = 0.85
    """Share of words in the same order that an edited copy has in common with an evaluation text; null does not look."""
    similarity: Share | None = None
    """Cosine similarity (of `row_scores.embedder`) from which on a text says what an evaluation text says; null does not
    ask."""


class RowVerdicts(Section):
    """A sample of the rows that the teacher reads, as it reads junior output for revision_data, to tell which are faulty.
    The paper has no such step: all numbers are ours."""

    rows: PerTaskType
    """Rows read, one call each, at most."""
    suspicious_share: Share = 0.7
    """Share of the sample that prefers rows that a score finds suspicious: a bound is decided among them. The rest is
    drawn evenly."""
    rules: Rules | None = None
    """Rows that break one of these are not read, since final_triplets removes them anyway: give the same rules."""
    sampling: Sampling


class Diversity(Section):
    """How diversity is measured: on samples, so that a million rows cost what these cost. Nothing is removed for it, and
    all numbers are ours. Shares of distinct n-grams and scores per row fall as samples grow: compare like with like."""

    rows_max: Positive = 5_000
    """Rows whose n-grams and attributes are counted at most."""
    vendi_rows_max: Positive = 1_000
    """Rows of the Vendi score at most: seconds grow with their cube, memory with their square (8 MB for 1,000)."""
    intended: PerTaskType | None = None
    """Intended parts of the task types, of any scale (paper: 7:7:7:2, matching together); null takes the rows asked for."""


READMITTABLE: tuple[str, ...] = (
    *RULE_CODES,
    "doubted",
    "unlikely",
    "negative_answers",
    "wrong_role",
    "negative_fits",
    "near_duplicate",
    "near_duplicate_query",
    "near_duplicate_positive",
    "near_duplicate_semantic",
)
"""Reasons of final_triplets that rows may be readmitted for: all but those of rows that are not whole or contaminated."""


class Readmit(Section):
    """Rows that a filter finds for this reason pass it all the same; the filters after it are asked as ever."""

    reason: str
    """The reason in the quarantine of final_triplets (`speed quarantine`)."""
    task_type: TaskTypeName | None = None
    """Only rows of this task type; null is any."""
    row_ids: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Only these rows; null is any."""

    @model_validator(mode="after")
    def _may(self) -> Readmit:
        if self.reason == "not_whole" or self.reason.startswith("contamination"):
            why = "lack a text" if self.reason == "not_whole" else "hold text that the model is scored on"
            raise ValueError(f"reason={self.reason} cannot be readmitted: such rows {why}; remove this rule")
        if self.reason not in READMITTABLE:
            raise ValueError(
                f"reason={self.reason} is no reason of final_triplets; give one of {', '.join(READMITTABLE)}"
            )
        return self


class FinalTriplets(Section):
    source: DataSource = "revised_data"
    """The table that triplets are made from; `seed_data` is the teacher-only way."""
    rules: Rules = Rules()
    scores: Scores = Scores()
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    readmit: tuple[Readmit, ...] = ()
    """Rules that let rows in which a filter would set aside."""
    diversity: Diversity = Diversity()


class EmbeddingModel(Section):
    base: str
    """`static` for a table of token vectors drawn from the seed, a folder, or a hub name (paper: Mistral-7B-v0.1)."""
    revision: str | None = None
    dimensions: Positive | None = None
    """Size of a static model's vectors; null for pretrained models."""
    pooling: Literal["mean", "last"] = "mean"
    """`last` appends the end token (paper)."""
    instruction: str | None = None
    """Template with {task} and {query}, put on queries, and on every text of STS rows, whose sides are alike (E5-mistral);
    null keeps the base's own prompts, if it has any."""
    sts_instructions: Annotated[tuple[str, ...], Field(min_length=1)] = SIMILARITY_WORDINGS
    """What {task} is for STS rows, whose task is a topic; one of them for each row (E5-mistral's, and three of ours)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    temperature: Rate
    """tau of InfoNCE (E5-mistral: 0.02)."""
    learning_rate: Rate
    batch_size: Positive
    """Triplets in one step, and so the number of in-batch negatives (paper: 1,536)."""
    epochs: Rate
    warmup_share: Share = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Positive
    """Tokens."""
    homogeneous: bool = True
    """Every batch holds one task type."""
    false_negative_margin: Annotated[float, Field(ge=-1, le=2)] | None = None
    """Texts of other rows whose cosine with a query exceeds that of its positive by more than this are no negatives of it
    (Qwen3-Embedding, arXiv 2506.05176: 0.1); a row's own negative is one whatever it scores. null takes all."""
    matryoshka: tuple[Positive, ...] = ()
    """Sizes to which vectors may be cut afterwards; the whole vector is always trained (arXiv 2205.13147)."""
    average_last: Positive = 1
    """Epochs at whose ends the weights are taken and averaged, the last ones; 1 takes the last weights alone (averaged
    checkpoints: llama-embed-nemotron, arXiv 2511.07025). Of adapters the factors are averaged."""
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    """Compute activations anew in the backward pass: less memory, a third more time."""
    micro_batch_size: Positive = 64
    """Rows of a transformer's batch that are embedded at once; larger batches are cached, with the same gradient."""

    @model_validator(mode="after")
    def _possible(self) -> EmbeddingModel:
        if self.average_last > math.ceil(self.epochs):
            raise ValueError(f"average_last={self.average_last} is more than epochs={self.epochs:g}")
        too_large = [size for size in self.matryoshka if self.dimensions and size >= self.dimensions]
        if too_large:
            raise ValueError(
                f"matryoshka={too_large} is not below dimensions={self.dimensions}, which are always trained"
            )
        return self


class EmbeddingReruns(Section):
    count: Count = 0
    """Trainings of the embedding model beside the released one, under other seeds and scored like it. They tell what a
    score owes to its seed; without them that is unknown."""

    def names(self) -> tuple[str, ...]:
        """Names of the reruns among the scored models."""
        return tuple(f"embedding_model rerun {number}" for number in range(1, self.count + 1))


class Microworld(Section):
    """Held-out evaluation of the microworld; its topics are invented words that no topic file holds."""

    topics: Annotated[int, Field(ge=8)]
    """Topics held out for evaluation."""
    rows: Annotated[int, Field(ge=50)]
    """Queries, pairs or texts in each task."""
    seed: int = 1
    """What the sets are drawn with. It is not the recipe's: scores under different seeds of the recipe, and releases from
    them, are compared on the same sets, as they are with real ones."""


class Evaluation(Section):
    microworld: Microworld | None = None
    tasks: tuple[str, ...] = ()
    """mteb task or benchmark names, beside or instead of the microworld. Their texts must not be in the triplets."""
    unsearched: tuple[str, ...] = ()
    """Names in `tasks`, or of tasks within a benchmark, whose texts are not looked for in the triplets, knowingly; the cards
    of a release name them."""
    local: tuple[str, ...] = ()
    """Folders of evaluation sets (JSON lines, Parquet, CSV, TSV) whose texts must not be in the triplets
    either. A folder that holds a `task.yaml` (see `domain/evaluation_folders.py`) is scored, too."""

    @property
    def searched(self) -> tuple[str, ...]:
        """Names in `tasks` whose texts are looked for."""
        return tuple(name for name in self.tasks if name not in self.unsearched)

    @model_validator(mode="after")
    def _something(self) -> Evaluation:
        if self.microworld is None and not self.tasks and not self.local:
            raise ValueError(
                "names no evaluation: set `microworld`, or list mteb names under `tasks`, folders under `local`"
            )
        return self


class MtebScores(Section):
    baselines: tuple[Literal["seed_data", "junior_data"], ...] = ()
    """Tables that a comparison model is trained on."""
    untrained: bool = True
    """Score the embedding base as it is, too."""
    bm25: bool = True
    """Score BM25 on retrieval and reranking, too."""


class Superior(Section):
    """The test whether the embedding model is better than what it is compared with, from the samples of their scores."""

    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Largest probability of a wrong verdict, over all tasks of one comparison (Holm) and on their mean."""
    resamples: Annotated[int, Field(ge=100)] = 2_000
    """Bootstrap draws; at least 2 / alpha for each task."""
    over: tuple[Literal["untrained", "bm25", "seed_data", "junior_data"], ...] = ()
    """What the model must beat, or nothing is released; the other comparisons are only shown."""


class NonInferior(Section):
    """The test whether a release would be worse than the last one of its recipe. All numbers are ours."""

    margin: Rate = 0.02
    """Score points of 0..1 that a task may lose: 2 nDCG points."""
    margins: dict[str, Rate] = {}
    """The same by mteb's main metric, for metrics that vary more between seeds than `margin` could tell from a loss."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Largest probability that a release gets through which has lost its margin on any task."""
    resamples: Annotated[int, Field(ge=100)] = 2_000
    """Bootstrap draws; at least 1 / alpha."""
    waived: dict[str, str] = {}
    """{how a release's fingerprint begins: reason}: releases that are not compared with, since their scores were taken
    otherwise (other tasks, other versions)."""


class Licences(Section):
    """What a release says of itself beside its figures. A licence that is not stated keeps it from being pushed."""

    model_licence: str | None = None
    """Licence of the released model as hubs spell it (`mit`, `apache-2.0`, `other`); null is not stated."""
    data_licence: str | None = None
    """The same for the released rows. Terms of the teacher may bear on it."""


class Checks(Section):
    """Thresholds of the gates. A blocking check below its threshold stops the run and the release."""

    topics_refused_max: Share = 0.2
    """Largest share of lines refused in the topic file."""
    tasks_missing_max: Share = 0.05
    """Largest share of topics without a task."""
    seed_data_valid_min: Share = 0.7
    """Smallest share of the teacher's answers that parse into a whole record."""
    junior_data_valid_min: Share = 0.5
    pairs_min: Count = 20
    """Fewest preference pairs, of all task types together, over which DPO starts."""
    judge_contradictions_max: Share = 0.3
    """Largest share of a task type's prompts with two readable verdicts in which some candidate is best in one order and
    worst in another. One such prompt is always allowed. (Ours: a judge that guesses among five candidates comes to 0.35,
    one that always takes the first to 1.)"""
    judge_unreadable_max: Share = 0.2
    """Largest share of verdicts that could not be read (ours)."""
    senior_data_valid_min: Share = 0.7
    revision_data_valid_min: Share = 0.7
    revised_data_valid_min: Share = 0.8
    revisions_readable_min: Share = 0.5
    """Smallest share of revised_data's revisions that can be read: what cannot be read leaves its row as it was (ours)."""
    kept_min: Share = 0.5
    """Smallest share of rows that reach final_triplets."""
    topic_coverage_min: Share = 0.9
    """Smallest share of the topics asked for that have a row in final_triplets; a warning, as the next two."""
    task_type_distance_max: Share = 0.1
    """Largest share of the rows of final_triplets that would have to be of another task type to be as intended."""
    vendi_per_row_min: Share = 0.02
    """Smallest Vendi score per sampled row (1: no two share a word). Hangs on the sample's size and the texts' length."""
    loss_drop_min: Annotated[float, Field(le=1)] = 0.0
    """Smallest relative fall of the loss: of a generator on its held-out rows, from before the first step to after the
    last; of an embedding model from the first to the last tenth of its steps."""
    reward_accuracy_min: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """Share of preference pairs that must be exceeded by those whose chosen answer gained more likelihood than the rejected
    one (0.5: chance, and what no training at all gives; ours)."""
    steps_min: Count = 10
    """Optimizer steps of a generator's training; fewer are told before it starts, and a warning (ours: with a usual rate
    Adam moves a weight by some 1e-4 a step)."""
    gain_over_untrained_min: float = 0.0
    """Smallest gain of the mean score over the untrained base, in score points of 0..1."""
    gain_over_baselines_min: float = 0.0
    """The same over every trained baseline; a warning, not a gate."""
    superior: Superior = Superior()
    non_inferior: NonInferior = NonInferior()

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Recipes from before agreement counted best and worst apart still load: their threshold asked something else."""
        if isinstance(data, Mapping) and "judge_consistent_min" in data:
            warnings.warn(
                "checks.judge_consistent_min is no longer read: set checks.judge_contradictions_max, the largest share of "
                "prompts in which a candidate is best in one order and worst in another",
                FutureWarning,
                stacklevel=2,
            )
            return {name: value for name, value in data.items() if name != "judge_consistent_min"}
        return data

    @classmethod
    def waived(cls) -> Checks:
        """Thresholds that every artifact passes: a study scores also what a gate would stop."""
        highest = {name: 1.0 for name in cls.model_fields if name.endswith("_max")}
        shares = {name: 0 for name in cls.model_fields if name.endswith("_min")}
        differences = {name: -1.0 for name in cls.model_fields if name.startswith(("gain_", "reward_accuracy_"))}
        differences["loss_drop_min"] = -1e6  # a loss may rise to any multiple
        no_release = NonInferior(waived={"": "what a study makes is no release"})  # a fingerprint begins with nothing
        return cls.model_validate({**highest, **shares, **differences, "non_inferior": no_release})


class Study(Section):
    """What `speed study` compares: recipes made from this one. Nothing here changes an artifact of this recipe."""

    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3)
    """Seeds under which everything is made anew (the paper: one)."""
    teacher_multiples: tuple[Positive, ...] = (1, 11)
    """Teacher-only arms: rows of the teacher alone for so many times the calls that SPEED takes (E5-mistral: 500K calls
    to SPEED's 45K, so 11). Each is paid for: leave out what is too dear."""
    ablations: tuple[Literal["no_revisor", "no_dpo", "junior_only"], ...] = ("no_revisor", "no_dpo", "junior_only")
    """Parts of the loop that are left out, one after the other (paper section 4.3)."""
    ablation_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of `senior_data.rows` at which ablations are compared with the whole loop (paper: 230K of 920K)."""
    scaling: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.125, 0.25, 0.5)
    """Shares of `senior_data.rows` that are the scaling curve together with 1 (ours)."""
    alike: Literal["epochs", "steps"] = "epochs"
    """What embedding trainings have in common: as many passes over the arm's rows, as the recipe says, or as many steps as
    SPEED's, so that an arm with fewer rows sees them more often and is not merely trained for a shorter time (ours)."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Intervals hold the truth with probability 1 - alpha; Holm's over all comparisons (ours)."""
    resamples: Annotated[int, Field(ge=100)] = 4_000
    """Bootstrap draws of each comparison (ours)."""

    @model_validator(mode="after")
    def _distinct(self) -> Study:
        for name in ("seeds", "teacher_multiples", "ablations", "scaling"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"study.{name}={list(values)} names one twice")
        needed = math.ceil(2 / self.alpha) * (len(self.teacher_multiples) + len(self.ablations))
        if self.resamples < needed:
            raise ValueError(f"study.resamples={self.resamples} is too few for its comparisons: at least {needed}")
        return self


class Cluster(Section):
    """Generation in shards, on this machine or on many. All numbers are ours; none changes a row."""

    kind: Literal["ray", "local"]
    """`ray` makes each shard a Ray task; `local` makes one after the other here, as a trial of the same way."""
    address: str | None = None
    """Ray's: `auto` (the cluster that runs on this machine), `host:port` of its head, or `ray://host:port`. null takes
    the environment's `RAY_ADDRESS`, and without one starts Ray on this machine alone for the run, on loopback."""
    shard_rows: Positive = 4096
    """Rows in a shard: what a lost machine costs, and what a killed run repeats. The `transformers` engine takes the next
    multiple of `generator.batch_rows`, so that its batches are those of a run without shards."""
    cpus_per_shard: Rate = 1.0
    """Cores that a task reserves; also its threads, unless `runtime.threads` says otherwise."""
    gpus_per_shard: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that a task reserves; below 1 several tasks share a card, each with an engine of its own on it."""
    retries: Count = 3
    """Times that a shard is sent again when its machine or process was lost. An error of the job itself is told at once."""
    in_flight: Positive = 256
    """Shards handed to Ray at a time, waiting ones included: their rows lie in memory, and an autoscaler sees them."""
    patience_minutes: Rate = 15.0
    """Minutes to wait for a machine that has room for a shard, before the run ends and says so."""
    gpus_per_step: Annotated[float, Field(ge=0)] = 0.0
    """GPUs reserved for a stage that trains or scores when Dagster's steps are Ray jobs (`SPEED_EXECUTOR=ray`)."""


class Lanes(Section):
    """How many steps of a run work at the same time, by what they need. Nothing here changes a result."""

    cpu: Positive | None = None
    """Stages with models where there is no GPU; null takes as many as this machine has cores."""
    gpu: Positive = 1
    """Stages with models where there is a GPU, or where generation goes to a cluster."""
    teacher: Positive = 1
    """Stages that ask the teacher; each may have `calls.concurrency_max` requests in flight."""


class Runtime(Section):
    """How a run is carried out. Nothing here changes a result, so nothing here is in a fingerprint."""

    threads: Positive | None = None
    """CPU threads of a worker; null takes all cores."""
    lanes: Lanes = Lanes()
    warm_start: bool = True
    """Fork workers from a process that has imported the libraries, instead of starting each afresh."""
    teacher_batch: Positive = 256
    """Microworld teacher calls written to the ledger in one transaction."""
    engine_python: str | None = None
    """Python of the environment that has vLLM; null uses this one. `SPEED_ENGINE_PYTHON` overrides it."""
    engine_restarts: Count = 3
    """Times that a dead generation engine is started again in one stage."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a card's memory that vLLM may take."""
    max_model_length: Positive | None = None
    """Tokens of prompt and output that vLLM makes room for; null takes the model's own limit."""
    processes: Positive = 1
    """Processes that train a generator, one for each GPU, started by accelerate's launcher."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 10.0
    """Minutes between two checkpoints of a training: the most that a kill can cost."""
    cluster: Cluster | None = None
    """Where generation is spread to; null generates here, in one piece."""


class Rehearsal(Section):
    """What makes a recipe a rehearsal of another one; `speed rehearse` sets it, no file does. All numbers are ours."""

    pairs: Positive = 2
    """Rows of preference_pairs and revision_data, for each task type, below which stand-ins fill the table."""
    rows: Positive = 8
    """Rows of final_triplets below which rows that a filter set aside come back."""


class Recipe(Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
    description: str
    seed: Annotated[int, Field(ge=0)]
    """The seed that every named seed of the run is derived from."""
    topics: Topics
    prompts: Prompts
    teacher: Teacher
    calls: Calls = Calls()
    money: Money = Money()
    answers: Answers = Answers()
    generator: Generator | None = None
    task_list: TaskList
    seed_data: SeedData
    junior_model: Training | None = None
    junior_data: JuniorData | None = None
    preference_pairs: PreferencePairs | None = None
    senior_model: Preference | None = None
    senior_data: SeniorData | None = None
    revision_data: RevisionData | None = None
    revisor_model: Revisor | None = None
    revised_data: RevisedData | None = None
    row_scores: RowScores | None = None
    row_verdicts: RowVerdicts | None = None
    final_triplets: FinalTriplets
    mined_negatives: MinedNegatives | None = None
    embedding_model: EmbeddingModel
    embedding_reruns: EmbeddingReruns = EmbeddingReruns()
    evaluation: Evaluation
    mteb_scores: MtebScores
    release: Licences = Licences()
    checks: Checks = Checks()
    study: Study = Study()
    rehearsal: Rehearsal | None = None
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        """Sections of every stage that the graph needs are there, and sections fit each other."""
        problems = []
        graph = self.graph()
        for name in graph:
            if name in type(self).model_fields and getattr(self, name) is None:
                problems.append(f"`{name}` is missing: final_triplets.source={self.final_triplets.source} needs it")
        thresholds = self.final_triplets.scores.model_dump(exclude_none=True)
        if thresholds and self.row_scores is None:
            problems.append(f"`row_scores` is missing: final_triplets.scores.{next(iter(thresholds))} asks for it")
        if self.row_verdicts and self.row_scores is None:
            problems.append(
                "`row_scores` is missing: row_verdicts reads more of the rows that a score finds suspicious"
            )
        if "calibration" in thresholds and self.row_verdicts is None:
            problems.append(
                "`row_verdicts` is missing: final_triplets.scores.calibration asks for verdicts of the teacher"
            )
        near, copies = self.final_triplets.near_duplicates.semantic, self.final_triplets.contamination.similarity
        if not (self.row_scores and self.row_scores.embedder) and (near or copies):
            named = "near_duplicates.semantic" if near else "contamination.similarity"
            problems.append(f"`row_scores.embedder` is missing: final_triplets.{named} asks for it")
        if self.row_scores and near and near < self.row_scores.twin_min:
            problems.append(
                f"final_triplets.near_duplicates.semantic={near} is below row_scores.twin_min={self.row_scores.twin_min}, "
                "from which on pairs are kept"
            )
        if self.generator is None and "junior_model" in graph:
            problems.append("`generator` is missing: the recipe trains generators")
        for table in self.mteb_scores.baselines:
            if table not in graph:
                problems.append(f"mteb_scores.baselines names {table}, which this recipe does not make")
        scored = self.mteb_scores
        compared = [*scored.baselines, *["untrained"] * scored.untrained, *["bm25"] * scored.bm25]
        for name in set(self.checks.superior.over) - set(compared):
            problems.append(f"checks.superior.over names {name}, which mteb_scores does not score")
        if self.topics.expand and self.prompts.set == "compact" and self.prompts.file is None:
            problems.append(
                "topics.expand needs a prompt for subtopics: set prompts.set=full, or word `expand` in prompts.file"
            )
        if self.teacher.engine == "microworld" and self.prompts.set != "compact":
            problems.append("teacher.engine=microworld reads compact prompts only: set prompts.set=compact")
        if self.generator and self.generator.endpoint and self.generator.engine != "vllm_server":
            problems.append("generator.endpoint is for generator.engine=vllm_server")
        if self.generator and self.generator.structured and self.generator.engine == "transformers":
            problems.append("generator.structured needs generator.engine=vllm or vllm_server")
        if any(cap.money is not None for cap in (self.money.run, self.money.stage, self.money.day)):
            for model in (self.teacher.model, *(self.preference_pairs.panel if self.preference_pairs else ())):
                price = self.money.prices and self.money.prices.models.get(model)
                if not price or price.input_per_million is None or price.output_per_million is None:
                    problems.append(
                        f"a cap on money needs the price of {model} in money.prices.models, input and output"
                    )
        junior, senior = (model.lora if model else None for model in (self.junior_model, self.senior_model))
        if junior and senior and (junior.r, junior.alpha) != (senior.r, senior.alpha):
            problems.append("senior_model.lora goes on with the junior's adapter: give both the same r and alpha")
        if self.teacher.engine == "openai" and not self.teacher.endpoint:
            problems.append("teacher.engine=openai needs teacher.endpoint")
        if self.junior_data and self.preference_pairs and self.revision_data:
            for task_type in TASK_TYPE_NAMES:
                asked = getattr(self.junior_data.prompts, task_type)
                for section in ("preference_pairs.prompts", "revision_data.rows"):
                    owner, field = section.split(".")
                    wanted = getattr(getattr(getattr(self, owner), field), task_type)
                    if wanted > asked:
                        problems.append(
                            f"{section}.{task_type}={wanted} is more than junior_data.prompts.{task_type}={asked}"
                        )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def graph(self) -> Graph:
        """The stages of this recipe, with the task types of which it asks for rows. Raises ValueError when it asks for none."""
        shape = Shape(
            source=self.final_triplets.source,
            writer=self.senior_data.writer if self.senior_data else "senior_model",
            baselines=self.mteb_scores.baselines,
            expanded=self.topics.expand is not None,
            scored=self.row_scores is not None,
            judged=self.row_verdicts is not None,
            embedded=bool(self.row_scores and self.row_scores.embedder),
            searched=bool(self.evaluation.searched),
            mined=self.mined_negatives is not None,
            reruns=self.embedding_reruns.count > 0,
            rehearsed=self.rehearsal is not None,
        )
        rows = {
            "seed_data": self.seed_data.rows,
            "junior_data": self.junior_data and self.junior_data.prompts,
            "preference_pairs": self.preference_pairs and self.preference_pairs.prompts,
            "senior_data": self.senior_data and self.senior_data.rows,
            "revision_data": self.revision_data and self.revision_data.rows,
            "row_verdicts": self.row_verdicts and self.row_verdicts.rows,
        }
        asked = {
            stage: [name for name in TASK_TYPE_NAMES if getattr(wanted, name)]
            for stage, wanted in rows.items()
            if wanted is not None
        }
        return with_task_types(build_graph(shape), asked)

    def rows_wanted(self, task_type: str) -> dict[str, int]:
        """Rows of a task type by the stage that asks for them with prompts of its own; only stages of this recipe."""
        graph = self.graph()
        wanted = {"seed_data": self.seed_data.rows}
        if self.junior_data and "junior_data" in graph:
            wanted["junior_data"] = self.junior_data.prompts
        if self.senior_data and "senior_data" in graph:
            wanted["senior_data"] = self.senior_data.rows
        return {stage: int(getattr(rows, task_type)) for stage, rows in wanted.items()}

    def part(self, stage: Stage, task_type: str | None = None) -> dict[str, Any]:
        """What `stage` reads, as plain JSON values: its own section and those named in `reads`.

        Numbers per task type are narrowed to `task_type`, so that one type's rows do not touch another's
        fingerprint. Fields listed in `UNFINGERPRINTED` are left out.
        """
        names = [*stage.reads, *([stage.name] if stage.name in type(self).model_fields else [])]
        part: dict[str, Any] = {}
        for name in names:
            value = getattr(self, name)
            part[name] = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            if isinstance(value, Teacher):
                part[name].pop("dialect", None)
                part[name] |= {"dialect": shape} if (shape := value.dialect.shape()) else {}
            for path in UNFINGERPRINTED:
                section, _, field = path.partition(".")
                if section == name and field:
                    part[name].pop(field, None)
        return _narrow(part, task_type) if task_type else part

    def published(self) -> dict[str, Any]:
        """The recipe as a release tells it: as plain values, folders and files of this machine by their last name only."""
        plain: dict[str, Any] = without_places(self.model_dump(mode="json", exclude={"runtime": {"engine_python"}}))
        return plain

    def digest(self) -> str:
        """sha256 over everything in the recipe that shapes a result."""
        memory = {name: set(_MEMORY) for name in type(self).model_fields if name.endswith("_model")}
        return digest(
            self.model_dump(
                mode="json",
                exclude={**dict.fromkeys(("runtime", "description", "calls", "money", "study"), True), **memory},
            )
        )


_MEMORY = {
    "micro_batch_size": "how many rows fit into memory; the batch and its gradient stay the same but for rounding",
    "gradient_checkpointing": "memory against time; the gradient is the same",
}

UNFINGERPRINTED: dict[str, str] = {
    "topics.file": "where the topics lie; their content is in the fingerprint instead",
    "evaluation.local": "where evaluation sets lie; their content is in the fingerprint instead",
    "topics.rows_per_prompt_max": "when to warn, never what is asked",
    "topics.refuse": "whether a warning is an error",
    "topics.alignment": "where they lie; their content is in the fingerprint instead",
    "prompts.file": "where it lies; the prompts that a stage asks with are in its fingerprint instead",
    "teacher.key_variable": "who pays, not what is asked",
    "senior_data.writer": "which model writes; as an input of the stage its content is in the fingerprint instead",
    "runtime": "how fast, not what",
    "study": "names other recipes, and changes nothing in this one",
    "calls": "how a question is sent, not what is asked",
    "money": "what is paid and when to stop, not what is asked",
    **{
        f"{section}.{field}": reason
        for section in ("junior_model", "senior_model", "revisor_model", "embedding_model")
        for field, reason in _MEMORY.items()
    },
    "description": "prose; only the cards of a release carry it",
    "checks": "judges artifacts and never changes them; only `release` reads it",
}
"""Fields that no fingerprint contains (but for the exceptions named), each with the reason."""


def _narrow(value: Any, task_type: str) -> Any:
    if isinstance(value, dict):
        if set(value) == set(TASK_TYPE_NAMES):
            return value[task_type]
        return {key: _narrow(item, task_type) for key, item in value.items()}
    return value


def without_places(value: Any) -> Any:
    """Plain values, in which a path of this machine is its last name.

    >>> without_places({"base": "/home/ann/models/mine", "files": ["~/topics.txt"], "name": "a/b"})
    {'base': 'mine', 'files': ['topics.txt'], 'name': 'a/b'}
    """
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str) and "\n" not in value and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key stands once: a doubled key is nearly always a slip."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise RecipeError(f"line {line}: `{key}` stands twice (first on line {seen[key]})")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def rows_asked(sections: Any, source: DataSource) -> PerTaskType:
    """How many rows of each task type were to be written for `source`; `sections` has the sections of a recipe."""
    section = getattr(sections, written_by(source))
    rows: PerTaskType = section.prompts if isinstance(section, JuniorData) else section.rows
    return rows


def find_recipe(name: str | os.PathLike[str]) -> Path:
    """The file of a recipe: a path, or the bare name of one in `recipes/`."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise RecipeError(f"no recipe at {path}: give a YAML file or one of {known}")
    return path.resolve()


def load_recipe(name: str | os.PathLike[str] = DEFAULT_RECIPE, topics: str | os.PathLike[str] | None = None) -> Recipe:
    """Read and validate a recipe; `topics` replaces its topic file. Raises RecipeError."""
    path = find_recipe(name)
    return parse_recipe(read_yaml(path), path, topics)


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file in which no key stands twice. Raises RecipeError."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader, stricter still
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{path}:{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def parse_recipe(data: Any, path: Path, topics: str | os.PathLike[str] | None = None) -> Recipe:
    """A recipe from plain values; `path` is named in errors and anchors relative topic files."""
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, this is {type(data).__name__}")
    data = dict(data)
    if isinstance(data.get("topics"), Mapping):
        section = dict(data["topics"])
        if topics is not None:
            section["file"] = str(Path(topics).resolve())
        for name in ("file", "alignment"):
            if isinstance(section.get(name), str):
                section[name] = str((path.parent / section[name]).resolve())
        data["topics"] = section
    if isinstance(data.get("prompts"), Mapping) and isinstance(data["prompts"].get("file"), str):
        data["prompts"] = {**data["prompts"], "file": str((path.parent / data["prompts"]["file"]).resolve())}
    if isinstance(data.get("evaluation"), Mapping) and isinstance(data["evaluation"].get("local"), list | tuple):
        local = [str((path.parent / folder).resolve()) for folder in data["evaluation"]["local"]]
        data["evaluation"] = {**data["evaluation"], "local": local}
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors(include_url=False)]
        raise RecipeError(f"{path}: {len(lines)} problem(s)\n  " + "\n  ".join(lines)) from None


def _explain(item: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "recipe"
    if item["type"] == "extra_forbidden":
        return f"{field}: unknown field (value {item['input']!r}); remove it or correct its name"
    if item["type"] == "missing":
        return f"{field}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if field.endswith(("key_variable", "endpoint")) or ".headers." in field:  # somebody may have put a secret there
        advice = "" if field.endswith("endpoint") else "this is to be the name of an environment variable: "
        return f"{field}: {advice}{message[0].lower() + message[1:]}"
    shown = "" if isinstance(item["input"], dict | BaseModel) else f" (value {item['input']!r})"
    return f"{field}: {message[0].lower() + message[1:]}{shown}"
