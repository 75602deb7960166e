"""The number of steps of a training, and the rows that are held out from it.

Belongs here: arithmetic on rows and steps. Not here: training (`workers/fine_tuning.py`), or thresholds (`recipe.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from speed_assets.domain.fingerprints import seed_for

HELD_OUT_MIN = 8
"""Fewest rows that are held out: the mean of fewer is too noisy. Ours."""
HELD_OUT_MAX = 256
"""Most rows that are held out, or that any judgement reads: more would cost time and change little. Ours."""
HELD_OUT_SHARE_MAX = 0.25
"""Share of the rows beyond which none are held out, since training needs them more. Ours."""


def held_out_rows(rows: int, share: float) -> int:
    """How many of `rows` are kept from a training to judge it by; 0 when there are too few to spare any.

    >>> held_out_rows(500, 0.05), held_out_rows(60, 0.05), held_out_rows(20, 0.05), held_out_rows(500, 0.0)
    (25, 8, 0, 0)
    """
    wanted = min(max(round(share * rows), HELD_OUT_MIN), HELD_OUT_MAX) if share else 0
    return wanted if wanted <= HELD_OUT_SHARE_MAX * rows else 0


def hold_out(rows: Iterable[Sequence[str]], share: float, seed: int) -> list[bool]:
    """Whether each row is held out. Equal rows are so together, and a row's place among the others does not matter.

    Args:
        rows: the texts of each row.
        share: of the rows, 0..1.
        seed: the training's.
    """
    drawn = [seed_for(seed, "held out", *texts) for texts in rows]
    wanted = held_out_rows(len(drawn), share)
    bound = sorted(drawn)[wanted - 1] if wanted else -1
    return [number <= bound for number in drawn]


def optimizer_steps(rows: int, batch_size: int, epochs: float) -> int:
    """Steps of a training on so many rows; an incomplete last batch of an epoch counts.

    >>> optimizer_steps(53, 16, 1.0), optimizer_steps(80, 8, 0.1)
    (4, 1)
    """
    return math.ceil(epochs * max(math.ceil(rows / batch_size), 1))


def warm_up_steps(steps: int, share: float) -> int:
    """Steps with a rising learning rate. Rounded down: the rate of the first one is 0, so it changes nothing, and of
    few steps none can be spared.

    >>> warm_up_steps(100, 0.03), warm_up_steps(4, 0.1)
    (3, 0)
    """
    return int(share * steps)


def too_few_steps_message(name: str, rows: int, steps: int, batch_size: int, steps_min: int) -> str | None:
    """A message about a training with fewer steps than `steps_min`, or None.

    Args:
        name: section of the recipe, such as `junior_model`.
        rows: rows of the training.
        steps: optimizer steps that they make.
        batch_size: rows in one step.
        steps_min: fewest steps (`checks.steps_min`).
    """
    if steps >= steps_min:
        return None
    return (
        f"{name} will take {steps} steps on {rows} rows, and fewer than {steps_min} (checks.steps_min) hardly change a "
        f"model: get more rows, or raise {name}.epochs, or lower {name}.batch_size (now {batch_size})"
    )
