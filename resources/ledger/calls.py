"""One call to the teacher as a value: the request, by all that shapes its answer, and the answer.

Belongs here: values and the interfaces that carry them between teacher, ledger, money and engines. Not here: asking
(`teacher.py`, `endpoint.py`), keeping (`ledger.py`), paying (`money.py`).
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
    """One call to the teacher: all that shapes its answer.

    `sample` tells apart calls that are otherwise equal and want different answers. `dialect` is how the server is asked; what
    of it shapes the answer stands in `parameters`, too, and so in the key.
    """

    prompt: str
    model: str
    revision: str | None
    endpoint: str | None
    parameters: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    sample: int = 0
    dialect: Dialect = PLAIN

    def spoken(self, dialect: Dialect) -> TeacherRequest:
        """The same request in a dialect."""
        parameters = {name: value for name, value in self.parameters.items() if name != "dialect"}
        if self.schema:
            parameters["structured_output"] = dialect.structure
        if shape := shape_of(dialect, parameters, self.schema):
            parameters["dialect"] = shape
        return replace(self, dialect=dialect, parameters=parameters)

    def body(self) -> dict[str, Any]:
        """The request as a chat completions body.

        The seed does not depend on the endpoint's URL, so a server that honours it gives the same answers at another
        address.
        """
        # 31 bits: some servers keep seeds in a C int.
        seed = seed_for(0, "teacher-call", digest(self.named() | {"endpoint": None})) >> 32
        return body_of(self.dialect, self.model, self.messages, self.parameters, self.schema, seed)

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.prompt}]

    def named(self) -> dict[str, Any]:
        """Everything the key is made of."""
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
        """64 hex digits: the name of this call in the ledger."""
        return digest(self.named())


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """The teacher's raw text. Token counts as the provider reports them; None when it reports none.

    `error` holds the server's words when it refused this one request for good; then `text` is empty. A refused
    request is not in the ledger, so the next run may ask again. `finished` is True when the server said that the model
    ended by itself, False when it was cut off at the limit, None when it said neither (and in ledgers of before).

    `kind` is the name of a reply that holds no answer (`domain/replies.py`): it is paid for and never kept as one.
    """

    text: str
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    reused: bool = False
    error: str | None = None
    finished: bool | None = None
    kind: str = "answer"
    served: str | None = None
    """The model that the server says it has asked, and its fingerprint."""
    refusal: Refusal | None = None
    """Of a refused request: what it was refused for."""

    @property
    def nothing(self) -> bool:
        """Whether it was paid for and holds no answer."""
        return self.kind in PAID_FOR_NOTHING


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who asks: the run (an id), the stage and its partition. Costs are told by these."""

    run: str
    stage: str
    partition: str | None = None


class CapReached(SpeedError, RuntimeError):
    """A cap forbids the next call. The message names the cap, what is spent, and how to go on."""


class TeacherUnavailable(SpeedError, RuntimeError):
    """No answer is to be had at all; the message says why and what to do."""


Sink = Callable[[Sequence[tuple[TeacherRequest, TeacherAnswer]]], None]
"""Takes answers as they come; when it returns, they are durable and paid for."""


Says = Callable[[str], None]
"""Takes what an engine has to say while its server does not answer."""


class Allowance(Protocol):
    """Leave to send. Every request is taken before it is sent, and settled by the sink or given back."""

    def take(self, requests: Sequence[TeacherRequest]) -> int:
        """Reserve the price of the first n of `requests` at once and return n (at least 1).

        Raises CapReached when not even the first fits under every cap.
        """

    def give_back(self, requests: Sequence[TeacherRequest]) -> None:
        """These were taken and will not be sent, or were refused: free what was reserved for them."""


class TeacherEngine(Protocol):
    """Answers requests, in any order.

    `answer` takes leave from `allowance` before it sends, hands every answer to `sink` as it comes, and returns when
    each request has gone through the sink. When a cap is reached it sends no more, waits for what is in flight, hands that
    on, and raises CapReached. Raises TeacherUnavailable when the endpoint gives no answers at all.
    """

    def answer(self, requests: Sequence[TeacherRequest], sink: Sink, allowance: Allowance) -> None: ...
