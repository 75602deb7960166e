"""The teacher as an asset sees it: requests in, answers out, through the ledger.

An engine answers requests; `Teacher` looks every request up first, asks the engine only for what is
new and only within the budget, and lets no answer through before it is durable and paid for.

Belongs here: choosing the engine and the way through ledger and budget. Not here: how an engine asks (`endpoint.py`,
`provider_batch.py`, `speed_assets/microworld/teacher.py`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resources.accounts import Spent, cost_of
from resources.calls import (
    Allowance,
    CallContext,
    CapReached,
    Sink,
    TeacherAnswer,
    TeacherEngine,
    TeacherRequest,
    TeacherUnavailable,
)
from resources.ledger import Ledger
from resources.money import Budget
from resources.prices import Tariff, in_currency
from speed_assets.microworld.teacher import MicroworldTeacher
from speed_assets.recipe import Recipe, RecipeError, Sampling

Progress = Callable[[int, int, str], None]


class MicroworldEngine:
    """The microworld's teacher behind the interface of a real one: it sees the messages and nothing else."""

    def __init__(self, recipe: Recipe) -> None:
        self._teacher = MicroworldTeacher(**recipe.teacher.error_rates.model_dump())
        self._batch = recipe.runtime.teacher_batch

    def answer(self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance) -> None:
        waiting = list(requests)
        while waiting:
            block = waiting[: allowance.take(waiting[: self._batch])]
            answers = []
            for request in block:
                text = self._teacher.answer(request.prompt, request.key)
                counts = len(request.prompt.split()), len(text.split())
                answers.append((request, TeacherAnswer(text, *counts, finished=True)))
            sink(answers)
            waiting = waiting[len(block) :]


def engine_for(recipe: Recipe, ledger: Ledger) -> TeacherEngine:
    """The engine that the recipe names, called as `calls.mode` says. Raises RecipeError when its key is not set."""
    if recipe.teacher.engine == "microworld":
        return MicroworldEngine(recipe)
    key = key_of(recipe)
    from resources.endpoint import OpenAIEngine
    from resources.provider_batch import BatchEngine, BatchesFirst

    batches = BatchEngine(recipe.teacher, recipe.calls, key, ledger)
    if recipe.calls.mode == "batch":
        return batches
    return BatchesFirst(OpenAIEngine(recipe.teacher, recipe.calls, key), batches)


def key_of(recipe: Recipe) -> str | None:
    """The teacher's key from the environment variable that the recipe names; None when it names none."""
    name = recipe.teacher.key_variable
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise RecipeError(
            f"teacher.key_variable names {name}, and the environment has no such variable: set it to the key of "
            f"{recipe.teacher.endpoint}, or set teacher.key_variable to null if that server wants none"
        )
    return key


@dataclass(frozen=True, slots=True)
class TeacherUse:
    """What one stage took from the teacher. `calls` went to the engine, `reused` were answered by the ledger.

    Tokens and cost are those of `calls` alone; `total` is what all of the stage's answers cost, whenever they came.
    None is unknown. Money is in 10^-9 of the currency.
    """

    calls: int
    reused: int
    refused: int
    asked: Spent
    total: Spent

    def __add__(self, other: TeacherUse) -> TeacherUse:
        return TeacherUse(
            self.calls + other.calls,
            self.reused + other.reused,
            self.refused + other.refused,
            self.asked + other.asked,
            self.total + other.total,
        )

    def metadata(self) -> dict[str, Any]:
        return {
            "teacher_calls": self.calls,
            "reused_calls": self.reused,
            "refused_calls": self.refused,
            "teacher_prompt_tokens": self.asked.prompt_tokens,
            "teacher_output_tokens": self.asked.output_tokens,
            "teacher_cost": in_currency(self.asked.money),
            "teacher_prompt_tokens_total": self.total.prompt_tokens,
            "teacher_output_tokens_total": self.total.output_tokens,
            "teacher_cost_total": in_currency(self.total.money),
            "currency": self.total.currency,
        }


