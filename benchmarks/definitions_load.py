"""What the definitions of a home cost at load, over a bare Dagster's: `python -m benchmarks.definitions_load`.

Each in a process of its own, after Dagster, its code server and the home's Dagster instance are there: CPU seconds and wall seconds
of the import, of the plan and the building of assets (`SPEED_HOME`, `SPEED_RECIPE`), and of as many assets that do nothing.
Last line: one JSON object with the medians. CPU seconds are what an idle machine takes; wall seconds grow with what else runs.

Belongs here: that measurement. Not here: what is loaded (`speed_assets/definitions.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from resources.store.home import prepare_home, speed_home

READY = """
import json, time
import dagster as dg, dagster._grpc.server
dg.DagsterInstance.get().get_runs(limit=1)
wall, cpu = time.perf_counter(), time.process_time()
"""
BARE = """
dg.Definitions([dg.asset(name=f"a{number}")(lambda: 1) for number in range(ASSETS)]).get_repository_def()
"""
OURS = """
import gc
gc.disable()
import speed_assets.orchestration.code_location
gc.enable()
from speed_assets.definitions import defs
imported = time.process_time() - cpu
definitions = defs()
definitions.get_repository_def()
"""
ENDED = """
print(json.dumps({"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, **EXTRA}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument(
        "--assets", type=int, default=52, help="assets of the bare Dagster (those of the offline recipe)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        _measure(args.times, args.assets, _environment(bytecode))


def _environment(bytecode: str) -> dict[str, str]:
    """Of the processes: the home, and compiled modules, which every installation has after its first start."""
    home = {"DAGSTER_HOME": str(prepare_home(speed_home())), "SPEED_HOME": str(speed_home())}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **home, "PYTHONPYCACHEPREFIX": bytecode}


def _measure(times: int, assets: int, environment: dict[str, str]) -> None:
    bare = READY + BARE.replace("ASSETS", str(assets)) + ENDED.replace("EXTRA", "{}")
    ours = READY + OURS + ENDED.replace("EXTRA", '{"import_cpu_s": imported}')
    medians = {name: _median(code, environment, times) for name, code in (("bare", bare), ("ours", ours))}
    over = {name: round(medians["ours"][name] - medians["bare"][name], 2) for name in ("cpu_s", "wall_s")}
    print(json.dumps({"times": times, "load": round(os.getloadavg()[0], 1), **medians, "over": over}))


def _median(code: str, environment: dict[str, str], times: int) -> dict[str, float]:
    found = [
        json.loads(subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).splitlines()[-1])
        for _time in range(times + 1)
    ][1:]  # the first compiles
    return {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}


if __name__ == "__main__":
    main()
