"""The bytes of a reply, unpacked up to a limit: a small body may unpack to any size.

Belongs here: receiving a body. Not here: reading it (`chat.py`).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
from typing_extensions import override


class UnreadableBody(ValueError):
    """A body that is longer than the limit, or that cannot be unpacked."""


class Unpacking:
    """One body, chunk by chunk.

    Args:
        encoding: The reply's `Content-Encoding`.
        most: Longest body in bytes, unpacked.

    Raises:
        UnreadableBody: The encoding was not requested.
    """

    def __init__(self, encoding: str, most: int) -> None:
        name = encoding.strip().casefold()
        packed = name in ("gzip", "deflate")
        if not packed and name not in ("", "identity"):
            raise UnreadableBody(f"the body is packed as {encoding.strip()[:20]!r}, which was not asked for")
        self._most, self._size = most, 0
        # Finds out by itself which of both.
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if packed else None

    def part(self, chunk: bytes) -> bytes:
        """A chunk, unpacked. Raises UnreadableBody beyond the limit."""
        if self._unpacker is not None:
            try:
                chunk = self._unpacker.decompress(chunk, self._most - self._size + 1)
            except zlib.error:
                raise UnreadableBody("the body cannot be unpacked") from None
        self._size += len(chunk)
        if self._size > self._most:
            raise UnreadableBody(f"the body is longer than {self._most:,} bytes")
        return chunk


async def unpack_body(chunks: AsyncIterator[bytes], encoding: str, most: int) -> bytes:
    """The complete body.

    Args:
        chunks: The body as it arrives.
        encoding: The reply's `Content-Encoding`.
        most: Longest body in bytes, unpacked.

    Raises:
        UnreadableBody: The body is longer, or packed in a way that was not requested.
    """
    unpacking = Unpacking(encoding, most)
    return b"".join([unpacking.part(chunk) async for chunk in chunks])


class BodyLimit:
    """Hooks of an HTTP client that reads bodies to their end: they arrive unpacked, and up to a limit.

    Args:
        most: Longest body in bytes, unpacked, of the reply to a request.
        seconds: Longest time for this body; None is no limit but the client's own between two bytes.
    """

    def __init__(
        self, most: Callable[[httpx2.Request], int], seconds: Callable[[httpx2.Request], float | None]
    ) -> None:
        self._most, self._seconds = most, seconds

    def hooks(self) -> dict[str, list[Callable[..., object]]]:
        """What the client takes as `event_hooks`."""
        return {"request": [self._ask], "response": [self._bind]}

    def _ask(self, request: httpx2.Request) -> None:
        request.headers["Accept-Encoding"] = "gzip"

    def _bind(self, reply: httpx2.Response) -> None:
        seconds = self._seconds(reply.request)
        unpacking = Unpacking(reply.headers.get("content-encoding", ""), self._most(reply.request))
        reply.headers.pop("content-encoding", None)  # the client must not unpack it again
        reply.stream = _Parts(reply.stream, unpacking, None if seconds is None else time.monotonic() + seconds)


class _Parts(httpx2.SyncByteStream):
    """The unpacked parts of a body."""

    def __init__(self, stream: object, unpacking: Unpacking, until: float | None) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream, self._unpacking, self._until = stream, unpacking, until

    @override
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if self._until is not None and time.monotonic() > self._until:
                raise UnreadableBody("the body takes too long (calls.timeout_s)")
            yield self._unpacking.part(chunk)

    @override
    def close(self) -> None:
        self._stream.close()
