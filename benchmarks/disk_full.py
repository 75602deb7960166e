"""A disk that is full at random moments of a run: `python -m benchmarks.disk_full [--moments 20]`.

The home lies on a file system of its own in memory (tmpfs; mounting it takes root). The small recipe runs there, and at
moments drawn from a named seed the disk is made as small as what is on it; when the run has ended, there is room again and
the next run goes on. Every writer meets the end of the disk where it happens to be: Python, polars, SQLite, Dagster's event
log, and the workers with safetensors and a checkpoint after every step.

After each moment: the run ended with an error that says which folder is full and what to do, every artifact verifies, the
databases are sound, no answer that the ledger held is gone, and every call is paid once. In the end: the same artifacts
as an undisturbed run. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from resources.store.manifests import MANIFEST_FILE, integrity_problem
from speed_assets.domain.fingerprints import seed_for
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.homes import digests
from tests.support.small import small_data, write_recipe

PAGE = 4096
ROOM = 1 << 30
"""Bytes of the disk while it is not full: all that a run may want."""
LATER_S = 4.0
SLACK = 1 << 20
RUN_S = 300


class Disk:
    """A file system in memory, of a size that can change."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._mount(f"size={size}")

    def resize(self, size: int) -> None:
        self._mount(f"remount,size={size}")

    def fill(self, slack: int) -> None:
        """Leave `slack` bytes of room, while others write."""
        for _ in range(50):
            used = os.statvfs(self.folder)
            with suppress(subprocess.CalledProcessError):  # it has grown meanwhile
                return self.resize((used.f_blocks - used.f_bfree) * used.f_frsize + slack // PAGE * PAGE + PAGE)
        raise OSError("the disk cannot be made as small as what is on it")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True, capture_output=True)

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True, capture_output=True)


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Disk]:
    """Mounted while the block runs. Raises OSError where this process may not mount."""
    try:
        made = Disk(folder, size)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise OSError(f"no file system of one's own may be mounted here: {error}") from None
    try:
        yield made
    finally:
        made.close()


def start(recipe: Path, home: Path, select: str | None) -> subprocess.Popen[str]:
    """`speed run`, in a session of its own."""
    command = [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(recipe)]
    return subprocess.Popen(
        [*command, *(("--select", select) if select else ())],
        cwd=PROJECT,
        env={**os.environ, "SPEED_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and standard error of a run; one that hangs is killed and has the status of that."""
    try:
        said = process.communicate(timeout=RUN_S)[1]
        return process.returncode, said
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return -signal.SIGKILL, process.communicate()[1]


def complaints(status: int, said: str, home: Path) -> list[str]:
    """What is wrong with how a run on a full disk ended; nothing where its message names the folder and what to do."""
    wanted = ("error: ", "no space left under", str(home), "make room there, then run again")
    if status in (1, 2) and "Traceback" not in said and all(words in said for words in wanted):
        return []
    return [f"status {status}: {said[-3000:]}"]


def harm(home: Path) -> list[str]:
    """What is not whole below a home: artifacts that do not verify, databases that are not sound."""
    found = [
        f"{file.parent}: {problem}"
        for root in ("artifacts", "releases")
        for file in (home / root).rglob(MANIFEST_FILE)
        if (problem := integrity_problem(file.parent))
    ]
    for file in [*home.glob("*.sqlite"), *home.rglob("*.db")]:
        connection = sqlite3.connect(file)
        try:
            found += [f"{file}: {words}" for (words,) in connection.execute("PRAGMA integrity_check") if words != "ok"]
        except sqlite3.DatabaseError as error:
            found.append(f"{file}: {error}")
        finally:
            connection.close()
    return found


def kept(home: Path) -> set[str]:
    """The keys of the answers that the ledger holds."""
    if not (home / "ledger.sqlite").exists():
        return set()
    ledger = Ledger.at(home)
    keys = {str(call["key"]) for call in accounts.read_calls(ledger)}
    ledger.database.close()
    return keys


def paid(home: Path) -> int:
    """Calls that the ledger holds as paid, whether or not their answer was kept."""
    return int(accounts.cost_report(Ledger.at(home))["calls"]) if (home / "ledger.sqlite").exists() else 0


def made(home: Path) -> int:
    """Artifacts that are complete."""
    return len(list((home / "artifacts").glob(f"*/*/{MANIFEST_FILE}")))


def fill_and_resume(
    folder: Path, recipe: Path, whole: Path, moments: int, seed: int, select: str | None = None
) -> dict[str, Any]:
    """Run to the end on a disk that is full at `moments` moments; compare with the undisturbed home `whole`.

    A moment is a number of artifacts that are there, and up to `LATER_S` seconds and `SLACK` bytes after that. With few
    bytes left an event log is the first to find no room, with more of them a table or a model. A run that is behind
    a moment already when it begins, as the one before came far, begins with nothing.
    """
    rng = random.Random(seed_for(seed, "disk-full"))
    artifacts = made(whole)
    drawn = sorted(
        (rng.randrange(artifacts), rng.random() * LATER_S, int(PAGE * (SLACK / PAGE) ** rng.random()))
        for _ in range(moments)
    )
    wrong: list[str] = []
    at: list[int] = []
    before: set[str] = set()
    afresh = 0
    home = folder / "disk" / "home"
    with disk(folder / "disk", ROOM) as room:
        for number, (after, later, slack) in enumerate(drawn, 1):
            if made(home) > after:
                shutil.rmtree(home)
                before, afresh = set(), afresh + 1
            process = start(recipe, home, select)
            while process.poll() is None and (made(home) < after or not (home / "work").exists()):
                time.sleep(0.01)
            time.sleep(later)
            room.fill(slack)
            status, said = ended(process)
            room.resize(ROOM)
            if not status:
                continue  # it ended first
            at.append(made(home))
            wrong += complaints(status, said, home)
            wrong += harm(home)
            now, calls_paid = kept(home), paid(home)
            wrong += [f"{len(before - now)} answers are gone"] if before - now else []
            wrong += [f"{calls_paid - len(now)} calls were paid for in vain"] if calls_paid != len(now) else []
            before = now
            print(f"full {number}/{moments} with {at[-1]} artifacts", file=sys.stderr, flush=True)
        status, said = ended(start(recipe, home, select))
        wrong += ([said[-3000:]] if status else []) + harm(home)
        parsed = load_recipe(recipe)
        calls, undisturbed = len(kept(home)), len(kept(whole))
        calls_paid = paid(home)
        identical = digests(parsed, home) == digests(parsed, whole)
    return {
        "moments": moments,
        "full": len(at),
        "artifacts_at": at,
        "begun_afresh": afresh,
        "wrong": wrong,
        "identical": identical,
        "artifacts": artifacts,
        "calls": calls,
        "calls_paid": calls_paid,
        "calls_undisturbed": undisturbed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = small_data()
        data["runtime"] = {"checkpoint_minutes": 0.0}
        recipe = write_recipe(folder, data)
        status, said = ended(start(recipe, folder / "whole", None))
        if status:
            raise SystemExit(said[-3000:])
        result = fill_and_resume(folder, recipe, folder / "whole", args.moments, args.seed)
    print(json.dumps({**result, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
