"""The commit of a branch of a model or data set on a hub when this home first used it.

`main` of a hub may be another model tomorrow, and its name in a fingerprint would not show that. So a branch or tag is
resolved at its first use and stored in `revisions.json` of the home; results do not change until the user removes the line.

Belongs here: resolving and storing commits. Not here: models on this machine (`base_models.py`), data sets (`hub_datasets.py`).
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable
from pathlib import Path

from resources.store.home import speed_home
from resources.store.store import write_atomically
from speed_assets.recipe import RecipeError

REVISIONS_FILE = "revisions.json"
DATASETS = "datasets/"
"""How the name of a data set begins here, as in the hub's addresses; the name of a model stands alone."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
HubQuery = Callable[[str, str | None], str]
"""From the name of a model or data set and a branch, tag or None (the default branch) to the present commit."""


def query_hub(name: str, revision: str | None) -> str:
    """The present commit of a model or data set; without a network the commit in this machine's cache of the hub.

    Args:
        name: Name of the model on the hub, or that of a data set after `DATASETS`.
        revision: Branch, tag or commit; None is the default branch.

    Returns:
        40 hex digits.

    Raises:
        Exception: Whatever the hub's client raises; ValueError where the hub names no commit.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    kind, file = ("dataset", "README.md") if name.startswith(DATASETS) else ("model", "config.json")
    name = name.removeprefix(DATASETS)
    try:
        commit = HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=20).sha
    except OSError:  # no network: the hub's own errors are not helped by a cache
        cached = try_to_load_from_cache(name, file, revision=revision or "main", repo_type=kind)
        if not isinstance(cached, str):
            raise
        return Path(cached).parent.name  # .../snapshots/COMMIT/FILE
    if not commit:
        raise ValueError("the hub names no commit")
    return commit


def is_path(name: str) -> bool:
    """Whether a name can only be a path, and that of nothing on a hub.

    >>> is_path("./model"), is_path("owner/name"), is_path("a/b/c")
    (True, False, True)
    """
    return Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1


def cached_commit(name: str, revision: str | None, home: Path | None = None) -> str | None:
    """The commit of a hub's model or data set that this home uses; None before its first use."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    return _stored((home or speed_home()) / REVISIONS_FILE).get(_key(name, revision))


def resolve_commit(name: str, revision: str | None, home: Path | None = None, ask: HubQuery | None = None) -> str:
    """The commit of a hub's model or data set that this home uses, resolved at the first call.

    Args:
        name: Name of the model on the hub, or that of a data set after `DATASETS`.
        revision: Branch, tag or commit; None is the default branch.
        home: The home; None is `SPEED_HOME`.
        ask: Asks the hub; None is `query_hub`.

    Returns:
        40 hex digits.

    Raises:
        RecipeError: The home has not resolved it yet, and the hub cannot be asked.
    """
    if cached := cached_commit(name, revision, home):
        return cached
    file, key = (home or speed_home()) / REVISIONS_FILE, _key(name, revision)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = _stored(file)
        if key not in stored:
            stored[key] = _ask_or_fail(ask or query_hub, name, revision)
            write_atomically(file, json.dumps(stored, indent=1, sort_keys=True) + "\n")
    return stored[key]


def _key(name: str, revision: str | None) -> str:
    return f"{name}@{revision or 'default'}"


def _ask_or_fail(ask: HubQuery, name: str, revision: str | None) -> str:
    try:
        return ask(name, revision)
    except Exception as error:  # a client of many layers: one message for every failure says what to do
        words = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"{name}, revision {revision or 'default'}: neither a folder here nor found on a model hub "
            f"({type(error).__name__}: {words}): correct the name, get access (HF_TOKEN, consent to its licence), connect, or "
            "give a folder or a commit of 40 hexadecimal digits as revision"
        ) from None


def _stored(file: Path) -> dict[str, str]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise RecipeError(f"{file} is no JSON: correct it, or remove it (branches are then resolved again)") from None
    return {str(key): str(value) for key, value in stored.items()}
