"""Probes of this machine: the home, its disk, memory, locale, clock, ports.

Nothing here asks anybody outside, and nothing is left behind. Belongs here: those probes. Not here: cards and engines
(`engine_probes.py`), what a recipe needs in bytes (`domain/machine_needs.py`).
"""

from __future__ import annotations

import locale
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from speed_assets.domain import machine_needs
from speed_assets.domain.graph import has_generators
from speed_assets.domain.machine_needs import in_units
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.orchestration.doctor.model_probes import named_models
from speed_assets.recipe import PerTaskType, Recipe

_SLOW_FILES = frozenset(("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"))
"""File systems on which SQLite's locks cannot be trusted (sqlite.org/faq.html, question 5)."""
_CLOCK_S = 300.0
"""Seconds by which this clock may be behind the newest file of the home (ours)."""
_LISTEN_S = 2.0
MEMINFO = Path("/proc/meminfo")
MOUNTS = Path("/proc/mounts")


def home(_recipe: Recipe, folder: Path) -> list[Finding]:
    """The home can be written, by its owner alone, and is on a disk whose locks hold."""
    there = _first_there(folder)
    if not there.is_dir():
        return [error("home", f"{there} is a file, and a home is a folder", "SPEED_HOME")]
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"speed")
    except OSError as problem:
        return [
            error("home", f"{there} cannot be written: {problem.strerror}", f"chown or chmod {there}; or SPEED_HOME")
        ]
    found = []
    mode = there.stat().st_mode
    if there == folder and mode & 0o002 and not mode & 0o1000:
        found.append(warning("home", f"{folder} may be changed by everybody on this machine", f"chmod o-w {folder}"))
    kind = _file_system(there)
    if kind in _SLOW_FILES and not os.environ.get("SPEED_LEDGER_URL"):
        words = f"{there} is on {kind}, where the ledger's locks cannot be trusted"
        found.append(warning("home", words, "SPEED_HOME on a local disk, or SPEED_LEDGER_URL"))
    return found or [ok("home", f"{folder} can be written")]


def _first_there(folder: Path) -> Path:
    """The folder, or the nearest of those that hold it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, where this machine lists it."""
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except (OSError, IndexError):
        return ""
    over = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(over, default=("", ""), key=lambda found: len(found[0]))[1]


def disk(recipe: Recipe, folder: Path) -> list[Finding]:
    """The disk of the home has room for what the recipe writes: tables, trained models, a checkpoint."""
    free = shutil.disk_usage(_first_there(folder)).free
    wanted = written(recipe)
    words = f"{in_units(free)} are free under {folder}, and this recipe writes some {in_units(wanted)}"
    if free < wanted / 4:
        return [error("disk", words, "make room, or set SPEED_HOME to another disk")]
    if free < wanted:
        return [warning("disk", words, "make room, or set SPEED_HOME to another disk")]
    return [ok("disk", words)]


def written(recipe: Recipe) -> int:
    """Bytes that a run of this recipe writes in all, as far as its numbers and the names of its models say."""
    rows = calls = 0
    graph = recipe.graph()
    for section in ("seed_data", "junior_data", "preference_pairs", "senior_data", "revision_data", "row_verdicts"):
        wanted = _rows(recipe, section) if section in graph else 0
        rows += wanted * (recipe.junior_data.candidates if section == "junior_data" and recipe.junior_data else 1)
        calls += wanted if section not in ("junior_data", "senior_data") else 0
    rows += 3 * (_rows(recipe, "senior_data") if "senior_data" in graph else _rows(recipe, "seed_data"))
    size = rows * machine_needs.ROW_BYTES + calls * machine_needs.CALL_BYTES
    models = named_models(recipe)
    checkpoint = 0  # one at a time: it goes when its training ends
    for stage, owner in (
        ("junior_model", "generator"),
        ("senior_model", "generator"),
        ("revisor_model", "generator"),
        ("embedding_model", "embedding_model"),
    ):
        model = models.get(owner)
        settings = getattr(recipe, stage, None)
        if stage in graph and graph[stage].given:
            size += models[f"given.{stage}"].bytes_here() or 0  # it is copied
            continue
        if stage not in graph or model is None or settings is None:
            continue
        weights = model.weights()
        if weights:
            dtype = machine_needs.BYTES.get(model.dtype, 4)
            model_bytes, while_trained = machine_needs.trained_bytes(weights, dtype, settings.lora is not None)
            size, checkpoint = size + model_bytes, max(checkpoint, while_trained)
    return size + checkpoint


