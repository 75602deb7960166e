"""The parameters of trainings: of generators (`sft`, `dpo`) and of embedding models (`embed`).

Belongs here: those classes, and the sections of the recipe that they hold. Not here: other kinds of jobs (`jobs.py`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from speed_assets.workers.jobs import STRICT_NAMES, Job

SECTION = ConfigDict(extra="ignore")
"""A section of the recipe may have fields that shape the rows instead of the training (`revisor_model.mended_share`); the recipe
itself has refused misspelt ones."""


@dataclass(frozen=True, kw_only=True, config=SECTION)
class Distil:
    """How much is learnt from the margins of another model, which the rows bring."""

    weight: float


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Lora:
    """Size and scale of an adapter."""

    r: int
    alpha: int
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True, config=SECTION)
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


@dataclass(frozen=True, kw_only=True, config=SECTION)
class Preference(Training):
    """A section of preference training."""

    beta: float
    """Strength of the reference in DPO."""
    nll_weight: float
    """Weight of the chosen answer's likelihood in the loss."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Origin:
    """What names a base wherever it is stored, as the recipe does."""

    base: str
    revision: str | None
    digest: str


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Sft(FineTune):
    """Supervised fine-tuning (`sft.py`)."""


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Dpo(FineTune):
    """Preference training (`dpo.py`)."""

    settings: Preference


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class StaticBase:
    """A table of token vectors drawn from the seed."""

    kind: Literal["static"]
    tokenizer: str
    """Folder."""
    dimensions: int


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class PretrainedBase:
    """A language model, or a finished embedding model."""

    kind: Literal["pretrained"]
    name: str
    """Folder or hub name."""
    revision: str | None = None


Base = StaticBase | PretrainedBase


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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
    distil: Distil | None = None
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    micro_batch_size: int = 64


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
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


@dataclass(frozen=True, kw_only=True, config=STRICT_NAMES)
class Embed(Job):
    """Contrastive trainings of embedding models, one after another (`embed.py`)."""

    base: Base
    settings: EmbeddingSettings
    seed: int
    models: tuple[EmbeddingTraining, ...]
    checkpoint_minutes: float
    checkpoints: str | None = None
    """Folder whose `checkpoints/` holds what is finished, of several jobs; None is the job's own."""
