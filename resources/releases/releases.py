"""The releases of a home, and which one is current.

`releases/current/<recipe>` is a link to the release of that recipe that is in use, so that
`releases/current/offline/model` always opens. A new release takes the link; going back is moving it.

Releases are ordered by their numbers, counted up in a home, since a clock may be set back. Releases of older versions, which
have no number, come first, by their times.

Belongs here: finding releases, the link. Not here: making one (`speed_assets/assets/release.py`), judging one
(`checks/`), sending one anywhere (`hub.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from resources.releases.documents import read_document
from resources.store.manifests import MANIFEST_FILE, integrity_problem, load_manifest
from resources.store.store import Store, StoreError, write_atomically

CURRENT = "current"
SCORES, SAMPLES = "scores", "samples"
"""Tables of a release: its scores and their samples, as in `mteb_scores`."""


@dataclass(frozen=True)
class Release:
    """A release in any folder, its files unverified; `manifest` is what `load_manifest` has accepted."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """64 hex digits."""
        return str(self.manifest["fingerprint"])

    @property
    def short(self) -> str:
        """The first 12 digits of the fingerprint, for display."""
        return self.fingerprint[:12]

    @property
    def recipe(self) -> str | None:
        """Name of its recipe."""
        name = (self.manifest["lineage"].get("recipe") or {}).get("name")
        return None if name is None else str(name)

    @property
    def created(self) -> float:
        """Seconds since 1970."""
        return float(self.manifest["created"])

    @property
    def sort_key(self) -> tuple[int, float]:
        """(number, Unix seconds): a later release of a home has a greater one."""
        return int(self.manifest["metadata"].get("number") or 0), self.created

    @property
    def inputs(self) -> Mapping[str, str]:
        """{artifact: content digest} of its inputs."""
        return dict(self.manifest["lineage"].get("inputs", {}))

    def has_table(self, table: str) -> bool:
        """Whether the release has a table of that name."""
        return f"{table}.parquet" in self.manifest["files"]

    def table(self, name: str) -> pl.DataFrame:
        """A table of the release. Raises StoreError when it has none of that name."""
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            raise StoreError(f"release {self.short} has no {file.name}: it is older than such tables; release again")
        try:
            return pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            words = str(error).splitlines()[0][:200]
            raise StoreError(f"release {self.short}: {file.name} cannot be read ({words})") from None

    def json(self, name: str) -> Any:
        """A JSON file of the release. Raises StoreError when it has none of that name, or one that is not as it has to be."""
        try:
            return read_document(self.path / name)
        except ValueError as error:
            raise StoreError(f"release {self.short}: {name} cannot be read ({error})") from None


def list_releases(store: Store, recipe: str | None = None) -> list[Release]:
    """The releases of a home, newest first; of one recipe, if a name is given."""
    found = [
        Release(store.folder("release", manifest["fingerprint"]), manifest)
        for manifest in store.local_manifests("release", None)
    ]
    kept = [release for release in found if recipe is None or release.recipe == recipe]
    return sorted(kept, key=lambda release: release.sort_key, reverse=True)


def broken_releases(store: Store) -> list[str]:
    """Names of the folders among the releases of a home that are none, or whose manifest is broken."""
    found = {release.path.name for release in list_releases(store)}
    folders = store.folder("release", "").glob("*")
    return sorted(path.name for path in folders if path.name not in {CURRENT, *found} and not path.name.startswith("."))


def next_number(store: Store) -> int:
    """The number of the next release of a home."""
    return max((release.sort_key[0] for release in list_releases(store)), default=0) + 1


def current_release(store: Store, recipe: str) -> Release | None:
    """The release of a recipe that is in use: the one linked, else the newest; None when there is none."""
    known = list_releases(store, recipe)
    linked = os.path.basename(os.path.realpath(_link(store, recipe)))
    return next((release for release in known if release.path.name == linked), known[0] if known else None)


def make_current(store: Store, release: Release) -> None:
    """Link a release as the one in use; the link is replaced atomically.

    Raises:
        StoreError: The release does not name its recipe, or something else is in the place of the link.
    """
    if release.recipe is None:
        raise StoreError(f"release {release.short} does not name its recipe")
    link = _link(store, release.recipe)
    if link.parent.is_symlink() or (link.exists() and not link.is_symlink()):
        raise StoreError(f"{link} is no link that SPEED made: move it away, then try again")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path("..") / release.path.name)
    temporary.replace(link)
    newest = max(known.sort_key[0] for known in [release, *list_releases(store, release.recipe)])
    write_atomically(_chosen_among(store, release.recipe), f"{newest}\n")


def promote_new_release(store: Store, fingerprint: str) -> None:
    """Make a release current that was just built or fetched, unless the user has chosen another one since it was built."""
    for release in list_releases(store):
        if release.fingerprint == fingerprint and release.recipe is not None:
            try:
                newest = int(_chosen_among(store, release.recipe).read_text())
            except (OSError, ValueError):
                newest = 0  # no release was chosen yet, or only one without a number
            if release.sort_key[0] > newest or not _link(store, release.recipe).is_symlink():
                make_current(store, release)


def find_release(store: Store, name: str) -> Release:
    """The release in a folder, or the one of this home whose fingerprint begins with `name`.

    Raises:
        StoreError: There is none, or several fit.
    """
    folder = Path(name)
    if (folder / MANIFEST_FILE).is_file():
        try:
            manifest = load_manifest(folder)
        except ValueError as error:
            raise StoreError(f"{folder} is no release: {error}") from None
        if manifest["asset"] != "release":
            raise StoreError(f"{folder} is no release: it holds the artifact {manifest['asset']}")
        return Release(folder, manifest)
    found = [release for release in list_releases(store) if name and release.fingerprint.startswith(name)]
    if len(found) != 1:
        known = ", ".join(release.short for release in list_releases(store)) or "none"
        raise StoreError(f"{len(found)} releases are called {name!r}: give a folder, or one of {known}")
    return found[0]


def roll_back(store: Store, recipe: str, name: str | None = None) -> Release:
    """Verify a release and make it current.

    Args:
        store: The store of the home.
        recipe: Name of the recipe.
        name: As `find_release` takes it; None is the release before the current one.

    Returns:
        The release that is current now.

    Raises:
        StoreError: There is no such release, it is damaged, or it is not in this home.
    """
    if name is not None:
        release = find_release(store, name)
        if release.path.resolve() != store.folder("release", release.fingerprint).resolve():
            raise StoreError(f"{release.path} is not in {store.home}: only a release of this home can be current")
    else:
        now = current_release(store, recipe)
        earlier = [r for r in list_releases(store, recipe) if now is not None and r.sort_key < now.sort_key]
        if not earlier:
            raise StoreError(f"{store.home} has no release of recipe {recipe} before the current one")
        release = earlier[0]
    if problem := integrity_problem(release.path):
        raise StoreError(f"release {release.short} is damaged: {problem}; the current release stays what it was")
    make_current(store, release)
    return release


def _chosen_among(store: Store, recipe: str) -> Path:
    """A file with the number of the newest release at the time when the current one was chosen."""
    return _link(store, recipe).with_name(f".{recipe}.newest")


def _link(store: Store, recipe: str) -> Path:
    return store.folder("release", "").joinpath(CURRENT, recipe)
