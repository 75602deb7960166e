"""The bytes of a reply, unpacked up to a limit: a small body may unpack to any size.

Belongs here: receiving a body. Not here: reading it (`chat.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator


class UnreadableBody(ValueError):
    """A body that is longer than the limit, or that cannot be unpacked."""


async def unpack_body(chunks: AsyncIterator[bytes], encoding: str, most: int) -> bytes:
    """The complete body.

    Args:
        chunks: The body as it arrives.
        encoding: The reply's `Content-Encoding`.
        most: Longest body in bytes, unpacked.

    Raises:
        UnreadableBody: The body is longer, or packed in a way that was not requested.
    """
    packed = encoding.strip().casefold() in ("gzip", "deflate")
    if not packed and encoding.strip().casefold() not in ("", "identity"):
        raise UnreadableBody(f"the body is packed as {encoding.strip()[:20]!r}, which was not asked for")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if packed else None  # finds out by itself which of both
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        part = chunk
        if unpacker is not None:
            try:
                part = unpacker.decompress(chunk, most - size + 1)
            except zlib.error:
                raise UnreadableBody("the body cannot be unpacked") from None
        parts.append(part)
        size += len(part)
        if size > most:
            raise UnreadableBody(f"the body is longer than {most:,} bytes")
    return b"".join(parts)
