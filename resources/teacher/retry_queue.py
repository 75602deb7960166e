"""Requests that wait to be sent again, by the time they are due.

Belongs here: their order. Not here: sending (`endpoint.py`), and how long one waits (`pacing.py`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from resources.ledger.calls import TeacherRequest
from resources.teacher.pacing import Pace


@dataclass(eq=False, slots=True)
class Sending:
    """A request that is reserved and has no answer yet."""

    request: TeacherRequest
    sent_at: float = 0.0
    failures: int = 0
    uncertain: bool = False
    """A connection ended without a reply: the server may have answered and billed it."""


class RetryQueue:
    """Those that failed `attempts` times wait behind all others. Times are seconds of one monotonic clock."""

    def __init__(self, pace: Pace, attempts: int) -> None:
        self._pace, self._attempts = pace, attempts
        self._heap: list[tuple[bool, float, int, Sending]] = []  # worn out last, then by time
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Sending]:
        return (entry[-1] for entry in self._heap)

    def push(self, sending: Sending, now: float) -> None:
        """Add a request that has failed once more."""
        sending.failures += 1
        self._numbered += 1
        due = now + self._pace.backoff(sending.request.key, sending.failures)
        heapq.heappush(self._heap, (sending.failures >= self._attempts, due, self._numbered, sending))

    def pop(self, now: float, has_new: bool) -> Sending | None:
        """The next one that is due; one that is worn out only if no new request waits (`has_new`)."""
        if not self._heap:
            return None
        worn_out, due, _, sending = self._heap[0]
        if due > now or (worn_out and has_new):
            return None
        heapq.heappop(self._heap)
        return sending

    def due(self) -> list[float]:
        """When the next one is due, if there is any."""
        return [entry[1] for entry in self._heap[:1]]

    def hurry(self, now: float) -> None:
        """The endpoint answers again: no request waits longer than a new one would."""
        self._heap = [
            (worn_out, min(due, now + self._pace.backoff(sending.request.key, 1)), number, sending)
            for worn_out, due, number, sending in self._heap
        ]
        heapq.heapify(self._heap)
