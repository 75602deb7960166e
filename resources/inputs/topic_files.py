"""Reading a topic file of the user's from the disk, in bounds: a pipe never ends, and a device has no end.

Belongs here: which files are read at all. Not here: what is in them (`domain/topics.py`).
"""

from __future__ import annotations

from pathlib import Path

from speed_assets.domain.topics import BYTES_MAX
from speed_assets.recipe import RecipeError


def checked_topic_file(field: str, file: str | Path) -> Path:
    """The path of a topic file that may be read. Raises RecipeError for what is none, and for one that is too large."""
    path = Path(file)
    if not path.is_file():
        raise RecipeError(f"topics.{field}: there is no file {path}; give one with --topics or in the recipe")
    if path.stat().st_size > BYTES_MAX:
        raise RecipeError(f"topics.{field}: {path} has more than {BYTES_MAX:,} bytes: split it, or choose topics")
    return path


def topic_file_bytes(field: str, file: str | Path) -> bytes:
    """The bytes of a topic file.

    Args:
        field: `file` or `alignment`, for messages.
        file: its path.

    Raises:
        RecipeError: There is no such file, or it is no file, too large or cannot be read.
    """
    path = checked_topic_file(field, file)
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"topics.{field}: {path} cannot be read ({error.strerror}): mend its permissions") from None
