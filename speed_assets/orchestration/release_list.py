"""`speed releases` and `speed verify`: the releases of a home, and whether one is as it was written.

Belongs here: reading releases for a list. Not here: finding or linking them (`resources/releases`), printing.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resources.releases import releases
from resources.store.manifests import MANIFEST_FILE, integrity_problems, load_manifest
from resources.store.store import Store, StoreError


def release_list(store: Store) -> list[dict[str, Any]]:
    """What each release states about itself, newest first; `verified` reads its bytes."""
    listed = []
    for release in releases.list_releases(store):
        metadata = release.manifest["metadata"]
        scores = metadata.get("scores") or {}
        now = releases.current_release(store, release.recipe) if release.recipe else None
        listed.append(
            {
                "path": str(release.path),
                "recipe": release.recipe,
                "current": now is not None and now.fingerprint == release.fingerprint,
                "created": datetime.fromtimestamp(release.created, UTC).isoformat(timespec="seconds"),
                "digest": release.manifest["digest"],
                "rows": metadata.get("rows_released"),
                "mean_score": round(sum(scores.values()) / len(scores), 4) if scores else None,
                "tasks": len(scores),
            }
        )
    return listed


def verified(folder: Path) -> dict[str, Any]:
    """{asset, fingerprint, files, bytes, digest, damaged}: `damaged` lists every file that is not as it was written.

    Raises:
        StoreError: when the folder is no release.
    """
    if not os.path.lexists(folder / MANIFEST_FILE):
        raise StoreError(
            f"{folder} is no release: it has no {MANIFEST_FILE}; name the folder that `speed releases` lists"
        )
    damaged = list(integrity_problems(folder))
    try:
        manifest = load_manifest(folder)
    except ValueError:
        manifest = {}
    files = manifest.get("files", {})
    return {
        "asset": manifest.get("asset"),
        "fingerprint": manifest.get("fingerprint"),
        "files": len(files),
        "bytes": sum(entry["bytes"] for entry in files.values()) if not damaged else None,
        "digest": manifest.get("digest"),
        "damaged": damaged,
    }
