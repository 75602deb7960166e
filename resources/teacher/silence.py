"""When a server has stopped answering, and which requests hang because of it.

Belongs here: the arithmetic, with the time as an argument. Not here: sending (`endpoint.py`), and how many requests may be
in flight otherwise (`pacing.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

SILENT_S = 5.0
"""Shortest time without an answer that is reported, and after which the server is probed, in seconds. Ours."""
_PATIENCE = 1.5
"""Silence in times of the slowest answer so far. A server that works answers within this time whatever is in flight. Ours."""
_RECOVERY_S = 1.0
"""Shortest time for which a server that answers again may still answer older requests, in seconds. Ours."""


@dataclass(slots=True)
class Record:
    """Replies that an engine has received."""

    answered: int = 0
    nothing: int = 0
    """Refusals and replies without an answer, before the first answer."""
    slowest: float = 0.0
    """Seconds of the slowest answer; 0 before the first one."""


class Silence:
    """Times of one monotonic clock, in seconds.

    A silence begins when nothing has been answered for 1.5 times the slowest answer, at least 5 s. During it one request every
    5 s is sent although older ones hold all places. Once one of these is answered, the older ones hold no place any more, and
    those that are still without an answer after the time of the slowest answer hang: their connections are dead.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.alive_at = 0.0
        """Time of the last answer, or when nothing was in flight."""
        self.noticed_at = 0.0
        """Time of the last message about it."""
        self._sent_at = 0.0
        self._probed_from = self._hung_before = float("-inf")
        self._recovered_at: float | None = None

    def _patience(self) -> float:
        slowest = self._record.slowest
        return max(SILENT_S, _PATIENCE * slowest) if slowest else float("inf")

    def note_sent(self, now: float) -> None:
        """Note that a request is sent now."""
        self._sent_at = now

    def note_reply(self, sent_at: float, now: float, is_answer: bool) -> None:
        """Note the reply to a request that was sent at `sent_at`; one that is no answer says nothing about their time."""
        if now - self.alive_at >= self._patience():
            self._probed_from, self._recovered_at = self.alive_at + self._patience(), None
        if self._recovered_at is None and sent_at >= self._probed_from > float("-inf"):
            self._recovered_at, self._hung_before = now, sent_at  # earlier probes may hang as well
        if is_answer:
            self._record.slowest = max(self._record.slowest, now - sent_at)
        self.alive_at = now

    def probe_at(self) -> float:
        """When a request is sent next although no place is free."""
        return max(self.alive_at + self._patience(), self._sent_at + SILENT_S)

    def count_placed(self, sent: Collection[float]) -> int:
        """How many of the requests in flight, by the time they were sent at, are held to be worked on."""
        if self._recovered_at is None:
            return len(sent)
        placed = sum(sent_at >= self._hung_before for sent_at in sent)
        if placed == len(sent):
            self._probed_from, self._recovered_at = float("-inf"), None  # none of before the silence is left
        return placed

    def hangs(self, sent_at: float, now: float) -> bool:
        """Whether a request in flight will not be answered."""
        return sent_at < self._hung_before and now >= self.abandon_at()

    def abandon_at(self) -> float:
        """When the requests that hold no place hang."""
        if self._recovered_at is None:
            return float("inf")
        return self._recovered_at + max(_RECOVERY_S, self._record.slowest)
