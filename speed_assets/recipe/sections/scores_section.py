"""Scores of rows, verdicts of the teacher on a sample, negatives from other rows, and a reranker's scores of both."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from speed_assets.domain.task_types import TaskTypeName
from speed_assets.recipe.section import NUMBER_MAX, Count, PerTaskType, Positive, Rate, Section, Share
from speed_assets.recipe.sections.answers_section import Sampling
from speed_assets.recipe.sections.filters import Rules


class Embedder(Section):
    """A published embedding model that compares rows."""

    model: str
    """Folder or hub name."""
    revision: str | None = None
    """Hub revision; set it with a hub name, so that a run can be repeated."""
    batch_size: Positive = 64
    """Texts in a batch (ours)."""


class RowScores(Section):
    """Scores of rows by models that did not write them. The paper has no such step: all numbers are ours."""

    embedder: Embedder | None = None
    """Measures the similarity of rows to each other and to evaluation texts; null does not measure it."""
    twin_min: Share = 0.9
    """Minimum cosine similarity of a pair of similar rows, query and positive together."""
    twins_max: Positive = 500_000
    """Maximum pairs of similar rows; the most similar are kept."""

    asymmetric: tuple[TaskTypeName, ...] = ("retrieval",)
    """Task types whose queries and positives are different kinds of text."""
    folds: Annotated[int, Field(ge=2, le=NUMBER_MAX)] = 5
    """Folds of the cross-fitting: each fold is scored by models trained on the others."""
    rows_max: Positive = 100_000
    """Maximum rows that such a model is trained on."""
    words_max: Positive = 50_000
    """Maximum vocabulary of such a model: words and word pairs."""
    word_rows_min: Positive = 2
    """Minimum texts that contain a word of the vocabulary."""
    role_c: Rate = 1.0
    """Inverse strength of the L2 penalty of the model that separates queries from other texts."""
    dimensions: Positive = 64
    """Dimensions of the model that scores whether query and document fit."""
    epochs: Positive = 20
    """Passes of that model over its rows."""
    learning_rate: Rate = 0.01
    """Learning rate of that model (AdamW)."""
    weight_decay: Annotated[float, Field(ge=0, le=NUMBER_MAX)] = 0.1
    """Weight decay of that model (AdamW)."""
    batch_rows: Positive = 64
    """Rows in a batch of its training, each with its own negative and the positive of another row."""


class MinedNegatives(Section):
    """Hard negatives from the positives of other rows. The paper has none for matching: all numbers are ours."""

    LEFT_OUT = ("per_row",)

    embedder: Embedder
    """Model whose cosine similarity ranks the positives of other rows."""
    task_types: tuple[TaskTypeName, ...] = ("matching_short", "matching_long")
    """Task types whose rows get a negative; a row that has one keeps it."""
    per_row: Annotated[int, Field(ge=1, le=16)] = 1
    """Maximum negatives of a row; only the best one may be in doubt."""
    rank_min: Count = 0
    """Nearest positives of other rows that are skipped, as probable false negatives."""
    relative_margin: Share = 0.05
    """A negative's similarity to the query is at most 1 minus this, times that of the positive (NV-Retriever: 0.05)."""
    doubt_margin: Share = 0.1
    """Above 1 minus this, times the positive's similarity, a negative is in doubt, and the teacher is asked."""
    doubts_max: Count = 0
    """Maximum rows in doubt that the teacher is asked about, two calls each; the others get no negative."""
    sampling: Sampling
    """How the teacher's answers about rows in doubt are sampled."""

    @model_validator(mode="after")
    def _doubts(self) -> MinedNegatives:
        if self.doubt_margin < self.relative_margin:
            raise ValueError("doubt_margin below relative_margin: nothing so near is mined, so nothing is in doubt")
        return self


class RerankerScores(Section):
    """A reranker that scores each row's positive and negatives, for `embedding_model.distil`. It reads query and document as they are: no
    prompt and no instruction is put before them. The paper has no such step."""

    model: Annotated[str, Field(min_length=1, max_length=4000)]
    """Folder or hub name of a cross-encoder with one output (`...ForSequenceClassification`), in safetensors; a relative path starts at the
    recipe's folder. Its raw output is the score, a logit: no sigmoid is applied."""
    revision: str | None = None
    """Hub revision; set it with a hub name, so that a run can be repeated."""
    task_types: Annotated[tuple[TaskTypeName, ...], Field(min_length=1)] = ("retrieval", "grounded")
    """Task types whose rows are scored. Rerankers have learnt whether a document answers a query; what labels, paraphrases and similar
    sentences have in common is another question (ours)."""
    max_length: Positive = 512
    """Maximum tokens of query and document together; the rest of a longer pair is not read (cross-encoders of sentence-transformers for MS
    MARCO: 512)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of its weights; bfloat16 and float16 belong on a GPU."""
    batch_size: Positive = 32
    """Pairs of query and document in a batch (sentence-transformers: 32)."""


class RowVerdicts(Section):
    """The teacher's verdicts on a sample of the rows: faulty, or not. It reads them as junior outputs for revision_data. The
    paper has no such step: all numbers are ours."""

    rows: PerTaskType
    """Maximum rows that the teacher reads, one call each."""
    suspicious_share: Share = 0.7
    """Share of the sample that is drawn among rows with suspicious scores, since they decide a bound. The rest is drawn
    uniformly."""
    rules: Rules | None = None
    """Rows that break one of these are not read, since final_triplets rejects them: set the same rules."""
    sampling: Sampling
    """How the verdicts are sampled."""
