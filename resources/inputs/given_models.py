"""The user's own models in the place of artifacts: which files of a folder are copied, and what they have to be.

A model comes from anywhere. So only safetensors and files of settings and tokenizers are read; code, pickles and cards stay where
they are; links are not followed, but those by which a hub's cache names its files; and a folder whose settings name code of its own,
another kind of model or another base is refused in one line.

Hidden state of the process: digests of the last 16 models, by the sizes and times of their files.

Belongs here: finding, checking and copying such files. Not here: digests of models on a hub (`external_digests.py`), given triplets
(`example_files.py`), loading a model (`speed_assets/workers`).
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from resources.inputs.base_models import generator_name, resolve_model
from resources.inputs.packaged_models import is_packaged
from resources.inputs.safe_models import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE,
    check_adapter,
    check_causal,
    check_content,
    check_embedder,
    read_settings,
)
from resources.store.manifests import file_digest
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import GENERATORS
from speed_assets.recipe import Generator, GivenModel, RecipeError, without_places

COPIED = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "*_config.json", "config_*.json", "modules.json", "tokenizer*.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.jinja", "chat_template.json",
    "base.json",
)  # fmt: skip
"""Names of the files that are copied: weights, settings, tokenizers, chat templates. Logs, notes and states of a training stay."""
_NAMES_OF_PATHS = ("_name_or_path", "name_or_path", "base_model_name_or_path")
"""Settings in which libraries write where a model was loaded from."""
_SETTINGS_BYTES = 1_000_000
FILES_MAX = 2_000
"""Files of a model at most (ours: a model of 400 billion weights has some 200)."""
_GIGABYTE = 10**9


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a given model that are copied."""

    folder: Path
    names: tuple[str, ...]
    part: str
    """Folder of the artifact that they go to: `model`, or `adapter`."""
    size: int
    """Bytes."""
    linked: bool
    """Whether the files are links of a hub's cache."""

    def digest(self) -> str:
        """sha256 over names and contents."""
        states = [(name, (self.folder / name).stat()) for name in self.names]
        return _digest(str(self.folder), tuple((n, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in states))

    def copy_to(self, out: Path, report: Callable[[int, int, str], None]) -> Path:
        """Copy the files into a folder of `out`, which is returned."""
        target = out / self.part
        for number, name in enumerate(self.names):
            report(number, len(self.names), "files")
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, target / name, follow_symlinks=self.linked)
            _remove_places(target / name)
        return target


def is_copied(name: str) -> bool:
    """Whether a file of a model is copied, by the last part of its name.

    >>> is_copied("1_Pooling/config.json"), is_copied("modeling_mine.py"), is_copied("trainer_state.json")
    (True, False, False)
    """
    return any(fnmatchcase(name.rpartition("/")[2], pattern) for pattern in COPIED)


def _remove_places(file: Path) -> None:
    """In copied settings, replace a path of this machine by its last name: a release holds them."""
    if file.suffix != ".json" or file.stat().st_size > _SETTINGS_BYTES:
        return
    try:
        values = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return  # the library that reads it says so
    if not isinstance(values, dict):
        return
    named = {name: values[name] for name in _NAMES_OF_PATHS if isinstance(values.get(name), str)}
    if without := {name: kept for name, place in named.items() if (kept := without_places(place)) != place}:
        file.write_text(json.dumps(values | without, indent=2) + "\n", encoding="utf-8")


@lru_cache(maxsize=16)
def _digest(folder: str, states: tuple[tuple[str, int, int, int], ...]) -> str:
    return digest({name: file_digest(Path(folder, name)) for name, *_ in states})


def is_local(model: str) -> bool:
    """Whether a given model is a folder of this machine; a recipe that was read has only absolute ones.

    >>> is_local("/models/mine"), is_local("org/name"), is_local("package:name")
    (True, False, False)
    """
    return Path(model).is_absolute()


def local_files(stage: str, section: GivenModel, generator: Generator | None) -> ModelFiles:
    """The files of a model in a folder of this machine, checked. Raises RecipeError, in one line."""
    return _checked(stage, section, Path(section.model), generator, linked=False)


def files_to_copy(stage: str, section: GivenModel, generator: Generator | None) -> ModelFiles:
    """The files of a given model, checked; those of a hub are downloaded, and those of a package may be converted.

    Raises:
        RecipeError: There is no such model, or it cannot stand for the stage.
    """
    if is_local(section.model):
        return local_files(stage, section, generator)
    folder, commit = resolve_model(section.model, section.revision)
    if is_packaged(section.model):
        return _checked(stage, section, Path(folder), generator, linked=False)
    if commit is None:  # a folder in which the process was started, and not one that the recipe names
        raise RecipeError(f"given.{stage}.model {section.model}: write ./{section.model}, or a name of a hub")
    return _checked(stage, section, _downloaded(stage, section, commit), generator, linked=True)


