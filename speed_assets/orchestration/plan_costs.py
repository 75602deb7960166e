"""What the teacher calls of one step of a plan take, in tokens and money: least, likely, most.

Belongs here: from a recipe, the requests that are known, and what was paid before to bounds. Not here: the arithmetic
(`domain/cost_bounds.py`), which calls there are (`plan.py`), prices (`resources/ledger/prices.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resources.inputs.prompt_files import prompts_of
from resources.ledger.calls import TeacherRequest
from resources.ledger.prices import Tariff, in_currency
from speed_assets.domain import cost_bounds
from speed_assets.domain.attributes import ATTRIBUTES
from speed_assets.domain.cost_bounds import Bounds, Tokens
from speed_assets.domain.prompts import PromptKind, relevance_prompt
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import Recipe

_KINDS: dict[str, PromptKind] = {
    "topic_tree": "brainstorm",
    "task_list": "brainstorm",
    "seed_data": "synthesis",
    "own_evaluation": "synthesis",
    "examples": "judge",
    "preference_pairs": "judge",
    "mined_negatives": "judge",
    "revision_data": "revise",
    "row_verdicts": "revise",
}
"""Kind of prompt that a stage asks the teacher with."""
_QUERY_WORDS = (2, 10, 30)
"""Words of a query in a prompt that judges passages, at least, as is likely and at most (ours)."""
Paid = Mapping[str, Mapping[str, Any]]
"""What was paid in this home before, by stage: calls, prompt_tokens, output_tokens."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens and money of the calls of a step. Money is in the recipe's currency; None where a price is unknown."""

    tokens: Tokens
    money: tuple[float | None, float | None, float | None]
    """At least, as is likely, and at most."""


NOTHING = Cost(Tokens(Bounds(0, 0, 0), Bounds(0, 0, 0)), (0.0, 0.0, 0.0))


def cost_of_step(
    recipe: Recipe,
    stage: str,
    partition: str | None,
    calls: int,
    least: int,
    attempts: int,
    requests: Sequence[TeacherRequest] | None,
    paid: Paid,
) -> Cost:
    """What the calls of a stage take.

    Args:
        recipe: names prompts, limits and prices.
        stage: that asks.
        partition: its task type.
        calls: first attempts, at most.
        least: calls that are sent for certain.
        attempts: times that one is sent at most.
        requests: the requests, if the plan knows them.
        paid: by stage, what calls took before in this home.
    """
    if not calls:
        return NOTHING
    first = (
        _first_calls(recipe, stage, partition, calls)
        if requests is None
        else _known(recipe, stage, partition, requests)
    )
    if mean := _mean(stage, paid):
        first = cost_bounds.as_before(first, calls, mean)
    certain = least / calls
    first = Tokens(_less(first.prompt, certain), _less(first.output, certain))
    every = cost_bounds.with_attempts(first, calls, attempts, recipe.answers.cut_growth)
    money = [
        _money(recipe, stage, getattr(every.prompt, name), getattr(every.output, name))
        for name in ("least", "likely", "most")
    ]
    return Cost(every, (money[0], money[1], money[2]))


def _first_calls(recipe: Recipe, stage: str, partition: str | None, calls: int) -> Tokens:
    """Calls of a stage whose prompts nobody knows yet."""
    pooled = recipe.pools().get(
        {"own_evaluation": "own_evaluation.pooled", "examples": "examples.answers"}.get(stage, "")
    )
    if pooled is None or recipe.corpus is None:
        return _times(_one_call(recipe, stage, partition), calls)
    written = min(recipe.own_evaluation.rows if recipe.own_evaluation and stage == "own_evaluation" else 0, calls)
    lengths = recipe.answers.lengths()
    least, most = recipe.corpus.tokens_min, recipe.corpus.tokens_max
    asked = cost_bounds.of_characters(len(relevance_prompt(prompts_of(recipe), "", "", "")))
    query = Bounds(*(round(words * lengths.tokens_per_word) for words in _QUERY_WORDS))
    judged = Tokens(
        asked + query + Bounds(2 * least, least + most, 2 * most),
        cost_bounds.answer(lengths, "judge", "grounded", {}, pooled.sampling.max_new_tokens),
    )
    second = _times(judged, calls - written)
    if not written:
        return second
    first = _times(_one_call(recipe, stage, partition), written)
    return Tokens(first.prompt + second.prompt, first.output + second.output)


def _times(tokens: Tokens, number: int) -> Tokens:
    return Tokens(tokens.prompt.times(number), tokens.output.times(number))


def _less(bounds: Bounds, share: float) -> Bounds:
    return Bounds(int(bounds.least * share), bounds.likely, bounds.most)


