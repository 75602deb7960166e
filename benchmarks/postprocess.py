"""From raw model text to final_triplets and quarantine, at scale, and the near-duplicate step compared with other libraries.

`python -m benchmarks.postprocess` writes raw answers of all task types (7:7:7:2; 0.2 % of them broken, some repeated,
refused or copied from evaluation sets) to Parquet, then times a process of its own that reads, parses, filters and
writes them. Peers come with the extra `bench`; each removes the same planted copies from the same rows. Words are drawn
from `wordfreq`'s list by rank. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from wordfreq import top_n_list

from resources.inputs.evaluation_sets import offline_evaluation_texts
from resources.store.store import PARQUET_OPTIONS
from speed_assets.assets.triplets import TRIPLETS, filtered, plot_funnel
from speed_assets.domain.near_duplicates import Similarity, near_duplicates
from speed_assets.domain.rows import parse_outputs
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.recipe import Evaluation, Microworld, load_recipe
from tests.support.hostile import mutated

SHARES = {"classification": 7, "retrieval": 7, "sts": 7, "matching_short": 1, "matching_long": 1}
LENGTHS = {  # words of query, positive, negative
    "classification": (60, 2, 2),
    "retrieval": (8, 60, 60),
    "sts": (15, 15, 15),
    "matching_short": (8, 8),
    "matching_long": (60, 60),
}
BROKEN, REPEATED, REFUSED = 0.002, 0.02, 0.001
CHUNK = 25_000  # rows written, and parsed, at once
FUNCTION_WORDS = 0.9  # exponent of the rank in word frequencies: nearly Zipf's


def vocabulary() -> tuple[np.ndarray, np.ndarray]:
    """30,000 English words and how often each comes."""
    listed = [word for word in top_n_list("en", 30_000) if word.isalpha()]
    often = 1 / np.arange(1, len(listed) + 1) ** FUNCTION_WORDS
    return np.array(listed, dtype=object), often / often.sum()


def edited(text: str, listed: np.ndarray, rng: random.Random) -> str:
    """The text with one to ten per cent of its words replaced, dropped or added."""
    said = text.split()
    for at in sorted(rng.sample(range(len(said)), max(1, round(len(said) * rng.uniform(0.01, 0.1)))), reverse=True):
        kind = rng.random()
        if kind < 0.5:
            said[at] = rng.choice(listed)
        elif kind < 0.75:
            del said[at]
        else:
            said.insert(at, rng.choice(listed))
    return " ".join(said)


def write_raw(folder: Path, rows: int, seed: int = 1) -> None:
    """Raw answers, one file per task type."""
    listed, often = vocabulary()
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    for task_type, share in SHARES.items():
        count = rows * share // sum(SHARES.values())
        keys, lengths = TASK_TYPES[task_type].keys, LENGTHS[task_type]
        chunks = []
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            drawn = numbers.choice(len(listed), size=(size, sum(lengths)), p=often)
            bounds = np.cumsum((0, *lengths))
            raws: list[str] = []
            records: list[dict[str, str]] = []
            for row in listed[drawn]:
                record = {
                    key: " ".join(row[a:b]) + ("." if b - a > 2 else "")  # sentences end; labels do not
                    for key, a, b in zip(keys, bounds[:-1], bounds[1:], strict=True)
                }
                fate = rng.random()
                if fate < REPEATED and records:
                    record = {key: edited(text, listed, rng) for key, text in rng.choice(records).items()}
                elif fate < REPEATED + REFUSED:
                    record[keys[1]] = "I'm sorry, but I cannot help with writing this document."
                records.append(record)
                text = json.dumps(record, ensure_ascii=False)
                if rng.random() < BROKEN:
                    text = rng.choice([text[: rng.randrange(len(text))], text.replace('"', "'"), text[:-1] + ",}"])
                raws.append(text)
            ids = [f"{task_type}{start + i:09d}" for i in range(size)]
            chunks.append(pl.DataFrame({"row_id": ids, "output": raws}))
        frame = pl.concat(chunks).with_columns(
            task_type=pl.lit(task_type), topic=pl.lit("topic"), task=pl.lit("a task on this topic")
        )
        frame.write_parquet(folder / f"{task_type}.parquet", row_group_size=CHUNK)


def whole_way(folder: Path, out: Path, recipe_name: str) -> dict[str, Any]:
    """Read, parse, filter, write: the figures of it."""
    recipe = load_recipe(recipe_name)
    section = recipe.final_triplets
    rules = section.rules.model_copy(update={"length_tolerance": None})  # no prompt asked for these lengths
    section = section.model_copy(update={"rules": rules})
    evaluation = offline_evaluation_texts(Evaluation(microworld=Microworld(topics=200, rows=1_000)))
    warm = pl.DataFrame([{"row_id": "w", "task_type": "sts", "topic": "t", "task": "t", "output": "{}"}])
    filtered(parse_outputs(warm, "sts"), section, evaluation, recipe.seed)  # compiled kernels are read from disk
    started = time.perf_counter()
    parsed = []
    read_as: dict[str, int] = {}
    for task_type in SHARES:
        file = folder / f"{task_type}.parquet"
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        for at in range(0, rows, 4 * CHUNK):
            raw = pl.scan_parquet(file).slice(at, 4 * CHUNK).collect()
            read = parse_outputs(raw, task_type)
            for how, count in read["read_as"].value_counts().iter_rows():
                read_as[how] = read_as.get(how, 0) + count
            kept = pl.when(~pl.col("valid")).then("output").alias("output")
            parsed.append(read.drop("read_as").with_columns(kept))
    rows_in = sum(frame.height for frame in parsed)
    parse_s = time.perf_counter() - started
    table = pl.concat(parsed)
    parsed.clear()
    funnel = filtered(table, section, evaluation, recipe.seed)
    del table
    writing = time.perf_counter()
    funnel.rows.select(TRIPLETS).write_parquet(out / "data.parquet", **PARQUET_OPTIONS)
    quarantine = funnel.quarantine
    quarantine.write_parquet(out / "quarantine.parquet", **PARQUET_OPTIONS)
    done = time.perf_counter()
    plot_funnel(funnel, out / "funnel.png")
    return {
        "rows": rows_in,
        "seconds": round(done - started, 2),
        "rows_per_s": round(rows_in / (done - started)),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "accounted": rows_in == funnel.rows.height + quarantine.height,
        "read_as": read_as,
        "removed": dict(quarantine["reason"].value_counts(sort=True).iter_rows()),
        "steps": [
            {"step": "read and parse", "seconds": round(parse_s, 2), "rows_per_s": round(rows_in / parse_s)},
            *({key: step[key] for key in ("step", "removed", "seconds", "rows_per_s")} for step in funnel.table()),
            {"step": "write", "seconds": round(done - writing, 2), "rows_per_s": round(rows_in / (done - writing))},
        ],
    }


# The near-duplicate step and its peers


def planted(rows: int, boilerplate: int, seed: int = 1) -> tuple[list[str], dict[int, int]]:
    """Texts of 90 words, a tenth of them edited copies of others: {copy: original}. `boilerplate` words, one of
    twenty templates, go before each."""
    listed, often = vocabulary()
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    originals = rows * 9 // 10
    texts = [" ".join(row) for row in listed[numbers.choice(len(listed), size=(originals, 90), p=often)]]
    templates = [" ".join(listed[numbers.choice(len(listed), size=boilerplate, p=often)]) for _ in range(20)]
    chosen = rng.sample(range(originals), rows - originals)
    copies = {originals + i: original for i, original in enumerate(chosen)}
    texts += [edited(texts[original], listed, rng) for original in chosen]
    if boilerplate:
        texts = [f"{templates[copies.get(i, i) % 20]} {text}" for i, text in enumerate(texts)]
    return texts, copies


def ours(texts: Sequence[str], settings: Similarity) -> set[int]:
    ids = pl.Series([f"{i:08d}" for i in range(len(texts))])
    return {int(row) for row in near_duplicates(ids, pl.Series(texts), settings)["row_id"]}


def _shingles(text: str) -> list[str]:
    said = text.split()
    return [" ".join(said[i : i + 3]) for i in range(len(said) - 2)]


BANDS, DEPTH = 32, 3  # of the peers: what finds these edits in word 3-grams; ours takes the recipe's


def with_datasketch(texts: Sequence[str]) -> set[int]:
    """MinHash and MinHashLSH, the earlier row kept; estimated similarity verified."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * DEPTH, params=(BANDS, DEPTH))
    sketches: dict[int, Any] = {}
    removed = set()
    for row, text in enumerate(texts):
        sketch = MinHash(num_perm=BANDS * DEPTH, seed=1)
        sketch.update_batch([shingle.encode() for shingle in _shingles(text)])
        if any(sketch.jaccard(sketches[other]) >= 0.4 for other in index.query(sketch)):
            removed.add(row)
        else:
            sketches[row] = sketch
            index.insert(row, sketch, check_duplication=False)
    return removed


