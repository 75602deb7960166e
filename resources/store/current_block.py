"""`final_triplets.wanted`: further blocks of rows, until as many as are wanted pass the filters or a ceiling is met.

A block is more rows of the stage that writes: rows are drawn by their number, so that a block leaves earlier rows as they are, and a
stage generates only new ones. How many rows a recipe asks for now follows from the artifacts of earlier blocks and from nothing else, so
command, UI and another machine with the same store agree.

Belongs here: the recipe of the current block. Not here: the arithmetic (`domain/wanted_rows.py`), the gate
(`checks/final_rows.py`), runs of further blocks (`orchestration/runs.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from speed_assets.domain.graph import written_by
from speed_assets.domain.wanted_rows import rows_to_ask
from speed_assets.recipe import ROW_COUNTS, PerTaskType, Recipe

Accepted = Callable[[Recipe], Mapping[str, int] | None]
"""From the recipe of a block to the rows of each task type that passed; None where the block is not finished, or kept too few rows
(`checks.kept_min`), so that it stays the current one."""


def current_block(recipe: Recipe, accepted: Accepted) -> Recipe:
    """The recipe, with the rows that its current block asks for.

    Args:
        recipe: the recipe, which asks for the rows of the first block.
        accepted: what earlier blocks gave.

    Returns:
        A recipe whose `blocks_max` counts the blocks that are left, so that its own current block is itself. The recipe itself where `final_triplets.wanted` is not
        set or the first block is not finished; that of the last block where enough rows passed, or a ceiling is met.
    """
    wanted = recipe.final_triplets.wanted
    if wanted is None:
        return recipe
    goals, most = wanted.rows.model_dump(), wanted.candidates_max.model_dump()
    for _ in range(wanted.blocks_max - 1):
        passed = accepted(recipe)
        if passed is None:
            break
        asked = asked_rows(recipe)
        rows = rows_to_ask(asked, passed, goals, most, wanted.margin)
        if rows == asked:
            break
        recipe = _asking(recipe, rows)
    return recipe


def asked_rows(recipe: Recipe) -> dict[str, int]:
    """Rows of each task type asked of the stage whose rows become triplets."""
    section, field = _section_and_field(recipe)
    rows: PerTaskType = getattr(getattr(recipe, section), field)
    return rows.model_dump()


def at_ceiling(recipe: Recipe) -> Recipe:
    """The recipe with as many rows as all blocks may ask for (`final_triplets.wanted.candidates_max`); itself where nothing is wanted."""
    wanted = recipe.final_triplets.wanted
    if wanted is None:
        return recipe
    goals, most = wanted.rows.model_dump(), wanted.candidates_max.model_dump()
    rows = {
        name: max(count, most.get(name, 0)) if goals.get(name) else count for name, count in asked_rows(recipe).items()
    }
    return _asking(recipe, rows)


def block_in_words(before: Recipe, after: Recipe) -> str:
    """What a further block asks for, in a sentence."""
    section, field = _section_and_field(after)
    old, new = asked_rows(before), asked_rows(after)
    changed = ", ".join(f"{name} {old[name]:,} -> {rows:,}" for name, rows in new.items() if rows != old[name])
    return f"final_triplets.wanted: too few rows passed, so a further block is written ({section}.{field}: {changed})"


def _section_and_field(recipe: Recipe) -> tuple[str, str]:
    section = written_by(recipe.final_triplets.source)
    return section, dict(ROW_COUNTS)[section]


def _asking(recipe: Recipe, rows: dict[str, int]) -> Recipe:
    section, field = _section_and_field(recipe)
    written = getattr(recipe, section).model_copy(update={field: PerTaskType(**rows)})
    triplets = recipe.final_triplets
    assert triplets.wanted is not None
    left = triplets.wanted.model_copy(update={"blocks_max": triplets.wanted.blocks_max - 1})
    return recipe.model_copy(update={section: written, "final_triplets": triplets.model_copy(update={"wanted": left})})
