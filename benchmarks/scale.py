"""Planner and ledger with millions of tasks and rows, all of it synthetic: `python -m benchmarks.scale`.

For each number of tasks (one in five of them a topic, five task types), each in a process of its own: `speed plan` in an empty
home, then the brainstorming for real, by the microworld's teacher into a real ledger, then the plan again where every answer is
known and no artifact is there. Then tables of as many outputs as a generator writes, and how long it takes to find which of them are
known already, as a stage does before it generates (`speed_assets/assets/writing.py`). What a task or a row costs is the slope
between the two largest sizes; `at_10M_tasks` and `at_100M_rows` are reckoned with it where they were not run.
Last line: one JSON object; seconds, bytes, GB of resident memory.

Belongs here: sizes and measuring. Not here: what is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from resources.store.store import PARQUET_OPTIONS
from speed_assets.recipe import RECIPES, Recipe, parse_recipe
from tests.support.small import small_data

TASK_TYPES = 5
KEY = ["row_id", "candidate", "prompt"]


def recipe_of(topics: Path) -> Recipe:
    data = small_data()
    data["topics"] |= {"file": str(topics), "limit": None, "alignment": str(topics.with_name("alignment.txt"))}
    return parse_recipe(data, RECIPES / "scale.yaml")


def write_topics(folder: Path, count: int) -> Path:
    """Topic paths, no two alike."""
    words = ["amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "jade"]
    file = folder / "topics.txt"
    with file.open("w") as out:
        for number in range(count):
            digits = [words[int(digit)] for digit in f"{number:07d}"]
            out.write(f"Top/{digits[0]}_{digits[1]}/{digits[2]}_{digits[3]}/{'_'.join(digits[4:])}\n")
    (folder / "alignment.txt").write_text("".join(file.read_text().splitlines(keepends=True)[:20]))
    return file


def memory() -> float:
    """Largest resident memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def planned(folder: Path) -> dict[str, Any]:
    """Seconds and memory of a plan, and what it counts."""
    from speed_assets.orchestration.plan import plan

    recipe = recipe_of(folder / "topics.txt")
    started = time.monotonic()
    found = plan(recipe, folder / "home").as_json()
    seconds = time.monotonic() - started
    return {"seconds": seconds, "memory": memory(), "calls": found["calls"], "known": found["known_calls"]}


def brainstormed(folder: Path) -> dict[str, Any]:
    """Seconds, memory and bytes of brainstorming all tasks into the ledger; the artifacts are thrown away."""
    from speed_assets.orchestration import runs

    home = folder / "home"
    started = time.monotonic()
    report = runs.run(recipe_of(folder / "topics.txt"), home, select="*task_list")
    seconds = time.monotonic() - started
    if report.errors:
        sys.exit(report.errors[0])
    calls = sum(int(report.metadata[name].get("teacher_calls") or 0) for name in report.made)
    size = sum(file.stat().st_size for file in home.glob("ledger.sqlite*"))
    shutil.rmtree(home / "artifacts")
    return {"seconds": seconds, "memory": memory(), "calls": calls, "ledger_bytes": size}


def known(folder: Path, rows: int) -> dict[str, Any]:
    """Seconds and memory of finding the new rows among `rows`, of which 1 % have not been generated yet."""
    file = folder / f"outputs-{rows}.parquet"
    number = pl.int_range(rows, eager=True)
    asked = pl.DataFrame(
        {
            "row_id": pl.select(pl.format("row-{}", number.hash(1).cast(pl.String))).to_series(),
            "candidate": pl.zeros(rows, dtype=pl.Int64, eager=True),
            "prompt": pl.select(pl.format('retrieval: task number {}\nlong, clear\n"query"\n', number)).to_series(),
        }
    )
    texts = pl.select(pl.format('{{"user_query": "what is {}", "positive_document": "{}"}}', number, number.hash(2)))
    asked.slice(rows // 100).with_columns(texts.to_series().slice(rows // 100).alias("output")).write_parquet(
        file, **PARQUET_OPTIONS
    )
    started = time.monotonic()
    before = pl.read_parquet(file).unique(KEY, keep="first", maintain_order=True)
    new = asked.join(before, on=KEY, how="anti", maintain_order="left")
    answers = asked.join(before, on=KEY, how="left", maintain_order="left", validate="1:1")
    seconds = time.monotonic() - started
    assert new.height == rows // 100
    assert answers.height == rows
    found = {"seconds": seconds, "memory": memory(), "bytes": file.stat().st_size}
    file.unlink()
    return found


def apart(*arguments: str) -> dict[str, Any]:
    """The same in a process of its own, whose memory is its own."""
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{arguments[0]} {arguments[-1]}: {result}", file=sys.stderr, flush=True)
    return result


def reckoned(sizes: list[int], values: list[float], size: int) -> dict[str, float]:
    """The slope between the two largest sizes, and the value at `size` by it."""
    slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
    return {"each": slope, "at": values[-1] + slope * (size - sizes[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 5_000_000])
    parser.add_argument(
        "--fresh", type=int, nargs="*", default=[], help="more numbers of tasks, planned in an empty home"
    )
    parser.add_argument("--folder", type=Path, help="keep homes here instead of in a temporary folder")
    parts = parser.add_subparsers(dest="part")
    for part in ("planned", "brainstormed", "known"):
        sub = parts.add_parser(part)
        sub.add_argument("inside", type=Path)
        sub.add_argument("size", type=int)
    args = parser.parse_args()
    if args.part:
        found = known(args.inside, args.size) if args.part == "known" else globals()[args.part](args.inside)
        print(json.dumps(found))
        return
    larger: list[dict[str, Any]] = []
    tasks: dict[str, list[dict[str, Any]]] = {"fresh": [], "brainstorm": [], "known": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for size in args.tasks:
            inside = folder / f"tasks-{size}"
            inside.mkdir(parents=True, exist_ok=True)
            write_topics(inside, size // TASK_TYPES)
            for name, part in (("fresh", "planned"), ("brainstorm", "brainstormed"), ("known", "planned")):
                tasks[name].append(apart(part, str(inside), str(size)))
            if not args.folder:
                shutil.rmtree(inside)
        for size in args.fresh:
            inside = folder / f"tasks-{size}"
            inside.mkdir(parents=True, exist_ok=True)
            write_topics(inside, size // TASK_TYPES)
            larger.append({"tasks": size, **apart("planned", str(inside), str(size))})
        rows = [apart("known", str(folder), str(size)) for size in args.rows]
    figures = [("fresh", "seconds"), ("fresh", "memory"), ("known", "seconds"), ("known", "memory")]
    figures += [("brainstorm", "seconds"), ("brainstorm", "memory"), ("brainstorm", "ledger_bytes")]
    result = {
        "tasks": {"sizes": args.tasks, **tasks},
        "fresh_beyond": larger,
        "rows": {"sizes": args.rows, "known": rows},
        "at_10M_tasks": {
            f"{name}_{figure}": reckoned(args.tasks, [entry[figure] for entry in tasks[name]], 10_000_000)
            for name, figure in figures
        },
        "at_100M_rows": {
            figure: reckoned(args.rows, [entry[figure] for entry in rows], 100_000_000)
            for figure in ("seconds", "memory", "bytes")
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
