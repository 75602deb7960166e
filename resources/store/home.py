"""Where a world lives: `SPEED_HOME` holds artifacts, ledger, releases and the Dagster instance.

Belongs here: finding and preparing the home. Not here: what is in it (`store.py`, `ledger.py`).
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from resources.store.store import Store, StoreError, write_atomically
from speed_assets.recipe import PROJECT

POSTGRES_VARIABLE = "SPEED_DAGSTER_POSTGRES_URL"
_POSTGRES = f"""
storage:
  postgres:
    postgres_url:
      env: {POSTGRES_VARIABLE}
"""
"""Lines of a `dagster.yaml` that keep Dagster's storage in PostgreSQL; the URL stays in the environment."""


def speed_home() -> Path:
    """`SPEED_HOME`, by default `.speed` in the project."""
    return Path(os.environ.get("SPEED_HOME") or PROJECT / ".speed").resolve()


def prepare_home(home: Path) -> Path:
    """Create the home and its Dagster instance folder, which is returned. Raises StoreError when it cannot be written.

    The instance's `dagster.yaml` is the project's, with PostgreSQL as storage where `SPEED_DAGSTER_POSTGRES_URL` names
    one; a changed one of the user's own is left alone.
    """
    if set("?%") & set(str(home)):  # Dagster puts the path into a URL as it is
        raise StoreError(
            f"SPEED_HOME {home} has a ? or % in its path, which Dagster's storage reads as something else: move it"
        )
    Store(home).open()
    dagster_home = home / "dagster"
    dagster_home.mkdir(exist_ok=True)
    config = dagster_home / "dagster.yaml"
    plain = (PROJECT / "dagster.yaml").read_text()
    wanted = plain + _POSTGRES if os.environ.get(POSTGRES_VARIABLE) else plain
    if not config.exists() or (config.read_text() == plain != wanted):
        write_atomically(config, wanted)
    _check_postgres(config)
    return dagster_home


def _check_postgres(config: Path) -> None:
    """See that file and environment say the same of PostgreSQL: nobody is to end up in another storage by a slip."""
    named, given = POSTGRES_VARIABLE in config.read_text(), bool(os.environ.get(POSTGRES_VARIABLE))
    if named and not given:
        raise StoreError(
            f"{config} keeps Dagster's storage in PostgreSQL: set {POSTGRES_VARIABLE}, or remove that file"
        )
    if given and not named:
        raise StoreError(f"{config} is your own and does not read {POSTGRES_VARIABLE}: add to it{_POSTGRES}or unset it")
    if given and not os.environ[POSTGRES_VARIABLE].startswith("postgresql+psycopg2://"):
        # Dagster speaks in psycopg2's way, and SQLAlchemy takes another driver where none is named.
        raise StoreError(f"{POSTGRES_VARIABLE}: write postgresql+psycopg2://USER@HOST/DATABASE, with that driver")
    if given and find_spec("dagster_postgres") is None:
        raise StoreError(f"{POSTGRES_VARIABLE} needs a package: pip install 'speed-assets[postgres]'")
