"""The environment variables that name a home, set while something runs in it.

Worker processes and `speed_home()` read the home from the environment. So what runs in a home sets `SPEED_HOME` for as long
as it runs, and restores it afterwards: planning in one home never redirects later code to it.

Belongs here: setting and restoring the variables. Not here: what a home holds (`resources/store/home.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SHARED_VARIABLES = ("SPEED_STORE_URL", "SPEED_LEDGER_URL", "SPEED_DAGSTER_POSTGRES_URL")
"""Storage that several homes share."""


def variables_of(home: Path) -> dict[str, str]:
    """The variables of a process that is started to work in this home, such as the UI."""
    return {"SPEED_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}


@contextmanager
def home_environment(home: Path, *, shared: bool = True) -> Iterator[None]:
    """Name a home in this process's environment, and restore the environment afterwards.

    Args:
        home: the home that is named.
        shared: keep the variables of storage that homes share; without them everything is in the home's own folder.
    """
    changes: Mapping[str, str | None] = {
        "SPEED_HOME": str(home),
        **({} if shared else dict.fromkeys(SHARED_VARIABLES)),
    }
    before = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(before)


def _apply(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value
