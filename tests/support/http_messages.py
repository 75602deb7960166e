"""Replies and uploads as the teacher server of the tests reads and writes them on the wire.

Belongs here: those bytes. Not here: which reply comes (`teacher_server.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any


class NoReplyError(Exception):
    """The connection ends here."""


def in_format(text: str, asked: dict[str, Any] | None) -> str:
    """A list as the object that the schema asks for; anything else as it is."""
    if not asked or asked["type"] != "json_schema":
        return text
    required = asked["json_schema"]["schema"]["required"]
    with contextlib.suppress(ValueError):
        if len(required) == 1 and isinstance(value := json.loads(text), list):
            return json.dumps({required[0]: value}, ensure_ascii=False)
    return text


def uploaded_file(content_type: str, body: bytes) -> bytes:
    """The file of a multipart upload."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    for part in message.iter_parts():
        if part.get_filename():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content
    raise NoReplyError


def error_body(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "code": code, "param": None}}


def write_reply(
    writer: asyncio.StreamWriter,
    status: int,
    value: Any,
    headers: dict[str, str] | None = None,
    announced: int | None = None,
) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    fields = {"content-type": "application/json", "content-length": str(announced or len(body)), **(headers or {})}
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    writer.write(f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body)
