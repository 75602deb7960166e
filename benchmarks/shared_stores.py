"""The offline recipe with nothing at home: ledger and Dagster's storage in PostgreSQL, artifacts in S3, and kills in the
middle. `python -m benchmarks.shared_stores [--small]`.

PostgreSQL and S3 (moto) run on loopback, from ordinary packages; so does a teacher that logs what it answers. The recipe runs on
the shared stores, where it is killed with SIGKILL twice: when the teacher has answered about a third of its calls, and in the
middle of sending an artifact. Then a second, empty home runs on the same stores: it has everything to fetch and nothing
to make. Then a plain home runs alone, to compare with. Last line: one JSON object. `repeated` counts calls that the ledger held at a kill and
that reached the teacher again; `identical` compares content digests of the plain home and of both others. Seconds of
uploads and downloads are those of the process that was not killed.

Belongs here: that proof. Not here: the servers (`servers.py`), faults of the shared store (`tests/test_shared_store.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import yaml

from benchmarks.kill9 import Answered, start
from resources.ledger import accounts
from resources.ledger.database import Database
from resources.ledger.ledger import Ledger
from speed_assets.domain.fingerprints import seed_for
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import RECIPES, load_recipe
from tests.support.homes import digests
from tests.support.servers import S3, new_database, postgres, s3
from tests.support.small import small_data, write_recipe
from tests.support.teacher_server import serving

RUN_MINUTES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the tiny recipe of the tests instead of `offline`")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, postgres() as database, s3() as server:
        result = measure(Path(temporary), stores(database.url, server), server, args.small, args.seed)
    print(json.dumps(result))


def measure(
    folder: Path, variables: dict[str, str], server: S3, small: bool, seed: int, compared: str = "*"
) -> dict[str, Any]:
    """The proof below `folder`, with homes `plain`, `first` and `second`, on `stores`; what the last line says. `compared`
    is the asset selection that the plain home makes."""
    log = folder / "teacher.jsonl"
    with serving(log) as teacher:
        data = small_data() if small else yaml.safe_load((RECIPES / "offline.yaml").read_text())
        data["teacher"] |= {"engine": "openai", "endpoint": teacher}
        data["calls"] = {"concurrency_start": 4, "concurrency_max": 8}
        path = write_recipe(folder, data)
        recipe = load_recipe(path)
        answered = Answered(log)
        calls = plan(recipe, folder / "plain").as_json()["calls"]
        at = random.Random(seed_for(seed, "shared_stores")).randrange(calls // 4, calls // 2)
        first = folder / "first"
        asking = kill(first, start(path, first, **variables), lambda: answered.read() >= at, answered, variables)
        with sending(server) as begun:
            in_upload = kill(first, start(path, first, **variables), begun.is_set, answered, variables)
        resumed = finish(first, start(path, first, "--json", **variables))
        before_second, requests = answered.read(), len(server.log)
        second = finish(folder / "second", start(path, folder / "second", "--json", **variables))
        sent = answered.read()
        plain = finish(folder / "plain", start(path, folder / "plain", "--json", "--select", compared))
    known = {**dict.fromkeys(asking.held, asking.sent), **dict.fromkeys(in_upload.held - asking.held, in_upload.sent)}
    in_plain_home, *in_shared = (digests(recipe, folder / name) for name in ("plain", "first", "second"))
    return {
        "recipe": recipe.name,
        "identical": all({name: shared.get(name) for name in in_plain_home} == in_plain_home for shared in in_shared),
        "artifacts": len(in_plain_home),
        "calls": calls,
        "sent": before_second,
        "acknowledged_at_kills": [len(asking.held), len(in_upload.held)],
        "repeated": sum(number >= known.get(key, math.inf) for number, key in enumerate(answered.keys[:sent])),
        "second_made": [name for name in recipe.graph() if name not in second["reused"]],
        "second_calls": sent - before_second,
        "plain_wall_s": plain["wall_s"],
        "shared_wall_s": round(asking.wall_s + in_upload.wall_s + resumed["wall_s"], 1),
        "second_wall_s": second["wall_s"],
        "resumed_traffic": resumed["shared_store"],
        "second_traffic": second["shared_store"],
        "second_requests": len(server.log) - requests,
        "requests": len(server.log),
    }


def stores(database: str, server: S3) -> dict[str, str]:
    """Variables that name new, empty stores on these servers."""
    return {
        "SPEED_LEDGER_URL": new_database(database, "ledger"),
        "SPEED_DAGSTER_POSTGRES_URL": new_database(database, "dagster").replace("://", "+psycopg2://", 1),
        "SPEED_STORE_URL": server.new_bucket(),
        **server.environment,
    }


@dataclass(frozen=True)
class Kill:
    """What the ledger held at a kill, how many answers the teacher had sent by then, and the seconds before it."""

    held: set[str]
    sent: int
    wall_s: float


def kill(
    home: Path, process: Popen[bytes], when: Callable[[], bool], answered: Answered, variables: dict[str, str]
) -> Kill:
    """Let a run go on until it is time, and kill all of it."""
    started = time.monotonic()
    while not when():
        if process.poll() is not None or time.monotonic() - started > RUN_MINUTES * 60:
            raise SystemExit(f"error: no moment for a kill came\n{home.with_suffix('.log').read_text()[-2000:]}")
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wall_s = time.monotonic() - started
    time.sleep(0.2)  # the teacher finishes what it has begun
    ledger = Ledger(Database(variables["SPEED_LEDGER_URL"]))
    held = {call["key"] for call in accounts.read_calls(ledger)}
    ledger.database.close()
    print(f"killed after {len(held):,} acknowledged answers", file=sys.stderr, flush=True)
    return Kill(held, answered.read(), wall_s)


@contextmanager
def sending(server: S3) -> Iterator[Event]:
    """Set when the weights of a generator are about to be stored; the server keeps them waiting for a while."""
    begun = Event()

    def wait(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("model.safetensors") and not begun.is_set():
            begun.set()
            time.sleep(2)

    server.fault = wait
    try:
        yield begun
    finally:
        server.fault = lambda _method, _path: None


def finish(home: Path, process: Popen[bytes]) -> dict[str, Any]:
    """Wait for a run and return its last line."""
    code = process.wait(RUN_MINUTES * 60)
    said = home.with_suffix(".log").read_text()
    if code:
        raise SystemExit(f"error: speed run ended with status {code}\n{said[-2000:]}")
    summary: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    print(f"{home.name}: {summary['wall_s']} s {summary.get('shared_store', '')}", file=sys.stderr, flush=True)
    return summary


if __name__ == "__main__":
    main()
