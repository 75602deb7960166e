"""Tables that teacher and generators write: how many rows, and how they are drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.graph import Writer
from speed_assets.recipe.section import NUMBER_MAX, PerTaskType, Positive, Section, Share
from speed_assets.recipe.sections.answers_section import Sampling
from speed_assets.recipe.sections.filters import Rules


class SeedData(Section):
    rows: PerTaskType
    """Examples asked of the teacher (paper: 25K)."""
    sampling: Sampling
    """How the teacher's examples are sampled."""
    attempts: Positive = 1
    """Maximum attempts at a valid example; each is a call (paper: one)."""
    rules: Rules | None = None
    """Rules that an example must satisfy, as in final_triplets: an example that breaks one is asked for again with the reason,
    and never trained on. null accepts every valid example."""


class JuniorData(Section):
    prompts: PerTaskType
    """Prompts that the junior answers, each with `candidates` answers (the paper gives no number)."""
    candidates: Annotated[int, Field(ge=2, le=NUMBER_MAX)]
    """Candidates for each prompt (the paper's example shows 5; never fixed)."""
    sampling: Sampling
    """How the junior's candidates are sampled."""


class PreferencePairs(Section):
    prompts: PerTaskType
    """Prompts judged, two calls each: one for each order of the candidates (paper: 10K calls, one order)."""
    sampling: Sampling
    """How the judges' verdicts are sampled."""
    panel: tuple[str, ...] = ()
    """Further judges at the teacher's endpoint; each is asked in every order, and all verdicts count the same."""
    orders_max: Annotated[int, Field(ge=2, le=NUMBER_MAX)] = 2
    """Maximum orders in which candidates are shown. Two are asked first, then two more while they disagree
    (ours; the paper has one order)."""
    margin_min: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Minimum share of the votes that a pair needs; each readable verdict has a vote for best and one for worst. With two
    orders 0.75 needs the same best or the same worst in both, 1 needs both, 0.5 no contradiction (ours; docs/benchmarks.md)."""
    rules: Rules | None = None
    """Rules of final_triplets that a chosen answer must satisfy; null has none."""
    length_share_max: Share = 0.8
    """Maximum share of verdicts that length alone explains (longest best and shortest worst, or the reverse); above it, those
    verdicts give no pairs (ours)."""

    @model_validator(mode="after")
    def _repeats(self) -> PreferencePairs:
        if self.orders_max > 2 and self.margin_min == 1:
            raise ValueError("orders_max above 2 repeats what two orders disagreed on: set margin_min below 1")
        return self


class SeniorData(Section):
    rows: PerTaskType
    """Rows asked of the senior generator (paper: 1.15M raw)."""
    sampling: Sampling
    """How the rows are sampled."""
    attempts: Positive = 1
    """Maximum attempts at a valid row (paper: one)."""
    writer: Writer = "senior_model"
    """Model that writes the rows; `junior_model` leaves out DPO, as in the paper's ablations."""


class RevisionData(Section):
    rows: PerTaskType
    """Junior outputs that the teacher revises, one call each (paper: 10K)."""
    sampling: Sampling
    """How the teacher's revisions are sampled."""


class RevisedData(Section):
    sampling: Sampling
    """How the revisor's answers are sampled."""
    readings: Positive = 1
    """Times that the revisor reads a row (paper: 1). From the second reading on it reads only what it changed; the last of
    several changes nothing and marks rows that are still in doubt."""
