"""Thresholds of checks and gates, and the licences of a release."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.recipe.section import RESAMPLES_MAX, Count, Rate, Section, Share


class Superior(Section):
    """The test whether the embedding model is better than what it is compared with, from the samples of their scores.
    Numbers are ours."""

    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Maximum probability of a wrong verdict, over all tasks of one comparison (Holm) and on their mean."""
    resamples: Annotated[int, Field(ge=100, le=RESAMPLES_MAX)] = 2_000
    """Bootstrap draws; at least 2 / alpha for each task."""
    over: tuple[Literal["untrained", "bm25", "seed_data", "junior_data"], ...] = ()
    """Models that the embedding model must beat, or nothing is released; the other comparisons are reported only."""


class NonInferior(Section):
    """The test whether a release would be worse than the last one of its recipe. All numbers are ours."""

    margin: Rate = 0.02
    """Score points of 0..1 that a task may lose: 2 nDCG points."""
    margins: dict[str, Rate] = Field(default_factory=dict)
    """The same by mteb's main metric, for metrics that vary more between seeds than `margin` could tell from a loss."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Maximum probability that a release passes although it lost more than its margin on some task."""
    resamples: Annotated[int, Field(ge=100, le=RESAMPLES_MAX)] = 2_000
    """Bootstrap draws; at least 1 / alpha."""
    waived: dict[str, str] = Field(default_factory=dict)
    """{start of a release's fingerprint: reason}: releases that are not compared with, since their scores were measured
    differently (other tasks, other versions)."""


class OwnGain(Section):
    """The test whether the embedding model is better than its base on the user's own set (`own_evaluation`), by a paired bootstrap
    over its queries. All numbers are ours."""

    gain_min: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """Score points of 0..1 by which the model must be better than the untrained base."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Maximum probability that a release passes whose gain is no more than `gain_min`; each of the user's sets has to pass."""
    resamples: Annotated[int, Field(ge=100, le=RESAMPLES_MAX)] = 2_000
    """Bootstrap draws; at least 1 / alpha."""


class Licences(Section):
    """Licences that the cards of a release state. A release without them cannot be pushed."""

    model_licence: str | None = None
    """Licence of the released model as hubs spell it (`mit`, `apache-2.0`, `other`); null states none."""
    data_licence: str | None = None
    """Licence of the released rows. The terms of the teacher may apply to them."""


class Checks(Section):
    """Thresholds of the gates. A blocking check below its threshold stops the run and the release. The paper names no
    thresholds: all are ours."""

    LEFT_OUT = ("own_evaluation",)

    topics_refused_max: Share = 0.2
    """Maximum share of rejected lines of the topic file."""
    tasks_missing_max: Share = 0.05
    """Maximum share of topics without a task."""
    seed_data_valid_min: Share = 0.7
    """Minimum share of the teacher's answers that parse into a valid record."""
    junior_data_valid_min: Share = 0.5
    """Minimum share of the junior's answers that parse into a valid record (ours: below half, judges see few candidates)."""
    pairs_min: Count = 20
    """Minimum preference pairs, of all task types together, for DPO to start."""
    judge_contradictions_max: Share = 0.3
    """Maximum share of a task type's prompts with two readable verdicts in which some candidate is best in one order and
    worst in another; more is refused where a judge at this share would come to so many with a probability below 5 %, so a
    handful of prompts refuses nobody. (Ours: a judge that guesses among five candidates comes to 0.35,
    one that always takes the first to 1.)"""
    judge_unreadable_max: Share = 0.2
    """Maximum share of verdicts that could not be read (ours)."""
    senior_data_valid_min: Share = 0.7
    """Minimum share of the rows at scale that parse into a valid record (ours)."""
    revision_data_valid_min: Share = 0.7
    """Minimum share of the teacher's revisions that give a valid record (ours)."""
    revised_data_valid_min: Share = 0.8
    """Minimum share of the rows that are valid after their revision (ours)."""
    revisions_readable_min: Share = 0.5
    """Minimum share of revised_data's revisions that can be read: what cannot be read leaves its row as it was (ours)."""
    kept_min: Share = 0.5
    """Minimum share of rows that reach final_triplets."""
    topic_coverage_min: Share = 0.9
    """Minimum share of the topics asked for that have a row in final_triplets; a warning, as the next two."""
    task_type_distance_max: Share = 0.1
    """Maximum share of the rows of final_triplets that would have to be of another task type to be as intended."""
    vendi_per_row_min: Share = 0.02
    """Minimum Vendi score per sampled row (1: no two share a word). It depends on the size of the sample and the length of the texts (ours)."""
    loss_drop_min: Annotated[float, Field(le=1)] = 0.0
    """Minimum relative fall of the loss: of a generator on its held-out rows, from before the first step to after the
    last; of an embedding model from the first to the last tenth of its steps."""
    reward_accuracy_min: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """Share of preference pairs that must be exceeded by those whose chosen answer gained more likelihood than the rejected
    one (0.5: chance, and what no training at all gives; ours)."""
    steps_min: Count = 10
    """Minimum optimizer steps of a generator's training; fewer give a warning before it starts (ours: with a usual rate Adam
    moves a weight by some 1e-4 a step)."""
    gain_over_untrained_min: float = 0.0
    """Minimum gain of the mean score over the untrained base, in score points of 0..1."""
    gain_over_baselines_min: float = 0.0
    """Minimum gain of the mean score over every trained baseline, in score points of 0..1; a warning, not a gate."""
    superior: Superior = Superior()
    non_inferior: NonInferior = NonInferior()
    own_evaluation: OwnGain | None = None
    """Gate on the gain over the untrained base on the user's own set; null has none, and the gain is reported only."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Older recipes still load without their threshold of agreement, which measured something else."""
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
        """Thresholds that every artifact passes: a study also scores what a gate would stop."""
        highest = {name: 1.0 for name in cls.model_fields if name.endswith("_max")}
        shares = {name: 0 for name in cls.model_fields if name.endswith("_min")}
        differences = {name: -1.0 for name in cls.model_fields if name.startswith(("gain_", "reward_accuracy_"))}
        differences["loss_drop_min"] = -1e6  # a loss may rise to any multiple
        no_release = NonInferior(waived={"": "what a study makes is no release"})  # a fingerprint begins with nothing
        return cls.model_validate({**highest, **shares, **differences, "non_inferior": no_release})
