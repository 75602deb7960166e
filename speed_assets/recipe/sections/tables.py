"""Tables that teacher and generators write: how many rows, and how they are drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.graph import Writer
from speed_assets.recipe.section import PerTaskType, Positive, Section, Share
from speed_assets.recipe.sections.answers import Sampling
from speed_assets.recipe.sections.filters import Rules


class SeedData(Section):
    rows: PerTaskType
    """Examples asked of the teacher (paper: 25K)."""
    sampling: Sampling
    attempts: Positive = 1
    """Times that an example is asked for until it is whole; each is a call (paper: none is asked again)."""
    rules: Rules | None = None
    """Rules that an example must keep, as rows of final_triplets do: what breaks one is asked for again with the reason, and
    is never taught. null teaches whatever is whole."""


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


class RevisedData(Section):
    sampling: Sampling
    readings: Positive = 1
    """Times that the revisor reads a row (paper: 1). From the second on it reads what it has changed before, and the
    last of several readings changes nothing: it tells what is still in doubt."""