def _downloaded(stage: str, section: GivenModel, commit: str) -> Path:
    """The snapshot of a hub's model in this machine's cache, without what is not copied."""
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        if not constants.HF_HUB_OFFLINE:
            info = HfApi().model_info(section.model, revision=commit, timeout=20, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if is_copied(file.rfilename)}
            _check_bounds(f"given.{stage}", section, len(sizes), sum(sizes.values()))
        found = snapshot_download(
            section.model, revision=commit, allow_patterns=[*COPIED, *(f"*/{name}" for name in COPIED)]
        )
    except RecipeError:
        raise
    except Exception as error:  # a client of many layers: one message for every failure says what to do
        words = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"given.{stage}.model {section.model} cannot be downloaded ({type(error).__name__}: {words}): connect, get access "
            "(HF_TOKEN), or give a folder"
        ) from None
    return Path(found)


def _checked(stage: str, section: GivenModel, folder: Path, generator: Generator | None, *, linked: bool) -> ModelFiles:
    """The files of a folder that are copied. Raises RecipeError when the folder is no model that can stand for the stage."""
    field = f"given.{stage}"
    if not folder.is_dir():
        raise RecipeError(
            f"{field}.model: there is no folder {folder}: correct the path, or give the name of a model on a hub"
        )
    name = f"{field}.model {folder.name if not linked else section.model}"
    files = model_files(folder, name, linked=linked)
    if stage not in GENERATORS:
        wanted, part = check_embedder(folder, files, name), "model"
    elif _is_adapter(files):
        check_adapter(folder, name, _bases(generator))
        wanted, part = [file for file in files if "/" not in file and _of_adapter(file)], "adapter"
    else:
        check_causal(folder, files, name)
        wanted, part = [file for file in files if "/" not in file and not _of_adapter(file)], "model"
    copied = tuple(file for file in wanted if is_copied(file))
    check_content(folder, {file: files[file] for file in copied}, name)
    size = sum(files[file] for file in copied)
    _check_bounds(field, section, len(copied), size)
    return ModelFiles(folder, copied, part, size, linked)


def _bases(generator: Generator | None) -> tuple[str, ...]:
    """The names that an adapter may give the base of the generators."""
    return () if generator is None else (generator.base, generator_name(generator))


def _is_adapter(files: Iterable[str]) -> bool:
    weights = [file for file in files if "/" not in file and file.endswith(".safetensors")]
    return ADAPTER_CONFIG in files and weights == [ADAPTER_WEIGHTS]


def _of_adapter(file: str) -> bool:
    """Whether a file is one that PEFT writes; next to a complete model it would be loaded on top of it."""
    return file.startswith("adapter_") or file == BASE


def _check_bounds(field: str, section: GivenModel, files: int, size: int) -> None:
    if files > FILES_MAX:
        raise RecipeError(
            f"{field}.model has {files:,} files, and at most {FILES_MAX:,} are copied: name the model's own folder"
        )
    if size > section.gigabytes_max * _GIGABYTE:
        raise RecipeError(
            f"{field}.model has {size / _GIGABYTE:.1f} GB, {field}.gigabytes_max is {section.gigabytes_max:g}: raise it"
        )


def model_files(folder: Path, name: str, *, linked: bool) -> dict[str, int]:
    """{path below the folder: bytes} of its files, sorted, two levels deep: modules of embedding models have folders of their own.

    Args:
        folder: of the model.
        name: of the model, for the error.
        linked: whether links are followed, as in a hub's cache.

    Raises:
        RecipeError: A file is a link, is none, or cannot be read; or there are too many.
    """
    found: dict[str, int] = {}
    for root, folders, names in os.walk(folder):
        below = Path(root).relative_to(folder)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and len(below.parts) < 2)
        for file in sorted(names):
            path = (below / file).as_posix()
            try:
                state = Path(root, file).stat() if linked else Path(root, file).lstat()
            except OSError as error:
                raise RecipeError(f"{name}: {path} cannot be read ({error.strerror})") from None
            if not stat.S_ISREG(state.st_mode):
                if not is_copied(file):
                    continue
                raise RecipeError(
                    f"{name}: {path} is a link or no file, and links are not followed: copy the file into the folder, or give the "
                    "model's name on a hub"
                )
            found[path] = state.st_size
            if len(found) > 50 * FILES_MAX:
                raise RecipeError(f"{name} has more than {50 * FILES_MAX:,} files: name the model's own folder")
    return dict(sorted(found.items()))


def checked_base(files: ModelFiles, recipe_base: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What `base.json` of a given adapter says (`workers/fine_tuning.py`).

    Args:
        files: of the adapter.
        recipe_base: base, revision and digest of the generators' base.
        name: of the adapter, for the error.

    Raises:
        RecipeError: The adapter says itself that it was trained on a base of other content.
    """
    own = read_settings(files.folder / BASE, name) if BASE in files.names else {}
    if own and own.get("digest") != recipe_base["digest"]:
        raise RecipeError(
            f"{name} is an adapter on {str(own.get('base'))[:80]!r} of other content than generator.base {recipe_base['base']}: name "
            "that base, or train the adapter on this one"
        )
    return dict(recipe_base)