def with_rensa(texts: Sequence[str]) -> set[int]:
    """Sketches of all rows in one call, then its LSH, row by row; estimated similarity verified."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=0.4, num_perm=BANDS * DEPTH, num_bands=BANDS)
    sketches: dict[int, Any] = {}
    removed = set()
    for start in range(0, len(texts), 10_000):
        batch = [_shingles(text) for text in texts[start : start + 10_000]]
        for row, sketch in enumerate(RMinHash.from_token_sets(batch, BANDS * DEPTH, 1), start):
            if any(sketch.jaccard(sketches[other]) >= 0.4 for other in index.query(sketch)):
                removed.add(row)
            else:
                sketches[row] = sketch
                index.insert(row, sketch)
    return removed


def with_gaoya(texts: Sequence[str]) -> set[int]:
    """Its string index in Rust, in parallel; it verifies by estimated similarity itself."""
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(32, 0.4, BANDS, DEPTH, None, "word", True, (3, 3))
    index.par_bulk_insert_docs(list(range(len(texts))), list(texts))
    removed: set[int] = set()
    for row, found in enumerate(index.par_bulk_query(list(texts))):
        if any(other < row and other not in removed for other in found):
            removed.add(row)
    return removed


def measured(
    find: Callable[[Sequence[str]], set[int]], texts: Sequence[str], copies: dict[int, int]
) -> dict[str, float]:
    """Rows per second; share of the planted copies removed (the copy or its original), and of the removed that were."""
    started = time.perf_counter()
    removed = find(texts)
    seconds = time.perf_counter() - started
    found = sum(copy in removed or original in removed for copy, original in copies.items())
    in_pairs = removed & (copies.keys() | set(copies.values()))
    return {
        "rows_per_s": round(len(texts) / seconds),
        "recall": round(found / len(copies), 4),
        "precision": round(len(in_pairs) / len(removed), 4) if removed else 0.0,
    }


def next_to_peers(rows: int, peers: bool, settings: Similarity) -> dict[str, Any]:
    """Each tool on plain texts and on texts of which half is boilerplate."""
    tools: dict[str, Callable[[Sequence[str]], set[int]]] = {"speed": lambda texts: ours(texts, settings)}
    if peers:
        tools |= {"rensa": with_rensa, "gaoya": with_gaoya, "datasketch": with_datasketch}
    result: dict[str, Any] = {}
    for kind, boilerplate in (("plain", 0), ("boilerplate", 90)):
        texts, copies = planted(rows, boilerplate)
        for name, find in tools.items():
            find(texts[:200])
            figures: dict[str, Any]
            try:
                figures = measured(find, texts, copies)
            except ImportError as error:
                figures = {"not_installed": str(error)}
            result.setdefault(name, {}).update(figures if kind == "plain" else {kind: figures})
            print(f"{kind:12} {name:12} {figures}", flush=True)
    return result


def by_size(sizes: Sequence[int], settings: Similarity) -> dict[str, int]:
    """Rows per second of the near-duplicate step by number of rows."""
    rates = {}
    for size in sizes:
        texts, copies = planted(size, 0)
        ours(texts[:200], settings)  # compiled kernels are read from disk
        rates[f"{size}"] = int(measured(lambda texts: ours(texts, settings), texts, copies)["rows_per_s"])
        print(f"{size:>9,} rows {rates[f'{size}']:>9,} rows/s", flush=True)
    return rates


def fuzzed(outputs: int) -> dict[str, Any]:
    """Mutated outputs through parser and filters: what became of them, the slowest hundred rows, the memory."""
    section = load_recipe("paper").final_triplets
    rng = random.Random(7)
    lost, slowest = 0, 0.0
    read_as: dict[str, int] = {}
    started = time.perf_counter()
    for number in range(0, outputs, 100):
        task_type = rng.choice(sorted(TOPIC_TYPES))
        raws = [mutated(task_type, rng).encode("utf-8", "replace").decode() for _ in range(100)]
        frame = pl.DataFrame({"row_id": [f"{number + i}" for i in range(100)], "output": raws})
        frame = frame.with_columns(task_type=pl.lit(task_type), topic=pl.lit("t"), task=pl.lit("t"))
        began = time.process_time()
        read = parse_outputs(frame, task_type)
        funnel = filtered(read, section, {"set": ["not a word of this stands in any of these outputs"]}, 1)
        slowest = max(slowest, time.process_time() - began)
        lost += 100 - funnel.rows.height - funnel.quarantine.height
        for how, count in read["read_as"].value_counts().iter_rows():
            read_as[how] = read_as.get(how, 0) + count
    return {
        "outputs": outputs,
        "lost": lost,
        "read_as": read_as,
        "seconds": round(time.perf_counter() - started, 1),
        "slowest_hundred_cpu_s": round(slowest, 2),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def in_own_process(part: str, *values: str) -> dict[str, Any]:
    """The figures of one part, from a fresh process so that memory and warmth are its own."""
    command = [sys.executable, "-m", "benchmarks.postprocess", "--part", part, *values]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    *before, last = shown.splitlines()
    for line in before:
        print(line, flush=True)
    figures: dict[str, Any] = json.loads(last)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_150_000)
    parser.add_argument("--peer-rows", type=int, default=200_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--fuzz", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the raw rows here, and use them if they are there")
    parser.add_argument("--part", choices=["whole", "neardup", "sizes", "fuzz"], help="only this, in this process")
    args = parser.parse_args()
    near = load_recipe(args.recipe).final_triplets.near_duplicates
    settings = Similarity(near.shingle, near.permutations, near.jaccard, near.boilerplate)
    if args.part:
        with tempfile.TemporaryDirectory() as out:
            parts: dict[str, Callable[[], Any]] = {
                "whole": lambda: whole_way(args.folder, Path(out), args.recipe),
                "neardup": lambda: next_to_peers(args.peer_rows, not args.no_peers, settings),
                "sizes": lambda: by_size(args.sizes, settings),
                "fuzz": lambda: fuzzed(args.fuzz),
            }
            figures = parts[args.part]()
        print(json.dumps(figures))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / "matching_long.parquet").exists():
            writing = multiprocessing.get_context("spawn").Process(target=write_raw, args=(folder, args.rows))
            writing.start()
            writing.join()
        runs = [in_own_process("whole", "--folder", str(folder), "--recipe", args.recipe) for _ in range(args.repeats)]
    runs.sort(key=lambda run: run["rows_per_s"])
    figures = runs[len(runs) // 2] | {"rows_per_s_of_runs": [run["rows_per_s"] for run in runs]}
    for step in figures["steps"]:
        print(f"{step['step']:28} {step['seconds']:8.2f} s {step['rows_per_s']:>10,} rows/s")
    peers = ["--no-peers"] if args.no_peers else []
    print(
        json.dumps(
            {
                **figures,
                "neardup": in_own_process(
                    "neardup", "--peer-rows", str(args.peer_rows), "--recipe", args.recipe, *peers
                ),
                "neardup_rows_per_s_by_rows": in_own_process("sizes", "--sizes", *map(str, args.sizes)),
                "fuzz": in_own_process("fuzz", "--fuzz", str(args.fuzz)),
            }
        )
    )


if __name__ == "__main__":
    main()
