"""Errors of others in plain words.

Belongs here: shortening them, and taking out what the environment keeps secret. Not here: what to do about them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

# Wide where a text is cleaned, which costs nothing; exact where a variable is withheld, which may be needed.
_SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING)", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/@:]*:([^@]+)@")
_HOLDS_SECRET = re.compile(r"(_KEY|_TOKEN|_SECRET|PASSWORD|CREDENTIALS?|CONNECTION_STRING)$", re.IGNORECASE)
_LENGTH = 300
_NAMED: set[str] = set()
"""Variables that a recipe says hold a secret, whatever they are called."""


def error_and_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came from, the latest first."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def mark_secret_variables(*names: str | None) -> None:
    """Count these environment variables among those that hold a secret, as long as this process lives."""
    _NAMED.update(filter(None, names))


def is_secret_variable(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret: by its name, as a URL with a password, or since a recipe says so."""
    named = {os.environ.get(variable) for variable in _NAMED}
    again = len(value) >= 8 and value in named  # the same secret under another name
    return bool(name in _NAMED or again or _HOLDS_SECRET.search(name) or _PASSWORD.search(value))


def redacted_message(error: BaseException) -> str:
    """An error's first line, without a value that a variable such as `..._SECRET_ACCESS_KEY` or a password in a URL holds."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    secrets = {value for name, value in os.environ.items() if name in _NAMED or _SECRET.search(name)}
    secrets |= {password for value in os.environ.values() for password in _PASSWORD.findall(value)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            words = words.replace(secret, "***")
    return words[:_LENGTH]
