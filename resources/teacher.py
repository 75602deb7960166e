"""The teacher as an asset sees it: requests in, answers out, through the ledger.

An engine answers requests; `Teacher` looks every request up first, asks the engine only for what is
new, and lets no answer through before it is durable.

Belongs here: the interface and the way through the ledger. Not here: the microworld's own teacher
(`speed_assets/microworld/teacher.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resources.calls import Allowance, Sink, TeacherAnswer, TeacherEngine, TeacherRequest
from resources.ledger import Ledger
from speed_assets.microworld.teacher import MicroworldTeacher
from speed_assets.recipe import Recipe, Sampling

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
                answers.append((request, TeacherAnswer(text, len(request.prompt.split()), len(text.split()))))
            sink(answers)
            waiting = waiting[len(block) :]


class UnavailableEngine:
    """Stands where a recipe names an engine that this version cannot drive."""

    def __init__(self, name: str) -> None:
        self._name = name

    def answer(self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance) -> None:
        raise NotImplementedError(
            f"teacher.engine={self._name} is not available in this version: the recipe is valid, "
            "but only teacher.engine=microworld can be run"
        )


class _Unlimited:
    """Leave to send anything."""

    def take(self, requests: Sequence[TeacherRequest]) -> int:
        return len(requests)

    def give_back(self, requests: Sequence[TeacherRequest]) -> None:
        pass


@dataclass
class TeacherUse:
    """Calls of one stage: `calls` asked of the engine, `reused` answered by the ledger. Tokens as reported."""

    calls: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def metadata(self) -> dict[str, Any]:
        return {
            "teacher_calls": self.calls,
            "reused_calls": self.reused,
            "teacher_prompt_tokens": self.prompt_tokens,
            "teacher_output_tokens": self.output_tokens,
        }


class Teacher:
    """Asks the recipe's teacher, never twice for the same request."""

    def __init__(self, recipe: Recipe, ledger: Ledger, engine: TeacherEngine | None = None) -> None:
        self._settings = recipe.teacher
        self._ledger = ledger
        if engine is not None:
            self._engine = engine
        elif recipe.teacher.engine == "microworld":
            self._engine = MicroworldEngine(recipe)
        else:
            self._engine = UnavailableEngine(recipe.teacher.engine)

    def request(
        self, prompt: str, sampling: Sampling, schema: dict[str, Any] | None = None, sample: int = 0
    ) -> TeacherRequest:
        """A request to this recipe's teacher."""
        parameters = sampling.model_dump()
        if self._settings.engine == "microworld":
            parameters["error_rates"] = self._settings.error_rates.model_dump()
        return TeacherRequest(
            prompt=prompt,
            model=self._settings.model,
            revision=self._settings.revision,
            endpoint=self._settings.endpoint,
            parameters=parameters,
            schema=schema,
            sample=sample,
        )

    def ask(
        self, stage: str, requests: Sequence[TeacherRequest], progress: Progress | None = None
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """Answers in the order of `requests`, and what they took."""
        keys = [request.key for request in requests]
        known = self._ledger.find(keys)
        new = list({key: r for key, r in zip(keys, requests, strict=True) if key not in known}.items())
        use = TeacherUse(calls=len(new), reused=len(set(keys)) - len(new))

        def sink(answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
            self._ledger.record(stage, answered)
            for request, answer in answered:
                known[request.key] = answer
                use.prompt_tokens += answer.prompt_tokens or 0
                use.output_tokens += answer.output_tokens or 0
            if progress:
                progress(len(known), len(set(keys)), "teacher calls")

        if new:
            self._engine.answer([request for _, request in new], sink, _Unlimited())
        return [known[key] for key in keys], use
