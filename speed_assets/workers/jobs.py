"""The parameters of every kind of job, typed: what a caller sends and a worker reads.

A job travels as JSON (`job.json`). `Job.read` turns it back into the class of its kind and refuses names and types that the
kind does not have, so a misspelt parameter ends the job at its start with a message that names it.

Belongs here: one class for each kind of job, and what several kinds share. Not here: what a job does, the recipe's own checks
(`recipe.py`), and nothing that an engine's environment may lack.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, Literal, Self, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

Params = Mapping[str, Any]
"""A job as it travels: JSON values by name."""
_CONFIG = ConfigDict(extra="forbid", protected_namespaces=())


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Job:
    """What every job has."""

    folder: str = ""
    """The job's folder: what is in it is there for the next attempt. The worker process fills it in."""
    threads: int | None = None
    """CPU threads; None takes all cores."""

    @classmethod
    def read(cls, params: Params | Job) -> Self:
        """The job that `params` describes.

        Args:
            params: JSON values by name, or the job itself.

        Raises:
            ValueError: a parameter is missing, is of another type, or is none of this kind of job.
        """
        if isinstance(params, cls):
            return params
        if isinstance(params, Job):
            raise ValueError(f"a job of kind {type(params).__name__} is no job of kind {cls.__name__}")
        try:
            job: Self = _adapter(cast(Hashable, cls)).validate_python(dict(params))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ValueError(f"parameters of a job of kind {cls.__name__}: {wrong}") from None
        return job

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values, without what the runner adds."""
        return {name: value for name, value in asdict(self).items() if name not in ("folder", "threads")}


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    of_kind: Any = kind
    return TypeAdapter(of_kind)


# Generating


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Order(Job):
    """The order in which `generate` takes rows (`order.py`)."""

    model: str
    """Folder or hub name."""
    revision: str | None = None
    chat: str | None = None
    """See `Dialogue`; None is `auto`."""
    prompts: str
    """Table (row_id, candidate, prompt)."""
    out: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Generate(Order):
    """Rows to generate, whatever the engine (`generate.py`)."""

    adapter: str | None = None
    """Folder in PEFT's format."""
    dtype: str
    journal: str
    """Folder of finished rows."""
    seed: int
    temperature: float
    """0 is greedy."""
    top_p: float
    max_new_tokens: int | None = None
    """Most tokens of rows that do not bring their own limit."""
    batch_rows: int
    """Sequences decoded together, or requests under way at a time."""
    schema: dict[str, Any] | None = None
    """JSON schema that every output has to follow."""
    whitespace_max: int | None = None
    """White-space characters in a row at most, see `streaming.held_to`."""
    crash: str | None = None
    """How the last attempt died."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class GenerateVllm(Generate):
    """Rows to generate with vLLM in the worker (`generate_vllm.py`)."""

    gpu_memory_share: float = 0.9
    max_model_length: int | None = None
    """Tokens of prompt and output together; None takes the model's own."""
    load_format: str | None = None
    """vLLM's; None is `auto`."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class GenerateHttp(GenerateVllm):
    """Rows to generate over HTTP (`generate_http.py`)."""

    endpoint: str | None = None
    """Base URL of a running server; None starts one on loopback."""
    engine_python: str | None = None
    """Python of the environment whose vLLM serves."""


# Reading rows


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Likelihood(Job):
    """How likely a model finds what rows contain (`likelihood.py`)."""

    model: str
    revision: str | None = None
    adapter: str | None = None
    dtype: str
    chat: str | None = None
    rows: str
    """Table (row_id, prompt, record, value)."""
    out: str
    journal: str
    batch_rows: int
    """Rows that a journal file holds."""
    tokens: int | None = None
    """Tokens of one forward pass, padding included; None takes what suits the device. It changes no result beyond rounding."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Consistency(Job):
    """Whether each row agrees with the other rows (`consistency.py`)."""

    rows: str
    """Table (row_id, task_type, query, positive, negative)."""
    out: str
    seed: int
    asymmetric: tuple[str, ...]
    """Task types whose query is another kind of text than its positive."""
    folds: int
    rows_max: int
    """Rows that a model is trained on at most."""
    words_max: int
    """Words that a model has at most."""
    word_rows_min: int
    """Texts that a word must be in."""
    role_c: float
    """Inverse strength of the L2 penalty of the role model."""
    dimensions: int
    epochs: int
    learning_rate: float
    weight_decay: float
    batch_rows: int


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Embedder(Job):
    """Rows and the embedding model that reads them (`reader.py`)."""

    model: str
    revision: str | None = None
    batch_size: int
    """Texts embedded at once."""
    rows: str
    out: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Similarities(Embedder):
    """How near rows are to each other and to evaluation texts (`similarities.py`)."""

    evaluation: str | None
    """Table (task, text)."""
    twin_min: float
    """Cosine similarity, 0..1, from which on two rows are twins."""
    twins_max: int
    twins: str
    """Table to write."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class MineNegatives(Embedder):
    """Negatives from other rows' positives (`mine_negatives.py`)."""

    per_row: int
    rank_min: int
    """Nearest positives that are passed over."""
    relative_margin: float
    """A negative is at most 1 less this share as similar to the query as the positive."""