class Teacher:
    """Asks the recipe's teacher, never twice for the same request."""

    def __init__(self, recipe: Recipe, ledger: Ledger, engine: TeacherEngine | None = None) -> None:
        self._recipe = recipe
        self._settings = recipe.teacher
        self._ledger = ledger
        self._engine = engine

    def requests(
        self,
        prompts: Iterable[str],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
        sample: int = 0,
        model: str | None = None,
        limits: Sequence[int] | None = None,
    ) -> list[TeacherRequest]:
        """One request to this recipe's teacher for each prompt; equal prompts are samples of their own, numbered in order
        from `sample`. `model` is another model at the same endpoint. `limits` are the tokens that each answer may have, in
        place of `sampling.max_new_tokens`. Raises ValueError where neither says it."""
        parameters = sampling.model_dump()
        if self._settings.engine == "microworld":
            parameters["error_rates"] = self._settings.error_rates.model_dump()
        else:
            parameters["structured_output"] = self._settings.structured_output
        if limits is None and sampling.max_new_tokens is None:
            raise ValueError("nothing says how long an answer may be: give limits")
        seen: Counter[str] = Counter()
        requests = []
        for place, prompt in enumerate(prompts):
            requests.append(
                TeacherRequest(
                    prompt=prompt,
                    model=model or self._settings.model,
                    revision=None if model else self._settings.revision,
                    endpoint=self._settings.endpoint,
                    parameters=parameters if limits is None else parameters | {"max_new_tokens": limits[place]},
                    schema=schema,
                    sample=sample + seen[prompt],
                )
            )
            seen[prompt] += 1
        return requests

    def ask(
        self, context: CallContext, requests: Sequence[TeacherRequest], progress: Progress | None = None
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """Answers in the order of `requests`, and what they took. A refused request has an answer with an `error`.

        Raises CapReached, TeacherUnavailable or RecipeError; what was answered by then is kept.
        """
        keys = [request.key for request in requests]
        known = self._ledger.find(keys)
        reused = len(known)
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        wanted = reused + len(new)
        keep = _Keeping(known, wanted, progress)
        for model in dict.fromkeys(request.model for request in new.values()):  # a batch of a provider holds one model
            self._ask(context, [request for request in new.values() if request.model == model], keep)
        refused = sum(answer.error is not None for answer in known.values())
        use = TeacherUse(
            len(new), reused, refused, cost_of(self._ledger, list(new)), cost_of(self._ledger, list(known))
        )
        return [known[key] for key in keys], use

    def _ask(self, context: CallContext, requests: Sequence[TeacherRequest], keep: _Keeping) -> None:
        """Have requests to one model answered."""
        budget = Budget(self._ledger, context, self._recipe.money, Tariff.of(self._recipe, requests[0].model))

        def sink(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            answered = [(request, _cut_by_count(request, answer)) for request, answer in answered]
            budget.settle(answered)
            keep.answers(answered)

        if self._engine is None:
            self._engine = engine_for(self._recipe, self._ledger)
        try:
            self._engine.answer(requests, sink, budget)
        except CapReached as cap:
            where = f"/{context.partition}" if context.partition else ""
            raise CapReached(
                f"{cap}; {keep.left:,} of {keep.wanted:,} calls of {context.stage}{where} are left"
            ) from None
        finally:
            budget.close()
        if left := sum(request.key not in keep.known for request in requests):
            raise TeacherUnavailable(f"the engine returned and left {left:,} calls without an answer")


def _cut_by_count(request: TeacherRequest, answer: TeacherAnswer) -> TeacherAnswer:
    """The answer, as cut off where the server does not say how it ended and the tokens it counts fill the limit."""
    limit = request.parameters.get("max_new_tokens")
    filled = answer.output_tokens is not None and isinstance(limit, int) and answer.output_tokens >= limit
    return replace(answer, finished=False) if answer.finished is None and filled else answer


@dataclass(slots=True)
class _Keeping:
    """The answers that are known of those wanted, as they come."""

    known: dict[str, TeacherAnswer]
    wanted: int
    progress: Progress | None

    @property
    def left(self) -> int:
        return self.wanted - len(self.known)

    def answers(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        for request, answer in answered:
            self.known[request.key] = answer
        if self.progress:
            self.progress(len(self.known), self.wanted, "teacher calls")
