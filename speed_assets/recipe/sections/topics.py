"""Topics, the tree that the teacher grows from them, tasks and prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from speed_assets.recipe.section import Positive, Section, Share
from speed_assets.recipe.sections.answers import Sampling


class Expand(Section):
    """How the teacher grows the topics of `topics.file` into a tree. All numbers are ours; the paper draws from the Open
    Directory, whose branch Sports alone has 15,018 topics."""

    children: Annotated[int, Field(ge=1, le=50)] = 12
    """Subtopics that each topic is asked for."""
    levels: Annotated[int, Field(ge=1, le=4)] = 2
    """Times that the newest topics are asked for subtopics of theirs."""
    target: Positive
    """Topics at most, those of the file among them; no more are asked for subtopics than this needs."""
    attempts: Positive = 2
    """Times that a topic is asked while its answer is no list, or fewer than `enough` of its subtopics are new."""
    enough: Share = 0.5
    """Share of `children` that have to be new, or the topic is asked again, with those that are there already named."""
    sampling: Sampling


class Topics(Section):
    file: str
    """Topic file; a relative path starts at the recipe's folder."""
    alignment: str | None = None
    """Topic file that the alignment stages (seed, junior, preference and revision data) take their tasks from; null takes
    `file`. With a file of its own, new or changed topics retrain no generator."""
    max_levels: Annotated[int, Field(ge=2)] = 4
    """Levels kept of a deeper path: the first and the last half (paper section 3.2)."""
    max_characters: Positive = 200
    """Longer lines are refused (our choice: ODP's longest paths are below)."""
    at_least: Positive = 10
    """Fewer topics than this end the run (our choice: held-out and training topics need some variety)."""
    limit: Positive | None = None
    """Topics taken, by hash of the path; null takes all."""
    expand: Expand | None = None
    """Have the teacher grow the topics into a tree; null takes the file as it is. Alignment topics of a file of their own
    stay as they are."""
    rows_per_prompt_max: Annotated[float, Field(ge=1)] = 3.0
    """Rows for each different prompt, on average, above which `speed plan` and `speed run` warn: such rows differ by the luck
    of sampling alone (ours)."""
    refuse: bool = False
    """Above `rows_per_prompt_max` nothing is asked for at all."""


class Prompts(Section):
    set: Literal["full", "compact"]
    """`full` for real models, `compact` for small ones."""
    file: str | None = None
    """YAML file of your own with what shall be worded otherwise, in the layout of `speed_assets/domain/prompt_sets/`; what
    it leaves out stays as in `set`. Only what it changes is asked anew."""


class TaskList(Section):
    per_topic: Positive = 1
    """Tasks for each topic (paper: one is best)."""
    sampling: Sampling
    attempts: Positive = 3
    """Times that a topic is asked for a task until one stands the rules of tasks (ours; a task is an instruction above many
    rows, and costs one call)."""
