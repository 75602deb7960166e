"""Rows, calls, tokens, money and seconds of a stage, estimated from the recipe and from earlier runs.

Belongs here: estimates of stages. Not here: the plan (`plan.py`), why a stage is made (`plan_reasons.py`).
"""

from __future__ import annotations

from typing import Any

from resources.store.store import Store
from speed_assets.domain.attributes import ATTRIBUTES
from speed_assets.domain.graph import Stage
from speed_assets.domain.judging import orders
from speed_assets.domain.prompts import PromptKind
from speed_assets.orchestration.dry_teacher import RequiredCalls
from speed_assets.orchestration.plan_reasons import newest_manifest
from speed_assets.recipe import Recipe

_PAGE_TOKENS = 1_000
"""Tokens of instructions and prompt together (ours: the longest of the `full` set has about 700)."""
RETRY_TOKENS = 100
"""Tokens that a further attempt adds to a prompt (ours: what was wrong, in a sentence or two)."""
CHARACTERS_PER_TOKEN = 4
"""Of English text with common tokenizers: for the cost of calls where the ledger has no earlier ones (ours)."""


def attempts_of(recipe: Recipe, stage: str) -> int:
    """Attempts that the recipe allows for one answer of a stage."""
    section = recipe.topics.expand if stage == "topic_tree" else getattr(recipe, stage, None)
    return int(getattr(section, "attempts", 1))


def tokens_at_most(
    recipe: Recipe, stage: str, partition: str | None, calls: int, required: RequiredCalls | None
) -> tuple[int, int]:
    """(prompt, output) tokens of new calls at most, by characters and limits."""
    if required is None:
        prompt_most, output_most = _most_tokens(recipe, stage, partition)
        return calls * prompt_most, calls * output_most
    most = sum(int(request.parameters["max_new_tokens"]) for request in required.new)
    return sum(len(request.prompt) for request in required.new) // CHARACTERS_PER_TOKEN, most


_KINDS: dict[str, PromptKind] = {
    "task_list": "brainstorm",
    "seed_data": "synthesis",
    "preference_pairs": "judge",
    "mined_negatives": "judge",
    "revision_data": "revise",
    "row_verdicts": "revise",
}
"""Kind of prompt that a stage asks the teacher with."""


def _most_tokens(recipe: Recipe, stage: str, partition: str | None) -> tuple[int, int]:
    """(prompt, output) tokens at most of one call of a stage whose prompts depend on missing artifacts.

    A judge reads every candidate and a revisor one draft, each at most as long as its limit; prompt and instructions count
    as one page.
    """
    task_type = partition or "retrieval"  # without a task type of its own: the longest
    lengths = recipe.answers.lengths()
    values = {attribute.name: attribute.values for attribute in ATTRIBUTES[task_type]}
    kind = _KINDS[stage]
    sampling = getattr(recipe, stage).sampling
    output = sampling.max_new_tokens or lengths.limit(lengths.most_words(kind, task_type, values))
    written = recipe.junior_data.sampling.max_new_tokens if recipe.junior_data else None
    record = written or lengths.limit(lengths.most_words("synthesis", task_type, values))
    texts = {"judge": recipe.junior_data.candidates if recipe.junior_data else 2, "revise": 1}.get(kind, 0)
    return _PAGE_TOKENS + texts * record, output


def expected_rows(recipe: Recipe, asset: str, partition: str | None) -> int | None:
    """Rows that a table is to have; None where the recipe does not state them."""

    def of(numbers: Any) -> int:
        return int(getattr(numbers, str(partition)))

    if asset == "seed_data":
        return of(recipe.seed_data.rows)
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
    return None


def expected_calls(recipe: Recipe, asset: str, partition: str | None) -> int:
    """Teacher calls of a stage whose prompts depend on missing artifacts, by the recipe."""
    rows = expected_rows(recipe, asset, partition) or 0
    if asset == "preference_pairs":
        assert recipe.junior_data is not None
        panel = recipe.preference_pairs.panel if recipe.preference_pairs else ()
        return rows * len(orders(recipe.junior_data.candidates)) * (1 + len(panel))
    if asset == "mined_negatives" and recipe.mined_negatives:
        return 2 * recipe.mined_negatives.doubts_max  # at most: which are in doubt depends on the embedding model
    return rows


def expected_seconds(store: Store, stage: Stage, partition: str | None, rows: int | None) -> float | None:
    """Seconds of the stage's latest artifact in this home, scaled to `rows`; None when there is none."""
    manifest = newest_manifest(store, stage.name, partition)
    if manifest is None or "seconds" not in manifest["metadata"]:
        return None
    seconds, before = float(manifest["metadata"]["seconds"]), manifest["metadata"].get("asked")
    return round(seconds * rows / before, 2) if rows and before else seconds
