"""Attributes of a synthesis prompt: what varies between two prompts of one task, and how often.

Values and weights of rows about topics are those of SPEED (arXiv 2410.18634), as its released prompts draw them
(https://github.com/haon-chen/SPEED); retrieval, classification and STS follow E5-mistral
(arXiv 2401.00368). Matching prompts about topics have none. Those of rows from passages are ours: the scores of STS, and lengths of about
the size of a passage for matching. Every text is English.

All attributes of a task type are drawn for every row, whichever prompt set asks for it; a set states those that its
templates name (`PromptSet.attributes_in_prompt`). New ones come last, so that no earlier draw changes.

Belongs here: names, values, weights, drawing. Not here: the words a prompt puts around a value (`prompt_sets/`).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its values, the relative weight of each, and how often it is there at all (0..1)."""

    name: str
    values: tuple[str, ...]
    weights: tuple[float, ...]
    presence: float = 1.0


def _even(name: str, *values: str, presence: float = 1.0) -> Attribute:
    return Attribute(name, values, (1 / len(values),) * len(values), presence)


ATTRIBUTES: dict[str, tuple[Attribute, ...]] = {
    "classification": (
        Attribute(
            "text_length",
            (
                "less than 10 words",
                "at least 10 words",
                "at least 50 words",
                "at least 100 words",
                "at least 200 words",
            ),
            (0.1, 0.3, 0.2, 0.2, 0.2),
        ),
        Attribute("text_clarity", ("clear", "understandable with some effort", "ambiguous"), (0.6, 0.2, 0.2)),
        _even("education", "high school", "college", "PhD", presence=0.5),
    ),
    "retrieval": (
        Attribute("query_length", ("less than 5 words", "5 to 15 words", "at least 10 words"), (0.4, 0.4, 0.2)),
        Attribute("clarity", ("clear", "understandable with some effort", "ambiguous"), (0.6, 0.2, 0.2)),
        Attribute("query_type", ("extremely long-tail", "long-tail", "common"), (0.4, 0.5, 0.1)),
        _even("document_length", *(f"{words} words" for words in (50, 100, 200, 300, 400, 500))),
        _even("difficulty", "high school", "college", "PhD", presence=0.5),
    ),
    "sts": (
        Attribute("unit", ("sentence", "phrase", "passage"), (0.9, 0.05, 0.05)),
        _even("high_score", "4", "4.5", "5"),
        _even("low_score", "2.5", "3", "3.5"),
        _even("education", "high school", "college", "PhD", presence=0.5),
    ),
    "matching_short": (),
    "matching_long": (),
    "grounded": (),
    "grounded_classification": (),
    "grounded_sts": (_even("high_score", "4", "4.5", "5"), _even("low_score", "2.5", "3", "3.5")),
    "grounded_matching_long": (_even("document_length", *(f"{words} words" for words in (50, 100, 200))),),
}
"""Attributes of each task type. `high_score` is that of S1 and S2, `low_score` that of S1 and S3, out of 5."""

GUIDELINE_ORDER = "guideline_order"
GUIDELINES: dict[str, int] = {"classification": 6, "retrieval": 6, "sts": 5}
"""Guidelines of the task types that shuffle them: a prompt set that states guidelines states this many."""


def draw_attributes(task_type: str, seed: int) -> dict[str, str]:
    """Draw the attributes of one prompt.

    Args:
        task_type: Of the row.
        seed: The same seed gives the same draw.

    Returns:
        {name: value} in the table's order. An attribute that is not always there is left out when it is not drawn. Task
        types with guidelines also get their order, e.g. {"guideline_order": "2,0,1"}.

    Raises:
        KeyError: The task type is unknown.
    """
    rng = random.Random(seed)
    drawn: dict[str, str] = {}
    for attribute in ATTRIBUTES[task_type]:
        value = rng.choices(attribute.values, attribute.weights)[0]
        if rng.random() < attribute.presence:  # always asked, so that an absence moves no later draw
            drawn[attribute.name] = value
    if task_type in GUIDELINES:
        order = range(GUIDELINES[task_type])
        drawn[GUIDELINE_ORDER] = ",".join(str(i) for i in rng.sample(order, len(order)))
    return drawn


def combinations(task_type: str, in_prompt: frozenset[str]) -> list[float]:
    """The probability of each combination of values that a prompt can have; they sum to 1.

    An order of guidelines makes no other request, so it makes no combination of its own.

    Args:
        task_type: Of the prompt.
        in_prompt: Names of the attributes that the prompt states.
    """
    found = [1.0]
    for attribute in ATTRIBUTES[task_type]:
        if attribute.name not in in_prompt:
            continue
        total = sum(attribute.weights)
        options = [attribute.presence * weight / total for weight in attribute.weights]
        if attribute.presence < 1:
            options.append(1 - attribute.presence)
        found = [one * option for one in found for option in options]
    return found


def rows_per_prompt(task_type: str, in_prompt: frozenset[str], tasks: int, rows: int) -> float:
    """Rows for each different prompt among rows that are drawn over tasks in turn: the expected value.

    Of n draws, a combination with probability p comes at all with probability 1 - (1 - p)^n.

    Args:
        task_type: Of the prompts.
        in_prompt: Names of the attributes that the prompt states.
        tasks: Different tasks that there are.
        rows: Rows to be written.

    Returns:
        1 or more; 0 without a row, infinite without a task.

    >>> rows_per_prompt("matching_short", frozenset(), 10, 30)
    3.0
    """
    if not rows:
        return 0.0
    if not tasks:
        return math.inf
    each, more = divmod(rows, tasks)
    chances = combinations(task_type, in_prompt)

    def different(draws: int) -> float:
        return sum(1 - (1 - chance) ** draws for chance in chances)

    return rows / (more * different(each + 1) + (tasks - more) * different(each))


def tasks_needed(task_type: str, in_prompt: frozenset[str], rows: int, most: float) -> int:
    """The fewest tasks that keep the rows for each different prompt (`rows_per_prompt`) within a limit.

    Args:
        task_type: Of the prompts.
        in_prompt: Names of the attributes that the prompt states.
        rows: Rows to be written.
        most: Rows for each different prompt, 1 or more.
    """
    low, high = 1, max(rows, 1)
    while low < high:
        middle = (low + high) // 2
        if rows_per_prompt(task_type, in_prompt, middle, rows) <= most:
            high = middle
        else:
            low = middle + 1
    return low
