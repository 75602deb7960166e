"""Rows, calls and seconds of a stage, estimated from the recipe and from earlier runs.

Belongs here: estimates of stages. Not here: the plan (`plan.py`), why a stage is made (`plan_reasons.py`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import polars as pl

from resources.inputs.example_files import read_examples
from resources.inputs.judged_queries import read_judged_queries
from resources.store.store import Store
from speed_assets.domain.graph import EXAMPLES, RERANKER_SCORES, Stage
from speed_assets.domain.judging import presentation_orders
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES
from speed_assets.orchestration.plan_reasons import newest_manifest
from speed_assets.recipe import Recipe, RecipeError, rows_asked

EXACT_ROWS_MAX = 400_000
"""Rows of a task type up to which a plan makes every prompt and looks it up in the ledger: 20,000 a second (measured). Ours: above
what the paper's recipe asks of a teacher."""


def attempts_of(recipe: Recipe, stage: str) -> int:
    """Attempts that the recipe allows for one answer of a stage."""
    section = recipe.topics.expand if stage == "topic_tree" else getattr(recipe, stage, None)
    return int(getattr(section, "attempts", 1))


def own_queries(recipe: Recipe) -> int:
    """Queries of own_evaluation: the teacher's and those that the user has judged. A file that cannot be read has none here: `speed doctor`
    and the run report it."""
    own = recipe.own_evaluation
    if own is None:
        return 0
    judged = 0
    if own.queries is not None:
        with suppress(RecipeError):
            judged = min(own.queries_max, len(read_judged_queries(own).queries))
    return own.rows + judged


def own_evaluation_calls(recipe: Recipe) -> int:
    """Teacher calls of own_evaluation, first attempts only; at most, where the recipe pools: retrievers find the same passages."""
    own = recipe.own_evaluation
    if own is None:
        return 0
    return own.rows + (own.pooled.calls_most(own_queries(recipe)) if own.pooled else 0)


def answers_calls(recipe: Recipe) -> int:
    """Teacher calls about answers to the user's queries, at most. A file that cannot be read has none here."""
    section = recipe.examples
    if section is None or section.answers is None:
        return 0
    with suppress(RecipeError):
        rows = read_examples(section).with_columns(pl.col("task_type").fill_null(section.task_type))
        open_ = rows.filter((pl.col("task_type") == GROUNDED) & pl.col("positive").is_null())
        return section.answers.calls_most(min(section.answers.queries_max, open_["query"].drop_nulls().n_unique()))
    return 0


def expected_rows(recipe: Recipe, asset: str, partition: str | None) -> int | None:
    """Rows that a table is to have; None where the recipe does not state them."""

    def of(numbers: Any) -> int:
        return int(getattr(numbers, str(partition)))

    if asset == "seed_data":
        return of(recipe.seed_data.rows)
    if asset == "own_evaluation" and recipe.own_evaluation:
        return own_queries(recipe)
    if asset == "junior_data" and recipe.junior_data:
        return of(recipe.junior_data.prompts) * recipe.junior_data.candidates
    if asset == "preference_pairs" and recipe.preference_pairs:
        return of(recipe.preference_pairs.prompts)
    if asset == "revision_data" and recipe.revision_data:
        return of(recipe.revision_data.rows)
    if asset == "row_verdicts" and recipe.row_verdicts:
        return of(recipe.row_verdicts.rows)
    if asset in ("senior_data", "revised_data") and recipe.senior_data:
        return of(recipe.senior_data.rows)
    if asset == RERANKER_SCORES:
        return scored_negatives(recipe)
    return None


def scored_negatives(recipe: Recipe) -> int | None:
    """Rows of reranker_scores at most, one for each negative: rows that filters reject, or that get no negative, are not scored. None where
    rows are given, whose number the recipe does not state."""
    section, mined = recipe.reranker_scores, recipe.mined_negatives
    if section is None or (recipe.given and recipe.given.final_triplets):
        return None
    asked = rows_asked(recipe, recipe.final_triplets.source)
    per_row = dict.fromkeys(mined.task_types, mined.per_row) if mined else {}
    kinds = [name for name in section.task_types if TASK_TYPES[name].has_negative or name in per_row]
    return sum(int(getattr(asked, name)) * (1 if TASK_TYPES[name].has_negative else per_row[name]) for name in kinds)


def expected_calls(recipe: Recipe, asset: str, partition: str | None) -> int:
    """Teacher calls of a stage whose prompts depend on missing artifacts, by the recipe."""
    rows = expected_rows(recipe, asset, partition) or 0
    if asset == "preference_pairs":
        assert recipe.junior_data is not None
        panel = recipe.preference_pairs.panel if recipe.preference_pairs else ()
        return rows * len(presentation_orders(recipe.junior_data.candidates)) * (1 + len(panel))
    if asset == "own_evaluation":
        return own_evaluation_calls(recipe)
    if asset == EXAMPLES:
        return answers_calls(recipe) if partition == GROUNDED else 0
    if asset == "mined_negatives" and recipe.mined_negatives:
        return 2 * recipe.mined_negatives.doubts_max  # at most: which are in doubt depends on the embedding model
    return rows


def expected_seconds(store: Store, stage: Stage, partition: str | None, rows: int | None) -> float | None:
    """Seconds that the stage is expected to take, from its latest artifact in this home.

    Args:
        store: of the home.
        stage, partition: what is to be made.
        rows: rows that it is to have. The time is scaled to them where both counts are known.

    Returns:
        Wall-clock seconds; None when there is no earlier artifact, or it has no time.
    """
    manifest = newest_manifest(store, stage.name, partition)
    if manifest is None or "seconds" not in manifest["metadata"]:
        return None
    seconds, before = float(manifest["metadata"]["seconds"]), manifest["metadata"].get("asked")
    return round(seconds * rows / before, 2) if rows and before else seconds


def estimated_calls(recipe: Recipe) -> list[str]:
    """The stages whose calls are too many to be compared with the ledger, in one warning."""
    graph = recipe.graph()
    large = {
        name
        for name, stage in graph.items()
        if stage.asks_teacher
        for partition in stage.task_types or (None,)
        if (expected_rows(recipe, name, partition) or 0) > EXACT_ROWS_MAX
    }
    if not large:
        return []
    return [
        f"{', '.join(sorted(large))}: above {EXACT_ROWS_MAX:,} rows of a task type, a plan takes calls from the recipe's numbers "
        "and does not look up which are answered"
    ]
