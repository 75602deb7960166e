"""The embedding model, what it is evaluated on and compared with."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.instructions import SIMILARITY_WORDINGS
from speed_assets.recipe.section import NUMBER_MAX, Count, Positive, Rate, Section, Share
from speed_assets.recipe.sections.generators import Lora


class Distil(Section):
    """Learning from another model next to the contrastive loss: the embedder of mined_negatives, or the reranker of reranker_scores."""

    LEFT_OUT = ("source", "logits_per_cosine")

    weight: Annotated[float, Field(gt=0, le=NUMBER_MAX)] = 1.0
    """Weight of the squared error between the model's margin, the cosine of a query with its positive less that with a negative, and the
    other model's (MarginMSE, arXiv 2010.02666). The contrastive loss has weight 1 (ours)."""
    source: Literal["embedder", "reranker"] = "embedder"
    """Whose margins are learnt: `embedder` is that of mined_negatives, which knows the margin of each mined negative; `reranker` is that of
    reranker_scores, which scores the positive and every negative of a row, the row's own too."""
    logits_per_cosine: Rate | None = None
    """Logits of the reranker that count as much as a cosine of 1: its margins are divided by it. null takes 1 / `temperature`, since InfoNCE
    reads cosines as logits on that scale (ours). No cosine margin exceeds 2, so margins above twice this cannot be reached: lower
    values ask for more than vectors can give."""

    @model_validator(mode="after")
    def _of_logits(self) -> Distil:
        if self.logits_per_cosine is not None and self.source != "reranker":
            raise ValueError(
                "logits_per_cosine is the scale of a reranker's logits: set source=reranker, or leave it out"
            )
        return self


class EmbeddingModel(Section):
    """The embedding model and its contrastive training. Numbers without a source are ours."""

    LEFT_OUT = ("distil",)

    base: str
    """`static` for a table of token vectors drawn from the seed, a folder, or a hub name (paper: Mistral-7B-v0.1)."""
    revision: str | None = None
    """Hub revision of `base`; set it with a hub name, so that a run can be repeated."""
    dimensions: Positive | None = None
    """Size of a static model's vectors; null for pretrained models."""
    pooling: Literal["mean", "last"] = "mean"
    """Pooling of token vectors; `last` appends the end token (paper)."""
    instruction: str | None = None
    """Template with {task} and {query} for queries, and for all texts of STS rows, which are symmetric (E5-mistral); null keeps
    the prompts of the base, if it has any."""
    sts_instructions: Annotated[tuple[str, ...], Field(min_length=1)] = SIMILARITY_WORDINGS
    """{task} of STS rows, whose own task is a topic; each row gets one of these (E5-mistral's, and three of ours)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights; bfloat16 and float16 belong on a GPU."""
    temperature: Rate
    """tau of InfoNCE (E5-mistral: 0.02)."""
    learning_rate: Rate
    """Highest learning rate of AdamW, reached after the warm-up."""
    batch_size: Positive
    """Triplets in one step, and so the number of in-batch negatives (paper: 1,536)."""
    epochs: Rate
    """Passes over the triplets; a fraction stops within a pass."""
    warmup_share: Share = 0.0
    """Share of the steps with a rising learning rate; linear decay follows."""
    weight_decay: Annotated[float, Field(ge=0, le=NUMBER_MAX)] = 0.0
    """Weight decay of AdamW."""
    max_length: Positive
    """Maximum tokens of a text; the rest of a longer one is not embedded."""
    homogeneous: bool = True
    """Each batch has one task type."""
    false_negative_margin: Annotated[float, Field(ge=-1, le=2)] | None = None
    """In-batch texts whose cosine with a query exceeds that of its positive by more than this are not used as negatives
    (Qwen3-Embedding, arXiv 2506.05176: 0.1); the row's own negative always is. null uses all."""
    matryoshka: tuple[Positive, ...] = ()
    """Smaller sizes to which vectors may be truncated; the full size is always trained (arXiv 2205.13147)."""
    average_last: Positive = 1
    """Number of last epochs whose final weights are averaged; 1 takes the last weights (llama-embed-nemotron, arXiv
    2511.07025). Adapters are averaged factor by factor."""
    distil: Distil | None = None
    """Learn the margins of `mined_negatives.embedder` (a larger model than `base`), which mined_negatives keeps for each row, or those of the
    reranker of `reranker_scores`; null learns from positives and negatives alone."""
    lora: Lora | None = None
    """Train LoRA adapters of the base; null trains all weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    micro_batch_size: Positive = 64
    """Rows of a transformer's batch that are embedded at a time; larger batches use gradient caching, with the same gradient."""

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

    def margin_scale(self) -> float:
        """Cosine that one logit of the reranker counts as."""
        stated = self.distil.logits_per_cosine if self.distil else None
        return self.temperature if stated is None else 1 / stated

    def untrained(self) -> dict[str, Any]:
        """The fields that decide how the base embeds before it is trained, as plain values; its weights have a digest of their own."""
        return self.model_dump(mode="json", include={"pooling", "instruction", "dtype", "max_length"})


class EmbeddingReruns(Section):
    count: Count = 0
    """Further trainings of the embedding model, under other seeds and scored like the released one. They measure how scores
    vary with the seed; without them that is unknown (ours; the paper has
    none)."""

    def names(self) -> tuple[str, ...]:
        """Names of the reruns among the scored models."""
        return tuple(f"embedding_model rerun {number}" for number in range(1, self.count + 1))


class Microworld(Section):
    """Held-out evaluation of the microworld; its topics are invented words that no topic file holds."""

    topics: Annotated[int, Field(ge=8, le=NUMBER_MAX)]
    """Topics held out for evaluation."""
    rows: Annotated[int, Field(ge=50, le=NUMBER_MAX)]
    """Queries, pairs or texts in each task."""
    seed: int = 1
    """Seed of the evaluation sets. It is not the recipe's, so that recipes with different seeds, and their releases, are
    compared on the same sets (ours)."""


class Evaluation(Section):
    microworld: Microworld | None = None
    tasks: tuple[str, ...] = ()
    """Names of mteb tasks or benchmarks, in addition to the microworld or without it. Their texts must not be in the triplets."""
    unsearched: tuple[str, ...] = ()
    """Names in `tasks`, or of tasks within a benchmark, whose texts are deliberately not searched for in the triplets; the
    cards of a release name them."""
    local: tuple[str, ...] = ()
    """Folders of evaluation sets (JSON lines, Parquet, CSV, TSV) whose texts must not be in the triplets, either. A folder with
    a `task.yaml` (see `domain/evaluation_folders.py`) is scored, too."""

    @property
    def searched(self) -> tuple[str, ...]:
        """Names in `tasks` whose texts are searched for."""
        return tuple(name for name in self.tasks if name not in self.unsearched)


class MtebScores(Section):
    baselines: tuple[Literal["seed_data", "junior_data"], ...] = ()
    """Tables that a comparison model is trained on."""
    untrained: bool = True
    """Also score the embedding base without training."""
    bm25: bool = True
    """Also score BM25 on retrieval and reranking."""
