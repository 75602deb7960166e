"""Warnings about a recipe before anything is sent: too few prompts, trainings that are too short, examples that no stage uses.

Belongs here: the warnings of a plan and of a run's first second. Not here: what is missing on this machine, or how the
warnings are computed (`enough_topics.py`, `unused_examples.py`, `domain/training_length.py`).
"""

from __future__ import annotations

from resources.inputs.enough_topics import crowded_prompt_warnings
from resources.inputs.unused_examples import example_warnings
from speed_assets.domain.training_length import too_few_steps_message
from speed_assets.recipe import PerTaskType, Recipe, Training


def warnings_before(recipe: Recipe) -> list[str]:
    """Warnings, one sentence each.

    Raises:
        RecipeError: where the recipe refuses too few prompts (`topics.refuse`), no example can be used, or a file of topics or examples
            cannot be read.
    """
    return [
        *crowded_prompt_warnings(recipe),
        *example_warnings(recipe),
        *short_trainings(recipe),
        *taught_unchecked(recipe),
    ]


def taught_unchecked(recipe: Recipe) -> list[str]:
    """A warning where generators learn from rows on which no rule is applied; the microworld's teacher breaks none."""
    if recipe.teacher.engine == "microworld":
        return []
    trained = {
        "junior_model": ("seed_data", recipe.seed_data),
        "senior_model": ("preference_pairs", recipe.preference_pairs),
    }
    graph = recipe.graph()
    return [
        f"{table}.rules is not set: rows that final_triplets.rules reject train {model}; give {table} the same rules"
        for model, (table, section) in trained.items()
        if model in graph and not graph[model].given and section is not None and section.rules is None
    ]


def short_trainings(recipe: Recipe) -> list[str]:
    """Trainings of generators that will take fewer steps than `checks.steps_min`, if every row is valid."""
    graph = recipe.graph()
    trained: dict[str, tuple[Training | None, PerTaskType | None]] = {
        "junior_model": (recipe.junior_model, recipe.seed_data.rows),
        "senior_model": (recipe.senior_model, recipe.preference_pairs.prompts if recipe.preference_pairs else None),
        "revisor_model": (recipe.revisor_model, recipe.revision_data.rows if recipe.revision_data else None),
    }
    found = []
    for name, (settings, rows) in trained.items():
        if name in graph and not graph[name].given and settings is not None and rows is not None:
            total = rows.total()
            least = recipe.checks.steps_min
            found.append(too_few_steps_message(name, total, settings.steps(total), settings.batch_size, least))
    return [line for line in found if line is not None]
