"""The teacher as an asset sees it: requests in, answers out, through the ledger.

An engine answers requests; `Teacher` looks every request up first, asks the engine only for what is
new and only within the budget, and lets no answer through before it is durable and paid for.

Belongs here: choosing the engine and the way through ledger and budget, what becomes of replies without an answer. Not here:
how an engine asks (`endpoint.py`, `provider_batch.py`, `speed_assets/microworld/simulated_teacher.py`), how a server wants to be asked
(`dialects.py`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from resources.ledger.accounts import Spending, cost_of_answers
from resources.ledger.budget import Budget
from resources.ledger.calls import (
    Allowance,
    AnswerSink,
    CallContext,
    CapReached,
    TeacherAnswer,
    TeacherEngine,
    TeacherRequest,
    TeacherUnavailable,
)
from resources.ledger.ledger import Ledger
from resources.ledger.prices import Tariff, in_currency
from resources.teacher.known_dialects import LOG, DialectBook, request_kind
from speed_assets.domain.dialect import PLAIN
from speed_assets.domain.replies import ASKED_AGAIN, CURES
from speed_assets.microworld.simulated_teacher import MicroworldTeacher
from speed_assets.recipe import Recipe, RecipeError, Sampling

if TYPE_CHECKING:
    from resources.teacher.endpoint import OpenAIEngine

Progress = Callable[[int, int, str], None]


class MicroworldEngine:
    """The microworld's teacher behind the interface of a real one: it sees the messages and nothing else."""

    def __init__(self, recipe: Recipe) -> None:
        self._teacher = MicroworldTeacher(**recipe.teacher.error_rates.model_dump())
        self._batch = recipe.runtime.teacher_batch

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        waiting = list(requests)
        while waiting:
            block = waiting[: allowance.reserve(waiting[: self._batch])]
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
    from resources.teacher.batches import BatchEngine, BatchesFirst

    batches = BatchEngine(recipe.teacher, recipe.calls, teacher_key(recipe), ledger, teacher_headers(recipe))
    if recipe.calls.mode == "batch":
        return batches
    return BatchesFirst(online_engine(recipe), batches)


def online_engine(recipe: Recipe) -> OpenAIEngine:
    """An engine that asks the recipe's endpoint at once, whatever `calls.mode` says. Raises RecipeError."""
    from resources.teacher.endpoint import OpenAIEngine

    return OpenAIEngine(recipe.teacher, recipe.calls, teacher_key(recipe), teacher_headers(recipe))


def teacher_headers(recipe: Recipe) -> dict[str, str]:
    """The further headers that the recipe names, with their values from the environment. Raises RecipeError."""
    values = {}
    for header, variable in recipe.teacher.dialect.headers.items():
        value = os.environ.get(variable, "").strip()
        if not value or not (value.isascii() and value.isprintable()):
            raise RecipeError(
                f"teacher.dialect.headers.{header} names {variable}, and the environment has no such variable, or one that "
                "no header can carry: set it"
            )
        values[header] = value
    return values


def teacher_key(recipe: Recipe) -> str | None:
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


@runtime_checkable
class HoldsBatches(Protocol):
    """An engine that knows which requests are out in batches."""

    def keys_in_batches(self, requests: Iterable[TeacherRequest]) -> set[str]: ...