def _mean(stage: str, paid: Paid) -> tuple[float, float] | None:
    """Tokens of one call before: of this stage, else of those that ask with the same kind of prompt."""
    alike = [name for name, kind in _KINDS.items() if kind == _KINDS[stage] and name != stage]
    for name in (stage, *alike):
        entry = paid.get(name)
        if entry and entry["calls"] and None not in (entry["prompt_tokens"], entry["output_tokens"]):
            return entry["prompt_tokens"] / entry["calls"], entry["output_tokens"] / entry["calls"]
    return None


def _one_call(recipe: Recipe, stage: str, partition: str | None) -> Tokens:
    """One call of a stage whose prompts nobody knows yet, by the recipe."""
    task_type = partition or "retrieval"  # without a task type of its own: the longest
    kind, lengths, prompts = _KINDS[stage], recipe.answers.lengths(), prompts_of(recipe)
    record = _answer(recipe, "synthesis", task_type, recipe.junior_data)
    shown = {"judge": recipe.junior_data.candidates if recipe.junior_data else 2, "revise": 1}.get(kind, 0)
    templates = prompts.templates
    guidelines = sum(map(len, prompts.guidelines.get(task_type, ())))
    asked = len(templates["synthesis"][task_type]) + guidelines
    template = asked if kind == "synthesis" else len(templates[kind].get(task_type, ""))
    shows_prompt = kind in ("judge", "revise") and "{prompt}" in templates[kind].get(task_type, "")
    prompt = cost_bounds.prompt(lengths, kind, template, record, shown, asked if shows_prompt else 0)
    if shows_prompt or kind == "synthesis":
        prompt += _passage_in_prompt(recipe, task_type)
    return Tokens(prompt, _answer(recipe, kind, task_type, _section(recipe, stage)))


def _passage_in_prompt(recipe: Recipe, task_type: str) -> Bounds:
    """Tokens of the passage, or of the sentence of one, in a prompt for a row that is written from it; none in other prompts."""
    if recipe.corpus is None or not TASK_TYPES[task_type].grounded:
        return Bounds(0, 0, 0)
    least, most = recipe.corpus.tokens_min, recipe.corpus.tokens_max
    if task_type == "grounded_sts":
        section, per_word = recipe.grounded_rows.sts, recipe.answers.tokens_per_word
        least, most = round(section.words_min * per_word), round(section.words_max * per_word)
    return Bounds(least, (least + most) // 2, most)


def _known(recipe: Recipe, stage: str, partition: str | None, requests: Sequence[TeacherRequest]) -> Tokens:
    """Calls whose prompts are known: their characters, and the limits of their answers."""
    limits = sum(int(request.parameters["max_new_tokens"]) for request in requests)
    one = _answer(recipe, _KINDS[stage], partition or "retrieval", _section(recipe, stage))
    least, likely = (min(len(requests) * tokens, limits) for tokens in (one.least, one.likely))
    return Tokens(
        cost_bounds.of_characters(sum(len(request.prompt) for request in requests)), Bounds(least, likely, limits)
    )


def _section(recipe: Recipe, stage: str) -> Any:
    return recipe.topics.expand if stage == "topic_tree" else getattr(recipe, stage, None)


def _answer(recipe: Recipe, kind: PromptKind, task_type: str, section: Any) -> Bounds:
    values = {attribute.name: attribute.values for attribute in ATTRIBUTES[task_type]}
    limit = section.sampling.max_new_tokens if section else None
    count = getattr(section, "children", getattr(section, "per_topic", 1))
    return cost_bounds.answer(recipe.answers.lengths(), kind, task_type, values, limit, count)


def _money(recipe: Recipe, stage: str, prompt: int, output: int) -> float | None:
    """Money for tokens that the models of a stage share evenly; None where a price is unknown."""
    panel = recipe.preference_pairs.panel if recipe.preference_pairs and stage == "preference_pairs" else ()
    models = (recipe.teacher.model, *panel)
    parts = [Tariff.of(recipe, model).cost(-(-prompt // len(models)), -(-output // len(models))) for model in models]
    known = [part for part in parts if part is not None]
    return in_currency(sum(known)) if len(known) == len(parts) else None


def saved_by_batches(recipe: Recipe, likely: float | None) -> float | None:
    """Money that batch files save of what is likely, or would save where calls are made at once; None where that is unknown.

    Args:
        recipe: names price and mode.
        likely: money of the plan, as the mode of the recipe costs.
    """
    prices = recipe.money.prices
    price = prices.models.get(recipe.teacher.model) if prices else None
    if price is None or likely is None or not 0 < price.batch_factor < 1:
        return None
    online = likely / price.batch_factor if recipe.calls.mode == "batch" else likely
    return round(online * (1 - price.batch_factor), 6)
