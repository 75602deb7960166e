"""The base of every error that this project raises for a person to read.

Belongs here: the base class alone. Not here: errors themselves, which are next to what raises them.
"""

from __future__ import annotations


class SpeedError(Exception):
    """Base of the project's errors: the message states what is wrong and what to do."""