@dataclass(frozen=True, slots=True)
class TeacherUse:
    """What one stage took from the teacher. `calls` went to the engine, `reused` were answered by the ledger.

    Tokens and cost are those of `calls` alone; `total` is what all of the stage's answers cost, whenever they came.
    None is unknown. Money is in 10^-9 of the currency.
    """

    calls: int
    reused: int
    refused: int
    asked: Spending
    total: Spending
    nothing: Mapping[str, int] = field(default_factory=dict)
    """Replies that were paid for and held no answer, by name; those that were asked again, too."""
    served: Mapping[str, int] = field(default_factory=dict)
    """Answers by the model that the server says it has asked."""
    asked_with: Mapping[str, str] = field(default_factory=dict)
    """How each model was asked, where that is not the usual way."""

    def __add__(self, other: TeacherUse) -> TeacherUse:
        return TeacherUse(
            self.calls + other.calls,
            self.reused + other.reused,
            self.refused + other.refused,
            self.asked + other.asked,
            self.total + other.total,
            dict(Counter(self.nothing) + Counter(other.nothing)),
            dict(Counter(self.served) + Counter(other.served)),
            {**self.asked_with, **other.asked_with},
        )

    def metadata(self) -> dict[str, Any]:
        return {
            "teacher_calls": self.calls,
            "reused_calls": self.reused,
            "refused_calls": self.refused,
            "replies_without_answer": dict(self.nothing),
            "teacher_served": dict(self.served),
            "teacher_asked_with": dict(self.asked_with),
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
        self._answered: set[str] = set()  # models that have answered once
        self._unanswered: Counter[tuple[str, str]] = Counter()  # by model and kind, before the first answer

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
        return [self._spoken(request) for request in requests]

    def ask(
        self, context: CallContext, requests: Sequence[TeacherRequest], progress: Progress | None = None
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """Answers in the order of `requests`, and what they took. A refused request has an answer with an `error`.

        Raises CapReached, TeacherUnavailable or RecipeError; what was answered by then is kept.
        """
        known = self.answers_in_ledger(requests)
        reused = len(known)
        new = {request.key: request for request in requests if request.key not in known}
        keep = _Keeping(self, known, reused + len(new), progress, reused=reused > 0)
        for model in dict.fromkeys(request.model for request in new.values()):  # a batch of a provider holds one model
            self._ask(context, [request for request in new.values() if request.model == model], keep)
        refused = sum(answer.error is not None for answer in known.values())
        now = {key: keep.now.get(key, key) for key in known}  # by the dialect that was found meanwhile
        use = TeacherUse(
            len(new),
            reused,
            refused,
            cost_of_answers(self._ledger, [now[key] for key in new]),
            cost_of_answers(self._ledger, list(now.values())),
            dict(keep.nothing),
            dict(Counter(answer.served for answer in known.values() if answer.served)),
            self._asked_with({request.model for request in requests}),
        )
        return [known[request.key] for request in requests], use

    def answers_in_ledger(self, requests: Sequence[TeacherRequest]) -> dict[str, TeacherAnswer]:
        """The ledger's answers by the requests' keys.

        A request is also known by the name that it had before its dialect was found out: an answer from then is an answer
        to what the recipe says.
        """
        known = self._ledger.lookup([request.key for request in requests])
        if self._settings.engine == "microworld":
            return known
        said = self._settings.said_dialect()
        before = {
            older.key: request.key
            for request in requests
            if request.key not in known and (older := request.in_dialect(said)).parameters != request.parameters
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

    def _ask(self, context: CallContext, requests: Sequence[TeacherRequest], keep: _Keeping) -> None:
        """Have requests to one model answered."""
        model = requests[0].model
        budget = Budget(self._ledger, context, self._recipe.money, Tariff.of(self._recipe, model))
        keep.retries = self._settings.non_answers.attempts - 1

        def sink(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            answered = [(request, _cut_by_count(request, answer)) for request, answer in answered]
            budget.settle(answered)
            keep.answers(answered)

        if self._engine is None:
            self._engine = engine_for(self._recipe, self._ledger)
        try:
            waiting = self._find_out(context, requests, keep) if self._finds_out else list(requests)
            while waiting:
                keep.listen_to(self._engine)
                self._engine.answer(waiting, sink, budget)
                waiting, keep.again = list(keep.again.values()), {}
                keep.retries -= 1
        except CapReached as cap:
            where = f"/{context.partition}" if context.partition else ""
            raise CapReached(
                f"{cap}; {keep.left:,} of {keep.wanted:,} calls of {context.stage}{where} are left"
            ) from None
        finally:
            budget.close()
        if left := sum(request.key not in keep.known for request in requests):
            raise TeacherUnavailable(f"the engine returned and left {left:,} calls without an answer")

    def _find_out(
        self, context: CallContext, requests: Sequence[TeacherRequest], keep: _Keeping
    ) -> list[TeacherRequest]:
        """Send the first request of each kind that the server has not yet taken, alone and online, until it takes it.

        Returns what is still to be asked, in the dialect that was found.
        """
        waiting = self._respoken(list(requests), keep)
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
                if isinstance(self._engine, HoldsBatches) and self._engine.keys_in_batches(new[:1]):
                    continue  # it is paid for in a batch that has not ended
                if online is None or budget is None:
                    online, budget = online_engine(self._recipe), self._budget_online(context, new[0].model)
                    keep.listen_to(online)
                sent, answer = self._dialects.probe(new[0], partial(_sent_alone, online, budget))
                keep.renamed(new[0], sent)
                keep.answers([(sent, answer)])
                waiting = [request for request in waiting if request is not new[0]]
                if sent.key in keep.again:
                    waiting.append(keep.again.pop(sent.key))
                waiting = self._respoken(waiting, keep)
        finally:
            if budget:
                budget.close()
        return waiting

    def _respoken(self, requests: list[TeacherRequest], keep: _Keeping) -> list[TeacherRequest]:
        """Requests in the dialect that is known now; those that the ledger answers so are answered."""
        if not requests or requests[0].dialect == self._dialects.dialect(requests[0].model) == requests[-1].dialect:
            return requests
        spoken = [self._spoken(request) for request in requests]
        for before, now in zip(requests, spoken, strict=True):
            keep.renamed(before, now)
        found = self.answers_in_ledger(spoken)
        keep.answers([(request, found[request.key]) for request in spoken if request.key in found])
        return [request for request in spoken if request.key not in found]

    def _budget_online(self, context: CallContext, model: str) -> Budget:
        """Leave for calls that are made at once, at the price of such calls."""
        calls = self._recipe.calls.model_copy(update={"mode": "online"})
        tariff = Tariff.of(self._recipe.model_copy(update={"calls": calls}), model)
        return Budget(self._ledger, context, self._recipe.money, tariff)

    def check_answer(self, request: TeacherRequest, answer: TeacherAnswer, others_known: bool) -> None:
        """Count what came. Raises TeacherUnavailable where a model has brought nothing, and says what mends it."""
        model = request.model
        if answer.kind == "not_read":
            raise TeacherUnavailable(answer.error or CURES["not_read"])
        if answer.error is None and not answer.without_answer:
            self._answered.add(model)
            return
        if model in self._answered or others_known:
            return
        kind = answer.kind if answer.without_answer else "refused"
        self._unanswered[model, kind] += 1
        count = self._unanswered[model, kind]
        if count < self._recipe.calls.stop_after:
            return
        if kind != "refused":
            raise TeacherUnavailable(
                f"{model} at {self._settings.endpoint} gave no answer in its first {count} replies ({kind}), which are paid for: "
                f"{CURES[kind]}"
            )
        forgotten = answer.refusal is not None and self._dialects.forget(model)
        more = "; how it wants to be asked is found out again at the next run" if forgotten else ""
        raise TeacherUnavailable(
            f"{model} at {self._settings.endpoint} refused the first {count} requests and answered none, the last with "
            f"{answer.error}: {_field_refused(answer)}{more}"
        )

    def model_changed(self, before: str, now: str) -> None:
        """The server has named two models for one artifact. Raises TeacherUnavailable where the recipe says so."""
        words = f"{self._settings.endpoint} answers as {now}, and answered as {before} before, for one artifact"
        if self._recipe.calls.model_changed == "stop":
            raise TeacherUnavailable(
                f"{words}: name a fixed version in teacher.model, or set calls.model_changed to warn; what is answered is kept"
            )
        LOG.warning("%s (calls.model_changed)", words)


def _field_refused(answer: TeacherAnswer) -> str:
    """The field of the recipe that a refusal is about."""
    if answer.refusal is None:
        return CURES["filtered"]
    text = answer.refusal.text
    for word, field_name in (
        *((name, f"teacher.dialect.{name}") for name in ("temperature", "top_p", "seed")),
        ("max_tokens", "teacher.dialect.token_field"),
        ("max_completion_tokens", "teacher.dialect.token_field"),
        *((word, "teacher.structured_output") for word in ("response_format", "schema", "tool", "grammar")),
        ("context", "the prompts, or the context of the server"),
        ("model", "teacher.model"),
    ):
        if word in text:
            return f"see {field_name}"
    return "see teacher.dialect, or name another teacher.model"


def _one_of_each_kind(requests: Sequence[TeacherRequest]) -> list[TeacherRequest]:
    """The first request of each kind; those of one stage share their schema, so few kinds are looked at closely."""
    firsts: dict[tuple[Any, ...], TeacherRequest] = {}
    for request in requests:
        parameters = request.parameters
        firsts.setdefault((id(request.schema), parameters["temperature"], parameters["top_p"]), request)
    return list({request_kind(request): request for request in reversed(firsts.values())}.values())


def _sent_alone(engine: TeacherEngine, budget: Budget, request: TeacherRequest) -> TeacherAnswer:
    """What comes of one request, settled."""
    came: list[TeacherAnswer] = []

    def sink(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        answered = [(request, _cut_by_count(request, answer)) for request, answer in answered]
        budget.settle(answered)
        came.extend(answer for _, answer in answered)

    engine.answer([request], sink, budget)
    return came[0]


def _cut_by_count(request: TeacherRequest, answer: TeacherAnswer) -> TeacherAnswer:
    """The answer, as cut off where the server does not say how it ended and the tokens it counts fill the limit."""
    limit = request.parameters.get("max_new_tokens")
    filled = answer.output_tokens is not None and isinstance(limit, int) and answer.output_tokens >= limit
    return replace(answer, finished=False) if answer.finished is None and filled else answer


@dataclass(slots=True)
class _Keeping:
    """The answers that are known of those wanted, as they come."""

    teacher: Teacher
    known: dict[str, TeacherAnswer]
    wanted: int
    progress: Progress | None
    retries: int = 0
    """Times that a reply without an answer is asked for again."""
    again: dict[str, TeacherRequest] = field(default_factory=dict)
    """Requests to be asked again."""
    nothing: Counter[str] = field(default_factory=Counter)
    now: dict[str, str] = field(default_factory=dict)
    """The names under which requests were sent, by the name that the caller knows, where they differ."""
    first: dict[str, str] = field(default_factory=dict)
    """The names that the caller knows, by those under which requests were sent."""
    served: str | None = None
    reused: bool = False
    """Whether the ledger knew some of them."""

    @property
    def left(self) -> int:
        return self.wanted - len(self.known)

    def renamed(self, request: TeacherRequest, sent: TeacherRequest) -> None:
        """A request is sent under another name than the one under which the caller asks."""
        if request.key != sent.key:
            asked = self.first.pop(request.key, request.key)
            self.now[asked], self.first[sent.key] = sent.key, asked

    def answers(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        for request, answer in answered:
            if answer.without_answer:
                self.nothing[answer.kind] += 1
            if answer.kind in ASKED_AGAIN and self.retries > 0:
                self.again[request.key] = request
            else:
                self.known[self.first.get(request.key, request.key)] = answer
        if self.progress:
            self.progress(len(self.known), self.wanted, "teacher calls")
        for request, answer in answered:
            self.teacher.check_answer(request, answer, self.reused)
            self._heed_model(answer)

    def listen_to(self, engine: TeacherEngine) -> None:
        """Show what an engine says while its server does not answer."""
        if hasattr(engine, "on_silence"):
            engine.on_silence = self._says

    def _says(self, words: str) -> None:
        if self.progress:
            self.progress(len(self.known), self.wanted, f"teacher: {words}")

    def _heed_model(self, answer: TeacherAnswer) -> None:
        """Say that the server answers with another model than before, or end the run for it, as the recipe says."""
        served = (answer.served or "").split(" ")[0] or None
        if served and self.served and served != self.served:
            self.teacher.model_changed(self.served, served)
        self.served = served or self.served
