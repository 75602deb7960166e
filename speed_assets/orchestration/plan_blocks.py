"""What a plan says of `final_triplets.wanted`: rows that are to pass, and how far further blocks of rows may go.

Belongs here: these numbers, and their sentence. Not here: the arithmetic of a block (`domain/wanted_rows.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resources.store.current_block import asked_rows, at_ceiling
from speed_assets.orchestration.calls_by_numbers import calls_of_further_blocks, further_blocks
from speed_assets.recipe import Recipe


@dataclass(frozen=True, slots=True)
class PlannedBlocks:
    """Rows by task type: those that are to pass, those that this block asks for, and those that all blocks may ask for."""

    wanted: Mapping[str, int]
    candidates: Mapping[str, int]
    candidates_max: Mapping[str, int]
    further: int
    """Blocks that may follow."""
    further_calls_most: int
    """Teacher calls of all of these at most, with every further attempt."""


def planned_blocks(recipe: Recipe) -> PlannedBlocks | None:
    """The blocks of a recipe; None where no number of rows is wanted.

    Args:
        recipe: of the current block.
    """
    section = recipe.final_triplets.wanted
    if section is None:
        return None
    goals = {name: rows for name, rows in section.rows.model_dump().items() if rows}
    now, most = asked_rows(recipe), asked_rows(at_ceiling(recipe))
    return PlannedBlocks(
        goals,
        {name: now[name] for name in goals},
        {name: most[name] for name in goals},
        further_blocks(recipe),
        calls_of_further_blocks(recipe),
    )


def blocks_in_words(blocks: PlannedBlocks) -> str:
    """The sentence of a plan.

    >>> blocks_in_words(PlannedBlocks({"sts": 900}, {"sts": 1000}, {"sts": 4000}, 1, 0))
    'final_triplets.wanted: 900 rows are to pass (sts 900), of 1,000 candidates in this block. Where fewer pass, 1 further block may follow, up to 4,000 candidates in all (candidates_max) and 0 more teacher calls. The table above has this block alone.'
    >>> blocks_in_words(PlannedBlocks({"sts": 9}, {"sts": 20}, {"sts": 20}, 0, 0))
    'final_triplets.wanted: 9 rows are to pass (sts 9), of 20 candidates in this block. It is the last one (candidates_max, blocks_max).'
    """
    named = ", ".join(f"{name} {rows:,}" for name, rows in blocks.wanted.items())
    words = (
        f"final_triplets.wanted: {sum(blocks.wanted.values()):,} rows are to pass ({named}), of "
        f"{sum(blocks.candidates.values()):,} candidates in this block. "
    )
    if not blocks.further:
        return f"{words}It is the last one (candidates_max, blocks_max)."
    more = "block" if blocks.further == 1 else "blocks"
    return (
        f"{words}Where fewer pass, {blocks.further} further {more} may follow, up to {sum(blocks.candidates_max.values()):,} candidates "
        f"in all (candidates_max) and {blocks.further_calls_most:,} more teacher calls. The table above has this block alone."
    )
