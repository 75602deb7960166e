"""Teacher calls by the recipe's numbers alone, whatever a home holds.

Belongs here: those counts, for extrapolations. Not here: the exact counts of a plan (`plan.py`), tokens and money.
"""

from __future__ import annotations

from resources.inputs.enough_topics import topic_counts
from resources.store.current_block import asked_rows, at_ceiling
from speed_assets.domain.graph import downstream, upstream, written_by
from speed_assets.domain.judging import presentation_orders
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES
from speed_assets.domain.topic_growth import expansion_calls
from speed_assets.orchestration.plan_estimates import answers_calls, attempts_of, own_evaluation_calls
from speed_assets.recipe import Recipe


def calls_of(recipe: Recipe) -> dict[str, int]:
    """Teacher calls of each stage by the recipe's numbers, first attempts only."""
    graph, wanted = recipe.graph(), {}
    expand = recipe.topics.expand
    if expand:
        named = topic_counts(recipe.topics.model_copy(update={"expand": None}))["synthesis"]
        wanted["topic_tree"] = expansion_calls(named, expand.children, expand.levels, expand.target, 1)[0]
    wanted["task_list"] = sum(tasks_of(recipe, name) for name in TASK_TYPE_NAMES if TASK_TYPES[name].has_brainstorm)
    wanted["seed_data"] = recipe.seed_data.rows.total()
    if recipe.preference_pairs and recipe.junior_data:
        judges = 1 + len(recipe.preference_pairs.panel)
        orders_asked = min(2, len(presentation_orders(recipe.junior_data.candidates)))
        wanted["preference_pairs"] = recipe.preference_pairs.prompts.total() * orders_asked * judges
    if recipe.revision_data:
        wanted["revision_data"] = recipe.revision_data.rows.total()
    if recipe.row_verdicts:
        wanted["row_verdicts"] = recipe.row_verdicts.rows.total()
    if recipe.own_evaluation:
        wanted["own_evaluation"] = own_evaluation_calls(recipe)
    wanted["examples"] = answers_calls(recipe)
    if recipe.mined_negatives:
        wanted["mined_negatives"] = 2 * recipe.mined_negatives.doubts_max
    return {name: count for name, count in wanted.items() if name in graph}


def tasks_of(recipe: Recipe, task_type: str) -> int:
    """Topics that tasks of this type are brainstormed for, at most: no more than the rows of this type."""
    graph, topics = recipe.graph(), topic_counts(recipe.topics)
    drawn = {
        part: min(
            topics[part], sum(n for stage, n in recipe.rows_wanted(task_type).items() if graph[stage].takes == part)
        )
        for part in ("synthesis", "alignment")
    }
    if recipe.topics.alignment in (None, recipe.topics.file):
        return min(topics["synthesis"], sum(drawn.values()))
    # A separate file of alignment topics shares few of them with the synthesis.
    return sum(drawn.values())


def calls_of_further_blocks(recipe: Recipe) -> int:
    """Teacher calls that further blocks of rows take at most (`final_triplets.wanted`), with every attempt that the recipe allows.

    Tasks and rows of the teacher are asked for up to the ceiling. A stage that reads written rows before they are filtered, such as
    row_verdicts, draws its sample from each block once more.

    Args:
        recipe: of the current block.
    """
    blocks = further_blocks(recipe)
    if not blocks:
        return 0
    graph, writer = recipe.graph(), written_by(recipe.final_triplets.source)
    reading = (downstream(graph, [writer]) - {writer}) & upstream(graph, ["final_triplets"])
    now, most = calls_of(recipe), calls_of(at_ceiling(recipe))
    return sum(
        attempts_of(recipe, stage) * (blocks * count if stage in reading else max(0, count - now[stage]))
        for stage, count in most.items()
    )


def further_blocks(recipe: Recipe) -> int:
    """Blocks that may follow the current one; none where the ceiling is met."""
    wanted = recipe.final_triplets.wanted
    if wanted is None or asked_rows(recipe) == asked_rows(at_ceiling(recipe)):
        return 0
    return wanted.blocks_max - 1
