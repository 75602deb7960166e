"""What must be true of a recipe whose embedding model learns from another model; each rule yields what is wrong and what to set.

Belongs here: rules on `embedding_model.distil` and `reranker_scores`. Not here: other rules (`rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from speed_assets.domain.graph import RERANKER_SCORES, Graph, written_by
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES

if TYPE_CHECKING:
    from speed_assets.recipe.model import Recipe


def margins_are_known(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A model that is learnt from has scored the rows, and none scores them for nothing."""
    source = recipe.embedding_model.distil.source if recipe.embedding_model.distil else None
    if source == "embedder" and recipe.mined_negatives is None:
        yield "`mined_negatives` is missing: embedding_model.distil learns the margins of its embedder"
    if source == "reranker" and recipe.reranker_scores is None:
        yield "`reranker_scores` is missing: embedding_model.distil.source=reranker learns the margins of its model"
    if source != "reranker" and recipe.reranker_scores is not None:
        yield "reranker_scores is of no use: set embedding_model.distil.source=reranker, or remove reranker_scores"


def a_reranker_has_negatives(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Some row of the task types that a reranker scores will have a negative; of given rows nobody knows."""
    section = recipe.reranker_scores
    if section is None or RERANKER_SCORES not in graph or graph["final_triplets"].given:
        return
    rows = recipe.rows_by_stage()[written_by(recipe.final_triplets.source)]
    mined = recipe.mined_negatives.task_types if recipe.mined_negatives else ()
    asked = [name for name in TASK_TYPE_NAMES if getattr(rows, name)]
    if not any(name in section.task_types and (TASK_TYPES[name].has_negative or name in mined) for name in asked):
        yield (
            f"reranker_scores.task_types={', '.join(section.task_types)}: no such row has a negative (rows are {', '.join(asked)}): name "
            "one of these types, or add its negatives by mined_negatives.task_types"
        )
