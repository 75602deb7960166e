"""Scores of rows, verdicts of the teacher on a sample, and negatives from other rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.task_types import TaskTypeName
from speed_assets.recipe.section import Count, PerTaskType, Positive, Rate, Section, Share
from speed_assets.recipe.sections.answers import Sampling
from speed_assets.recipe.sections.filters import Rules


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
