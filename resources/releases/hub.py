"""Pushing a release to a hub: what is sent, what forbids it, and sending it.

Model and rows go to two repositories of one name, since hubs separate models and data sets; the evidence (manifest, recipe,
scores) goes with the model. The token is read by huggingface_hub alone.

Belongs here: the only code that sends a release anywhere. Not here: the user's consent (`speed_assets/cli`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from resources.releases.cards import DATA_PLACE, MODEL_PLACE
from resources.releases.releases import Release
from resources.store.manifests import MANIFEST_FILE, integrity_problems
from resources.store.store import StoreError

CARD = "README.md"
EVIDENCE = (MANIFEST_FILE, "manifest.json", "recipe.json", "scores.parquet", "samples.parquet")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_TOKEN = re.compile(r"hf_\w+")
_CREDENTIALS = re.compile(r"\w+://[^/\s@\"]+@")


@dataclass(frozen=True)
class Upload:
    """Files below `folder` that go to one repository, under `under` there. The card goes as `hub_card` writes it."""

    kind: str
    """`model` or `dataset`."""
    folder: Path
    files: tuple[str, ...]
    under: str = ""
    repository: str = ""

    def content(self, name: str) -> bytes:
        """The bytes that a file has in the repository."""
        found = (self.folder / name).read_bytes()
        if name != CARD or self.under:
            return found
        with_rows = (self.folder.parent / "data").is_dir()
        return hub_card(found.decode(), self.kind, self.repository, with_rows=with_rows).encode()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """(path in the repository, bytes)."""
        for name in self.files:
            size = len(self.content(name)) if name == CARD else (self.folder / name).stat().st_size
            yield f"{self.under}/{name}" if self.under else name, size


def planned_uploads(release: Release, repository: str) -> list[Upload]:
    """The uploads of a release to a repository: model, rows, evidence."""
    found = []
    for kind, part in (("model", "model"), ("dataset", "data")):
        folder = release.path / part
        if not folder.is_dir():  # the rows were the user's own, and stayed with them
            continue
        files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        found.append(Upload(kind, folder, tuple(files), "", repository))
    evidence = tuple(name for name in EVIDENCE if (release.path / name).is_file())
    return [*found, Upload("model", release.path, evidence, "release", repository)]


def push_objections(release: Release, repository: str) -> list[str]:
    """Everything that forbids pushing a release, one message each; empty when it may be pushed."""
    found = []
    if not _REPOSITORY.fullmatch(repository):
        found.append(f"{repository!r} is no name of a repository: give OWNER/NAME")
    found += [f"damaged: {problem}" for problem in integrity_problems(release.path)]
    for part, field in (("model", "release.model_licence"), ("data", "release.data_licence")):
        card = release.path / part / CARD
        if part == "data" and not card.parent.is_dir():
            continue
        if not card.is_file():
            found.append(f"{part} has no card")
        elif not _front(card).get("license"):
            found.append(f"the card of {part} states no licence: set {field} in the recipe and release again")
    found += _private_values(release)
    return found


def push_release(release: Release, repository: str) -> list[str]:
    """Push a release; missing repositories are created, private. What an earlier push sent and this release lacks is deleted.

    Args:
        release: What is pushed.
        repository: OWNER/NAME of both repositories.

    Returns:
        The URLs of the commits.

    Raises:
        StoreError: Something forbids it, or the hub does not take it.
    """
    if found := push_objections(release, repository):
        raise StoreError("; ".join(found))
    from huggingface_hub import HfApi, constants

    hub, went = HfApi(), []
    message = f"Release {release.short} of recipe {release.recipe}"
    try:
        for kind, uploads in _by_kind(planned_uploads(release, repository)).items():
            hub.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
            with TemporaryDirectory() as folder:
                _stage(uploads, Path(folder))
                commit = hub.upload_folder(
                    repo_id=repository, repo_type=kind, folder_path=folder, commit_message=message, delete_patterns="*"
                )
            went.append(str(commit.commit_url))
    except Exception as error:  # whatever a client of a network may raise
        words = _TOKEN.sub("hf_***", f"{type(error).__name__}: {error}".strip().splitlines()[0])
        raise StoreError(
            f"{constants.ENDPOINT} did not take {repository} ({words}); what was sent before stays there, and the same "
            "command resumes: log in with `hf auth login`, or check the name"
        ) from None
    return went


def _by_kind(uploads: Iterable[Upload]) -> dict[str, list[Upload]]:
    found: dict[str, list[Upload]] = {}
    for upload in uploads:
        found.setdefault(upload.kind, []).append(upload)
    return found


def hub_card(text: str, kind: str, repository: str, *, with_rows: bool = True) -> str:
    """A card for a hub: its snippet opens the repository, and the model's front matter names the data set.

    Args:
        text: of the card.
        kind: `model` or `dataset`.
        repository: OWNER/NAME.
        with_rows: whether there is a data set.

    >>> hub_card('---\\nlanguage: "en"\\n---\\nSentenceTransformer("model")\\n', "model", "o/n").splitlines()[2:]
    ['datasets: ["o/n"]', '---', 'SentenceTransformer("o/n")']
    """
    text = text.replace(MODEL_PLACE, MODEL_PLACE.replace('"model"', f'"{repository}"'))
    text = text.replace(DATA_PLACE, DATA_PLACE.replace('"data"', f'"{repository}"'))
    head, end, rest = text.partition("\n---\n")
    named = kind == "model" and end and with_rows
    return f'{head}\ndatasets: ["{repository}"]{end}{rest}' if named else text


def _stage(uploads: Iterable[Upload], folder: Path) -> None:
    """Fill a folder with what goes to one repository: links to the release's files, and the card."""
    for upload in uploads:
        for name in upload.files:
            file = folder / upload.under / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if name == CARD:
                file.write_bytes(upload.content(name))
            else:
                file.symlink_to((upload.folder / name).resolve())


def _front(card: Path) -> dict[str, object]:
    """The front matter of a card."""
    parts = card.read_text(encoding="utf-8").split("---\n")
    try:
        front = yaml.safe_load(parts[1]) if len(parts) > 2 else None
    except yaml.YAMLError:
        front = None
    return front if isinstance(front, dict) else {}


def _private_values(release: Release) -> list[str]:
    """Addresses with credentials, and paths of this machine, in the evidence; releases of older versions may have them."""
    found = []
    for name in EVIDENCE:
        if not name.endswith(".json") or not (release.path / name).is_file():
            continue
        for field, text in _texts(release.json(name)):
            if _CREDENTIALS.search(text):
                found.append(
                    f"{name}: {field} is an address with credentials: remove them from the recipe, then release again"
                )
            elif "\n" not in text and (text.startswith("~/") or (text.startswith("/") and text.count("/") > 1)):
                found.append(f"{name}: {field} is a path of this machine: release again, which leaves it out")
    return found


def _texts(value: object, field: str = "") -> Iterator[tuple[str, str]]:
    """(dotted field, text) of every text in plain values."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _texts(item, f"{field}.{place}")
    elif isinstance(value, str):
        yield field, value
