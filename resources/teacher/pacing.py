"""The rate of requests to an endpoint: additive increase, multiplicative decrease, and the server's own limits.

Belongs here: the arithmetic of concurrency and waiting, with the time as an argument. Not here: sending (`endpoint.py`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from speed_assets.domain.fingerprints import seed_for
from speed_assets.recipe import Calls

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Pace:
    """How many requests may be in flight, and from when on. Times are seconds of one monotonic clock.

    The limit grows by one for each round of answers, and halves at an overload, at most once for requests that were in
    flight together. Below half of the limit before the overload it doubles with each round, so that it recovers from an
    outage in a few rounds (slow start; Jacobson, Congestion Avoidance and Control, 1988).
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._limit = float(min(calls.concurrency_start, calls.concurrency_max))
        self._borne = self._limit
        """Limit up to which slow start doubles with each round."""
        self._answered = True
        self._halved_at = float("-inf")
        self.open_at = float("-inf")
        """Nothing is sent before this time."""

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    def record_answer(self) -> None:
        """Raise the limit after an answer."""
        step = 1.0 if self._limit < self._borne else 1 / self._limit
        self._limit = min(self._limit + step, float(self._calls.concurrency_max))
        self._answered = True

    def record_overload(self, sent_at: float, now: float) -> None:
        """Halve the limit after an overload of a request that was sent after the limit was last halved."""
        if sent_at > self._halved_at:
            if self._answered:  # an outage counts once, however many requests it refuses
                self._borne = max(1.0, self._limit / 2)
                self._answered = False
            self._limit = max(1.0, self._limit / 2)
            self._halved_at = now

    def obey_headers(self, headers: Mapping[str, str], now: float, refused: bool, tokens: int) -> None:
        """Wait as a reply's headers ask, at most `calls.backoff_max_s`.

        Args:
            headers: Of the reply, with `retry-after` and `x-ratelimit-*`.
            now: Time of the reply.
            refused: Whether the request is to be sent again; only then `retry-after` counts.
            tokens: Tokens that one request may need.
        """
        wait = retry_after(headers) if refused else None
        for what, needed in (("requests", 1), ("tokens", tokens)):
            remaining = _number(headers.get(f"x-ratelimit-remaining-{what}"))
            if remaining is not None and remaining < needed:
                wait = max(wait or 0.0, parse_duration(headers.get(f"x-ratelimit-reset-{what}", "")) or 0.0)
        if wait:
            self.open_at = max(self.open_at, now + min(wait, self._calls.backoff_max_s))

    def backoff(self, key: str, failures: int) -> float:
        """Seconds until a request that failed `failures` times is sent again: full jitter, with a seed of its own."""
        widest = min(self._calls.backoff_max_s, self._calls.backoff_s * 2.0 ** min(failures - 1, 60))
        return random.Random(seed_for(0, "teacher-backoff", key, failures)).uniform(0, widest)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `retry-after-ms` or `Retry-After` (seconds or an HTTP date, RFC 9110); None without either.

    >>> retry_after({"retry-after": "1.5"})
    1.5
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    until = _moment(text)
    return None if until is None else max(0.0, until - server_time(headers))


def server_time(headers: Mapping[str, str]) -> float:
    """Unix seconds by the server's clock (`Date`), since ours may be wrong; by ours where the server sends no date.

    >>> retry_after({"retry-after": "Fri, 18 Oct 2024 00:00:09 GMT", "date": "Fri, 18 Oct 2024 00:00:02 GMT"})
    7.0
    """
    date = _moment(headers.get("date", ""))
    return datetime.now(UTC).timestamp() if date is None else date


def _moment(text: str) -> float | None:
    """Unix seconds of an HTTP date."""
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def parse_duration(text: str) -> float | None:
    """Seconds of a duration in the format of rate-limit headers; None for any other text.

    >>> parse_duration("6m0s"), parse_duration("20ms"), parse_duration("1.5")
    (360.0, 0.02, 1.5)
    """
    seconds = _number(text)
    if seconds is not None:
        return seconds
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\s*\d{1,12}(\.\d{1,12})?\s*", text) else None
