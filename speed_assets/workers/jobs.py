"""The parameters of jobs, typed: what a caller sends and a worker reads.

A job travels as JSON (`job.json`). `Job.read` turns it back into the class of its kind and refuses names and types that the
kind does not have, so a misspelt parameter ends the job at its start with a message that names it.

Belongs here: one class for each kind of job, and what all share. Not here: trainings (`training_jobs.py`), what a job does,
the recipe's own checks, and nothing that an engine's environment may lack.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, Self, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

Params = Mapping[str, Any]
"""A job as it travels: JSON values by name."""
STRICT_NAMES = ConfigDict(extra="forbid", protected_namespaces=())
"""Names that a kind does not have are refused."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class GenerateVllm(Generate):
    """Rows to generate with vLLM in the worker (`generate_vllm.py`)."""

    gpu_memory_share: float = 0.9
    max_model_length: int | None = None
    """Tokens of prompt and output together; None takes the model's own."""
    load_format: str | None = None
    """vLLM's; None is `auto`."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class GenerateHttp(GenerateVllm):
    """Rows to generate over HTTP (`generate_http.py`)."""

    endpoint: str | None = None
    """Base URL of a running server; None starts one on loopback."""
    engine_python: str | None = None
    """Python of the environment whose vLLM serves."""


# Reading rows


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Embedder(Job):
    """Rows and the embedding model that reads them (`reader.py`)."""

    model: str
    revision: str | None = None
    batch_size: int
    """Texts embedded at once."""
    rows: str
    out: str


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Similarities(Embedder):
    """How near rows are to each other and to evaluation texts (`similarities.py`)."""

    evaluation: str | None
    """Table (task, text)."""
    twin_min: float
    """Cosine similarity, 0..1, from which on two rows are twins."""
    twins_max: int
    twins: str
    """Table to write."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class MineNegatives(Embedder):
    """Negatives from other rows' positives (`mine_negatives.py`)."""

    per_row: int
    rank_min: int
    """Nearest positives that are passed over."""
    relative_margin: float
    """A negative is at most 1 less this share as similar to the query as the positive."""
    passages: str | None = None
    """Table with the `text` of each passage that grounded rows get their negatives from."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Rerank(Job):
    """Pairs of query and document that a reranker scores (`rerank.py`)."""

    model: str
    """Folder or hub name of a cross-encoder."""
    revision: str | None = None
    max_length: int
    """Most tokens of query and document together."""
    dtype: str
    batch_size: int
    """Pairs scored at once."""
    pairs: str
    """Table (query, document)."""
    out: str
    journal: str
    """Folder of finished shards."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Retriever:
    """An embedding model that searches."""

    name: str
    path: str
    """SentenceTransformer folder or hub name."""
    revision: str | None = None
    batch_size: int = 64
    """Texts embedded at once."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class PoolPassages(Job):
    """What retrievers find for queries (`pool_passages.py`)."""

    queries: str
    """Table (row_id, task, query)."""
    passages: str
    """Table (passage_id, text)."""
    out: str
    depth: int
    """Passages of each query and retriever."""
    bm25: bool
    """Also search with the lexical baseline, under the name `bm25`."""
    models: tuple[Retriever, ...]


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class EmbedTexts(Job):
    """Texts to embed as queries or as documents (`embed_texts.py`)."""

    model: str
    """SentenceTransformer folder or hub name."""
    revision: str | None = None
    batch_size: int = 32
    """Texts embedded at once."""
    texts: str
    """Table (text, side: `query` or `document`)."""
    out: str
    """Table to write: `shown`, the text with the model's prompt, and `vector`."""


# Loading and cutting documents


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class LoadDataset(Job):
    """A split of a data set (`load_dataset.py`)."""

    name: str
    """Folder or hub name."""
    commit: str | None = None
    """Of a data set on a hub; None is a folder."""
    config: str | None = None
    split: str
    needed: tuple[str, ...]
    """Columns that it has to have."""
    wanted: tuple[str, ...]
    """Further columns that are read where it has them."""
    out: str
    """Parquet file to write; its ending becomes `.jsonl` where cells of a column differ in type."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class CutPassages(Job):
    """Documents cut into passages (`cut_passages.py`)."""

    documents: str
    """Table (document_id, file, title, date, blocks: list of {text, heading})."""
    out: str
    dropped: str
    """Table to write: pieces that are in no passage."""
    tokenizer_file: str | None = None
    """A tokenizer in one file; None loads that of `model`."""
    model: str | None = None
    revision: str | None = None
    tokens_max: int
    tokens_min: int
    titled: bool


# Evaluating


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class ScoredModel:
    """A model to score."""

    name: str
    digest: str
    """Of its content."""
    path: str | None = None
    """SentenceTransformer folder; None is the lexical baseline."""
    plotted: bool = True
    languages: tuple[str, ...] = ()
    """Languages that the model was trained on, as mteb's metadata have them; empty is not stated."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Microworld:
    """The held-out sets of the microworld."""

    topics: int
    rows: int
    seed: int


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class LocalSet:
    """A folder of one's own evaluation set."""

    path: str
    digest: str


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class TaskTexts(Job):
    """The texts of mteb tasks (`task_texts.py`)."""

    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    """Names of tasks within benchmarks that are not read."""
    out: str
