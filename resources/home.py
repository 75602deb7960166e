"""Where a world lives: `SPEED_HOME` holds artifacts, ledger, releases and the Dagster instance.

Belongs here: finding and preparing the home. Not here: what is in it (`store.py`, `ledger.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

from resources.store import Store, write_whole

PROJECT = Path(__file__).resolve().parents[1]


def speed_home() -> Path:
    """`SPEED_HOME`, by default `.speed` in the project."""
    return Path(os.environ.get("SPEED_HOME") or PROJECT / ".speed").resolve()


def prepare(home: Path) -> Path:
    """Create the home and its Dagster instance folder, which is returned. Raises StoreError when it cannot be written.

    The instance's `dagster.yaml` is the project's; a changed one of the user's own is left alone.
    """
    Store(home).open()
    dagster_home = home / "dagster"
    dagster_home.mkdir(exist_ok=True)
    config = dagster_home / "dagster.yaml"
    if not config.exists():
        write_whole(config, (PROJECT / "dagster.yaml").read_text())
    return dagster_home
