"""A shared store of which every manifest was tampered with: the run makes everything itself, and names each of them.

Belongs here: a complete run on such a store. Not here: one manifest at a time (`tests/hostile/test_manifests.py`).
"""

from __future__ import annotations

import copy
import json
from itertools import cycle
from pathlib import Path
from typing import Any

from resources.store.figures import check_figures
from resources.store.manifests import manifest_text, read_manifest
from tests.hostile.test_manifests import PATHS, REPLACED, replaced
from tests.support.faults import assert_as_undisturbed, ended, start


def _is_used(text: bytes) -> bool:
    """Whether a manifest has the form that a store's reader accepts."""
    try:
        check_figures(read_manifest(text))
    except ValueError:
        return False
    return True


def test_a_run_uses_nothing_of_a_hostile_store_and_names_it(recipe: Path, whole: Path, tmp_path: Path) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    victim.write_text("mine")
    url = {"SPEED_STORE_URL": f"file://{shared}"}
    ended(start(recipe, tmp_path / "first", **url))
    ways = cycle((path, kind) for path in PATHS if path != ("seal",) and len(path) == 1 for kind in REPLACED)
    tampered: list[str] = []
    for file in sorted((shared / "manifests").rglob("*.json")):
        values: dict[str, Any] = json.loads(file.read_bytes())
        del values["seal"]
        for path, kind in ways:  # the next way that makes it another manifest than any reader takes
            text = manifest_text(replaced(copy.deepcopy(values), path, REPLACED[kind]))
            if not _is_used(text):
                break
        file.write_bytes(text)
        tampered.append(file.parent.name)
    assert len(tampered) >= 10
    home = tmp_path / "second"
    printed = ended(start(recipe, home, **url))
    assert_as_undisturbed(recipe, home, whole)
    for asset in set(tampered):
        assert f"damaged: {asset}: " in printed, asset
    assert victim.read_text() == "mine"
    assert not [file for file in home.rglob("*") if file.is_symlink() and "releases" not in file.parts]
    assert all(_is_used(file.read_bytes()) for file in (shared / "manifests").rglob("*.json")), "the run replaced them"