def _rows(recipe: Recipe, section: str) -> int:
    settings = getattr(recipe, section)
    rows = getattr(settings, "rows", None) or getattr(settings, "prompts", None)
    return sum(getattr(rows, name) for name in TASK_TYPE_NAMES) if isinstance(rows, PerTaskType) else 0


def memory(recipe: Recipe, _folder: Path) -> list[Finding]:
    """Memory holds the index of the evaluation texts, which no row may repeat."""
    words = sum(machine_needs.BENCHMARK_WORDS.get(name, 0) for name in recipe.evaluation.searched)
    for folder in map(Path, recipe.evaluation.local):
        if folder.is_dir():
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            words += int(size / machine_needs.CHARACTERS_A_WORD)
    needed = words * machine_needs.INDEX_BYTES_A_WORD
    free = available_memory()
    if free is None or not words:
        return [ok("memory", "nothing large is held in memory")]
    line = (
        f"the index of the evaluation texts takes some {in_units(needed)} of memory, and {in_units(free)} are available"
    )
    if needed > free:
        return [warning("memory", line, "a machine with more memory, or evaluation.unsearched")]
    return [ok("memory", line)]


def available_memory() -> int | None:
    """Bytes that processes may still take; None where this machine does not say."""
    try:
        for line in MEMINFO.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def languages(_recipe: Recipe, _folder: Path) -> list[Finding]:
    """Texts of all languages can be printed, and files carry names of all languages."""
    names = {
        "files": sys.getfilesystemencoding(),
        "texts": locale.getpreferredencoding(False),
        "the terminal": getattr(sys.stdout, "encoding", None) or "utf-8",
    }
    bad = [f"{what} in {name}" for what, name in names.items() if name.casefold().replace("-", "") != "utf8"]
    if bad:
        words = f"this locale writes {', '.join(bad)}: rows of other languages fail to print"
        return [warning("locale", words, "export LC_ALL=C.UTF-8, or PYTHONUTF8=1")]
    return [ok("locale", "UTF-8")]


def clock(_recipe: Recipe, folder: Path) -> list[Finding]:
    """The clock is not behind what the home has on record: caps of a day and batches' deadlines depend on it."""
    try:
        newest = max((entry.stat().st_mtime for entry in folder.iterdir()), default=0.0)
    except OSError:
        newest = 0.0
    behind = newest - time.time()
    if behind > _CLOCK_S:
        words = f"this clock is {behind / 60:,.0f} minutes behind the newest file of {folder}"
        return [warning("clock", words, "timedatectl set-ntp true")]
    return [ok("clock", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))]


def ports(recipe: Recipe, _folder: Path) -> list[Finding]:
    """Servers of one's own can be started on loopback, and those that the recipe names there listen."""
    try:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
    except OSError as problem:
        words = f"no port of 127.0.0.1 can be opened: {problem.strerror}"
        return [error("ports", words, "allow loopback in this sandbox or container")]
    generator = recipe.generator
    if generator and generator.endpoint and has_generators(recipe.graph()):
        if why := unheard(generator.endpoint):
            words = f"nothing listens at {generator.endpoint} ({why})"
            return [error("ports", words, "start that server, or generator.endpoint: null starts one")]
        return [ok("ports", f"{generator.endpoint} listens")]
    return [ok("ports", "loopback can be used")]


def unheard(url: str) -> str | None:
    """Why no connection to an address can be made; None where one can."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), _LISTEN_S).close()
    except OSError as problem:
        return problem.strerror or type(problem).__name__
    return None
