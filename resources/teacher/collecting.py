"""The answers that a stage waits for, as they arrive.

Belongs here: which requests are answered, sent under another key, or sent again. Not here: sending (`endpoint.py`,
`batches.py`), and looking up (`teacher.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from resources.ledger.calls import TeacherAnswer, TeacherEngine, TeacherRequest
from resources.progress import Progress
from resources.teacher.model_health import ModelHealth
from speed_assets.domain.replies import ASKED_AGAIN


@dataclass(slots=True)
class AnswerCollector:
    """The answers of one stage.

    Attributes:
        health: Stops the run where a model answers nothing.
        answers: Answers by the keys that the caller knows.
        wanted: Requests in all.
        progress: Shows answers of `wanted`.
        has_cached: Whether the ledger had some of them.
    """

    health: ModelHealth
    answers: dict[str, TeacherAnswer]
    wanted: int
    progress: Progress | None
    has_cached: bool = False
    retries: int = 0
    """How often a request is still sent again after a reply without an answer."""
    again: dict[str, TeacherRequest] = field(default_factory=dict)
    """Requests to send again, by key."""
    without_answer: Counter[str] = field(default_factory=Counter)
    """Paid replies without an answer, by kind."""
    sent_keys: dict[str, str] = field(default_factory=dict)
    """From the caller's key to the key under which a request was sent, where they differ."""
    caller_keys: dict[str, str] = field(default_factory=dict)
    """The reverse of `sent_keys`."""
    served: dict[str, str] = field(default_factory=dict)
    """By the model that was asked for, the one that the server reported last."""

    @property
    def left(self) -> int:
        """Requests without an answer."""
        return self.wanted - len(self.answers)

    def rename(self, request: TeacherRequest, sent: TeacherRequest) -> None:
        """Note that `request` is sent as `sent`, whose key may differ since another dialect was found."""
        if request.key != sent.key:
            asked = self.caller_keys.pop(request.key, request.key)
            self.sent_keys[asked], self.caller_keys[sent.key] = sent.key, asked

    def add(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        """Take in replies. Raises TeacherUnavailable where `ModelHealth` stops the run."""
        for request, answer in answered:
            if answer.without_answer:
                self.without_answer[answer.kind] += 1
            if answer.kind in ASKED_AGAIN and self.retries > 0:
                self.again[request.key] = request
            else:
                self.answers[self.caller_keys.get(request.key, request.key)] = answer
        self._show("teacher calls")
        for request, answer in answered:
            self.health.check_answer(request, answer, self.has_cached)
            self._check_model(request.model, answer)

    def listen_to(self, engine: TeacherEngine) -> None:
        """Show an engine's messages about a silent server in the progress line."""
        if hasattr(engine, "on_silence"):
            engine.on_silence = lambda words: self._show(f"teacher: {words}")

    def _show(self, words: str) -> None:
        if self.progress:
            self.progress(len(self.answers), self.wanted, words)

    def _check_model(self, asked: str, answer: TeacherAnswer) -> None:
        served = (answer.served or "").split(" ")[0]
        if not served:
            return
        before = self.served.get(asked)
        self.served[asked] = served
        if before and served != before:
            self.health.report_model_change(before, served)

    def note_cached(self, requests: Sequence[TeacherRequest]) -> None:
        """Take the models behind cached answers as reported: an artifact that resumes may meet another one."""
        for request in requests:
            cached = self.answers.get(request.key)
            if cached and cached.served:
                self.served[request.model] = cached.served.split(" ")[0]
