"""The home: the folder `SPEED_HOME`, with artifacts, ledger, releases and the Dagster instance.

Belongs here: finding and preparing the home. Not here: what is in it (`store.py`, `ledger.py`).
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from resources.store.store import Store, StoreError, make_private, write_atomically
from speed_assets.recipe import INSTALLED, PROJECT, SHIPPED

POSTGRES_VARIABLE = "SPEED_DAGSTER_POSTGRES_URL"
_POSTGRES = f"""
storage:
  postgres:
    postgres_url:
      env: {POSTGRES_VARIABLE}
"""
"""Lines of a `dagster.yaml` that keep Dagster's storage in PostgreSQL; the URL stays in the environment."""
_MOVED_MODULES = {"resources.living": "resources.instance.run_liveness"}
"""Modules that the `dagster.yaml` of an older home names, and where their classes are now."""


def speed_home() -> Path:
    """`SPEED_HOME`, by default `.speed` in the checkout, or in the working folder of an installed package. Raises StoreError for no path."""
    named = os.environ.get("SPEED_HOME") or (Path.cwd() if INSTALLED else PROJECT) / ".speed"
    try:
        return Path(named).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise StoreError(f"SPEED_HOME is no path that can be used: {error}") from None


def prepare_home(home: Path) -> Path:
    """Create the home and the folder of its Dagster instance.

    The instance's `dagster.yaml` is the project's, with PostgreSQL as storage where `SPEED_DAGSTER_POSTGRES_URL` names
    one. A file that the user has changed stays as it is, but for module names of earlier versions of this project.

    Args:
        home: The folder, which need not exist.

    Returns:
        The folder of the Dagster instance.

    Raises:
        StoreError: The home cannot be written, or file and environment disagree about PostgreSQL.
    """
    if set("?%") & set(str(home)):  # Dagster puts the path into a URL as it is
        raise StoreError(
            f"SPEED_HOME {home} has a ? or % in its path, which Dagster's storage reads as something else: move it"
        )
    Store(home).open()
    dagster_home = home / "dagster"
    make_private(dagster_home)
    config = dagster_home / "dagster.yaml"
    plain = (SHIPPED / "dagster.yaml").read_text()
    wanted = plain + _POSTGRES if os.environ.get(POSTGRES_VARIABLE) else plain
    before = config.read_text() if config.exists() else None
    current = _with_present_modules(before) if before is not None else wanted
    if current == plain:
        current = wanted
    if current != before:
        write_atomically(config, current)
    _check_postgres(config)
    return dagster_home


def _with_present_modules(config: str) -> str:
    """A `dagster.yaml` in which classes of this project are named by the modules that hold them now."""
    for before, now in _MOVED_MODULES.items():
        config = re.sub(rf"(?m)^(\s*module:\s*){re.escape(before)}[ \t]*$", rf"\g<1>{now}", config)
    return config


def _check_postgres(config: Path) -> None:
    """Raise StoreError where file and environment disagree about PostgreSQL, so that no run uses the wrong storage."""
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
