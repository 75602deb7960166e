"""The bytes of a reply, unpacked and never more than a bound: a small body may unpack to any size.

Belongs here: collecting what comes over the wire, asked online (`unpacked`) or through a client library (`Bounded`). Not
here: what it means.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2


class TooLong(ValueError):
    """More bytes than anybody asked for, or bytes that cannot be unpacked."""


class Unpacking:
    """One body, chunk by chunk.

    Args:
        encoding: the reply's `Content-Encoding`.
        most: bytes that the body may have, unpacked.

    Raises:
        TooLong: for an encoding that was not asked for.
    """

    def __init__(self, encoding: str, most: int) -> None:
        name = encoding.strip().casefold()
        packed = name in ("gzip", "deflate")
        if not packed and name not in ("", "identity"):
            raise TooLong(f"the body is packed as {encoding.strip()[:20]!r}, which was not asked for")
        self._most, self._size = most, 0
        # Finds out by itself which of both.
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if packed else None

    def part(self, chunk: bytes) -> bytes:
        """A chunk, unpacked. Raises TooLong beyond the bound."""
        if self._unpacker is not None:
            try:
                chunk = self._unpacker.decompress(chunk, self._most - self._size + 1)
            except zlib.error:
                raise TooLong("the body cannot be unpacked") from None
        self._size += len(chunk)
        if self._size > self._most:
            raise TooLong(f"the body is longer than {self._most:,} bytes")
        return chunk


async def unpacked(chunks: AsyncIterator[bytes], encoding: str, most: int) -> bytes:
    """The complete body. Raises TooLong beyond `most` bytes, and for an encoding that was not asked for.

    Args:
        chunks: the body as it comes.
        encoding: the reply's `Content-Encoding`.
        most: bytes that it may have, unpacked.
    """
    unpacking = Unpacking(encoding, most)
    return b"".join([unpacking.part(chunk) async for chunk in chunks])


class Bounded:
    """Hooks of a client that reads every body to its end: bodies come through them unpacked, and up to a bound.

    Args:
        most: bytes that the body of the reply to a request may have, unpacked.
        seconds: that this body may take altogether; None is no bound but the client's own between two bytes.
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
        reply.headers.pop("content-encoding", None)  # the client shall not unpack it again
        reply.stream = _Parts(reply.stream, unpacking, None if seconds is None else time.monotonic() + seconds)


class _Parts(httpx2.SyncByteStream):
    """The unpacked parts of a body."""

    def __init__(self, stream: object, unpacking: Unpacking, until: float | None) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream, self._unpacking, self._until = stream, unpacking, until

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if self._until is not None and time.monotonic() > self._until:
                raise TooLong("the body takes too long (calls.timeout_s)")
            yield self._unpacking.part(chunk)

    def close(self) -> None:
        self._stream.close()
