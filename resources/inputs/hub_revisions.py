"""Which commit a branch of a model hub meant when this home first used it.

`main` of a hub is another model tomorrow, and a word in a fingerprint would not show it. So a branch or tag is resolved
at its first use, kept in `revisions.json` of the home, and used from there: results stay what they were made from until
somebody takes the line out.

Belongs here: resolving and keeping commits. Not here: models that lie on this disk (`externals.py`).
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
_COMMIT = re.compile(r"[0-9a-f]{40}")
HubQuery = Callable[[str, str | None], str]
"""From the name of a model and a branch, tag or None (the default branch) to the commit that it means now."""


def query_hub(name: str, revision: str | None) -> str:
    """The commit that a hub names now, or where none can be reached the one that this machine's cache of it was filled
    from. Raises what the hub's client raises."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        commit = HfApi().model_info(name, revision=revision, timeout=20).sha
    except OSError:  # no network; what the hub itself answers is no OSError that a cache could mend
        cached = try_to_load_from_cache(name, "config.json", revision=revision or "main")
        if not isinstance(cached, str):
            raise
        return Path(cached).parent.name  # .../snapshots/COMMIT/config.json
    if not commit:
        raise ValueError("the hub names no commit")
    return commit


def cached_commit(name: str, revision: str | None, home: Path | None = None) -> str | None:
    """The commit that stands for a hub's model in this home; None while nothing has used it."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    return _kept((home or speed_home()) / REVISIONS_FILE).get(_key(name, revision))


def resolve_commit(name: str, revision: str | None, home: Path | None = None, ask: HubQuery | None = None) -> str:
    """The commit of a hub's model, as this home first met it; a commit stands for itself.

    Raises RecipeError when it is not known here and the hub cannot be asked.
    """
    if known := cached_commit(name, revision, home):
        return known
    file, key = (home or speed_home()) / REVISIONS_FILE, _key(name, revision)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _kept(file)
        if key not in kept:
            kept[key] = _asked(ask or query_hub, name, revision)
            write_atomically(file, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return kept[key]


def _key(name: str, revision: str | None) -> str:
    return f"{name}@{revision or 'default'}"


def _asked(ask: HubQuery, name: str, revision: str | None) -> str:
    try:
        return ask(name, revision)
    except Exception as error:  # a client of many layers: whatever went wrong, one message says what to do
        words = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"{name}, revision {revision or 'default'}: neither a folder here nor known to a model hub now "
            f"({type(error).__name__}: {words}): correct the name, get access (HF_TOKEN, consent to its licence), connect, or "
            "give a folder or a commit of 40 hexadecimal digits as revision"
        ) from None


def _kept(file: Path) -> dict[str, str]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise RecipeError(f"{file} is no JSON: mend it, or remove it (branches are then resolved again)") from None
    return {str(key): str(value) for key, value in kept.items()}
