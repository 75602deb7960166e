"""The embedding model, what it is evaluated on and compared with."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.instructions import SIMILARITY_WORDINGS
from speed_assets.recipe.section import Count, Positive, Rate, Section, Share
from speed_assets.recipe.sections.generators import Lora


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
