"""Error messages without secrets, and which environment variables hold one.

Hidden state of the process: the variables that a recipe marks as secret.

Belongs here: shortening and redacting messages. Not here: what to do about an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

# Wide for redaction, which costs nothing; narrow for withholding a variable from workers, since they may need it.
_SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING)", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/@:]*:([^@]+)@")
_HOLDS_SECRET = re.compile(r"(_KEY|_TOKEN|_SECRET|PASSWORD|CREDENTIALS?|CONNECTION_STRING)$", re.IGNORECASE)
_LENGTH = 300
_NAMED: set[str] = set()
"""Variables that a recipe marks as secret, whatever their names."""


def error_and_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, at most 20, the latest first."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def mark_secret_variables(*names: str | None) -> None:
    """Treat these environment variables as secret for the lifetime of the process; None is ignored."""
    _NAMED.update(filter(None, names))


def is_secret_variable(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret: by its name, as a URL with a password, or because a recipe marks it."""
    named = {os.environ.get(variable) for variable in _NAMED}
    again = len(value) >= 8 and value in named  # the same secret under another name
    return bool(name in _NAMED or again or _HOLDS_SECRET.search(name) or _PASSWORD.search(value))


def redacted_message(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters, with the values of secret variables replaced by `***`."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    secrets = {value for name, value in os.environ.items() if name in _NAMED or _SECRET.search(name)}
    secrets |= {password for value in os.environ.values() for password in _PASSWORD.findall(value)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            words = words.replace(secret, "***")
    return words[:_LENGTH]
