"""Whether a recipe only demonstrates the loop, in a toy language.

Belongs here: that question and its sentence, for `plan`, `run`, cards and reports. Not here: the toy language itself
(`speed_assets/microworld`).
"""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import TYPE_CHECKING

from speed_assets.recipe.paths import RECIPES

if TYPE_CHECKING:
    from speed_assets.recipe.model import Recipe

IN_TOY_LANGUAGE = (
    "demonstration in a toy language: teacher.engine `microworld` writes invented sentences, not natural text, so rows, model "
    "and scores are of no use for real texts"
)


def demonstration_notice(recipe: Recipe) -> str | None:
    """The first line of a run or plan whose teacher writes a toy language about topics that are not the demonstration's.

    Returns:
        The sentence; None for a real teacher, and for the demonstration's own topics.
    """
    if recipe.teacher.engine != "microworld":
        return None
    if recipe.corpus is None and _is_shipped(Path(recipe.topics.file)):
        return None
    topics = (
        "the documents of corpus" if recipe.corpus is not None else f"the topics of {Path(recipe.topics.file).name}"
    )
    return (
        f"{IN_TOY_LANGUAGE}; {topics} change nothing about that. For them, name a teacher: "
        "`speed init my-domain`, or teacher.engine openai"
    )


def _is_shipped(file: Path) -> bool:
    """Whether a topic file is the demonstration's, or a copy of it."""
    try:
        return file.parent.resolve() == RECIPES.resolve() or filecmp.cmp(file, RECIPES / "topics.txt", shallow=False)
    except OSError:
        return False
