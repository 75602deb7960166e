"""What the texts of mteb's benchmarks take when they are kept out of the rows: texts, words, memory of the index.

`python -m benchmarks.evaluation_text_memory [--words 1 2 4]` builds the index over so many million made-up words, each in a process
of its own, and reckons with the slope what the scored texts of the English benchmarks take, by the statistics that mteb ships
(nothing is downloaded). Texts that a task holds several times count as often there, so words are an upper bound. Last line:
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from typing import Any

CHARACTERS_A_WORD = 6.0  # of English with its spaces
BENCHMARKS = ("MTEB(eng, v1)", "MTEB(eng, v2)")


def scored_texts(benchmark: str) -> dict[str, float]:
    """{"tasks", "texts", "million_words"} of the splits that are scored, judged documents only, without training rows."""
    from speed_assets.workers.task_texts import flat, named_tasks

    tasks = list(flat(named_tasks([benchmark])))
    texts = characters = 0.0
    for task in tasks:
        said = task.metadata.descriptive_stats or {}
        for split in said.keys() & set(task.eval_splits):
            by_subset = said[split].get("hf_subset_descriptive_stats")
            parts = [by_subset[name] for name in by_subset if name in task.hf_subsets] if by_subset else [said[split]]
            for part in parts:
                sizes: dict[str, Any] = dict(part)
                for field, found in sizes.items():
                    if not isinstance(found, dict) or "total_text_length" not in found:
                        continue
                    if field.startswith("documents"):
                        judged = (sizes.get("relevant_docs_statistics") or {}).get("unique_relevant_docs") or 0
                        texts += judged
                        characters += judged * (found.get("average_text_length") or 0)
                    else:
                        texts += found.get("unique_texts") or 0
                        characters += found["total_text_length"]
    return {
        "tasks": len(tasks),
        "texts": round(texts),
        "million_words": round(characters / CHARACTERS_A_WORD / 1e6, 1),
    }


def index_of(million: float) -> dict[str, float]:
    """{"seconds", "gigabytes"} of an index over texts of a hundred words, in this process; memory above what was there."""
    import polars as pl

    from speed_assets.domain.contamination import EvaluationIndex, Limits

    limits = Limits(ngram=8, containment=0.6, words_min=10, neighbour=0.85)
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(200_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]  # as words of a language are spread
    EvaluationIndex({"warm": ["compiled by the first use"]}, limits)
    count = round(million * 1e6 / 100)
    drawn = iter(rng.choices(vocabulary, weights=weights, k=count * 100))
    column = pl.Series([" ".join(next(drawn) for _ in range(100)) for _ in range(count)])
    del drawn
    before = _resident()
    started = time.monotonic()
    EvaluationIndex({"set": column}, limits)
    peak = _peak()
    return {"seconds": round(time.monotonic() - started, 1), "gigabytes": round((peak - before) / 1e6, 3)}


def _resident() -> float:
    """KB of this process in memory now: making the texts took more for a while, which the peak would hide."""
    with open("/proc/self/status") as lines:
        said = dict(line.split(":", 1) for line in lines)
    with open("/proc/self/clear_refs", "w") as switch:
        switch.write("5")  # resets the peak
    return float(said["VmRSS"].split()[0])


def _peak() -> float:
    with open("/proc/self/status") as lines:
        return float(dict(line.split(":", 1) for line in lines)["VmHWM"].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=float, nargs="+", default=[1, 2, 4], help="millions of words")
    parser.add_argument("--index", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.index is not None:
        print(json.dumps(index_of(args.index)))
        return
    built: dict[str, dict[str, Any]] = {}
    for million in args.words:
        ours = [sys.executable, "-m", "benchmarks.evaluation_text_memory", "--index", str(million)]
        built[f"{million:g}"] = json.loads(subprocess.run(ours, check=True, capture_output=True, text=True).stdout)
    first, last = min(args.words), max(args.words)
    slope = (built[f"{last:g}"]["gigabytes"] - built[f"{first:g}"]["gigabytes"]) / (last - first or 1)
    print("| million words | seconds | GB above the texts |\n|---|---|---|")
    for million, found in built.items():
        print(f"| {million} | {found['seconds']} | {found['gigabytes']} |")
    print("\n| benchmark | tasks | texts | million words | GB of the index |\n|---|---|---|---|---|")
    benchmarks = {}
    for name in BENCHMARKS:
        said = scored_texts(name)
        benchmarks[name] = {**said, "gigabytes": round(said["million_words"] * slope, 1)}
        print("| " + " | ".join(str(value) for value in (name, *benchmarks[name].values())) + " |")
    print(json.dumps({"index": built, "gigabytes_per_million": round(slope, 4), "benchmarks": benchmarks}))


if __name__ == "__main__":
    main()
