"""The diversity of final_triplets: its measures next to what was asked for, and their plot.

Belongs here: computing what was asked for, and the plot. Not here: the measures (`domain/diversity_measures.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from resources.inputs.prompt_files import prompt_set
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.diversity_measures import diversity
from speed_assets.domain.graph import written_by
from speed_assets.domain.rows import draw_tasks
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TOPIC_TYPES
from speed_assets.recipe import FinalTriplets, rows_asked


def measured(
    run: StageRun[FinalTriplets], rows: pl.DataFrame, given: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The diversity of the rows that passed, as metadata; the plot goes to the unhashed folder.

    Args:
        run: of final_triplets.
        rows: that passed.
        given: rows that the user gave, by task type: no prompt asked for them. None for written ones.
    """
    section = run.section
    asked = rows_asked(run.recipe, section.source).model_dump() if given is None else given
    prompts = prompt_set(run.unfingerprinted.prompts, run.multilingual)
    found = diversity(
        rows,
        _asked_topics(run, asked),
        asked if section.diversity.intended is None else section.diversity.intended.model_dump(),
        rows_max=section.diversity.rows_max,
        vendi_rows_max=section.diversity.vendi_rows_max,
        seed=run.recipe.seed,
        in_prompts={
            name: prompts.attributes_in_prompt(name) if given is None else frozenset() for name in TASK_TYPE_NAMES
        },
        languages=run.languages.shares if given is None and run.languages else None,
    )
    plot_diversity(found, run.unhashed / "diversity.png")
    return found


def _asked_topics(run: StageRun[FinalTriplets], asked: Mapping[str, int]) -> pl.DataFrame:
    """(task_type, topic) of every task that rows were asked for, drawn again as the writer drew them."""
    if "task_list" not in run.inputs:  # every row is written from a passage, or given
        return pl.DataFrame(schema={"task_type": pl.String, "topic": pl.String})
    assert run.stage.takes is not None
    writer = written_by(run.section.source)
    tasks = run.input_rows("task_list").filter(run.stage.takes)
    drawn = []
    for task_type in TOPIC_TYPES:
        pairs = tasks.filter(task_type=task_type).select("topic_id", "task_id").rows()
        first_round = min(asked[task_type], len(pairs))  # later rounds are about the same topics
        drawn += [task_id for task_id, _ in draw_tasks(pairs, first_round, run.recipe.seed, writer)]
    return tasks.filter(pl.col("task_id").is_in(drawn)).select("task_type", "topic")


def plot_diversity(found: Mapping[str, Any], path: Path) -> None:
    """Proportions of task types and attributes next to those asked for, and topics covered."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), dpi=96, layout="constrained")
    types, topics, attributes = figure.subplots(1, 3)
    _bars(types, list(found["task_types"]["kept"]), {n: found["task_types"][n] for n in ("intended", "kept")})
    types.set_xlabel("share of rows by task type")
    covered = found["topics"]["by_task_type"]
    _bars(topics, list(covered), {"covered": covered})
    topics.set_xlabel("share of topics asked for")
    names = [f"{use['task_type']} {use['attribute']}" for use in found["attributes"]]
    shown = {"asked": "entropy_asked", "kept": "entropy"}
    _bars(
        attributes,
        names,
        {
            word: {name: use[key] for name, use in zip(names, found["attributes"], strict=True)}
            for word, key in shown.items()
        },
    )
    attributes.set_xlabel("normalized entropy of attributes")
    figure.savefig(path)


def _bars(axes: Any, names: list[str], groups: Mapping[str, Mapping[str, float]]) -> None:
    """Horizontal bars of 0..1 for each name, the groups next to each other."""
    height = 0.8 / len(groups)
    for place, (word, values) in enumerate(groups.items()):
        axes.barh([row + place * height for row in range(len(names))], [values[n] for n in names], height, label=word)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(names))], names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=len(groups), frameon=False)
