"""Topics, the tree that the teacher grows from them, tasks and prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from speed_assets.recipe.section import NUMBER_MAX, Positive, Section, Share
from speed_assets.recipe.sections.answers_section import Sampling


class Expand(Section):
    """How the teacher expands the topics of `topics.file` into a tree. All numbers are ours; the paper draws from the Open
    Directory, whose branch Sports alone has 15,018 topics."""

    children: Annotated[int, Field(ge=1, le=50)] = 12
    """Subtopics that the teacher is asked for, for each topic."""
    levels: Annotated[int, Field(ge=1, le=4)] = 2
    """Levels of subtopics below the topics of the file."""
    target: Positive
    """Maximum topics, including those of the file; no more topics are expanded than this needs."""
    attempts: Positive = 2
    """Maximum attempts for a topic while its answer is no list, or fewer than `enough` of its subtopics are new."""
    enough: Share = 0.5
    """Minimum share of `children` that must be new; otherwise the topic is asked again, with the subtopics that exist."""
    sampling: Sampling
    """How its answers are sampled."""


class Topics(Section):
    file: str
    """Topic file; a relative path starts at the recipe's folder."""
    alignment: str | None = None
    """Topic file that the alignment stages (seed, junior, preference and revision data) take their tasks from; null takes
    `file`. With a file of its own, new or changed topics retrain no generator."""
    max_levels: Annotated[int, Field(ge=2, le=NUMBER_MAX)] = 4
    """Levels kept of a deeper path: the first and the last half (paper section 3.2)."""
    max_characters: Positive = 200
    """Maximum characters of a line; longer lines are rejected (our choice: ODP's longest paths are below)."""
    at_least: Positive = 10
    """Minimum number of topics; with fewer, the run stops (our choice: held-out and training topics need some variety)."""
    limit: Positive | None = None
    """Maximum topics of the file, chosen by a hash of their path; null takes all."""
    expand: Expand | None = None
    """Expands the topics into a tree with the teacher; null takes the file as it is. Topics of `alignment` are not
    expanded."""
    rows_per_prompt_max: Annotated[float, Field(ge=1, le=NUMBER_MAX)] = 3.0
    """Maximum mean number of rows with the same prompt; above it, `speed plan` and `speed run` warn, since such rows differ by
    sampling alone (ours)."""
    refuse: bool = False
    """Stop the run instead of the warning of `rows_per_prompt_max`."""


class Prompts(Section):
    set: Literal["full", "compact"]
    """`full` for real models, `compact` for small ones."""
    file: str | None = None
    """YAML file with your own wording of some prompts, in the layout of `speed_assets/domain/prompt_sets/`; all others stay as
    in `set`. Only what it changes is asked again."""


class TaskList(Section):
    per_topic: Positive = 1
    """Tasks for each topic (paper: one is best)."""
    sampling: Sampling
    """How tasks are sampled."""
    attempts: Positive = 3
    """Maximum attempts at a task that satisfies the rules of tasks (ours; many rows share a task, and it costs one call)."""
