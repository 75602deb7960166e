"""The teacher as an asset sees it: requests in, answers out, through the ledger.

`Teacher` looks every request up in the ledger first and sends only those that miss, within the budget. It returns no answer
that is not durable and paid for.

Belongs here: the way of a request through ledger, budget, dialect and engine. Not here: how an engine sends
(`endpoint.py`, `batches.py`, `speed_assets/microworld/simulated_teacher.py`), which dialect a server takes
(`known_dialects.py`), when a server is given up (`model_health.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from resources.ledger.accounts import cost_of_answers
from resources.ledger.budget import Budget
from resources.ledger.calls import (
    CallContext,
    CapReached,
    TeacherAnswer,
    TeacherEngine,
    TeacherRequest,
    TeacherUnavailable,
)
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff
from resources.progress import Progress
from resources.redaction import masked
from resources.teacher.collecting import AnswerCollector
from resources.teacher.engines import KnowsBatches, engine_for, online_engine
from resources.teacher.known_dialects import DialectBook, request_kind
from resources.teacher.model_health import ModelHealth
from resources.teacher.teacher_use import TeacherUse
from speed_assets.domain.dialect import PLAIN
from speed_assets.recipe import Recipe, Sampling

if TYPE_CHECKING:
    from resources.teacher.endpoint import OpenAIEngine


class Teacher:
    """Asks the recipe's teacher; sends no request that has an answer in the ledger.

    Args:
        recipe: Names teacher, calls and money.
        ledger: Answers and budget.
        engine: Sends requests, in place of the recipe's engine; then no dialect is searched.
        dialects: Dialects that servers were found to accept.
    """

    def __init__(
        self,
        recipe: Recipe,
        ledger: Ledger,
        engine: TeacherEngine | None = None,
        dialects: DialectBook | None = None,
    ) -> None:
        self._recipe = recipe
        self._settings = recipe.teacher
        self._ledger = ledger
        self._engine = engine
        self._dialects = dialects or DialectBook(recipe.teacher)
        self._finds_out = engine is None and recipe.teacher.engine == "openai" and recipe.teacher.dialect.probe
        self._health = ModelHealth(recipe, self._dialects)

    def requests(
        self,
        prompts: Iterable[str],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
        sample: int = 0,
        model: str | None = None,
        limits: Sequence[int] | None = None,
    ) -> list[TeacherRequest]:
        """One request for each prompt; equal prompts are different samples.

        Args:
            prompts: Texts of the user messages.
            sampling: Temperature, top_p, and the most tokens of an answer.
            schema: JSON schema of an answer.
            sample: Number of the first sample of each prompt.
            model: Another model at the same endpoint, in place of the recipe's.
            limits: The most tokens of each answer, in place of `sampling.max_new_tokens`.

        Returns:
            Requests in the order of the prompts.

        Raises:
            ValueError: Neither `limits` nor `sampling` limits the tokens of an answer.
        """
        parameters = sampling.model_dump()
        if self._settings.engine == "microworld":
            parameters["error_rates"] = self._settings.error_rates.model_dump()
        else:
            parameters["structured_output"] = self._settings.structured_output
        if limits is None and sampling.max_new_tokens is None:
            raise ValueError("nothing limits the length of an answer: give limits")
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
        return [self._spoken(request) for request in requests]

    def ask(
        self, context: CallContext, requests: Sequence[TeacherRequest], progress: Progress | None = None
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """Answer requests from the ledger or the teacher. What is answered stays in the ledger when this raises.

        Args:
            context: The run and stage that pay.
            requests: As `requests` makes them.
            progress: Shows calls answered of all.

        Returns:
            Answers in the order of `requests`, where a refused request has one with an `error`, and what they cost.

        Raises:
            CapReached: A cap of the recipe forbids the next call.
            TeacherUnavailable: The teacher gives no answers.
            RecipeError: The environment has no key or header that the recipe names.
        """
        known = self.answers_in_ledger(requests)
        reused = len(known)
        new = {request.key: request for request in requests if request.key not in known}
        collector = AnswerCollector(self._health, known, reused + len(new), progress, has_cached=reused > 0)
        collector.note_cached(requests)
        for model in dict.fromkeys(request.model for request in new.values()):  # a provider's batch has one model
            self._ask(context, [request for request in new.values() if request.model == model], collector)
        refused = sum(answer.error is not None for answer in known.values())
        sent = {key: collector.sent_keys.get(key, key) for key in known}  # a dialect may have been found meanwhile
        use = TeacherUse(
            len(new),
            reused,
            refused,
            cost_of_answers(self._ledger, [sent[key] for key in new]),
            cost_of_answers(self._ledger, list(sent.values())),
            dict(collector.without_answer),
            dict(Counter(answer.served for answer in known.values() if answer.served)),
            self._asked_with({request.model for request in requests}),
        )
        return [known[request.key] for request in requests], use

    def answers_in_ledger(self, requests: Sequence[TeacherRequest]) -> dict[str, TeacherAnswer]:
        """The ledger's answers by the requests' keys.

        A request is also looked up under the keys that it had before its dialect was found, and without
        `teacher.non_answers.extra`: such answers are valid for the recipe.
        """
        known = self._ledger.lookup([request.key for request in requests])
        if self._settings.engine == "microworld":
            return known
        stated, extra = self._settings.recipe_dialect(), self._settings.dialect.extra
        before = {
            older.key: request.key
            for request in requests
            if request.key not in known
            for dialect in (stated, replace(request.dialect, extra=extra))
            if (older := request.in_dialect(dialect)).parameters != request.parameters
        }
        return known | {before[key]: answer for key, answer in self._ledger.lookup(list(before)).items()}

    def _asked_with(self, models: Iterable[str]) -> dict[str, str]:
        if self._settings.engine == "microworld":
            return {}
        dialects = {model: self._dialects.dialect(model) for model in sorted(models)}
        return {model: dialect.in_words() for model, dialect in dialects.items() if dialect != PLAIN}

    def _spoken(self, request: TeacherRequest) -> TeacherRequest:
        if self._settings.engine == "microworld":
            return request
        return request.in_dialect(self._dialects.dialect(request.model))

    def _ask(self, context: CallContext, requests: Sequence[TeacherRequest], collector: AnswerCollector) -> None:
        """Send requests to one model until each is answered."""
        model = requests[0].model
        budget = Budget(self._ledger, context, self._recipe.money, Tariff.of(self._recipe, model))
        collector.retries = self._settings.non_answers.attempts - 1

        def sink(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            answered = [(request, _as_stored(request, answer)) for request, answer in answered]
            budget.settle(answered)
            collector.add(answered)

        if self._engine is None:
            self._engine = engine_for(self._recipe, self._ledger)
        try:
            waiting = self._find_out(context, requests, collector) if self._finds_out else list(requests)
            while waiting:
                collector.listen_to(self._engine)
                self._engine.answer(waiting, sink, budget)
                waiting, collector.again = list(collector.again.values()), {}
                collector.retries -= 1
        except CapReached as cap:
            where = f"/{context.partition}" if context.partition else ""
            raise CapReached(
                f"{cap}; {collector.left:,} of {collector.wanted:,} calls of {context.stage}{where} are left"
            ) from None
        finally:
            budget.close()
        if left := sum(request.key not in collector.answers for request in requests):
            raise TeacherUnavailable(f"the engine returned and left {left:,} calls without an answer")

    def _find_out(
        self, context: CallContext, requests: Sequence[TeacherRequest], collector: AnswerCollector
    ) -> list[TeacherRequest]:
        """Send the first request of each kind that the server has not accepted yet, alone and online, until it does.

        Returns the requests that are left, in the dialect that was found.
        """
        waiting = self._respoken(list(requests), collector)
        online: OpenAIEngine | None = None
        budget: Budget | None = None
        tried: set[str] = set()
        try:
            while new := [
                r
                for r in _one_of_each_kind(waiting)
                if not self._dialects.is_accepted(r) and request_kind(r) not in tried
            ]:
                tried.add(request_kind(new[0]))
                if isinstance(self._engine, KnowsBatches) and self._engine.keys_in_batches(new[:1]):
                    continue  # it is in a batch that has not ended
                if online is None or budget is None:
                    online, budget = online_engine(self._recipe), self._budget_online(context, new[0].model)
                    collector.listen_to(online)
                sent, answer = self._dialects.probe(new[0], partial(_sent_alone, online, budget))
                collector.rename(new[0], sent)
                collector.add([(sent, answer)])
                waiting = [request for request in waiting if request is not new[0]]
                if sent.key in collector.again:
                    waiting.append(collector.again.pop(sent.key))
                waiting = self._respoken(waiting, collector)
        finally:
            if budget:
                budget.close()
        return waiting

    def _respoken(self, requests: list[TeacherRequest], collector: AnswerCollector) -> list[TeacherRequest]:
        """Requests in the dialect that is found by now; those that the ledger then answers are answered."""
        if not requests or requests[0].dialect == self._dialects.dialect(requests[0].model) == requests[-1].dialect:
            return requests
        spoken = [self._spoken(request) for request in requests]
        for before, now in zip(requests, spoken, strict=True):
            collector.rename(before, now)
        found = self.answers_in_ledger(spoken)
        collector.add([(request, found[request.key]) for request in spoken if request.key in found])
        return [request for request in spoken if request.key not in found]

    def _budget_online(self, context: CallContext, model: str) -> Budget:
        """The budget of online calls, at their price."""
        calls = self._recipe.calls.model_copy(update={"mode": "online"})
        tariff = Tariff.of(self._recipe.model_copy(update={"calls": calls}), model)
        return Budget(self._ledger, context, self._recipe.money, tariff)


def _one_of_each_kind(requests: Sequence[TeacherRequest]) -> list[TeacherRequest]:
    """The first request of each kind; requests of one stage share their schema, so few kinds are compared."""
    firsts: dict[tuple[Any, ...], TeacherRequest] = {}
    for request in requests:
        parameters = request.parameters
        firsts.setdefault((id(request.schema), parameters["temperature"], parameters["top_p"]), request)
    return list({request_kind(request): request for request in reversed(firsts.values())}.values())


def _sent_alone(engine: TeacherEngine, budget: Budget, request: TeacherRequest) -> TeacherAnswer:
    """The reply to one request, settled."""
    came: list[TeacherAnswer] = []

    def sink(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        answered = [(request, _as_stored(request, answer)) for request, answer in answered]
        budget.settle(answered)
        came.extend(answer for _, answer in answered)

    engine.answer([request], sink, budget)
    return came[0]


def _as_stored(request: TeacherRequest, answer: TeacherAnswer) -> TeacherAnswer:
    """The answer as a later run finds it in the ledger: without secrets, whichever engine it comes from."""
    text, error = masked(answer.text), masked(answer.error) if answer.error else answer.error
    served = masked(answer.served) if answer.served else answer.served
    if (text, error, served) != (answer.text, answer.error, answer.served):
        answer = replace(answer, text=text, error=error, served=served)
    return _cut_by_count(request, answer)


def _cut_by_count(request: TeacherRequest, answer: TeacherAnswer) -> TeacherAnswer:
    """The answer, marked as cut off where the server reports no reason for its end and its tokens fill the limit."""
    limit = request.parameters.get("max_new_tokens")
    filled = answer.output_tokens is not None and isinstance(limit, int) and answer.output_tokens >= limit
    return replace(answer, finished=False) if answer.finished is None and filled else answer
