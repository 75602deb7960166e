"""One call to the teacher as a value: the request, with everything that shapes its answer, and the answer.

Belongs here: values, and the interfaces that carry them between teacher, ledger, budget and engines. Not here: sending
(`resources/teacher`), storing (`ledger.py`), paying (`budget.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from speed_assets.domain.dialect import PLAIN, Dialect, Refusal, body_of, shape_of
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.replies import PAID_FOR_NOTHING
from speed_assets.errors import SpeedError


@dataclass(frozen=True)
class TeacherRequest:
    """One call to the teacher: everything that shapes its answer.

    Attributes:
        prompt: The text of the one user message.
        model: Name of the model at the endpoint.
        revision: The model's version that the recipe states, if any.
        endpoint: URL of the server; None for the microworld's teacher.
        parameters: Sampling, and what else of the body shapes the answer.
        schema: JSON schema of the answer, if any.
        sample: Number that separates calls which are equal otherwise and need different answers.
        dialect: The form of the body. What of it shapes the answer is in `parameters`, too, and so in the key.
    """

    prompt: str
    model: str
    revision: str | None
    endpoint: str | None
    parameters: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    sample: int = 0
    dialect: Dialect = PLAIN

    def in_dialect(self, dialect: Dialect) -> TeacherRequest:
        """The same request in another dialect."""
        parameters = {name: value for name, value in self.parameters.items() if name != "dialect"}
        if self.schema:
            parameters["structured_output"] = dialect.structure
        if shape := shape_of(dialect, parameters, self.schema):
            parameters["dialect"] = shape
        return replace(self, dialect=dialect, parameters=parameters)

    def body(self) -> dict[str, Any]:
        """The body of the chat completions request.

        The seed does not depend on the endpoint's URL, so a server that honours it gives the same answers at another
        address.
        """
        # 31 bits: some servers keep seeds in a C int.
        seed = seed_for(0, "teacher-call", digest(self.identity() | {"endpoint": None})) >> 32
        return body_of(self.dialect, self.model, self.messages, self.parameters, self.schema, seed)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation: one user message."""
        return [{"role": "user", "content": self.prompt}]

    def identity(self) -> dict[str, Any]:
        """The values that the key is the digest of."""
        return {
            "messages": self.messages,
            "model": self.model,
            "revision": self.revision,
            "endpoint": self.endpoint,
            "parameters": dict(self.parameters),
            "schema": dict(self.schema) if self.schema else None,
            "sample": self.sample,
        }

    @cached_property  # a stage, the ledger and the accounts each ask for it
    def key(self) -> str:
        """The name of this call in the ledger, 64 hex digits."""
        return digest(self.identity())


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """A reply of the teacher.

    Attributes:
        text: The raw text; empty without an answer.
        prompt_tokens: As the provider counts them; None when it reports none.
        output_tokens: As the provider counts them; None when it reports none.
        reused: Whether it is from the ledger.
        error: The server's message when it refused this request for good. A refused request is not in the ledger, so the
            next run sends it again.
        finished: True when the model ended by itself, False when it was cut off at the limit, None when the server does not
            report it (also in ledgers of older versions).
        kind: `answer`, or the name of a paid reply without one (`domain/replies.py`), which is never stored as an answer.
    """

    text: str
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    reused: bool = False
    error: str | None = None
    finished: bool | None = None
    kind: str = "answer"
    served: str | None = None
    """The model that the server reports, and its fingerprint."""
    refusal: Refusal | None = None
    """Why the request was refused, if it was."""

    @property
    def without_answer(self) -> bool:
        """Whether the reply was paid for and holds no answer."""
        return self.kind in PAID_FOR_NOTHING


@dataclass(frozen=True, slots=True)
class CallContext:
    """The run (an id), the stage and its partition that send a call. Costs are reported by these."""

    run: str
    stage: str
    partition: str | None = None


class CapReached(SpeedError, RuntimeError):
    """A cap forbids the next call. The message names the cap, what is spent, and how to continue."""


class TeacherUnavailable(SpeedError, RuntimeError):
    """The teacher gives no answers; the message says why and what to do."""


AnswerSink = Callable[[Sequence[tuple[TeacherRequest, TeacherAnswer]]], None]
"""Stores answers as they arrive; when it returns, they are durable and paid for."""


SilenceListener = Callable[[str], None]
"""Receives an engine's messages while its server does not answer."""


class Allowance(Protocol):
    """Permission to send. Every request is reserved before it is sent, and then settled by the sink or released."""

    def reserve(self, requests: Sequence[TeacherRequest]) -> int:
        """Reserve the price of the first n of `requests` in one step and return n, at least 1.

        Raises CapReached when not even the first fits under every cap.
        """

    def release(self, requests: Sequence[TeacherRequest]) -> None:
        """Free what was reserved for requests that will not be sent, or were refused."""


class TeacherEngine(Protocol):
    """Answers requests, in any order.

    `answer` reserves from `allowance` before it sends, passes every answer to `sink` as it arrives, and returns when each
    request has gone through the sink. When a cap is reached it sends no more, waits for what is in flight, passes that to the
    sink, and raises CapReached. Raises TeacherUnavailable when the endpoint gives no answers at all.
    """

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        """Answer requests; see the class."""