# Training


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Lora:
    """Size and scale of an adapter."""

    r: int
    alpha: int
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Training:
    """A training section of the recipe, as the worker reads it."""

    learning_rate: float
    batch_size: int
    """Rows in one optimizer step."""
    epochs: float
    warmup_share: float = 0.0
    weight_decay: float = 0.0
    max_length: int | None = None
    """Tokens of prompt and answer together; None follows from the rows."""
    held_out: float = 0.0
    """Share of the rows that judge the training instead."""
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    micro_batch_size: int | None = None
    """Rows on a device at once; None is `batch_size`."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Preference(Training):
    """A section of preference training."""

    beta: float
    """Strength of the reference in DPO."""
    nll_weight: float
    """Weight of the chosen answer's likelihood in the loss."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Origin:
    """What names a base wherever it is stored, as the recipe does."""

    base: str
    revision: str | None
    digest: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class FineTune(Job):
    """A fine-tuning of a causal language model (`fine_tuning.py`)."""

    base: str
    """Folder or hub name."""
    revision: str | None = None
    adapter: str | None = None
    """Folder of an adapter on `base` that training starts from."""
    origin: Origin | None = None
    """Then `lora` saves `adapter/`. None when `base` is no base of the recipe: then `lora` saves a merged `model/`."""
    dtype: str
    rows: str
    """Table `prompt` and the columns of the answers."""
    out: str
    """Folder: the model and `aside/` go below."""
    settings: Training
    seed: int
    checkpoint_minutes: float
    chat: str | None = None
    answer_tokens: int | None = None
    """Most tokens of an answer, from which `max_length` follows where the settings leave it open."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Sft(FineTune):
    """Supervised fine-tuning (`sft.py`)."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Dpo(FineTune):
    """Preference training (`dpo.py`)."""

    settings: Preference


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class StaticBase:
    """A table of token vectors drawn from the seed."""

    kind: Literal["static"]
    tokenizer: str
    """Folder."""
    dimensions: int


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class PretrainedBase:
    """A language model, or a finished embedding model."""

    kind: Literal["pretrained"]
    name: str
    """Folder or hub name."""
    revision: str | None = None


Base = StaticBase | PretrainedBase


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class EmbeddingSettings:
    """The recipe's section `embedding_model`, as the worker reads it."""

    temperature: float
    learning_rate: float
    batch_size: int
    epochs: float
    max_length: int
    base: str | None = None
    revision: str | None = None
    dimensions: int | None = None
    pooling: Literal["mean", "last"] = "mean"
    instruction: str | None = None
    """Template that ends with {query}; None keeps the base's own prompts."""
    sts_instructions: tuple[str, ...] = ()
    dtype: str = "float32"
    warmup_share: float = 0.0
    weight_decay: float = 0.0
    homogeneous: bool = True
    """Every batch holds one task type."""
    false_negative_margin: float | None = None
    matryoshka: tuple[int, ...] = ()
    average_last: int = 1
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    micro_batch_size: int = 64


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class EmbeddingTraining:
    """One of the models of a job."""

    name: str
    out: str
    """Folder of the model."""
    triplets: str | None = None
    """Table; None with `untrained`."""
    aside: str | None = None
    """Folder of curves; None with `untrained`."""
    seed: int | None = None
    """Of the static vectors and of the order of batches; None takes the job's."""
    untrained: bool = False
    """Save the base as it is."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Embed(Job):
    """Contrastive trainings of embedding models, one after another (`embed.py`)."""

    base: Base
    settings: EmbeddingSettings
    seed: int
    models: tuple[EmbeddingTraining, ...]
    checkpoint_minutes: float


# Evaluating


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ScoredModel:
    """A model to score."""

    name: str
    digest: str
    """Of its content."""
    path: str | None = None
    """SentenceTransformer folder; None is the lexical baseline."""
    plotted: bool = True


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Microworld:
    """The held-out sets of the microworld."""

    topics: int
    rows: int
    seed: int


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class LocalSet:
    """A folder of one's own evaluation set."""

    path: str
    digest: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Evaluate(Job):
    """Scores of models on tasks (`evaluate.py`)."""

    models: tuple[ScoredModel, ...]
    bm25: bool
    """Also score the lexical baseline, under the name `bm25`."""
    microworld: Microworld | None
    local: tuple[LocalSet, ...] = ()
    tasks: tuple[str, ...]
    """Names of mteb tasks and benchmarks."""
    out: str
    """Table to write, one row for each model and task."""
    samples: str
    """Table to write: what each score is made of, with model and task."""
    plot: str
    """Picture to write."""
    cache: str
    """Folder of results, kept between runs."""
    batch_size: int
    """Texts embedded at once."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class TaskTexts(Job):
    """The texts of mteb tasks (`task_texts.py`)."""

    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    """Names of tasks within benchmarks that are not read."""
    out: str
