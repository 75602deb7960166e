"""SIGKILL at random moments of the teacher stages, resuming each time: `python -m benchmarks.kill9 [--kills 50]`.

A teacher server on loopback logs what it answers. The small recipe runs once undisturbed, then in a second home where the
process is killed each time the server has answered a number of calls drawn at random. Acknowledged is what the ledger
holds at the moment of the kill: none of that may reach the server again, and the artifacts of both homes must be the
same, byte for byte. Last line: one JSON object; `lost` counts answers that the kill caught between server and ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from resources.ledger import accounts
from resources.ledger.ledger import Ledger
from speed_assets.domain.fingerprints import seed_for
from speed_assets.recipe import PROJECT, load_recipe
from tests.support.homes import digests
from tests.support.small import small_data, write_recipe
from tests.support.teacher_server import Faults, serving

LATENCY_S = 0.02
RUN_MINUTES = 20


def start(recipe: Path, home: Path, *options: str, **variables: str) -> subprocess.Popen[bytes]:
    """`speed run` in a session of its own, so that a kill takes all of it; what it says goes to `<home>.log`."""
    log = (home.parent / f"{home.name}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "speed_assets.cli", "run", "--recipe", str(recipe), *options],
        cwd=PROJECT,
        env={**os.environ, **variables, "SPEED_HOME": str(home)},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


class Answered:
    """The keys that the server has answered, in order, read as its log grows."""

    def __init__(self, log: Path) -> None:
        self._log = log.open()
        self.keys: list[str] = []
        self._begun = ""

    def read(self) -> int:
        *lines, self._begun = (self._begun + self._log.read()).split("\n")  # the last one may still be written
        for line in lines:
            entry = json.loads(line)
            if entry["status"] == 200 and entry["key"]:
                self.keys.append(entry["key"])
        return len(self.keys)


def acknowledged(home: Path) -> dict[str, str]:
    """{key: stage} of what the ledger holds, the last one last."""
    if not (home / "ledger.sqlite").exists():
        return {}
    held = sorted(accounts.read_calls(Ledger.at(home)), key=lambda call: str(call["answered_at"]))
    return {call["key"]: call["stage"] for call in held}


def kill_and_resume(recipe: Path, home: Path, answered: Answered, kills: int, calls: int, seed: int) -> dict[str, Any]:
    """Run to the end through `kills` kills at the server's counts; what was acknowledged and came again."""
    rng = random.Random(seed_for(seed, "kill9"))
    cuts = sorted(rng.sample(range(1, calls), kills))
    before = answered.read()
    known: dict[str, str] = {}
    done = repeated = lost = 0
    stages: Counter[str] = Counter()
    deadline = time.monotonic() + RUN_MINUTES * 60
    while True:
        process = start(recipe, home)
        came = answered.read()
        cut = cuts[done] if done < kills else None
        while process.poll() is None and (cut is None or answered.read() - before - lost < cut):
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                raise SystemExit(f"error: the run did not end in {RUN_MINUTES} minutes")
            time.sleep(0.002)
        killed = process.poll() is None
        if killed:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        time.sleep(0.2 if killed else 0)  # the server finishes what it has begun
        answered.read()
        now = acknowledged(home)
        sent = answered.keys[came:]
        repeated += sum(key in known for key in sent)
        lost += len(set(sent) - now.keys())
        known = now
        if not killed:
            if code:
                raise SystemExit(f"error: speed run ended with status {code}; see {home.parent / home.name}.log")
            break
        done += 1
        stages.update([list(now.values())[-1]] if now else [])
        print(f"kill {done}/{kills} after {len(known):,} acknowledged answers", file=sys.stderr, flush=True)
    return {"repeated_acknowledged": repeated, "kills": done, "lost": lost, "killed_in": dict(stages)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder, log = Path(temporary), Path(temporary) / "server.jsonl"
        with serving(log, faults=Faults(latency_s=LATENCY_S)) as url:
            result = measure(folder, log, url, args.kills, args.seed)
    print(json.dumps({**result, "seconds": round(time.monotonic() - started)}))


def measure(folder: Path, log: Path, url: str, kills: int, seed: int) -> dict[str, Any]:
    """Undisturbed and killed runs of the small recipe against the server at `url`."""
    data = small_data()
    data["teacher"] |= {"engine": "openai", "endpoint": url}
    data["calls"] = {"concurrency_start": 4, "concurrency_max": 8}
    path = write_recipe(folder, data)
    recipe = load_recipe(path)
    answered = Answered(log)
    if start(path, folder / "undisturbed").wait():
        raise SystemExit((folder / "undisturbed.log").read_text()[-2000:])
    calls = answered.read()
    result = kill_and_resume(path, folder / "killed", answered, kills, calls, seed)
    same = digests(recipe, folder / "undisturbed") == digests(recipe, folder / "killed")
    return {**result, "calls": calls, "identical": same}


if __name__ == "__main__":
    main()
