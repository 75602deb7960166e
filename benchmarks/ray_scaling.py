"""Generation on a Ray cluster: a node killed in the middle, and what scheduling costs. `python -m benchmarks.ray_scaling`.

**Node loss.** A recipe runs once with the local twin of the cluster and once on two Ray nodes of this machine, the second
killed (SIGKILL to raylet, workers and engines; SIGSTOP with `--fault stalled`) when its `senior_data` has finished
`--lose-after` shards. Both homes must hold the same artifacts and as many ledger calls; a call that was repeated would be booked as paid twice (`unkept`).

**Overhead.** The same rows in `--shards` shards, one at a time with one thread, through the local twin in one runner and
through a Ray cluster of one node with one place, in turn, each with its engine loaded beforehand. `ratio` is Ray's
median over the local one; the goal is at most 1.05. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from sqlalchemy import func, select

from benchmarks.overhead import prompts
from resources.compute.generator import ModelSource, generate
from resources.compute.runner import Runner
from resources.inputs.base_models import MICROWORLD_BASE
from resources.ledger.database import UNKEPT
from resources.ledger.ledger import Ledger
from speed_assets.orchestration import runs
from speed_assets.recipe import RECIPES, Cluster, Recipe, Runtime, Sampling, load_recipe, parse_recipe
from tests.support.homes import digests
from tests.support.ray_nodes import CONNECTING, Nodes
from tests.support.small import small_data, write_recipe


def recipe_on(cluster: dict[str, Any], folder: Path, whole: bool) -> Recipe:
    """The offline recipe, or the small one, on a cluster."""
    data = yaml.safe_load((RECIPES / "offline.yaml").read_text()) if whole else small_data()
    data["runtime"] = {**data.get("runtime", {}), "threads": 1, "cluster": cluster}
    data["generator"]["batch_rows"] = cluster["shard_rows"]
    path = write_recipe(folder, data)
    return parse_recipe(yaml.safe_load(path.read_text()), RECIPES / path.name)


def calls(home: Path) -> tuple[int, int]:
    """(answers kept, answers paid for and not kept) in the ledger of a home."""
    ledger = Ledger.at(home)
    with ledger.database.reading() as connection:
        unkept = connection.execute(select(func.count()).select_from(UNKEPT)).scalar_one()
    return ledger.count(), unkept


def node_loss(folder: Path, whole: bool, shard_rows: int, lose_after: int, select_: str, fault: str) -> dict[str, Any]:
    """An undisturbed run and one that loses a node."""
    local = recipe_on({"kind": "local", "shard_rows": shard_rows}, folder, whole)
    report = runs.run(local, folder / "undisturbed", select=select_, say=print)
    if report.errors:
        raise SystemExit(f"error: {report.errors}")
    undisturbed = report.wall_s
    nodes = Nodes()
    lost_at: list[int] = []

    def progress(label: str) -> Any:
        def report(done: int, total: int, _note: str) -> None:
            if label.startswith("senior_data") and not lost_at and lose_after * shard_rows <= done < total:
                lost_at.append(done)
                nodes.stall(1) if fault == "stalled" else nodes.kill(1)
                print(f"{fault} a node at row {done} of {total} of {label}", flush=True)

        return report

    try:
        nodes.add()
        nodes.add()
        on_ray = {"kind": "ray", "address": nodes.address, "shard_rows": shard_rows}
        recipe = recipe_on(on_ray, folder, whole)
        report = runs.run(recipe, folder / "lost", select=select_, say=print, progress=progress)
    finally:
        nodes.close()
    undisturbed_artifacts = digests(recipe, folder / "undisturbed")
    return {
        "fault": fault,
        "completed": not report.errors,
        "errors": report.errors,
        "lost_at_row": lost_at[0] if lost_at else None,
        "identical": undisturbed_artifacts == digests(recipe, folder / "lost"),
        "artifacts": len(undisturbed_artifacts),
        "calls": calls(folder / "undisturbed")[0],
        "calls_with_loss": calls(folder / "lost")[0],
        "repeated": calls(folder / "lost")[1],
        "undisturbed_s": round(undisturbed, 1),
        "with_loss_s": round(report.wall_s, 1),
    }


def overhead(folder: Path, shards: int, rows: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Seconds of the same shards, locally and on Ray, side by side."""
    settings = load_recipe("offline").generator
    assert settings is not None
    settings = settings.model_copy(update={"batch_rows": rows})
    sampling = Sampling(temperature=1.0, max_new_tokens=tokens)
    source = ModelSource(str(MICROWORLD_BASE), None, None)
    local, ray = Runner(folder / "local", threads=1), Runner(folder / "ray", threads=1)
    nodes = Nodes()
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    try:
        nodes.add()
        ways = {
            "local": (local, Cluster(kind="local", shard_rows=rows)),
            "ray": (ray, Cluster(kind="ray", address=nodes.address, shard_rows=rows)),
        }

        def took(way: str, table: pl.DataFrame, name: str) -> tuple[float, pl.DataFrame]:
            runner, cluster = ways[way]
            started = time.monotonic()
            runtime = Runtime(threads=1, cluster=cluster)
            outputs = generate(runner, settings, runtime, source, table, sampling, 1, folder / f"{way}-{name}")
            return time.monotonic() - started, outputs

        for way in ways:
            took(way, prompts(2 * rows, 999), "warm")
        for repeat in range(repeats):
            table, tables = prompts(shards * rows, repeat), {}
            for way in ("local", "ray") if repeat % 2 == 0 else ("ray", "local"):
                time_taken, tables[way] = took(way, table, str(repeat))
                seconds[way].append(time_taken)
                print(f"{repeat}: {way:<5} {time_taken:.1f} s for {shards} shards", flush=True)
            if not tables["local"].equals(tables["ray"]):
                raise SystemExit("error: rows differ between the local twin and Ray")
    finally:
        local.close()
        ray.close()
        nodes.close()
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        "shards": shards,
        "rows_per_shard": rows,
        "ratio": round(medians["ray"] / medians["local"], 3),
        "ms_per_shard_local": round(1000 * medians["local"] / shards, 1),
        "ms_per_shard_ray": round(1000 * medians["ray"] / shards, 1),
        "ratios": [round(b / a, 3) for a, b in zip(seconds["local"], seconds["ray"], strict=True)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("both", "loss", "overhead"), default="both")
    parser.add_argument("--recipe", choices=("offline", "small"), default="offline")
    parser.add_argument("--select", default="*", help="Dagster asset selection of the runs that lose a node")
    parser.add_argument("--shard-rows", type=int, default=32, help="rows in a shard of those runs")
    parser.add_argument("--fault", choices=("killed", "stalled"), default="killed", help="what the node suffers")
    parser.add_argument("--lose-after", type=int, default=2, help="shards of senior_data that are done by then")
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=16, help="rows in a shard where overhead is measured")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ.update(CONNECTING)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.part != "loss":
            result["overhead"] = overhead(folder, args.shards, args.rows, args.tokens, args.repeats)
        if args.part != "overhead":
            whole = args.recipe == "offline"
            result["node_loss"] = node_loss(folder, whole, args.shard_rows, args.lose_after, args.select, args.fault)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
