"""Hostile input drawn at random: `python -m benchmarks.fuzz [--cases 20000] [--target recipe] [--seconds S]`.

Each case changes a valid input of one kind (a byte, a piece, a value somewhere in its tree), or draws one from nothing, and gives it
to the product's own readers. A case ends with a result or with an error that the reader documents. Last line: one JSON object
with cases, seconds, tracebacks (errors that no reader documents), the slowest case in seconds, and files that were opened for
writing, made, moved or removed outside the fuzz's own folder.

Belongs here: drawing, counting and reporting. Not here: what a reader does with one chosen input (`tests/hostile`), the readers'
calls (`benchmarks/fuzz_targets.py`).
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import configuration

from benchmarks.fuzz_targets import TARGETS, Target

CASES = 20_000
BLOCK = 100
"""Cases of one run of hypothesis: between two of them the time is checked."""
HANG_S = 5.0
STUCK_S = 120
"""Seconds after which a case that does not end ends this program, with the place where it is."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
}


@dataclass
class Watch:
    """Files that Python code opens for writing, or changes, outside a folder while a case runs."""

    inside: Path
    active: bool = False
    found: set[str] = field(default_factory=set)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook; it stays for the lifetime of the process."""
        if not self.active:
            return
        if event == "open":
            path, _mode, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and flags & _WRITING:
                self._note(path)
        elif event in _CHANGES:
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._note(path)

    def _note(self, path: Any) -> None:
        name = os.path.abspath(os.fsdecode(path))
        if name != os.devnull and not name.startswith(f"{self.inside}{os.sep}"):
            self.found.add(name)


_WATCHES: dict[str, Watch] = {}


@contextmanager
def watched(folder: Path) -> Iterator[Watch]:
    """A watch on everything outside a folder. One hook serves all calls, since Python cannot remove one."""
    if "watch" not in _WATCHES:
        _WATCHES["watch"] = Watch(folder)
        sys.addaudithook(_WATCHES["watch"])
    watch = _WATCHES["watch"]
    watch.inside, watch.found = folder.resolve(), set()
    try:
        yield watch
    finally:
        watch.active = False


@dataclass
class Tally:
    """What came of the cases of one target."""

    cases: int = 0
    accepted: int = 0
    """Cases that were read without an error."""
    seconds: float = 0.0
    slowest_s: float = 0.0
    tracebacks: Counter[str] = field(default_factory=Counter)
    written_outside: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        """The figures of a report."""
        return {
            "cases": self.cases,
            "accepted": self.accepted,
            "seconds": round(self.seconds, 1),
            "tracebacks": self.tracebacks.total(),
            "slowest_s": round(self.slowest_s, 2),
            "written_outside": len(self.written_outside),
        }


def fuzz(target: Target, cases: int, folder: Path, seed: int = 1, seconds: float | None = None) -> Tally:
    """Run cases of one target.

    Args:
        target: What is drawn, and who reads it.
        cases: How many; fewer where hypothesis finds no more, or the time is over.
        folder: For the files of the cases; nothing outside it may change.
        seed: Of the draws.
        seconds: The most that this may take; None is no limit.

    Returns:
        What came of them.
    """
    tally, started = Tally(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with watched(folder) as watch:
        block = 0
        while tally.cases < cases and (seconds is None or time.monotonic() - started < seconds):
            before = tally.cases
            _block(target, min(BLOCK, cases - tally.cases), folder, seed * 1_000_003 + block, tally, watch)
            block += 1
            if tally.cases == before:
                break
        tally.written_outside = set(watch.found)
    tally.seconds = time.monotonic() - started
    return tally


def _block(target: Target, cases: int, folder: Path, seed: int, tally: Tally, watch: Watch) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.cases)
    def one(drawn: Any) -> None:
        if tally.cases >= cases + started_with:
            return
        tally.cases += 1
        shutil.rmtree(folder / "case", ignore_errors=True)
        (folder / "case").mkdir()
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        began, watch.active = time.perf_counter(), True
        try:
            target.read(drawn, folder / "case")
            tally.accepted += 1
        except target.documented:
            pass
        except Exception as error:
            _note(target, drawn, error, tally)
        finally:
            watch.active = False
            faulthandler.cancel_dump_traceback_later()
        took = time.perf_counter() - began
        if took > HANG_S:
            print(f"{target.name}: {took:.1f} s for {drawn!r:.300}", file=sys.stderr)
        tally.slowest_s = max(tally.slowest_s, took)

    started_with = tally.cases
    one()


def _note(target: Target, drawn: Any, error: Exception, tally: Tally) -> None:
    """Count an error that no reader documents; the first of each place is printed with its input."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{target.name}: {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    if place not in tally.tracebacks:
        print(f"{place}\n  input {drawn!r:.2000}", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
    tally.tracebacks[place] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="of each target")
    parser.add_argument("--target", choices=[*TARGETS], action="append")
    parser.add_argument("--seconds", type=float, help="the most for each target")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        configuration.set_hypothesis_home_dir(folder / "hypothesis")
        os.environ["SPEED_HOME"] = str(folder / "home")
        tallies = {}
        for name in args.target or TARGETS:
            tallies[name] = fuzz(TARGETS[name], args.cases, folder / name, args.seed, args.seconds)
            print(f"{name}: {tallies[name].as_json()}", file=sys.stderr, flush=True)
    found = [tally.as_json() for tally in tallies.values()]
    summary = {name: sum(one[name] for one in found) for name in ("cases", "seconds", "tracebacks", "written_outside")}
    summary["seconds"] = round(summary["seconds"], 1)
    summary |= {"slowest_s": max(one["slowest_s"] for one in found), "seed": args.seed}
    print(json.dumps(summary | {"targets": dict(zip(tallies, found, strict=True))}))
    sys.exit(bool(summary["tracebacks"] or summary["written_outside"] or summary["slowest_s"] >= HANG_S))


if __name__ == "__main__":
    main()
