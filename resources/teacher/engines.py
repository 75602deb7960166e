"""The engine that answers a recipe's requests, with the key and headers that it sends.

Belongs here: choosing an engine, reading its secrets from the environment, and the microworld's engine. Not here: how an
engine talks to a server (`endpoint.py`, `batches.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from resources.ledger.calls import Allowance, AnswerSink, TeacherAnswer, TeacherEngine, TeacherRequest
from resources.ledger.ledger import Ledger
from speed_assets.microworld.simulated_teacher import MicroworldTeacher
from speed_assets.recipe import Recipe, RecipeError

if TYPE_CHECKING:
    from resources.teacher.endpoint import OpenAIEngine


@runtime_checkable
class KnowsBatches(Protocol):
    """An engine that can say which requests are in outstanding batches."""

    def keys_in_batches(self, requests: Iterable[TeacherRequest]) -> set[str]:
        """Keys of the requests that are in outstanding batches."""


class MicroworldEngine:
    """The microworld's teacher behind the interface of a real one: it reads the messages and nothing else."""

    def __init__(self, recipe: Recipe) -> None:
        self._teacher = MicroworldTeacher(**recipe.teacher.error_rates.model_dump())
        self._batch = recipe.runtime.teacher_batch

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        """See `TeacherEngine`."""
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


class NoTeacher:
    """The engine of a recipe without a teacher, behind the interface of one."""

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        """Refuse. Raises RecipeError when there is anything to ask."""
        if requests:
            raise RecipeError(
                f"teacher.engine=none, and {len(requests):,} rows of seed_data are still to be written: give more complete examples "
                "(examples.file), ask for fewer rows (seed_data.rows), or name a teacher"
            )


def engine_for(recipe: Recipe, ledger: Ledger) -> TeacherEngine:
    """The engine that the recipe names, in the mode `calls.mode`.

    Args:
        recipe: Names engine, endpoint, key and mode.
        ledger: Holds the outstanding batches that an earlier run has sent.

    Returns:
        An engine that sends no request twice that is in an outstanding batch.

    Raises:
        RecipeError: The environment has no key or header under the variable that the recipe names.
    """
    if recipe.teacher.engine == "microworld":
        return MicroworldEngine(recipe)
    if recipe.teacher.engine == "none":
        return NoTeacher()
    from resources.teacher.batches import BatchEngine, BatchesFirst

    batches = BatchEngine(recipe.teacher, recipe.calls, teacher_key(recipe), ledger, teacher_headers(recipe))
    if recipe.calls.mode == "batch":
        return batches
    return BatchesFirst(online_engine(recipe), batches)


def online_engine(recipe: Recipe) -> OpenAIEngine:
    """An engine that asks the recipe's endpoint online, whatever `calls.mode` is. Raises RecipeError."""
    from resources.teacher.endpoint import OpenAIEngine

    return OpenAIEngine(recipe.teacher, recipe.calls, teacher_key(recipe), teacher_headers(recipe))


def teacher_headers(recipe: Recipe) -> dict[str, str]:
    """The additional headers that the recipe names, with their values from the environment. Raises RecipeError."""
    values = {}
    for header, variable in recipe.teacher.dialect.headers.items():
        value = os.environ.get(variable, "").strip()
        if not value or not (value.isascii() and value.isprintable()):
            raise RecipeError(
                f"teacher.dialect.headers.{header} names {variable}, and the environment has no such variable, or its value "
                "cannot be sent in a header: set it"
            )
        values[header] = value
    return values


def teacher_key(recipe: Recipe) -> str | None:
    """The teacher's key from the environment variable that the recipe names; None when it names none. Raises RecipeError."""
    name = recipe.teacher.key_variable
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise RecipeError(
            f"teacher.key_variable names {name}, and the environment has no such variable: set it to the key of "
            f"{recipe.teacher.endpoint}, or set teacher.key_variable to null if that server needs no key"
        )
    return key
