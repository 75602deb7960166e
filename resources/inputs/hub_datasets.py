"""Data sets that the documents of a recipe come from: a name on a hub, or a folder that the library `datasets` reads.

Belongs here: which of the two a name is, and the content of such a folder. Not here: loading (`speed_assets/workers/load_dataset.py`),
documents (`corpus_files.py`), commits (`hub_revisions.py`).
"""

from __future__ import annotations

from pathlib import Path

from resources.inputs.corpus_files import content_digest, corpus_files
from resources.inputs.hub_revisions import DATASETS, cached_commit, is_path, resolve_commit
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import CorpusDataset, RecipeError, without_places

FIELD = "corpus.dataset"


def dataset_folder(section: CorpusDataset) -> Path | None:
    """The folder of a data set on this machine; None for one on a hub.

    Raises:
        RecipeError: The name is a path, and there is no folder at it.
    """
    if not is_path(section.name):
        return None
    folder = Path(section.name)
    if folder.is_file():
        raise RecipeError(f"{FIELD}.name: {folder} is a file: name its folder, or give the file as corpus.path")
    if not folder.is_dir():
        raise RecipeError(
            f"{FIELD}.name: there is no folder {folder}: correct the path, or give the name of a data set on a hub"
        )
    return folder


def shown_name(section: CorpusDataset) -> str:
    """The name on a hub, or the last name of a folder: what tables and releases call it."""
    return str(without_places(section.name))


def resolve_dataset(section: CorpusDataset) -> tuple[str, str | None]:
    """Where a data set is loaded from: (folder, None), or (name, commit) of one on a hub.

    Raises:
        RecipeError: There is no such folder, or no commit is known and the hub cannot be asked.
    """
    folder = dataset_folder(section)
    if folder is not None:
        return str(folder), None
    return section.name, resolve_commit(DATASETS + section.name, section.revision)


def dataset_digest(section: CorpusDataset) -> str:
    """64 hex digits over name, configuration, split, and commit or the files of a folder.

    Raises:
        RecipeError: There is no such folder, or it holds no file or a link that leads to none.
    """
    folder = dataset_folder(section)
    if folder is not None:
        content = _folder_digest(folder)
    else:
        # An unresolved branch is digested by its name: `speed plan` sends no request to a hub.
        content = digest(["hub", cached_commit(DATASETS + section.name, section.revision) or section.revision])
    return digest(["dataset", shown_name(section), section.config, section.split, content])


def _folder_digest(folder: Path) -> str:
    """The library reads files through links, as a hub's cache has them: their content counts."""
    states = []
    for file in corpus_files(folder):
        if not file.is_file():
            raise RecipeError(
                f"{FIELD}.name: {file} is a link to a folder or to nothing: copy what is meant, or remove it"
            )
        stat = file.stat()
        states.append(
            (str(file), file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        )
    if not states:
        raise RecipeError(f"{FIELD}.name: {folder} holds no file: correct the path")
    return content_digest(tuple(states))
