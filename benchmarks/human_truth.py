"""A model adapted from documents alone, against people's queries: the loop against its base and against plainer ways.

`python -m benchmarks.human_truth --set med_beir --seeds 1 2 3` takes the documents of a set of people's queries, hides its queries and
judgements, and adapts the base of the recipe `own_corpus` in four ways:

- `base`: not at all;
- `plain`: one query for each passage from the untrained writer, no loop, no filter, negatives from the batch;
- `mined`: the same rows with mined negatives, which is all that differs;
- `loop`: as the recipe has it, with further blocks of rows until as many pass its filters (`final_triplets.wanted`; it writes
  `CANDIDATES` times as many at most): the generator's rows cost no teacher's call.

All are scored by mteb (nDCG@10) on people's queries. Intervals are paired over queries, and hold the spread between seeds where there
are several. The queries of `own_evaluation` (held-out documents, written by the teacher) score the same models: `agreement` is the
rank correlation of both, over all models. `--documents` takes a part of the documents, for a first try.

Last line: one JSON object, {"set", "documents", "queries", "rows", "scores", "differences", "agreement", "wall_s"}.

Belongs here: the arms, the comparison. Not here: the writer's server (`natural.py`), what a stage does (the recipe).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import spearmanr

from benchmarks import natural
from resources.compute.runner import Runner
from resources.inputs.base_models import resolve_model
from resources.progress import ProgressLines
from resources.store.artifacts import Artifacts
from resources.store.home import prepare_home, speed_home
from resources.store.shared_store import store_of
from resources.store.store import tree_digest
from speed_assets.assets.own_evaluation import FOLDER
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.graph import OWN_EVALUATION, PASSAGES
from speed_assets.domain.rules import RULE_CODES
from speed_assets.domain.statistics import compare, samples_by_model
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.orchestration import runs
from speed_assets.recipe import PROJECT, Checks, Recipe, RecipeError, load_recipe
from speed_assets.workers.jobs import Evaluate, LocalSet, ScoredModel

SETS = ("med_beir", "xquad_en")
ARMS = ("plain", "mined", "loop")
BASE = "base"
RESAMPLES, ALPHA = 10_000, 0.05
CANDIDATES = 3
_LOOP = (
    "junior_model", "junior_data", "preference_pairs", "senior_model", "senior_data", "revision_data", "revisor_model",
    "revised_data", "row_scores", "row_verdicts",
)  # fmt: skip


def people(data: Path, name: str, out: Path, documents: int | None) -> tuple[Path, Path]:
    """(documents as a table, the set in BEIR's layout) of a set, or of those of its documents with the lowest hashes.

    Args:
        data: folder with `med_beir` or `xquad_en`.
        name: one of `SETS`.
        out: folder to write into.
        documents: documents at most; queries that no document left answers are left out.
    """
    source = data / name
    packed = ".gz" if (source / "corpus.jsonl.gz").is_file() else ""
    corpus, queries = (_lines(source / f"{part}.jsonl{packed}") for part in ("corpus", "queries"))
    judged = source / "qrels" / "test.tsv"
    judged = judged if judged.is_file() else source / "qrels.tsv"
    lines = [line.split("\t") for line in judged.read_text(encoding="utf-8").splitlines()[1:] if line]
    kept = sorted(corpus, key=lambda row: digest(["human truth", row["_id"]]))[:documents]
    ids = {row["_id"] for row in kept}
    left = [line for line in lines if line[1] in ids and int(line[2]) > 0]
    asked = {line[0] for line in left}
    corpus_file, folder = out / "documents.jsonl", out / name
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    kept = [row for row in corpus if row["_id"] in ids]
    _write(corpus_file, [{"id": row["_id"], "title": row.get("title", ""), "text": row["text"]} for row in kept])
    _write(
        folder / "corpus.jsonl",
        [{"_id": row["_id"], "title": row.get("title", ""), "text": row["text"]} for row in kept],
    )
    _write(
        folder / "queries.jsonl", [{"_id": row["_id"], "text": row["text"]} for row in queries if row["_id"] in asked]
    )
    text = "".join("\t".join(line[:3]) + "\n" for line in left)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{text}", encoding="utf-8")
    return corpus_file, folder


def _lines(file: Path) -> list[dict[str, Any]]:
    opened = gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def arm(recipe: Recipe, name: str, seed: int, corpus: Path, rows: int | None) -> Recipe:
    """The recipe of one arm under one seed.

    Args:
        recipe: that of the loop.
        name: one of `ARMS`.
        seed: of the recipe.
        corpus: table of documents.
        rows: rows that train the embedding model, as asked for; None keeps those of the recipe.
    """
    data = recipe.model_dump()
    data |= {"name": f"human_{name}_{seed}", "seed": seed}
    data["corpus"] |= {"path": str(corpus), "share": 1.0}
    data["mteb_scores"] |= {"baselines": []}
    data["checks"] = Checks.waived().model_dump()  # a gate that a recipe sets for its own corpus ends no comparison
    wanted = {**dict.fromkeys(TASK_TYPE_NAMES, 0), "grounded": rows}
    if name == "loop":
        if rows is not None:
            data["senior_data"]["rows"] = wanted
            most = {**wanted, "grounded": CANDIDATES * rows}
            data["final_triplets"]["wanted"] = {"rows": wanted, "candidates_max": most}
        return Recipe.model_validate(data)
    data |= dict.fromkeys(_LOOP)
    data["seed_data"] |= {"rows": wanted if rows is not None else recipe.seed_data.rows.model_dump(), "rules": None}
    data["final_triplets"] |= {"source": "seed_data", "rules": {"skip": list(RULE_CODES)}}
    if name == "plain":
        data["mined_negatives"] = None
    return Recipe.model_validate(data)


def passages(recipe: Recipe, home: Path, runner: Runner, lines: ProgressLines) -> int:
    """Passages that rows may be written from."""
    runs.run(recipe, home, select="+passages", progress=lines, say=lines.print_line, runner=runner)
    found = Artifacts(recipe, store_of(home)).get(PASSAGES, "grounded").metadata
    return int(found["passages_to_write_from"])


def scored(
    models: Sequence[ScoredModel], folders: Sequence[Path], work: Path, runner: Runner
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(scores, samples) of models on sets in folders, by mteb."""
    work.mkdir(parents=True, exist_ok=True)
    files = {name: str(work / f"{name}.parquet") for name in ("scores", "samples")}
    job = Evaluate(
        models=tuple(models),
        bm25=False,
        microworld=None,
        local=tuple(LocalSet(path=str(folder), digest=tree_digest(folder)) for folder in folders),
        tasks=(),
        out=files["scores"],
        samples=files["samples"],
        plot=str(work / "scores.png"),
        cache=str(work / "cache"),
        batch_size=64,
    )
    runner.run("evaluate", job.to_json(), work)
    return pl.read_parquet(files["scores"]), pl.read_parquet(files["samples"])


def compared(samples: pl.DataFrame, task: str, arms: Sequence[str], seeds: Sequence[int]) -> dict[str, list[float]]:
    """{"loop - base": [difference, low, high]} of the loop and each other arm on one task.

    Args:
        samples: of all models, named `base` or `ARM SEED`.
        task: people's set.
        arms: those that have a model for each seed.
        seeds: of the trainings.
    """
    by_model = samples_by_model(samples)
    sides = {
        BASE: [by_model[BASE][task]],
        **{name: [by_model[f"{name} {seed}"][task] for seed in seeds] for name in arms},
    }
    found = {}
    for one, other in [(name, other) for name in ("loop", "mined", "plain") for other in (BASE, "plain", "mined")]:
        if one not in sides or other not in sides or one == other or (one, other) == ("plain", "mined"):
            continue
        seed = seed_for(0, "human truth", one, other) % 2**31
        difference = compare(task, sides[one], sides[other], resamples=RESAMPLES, seed=seed)
        low, high = difference.interval(ALPHA)
        found[f"{one} - {other}"] = [round(value, 4) for value in (difference.value, low, high)]
    return found


def agreement(scores: pl.DataFrame, human: str, own: str) -> dict[str, Any] | None:
    """Rank correlation between people's set and the own set, over all models; None below three models."""
    wide = scores.pivot("task", index="model", values="score").drop_nulls([human, own])
    if wide.height < 3:
        return None
    found = spearmanr(wide[human].to_numpy(), wide[own].to_numpy())
    return {"spearman": round(float(found.statistic), 4), "p": round(float(found.pvalue), 4), "models": wide.height}


def measure(
    recipe: Recipe,
    home: Path,
    corpus: Path,
    people_folder: Path,
    seeds: Sequence[int],
    rows: int | None,
    lines: ProgressLines,
) -> dict[str, Any]:
    """Adapt under every arm and seed, score, and compare; what failed is in `errors`."""
    started = time.monotonic()
    runner = Runner(home)
    errors: list[str] = []
    base = recipe.embedding_model
    place = resolve_model(base.base, base.revision)[0]
    models = [ScoredModel(name=BASE, digest=tree_digest(Path(place)), path=place)]
    own: Path | None = None
    try:
        rows = rows or passages(arm(recipe, "plain", seeds[0], corpus, 1), home, runner, lines)
        for seed in seeds:
            for name in ARMS:
                variant = arm(recipe, name, seed, corpus, rows)
                asks_too = own is None and OWN_EVALUATION in variant.graph()  # one set of own queries scores all models
                select = "+key:embedding_model" + (f" or +key:{OWN_EVALUATION}" if asks_too else "")
                report = runs.run(variant, home, select=select, progress=lines, say=lines.print_line, runner=runner)
                artifacts = Artifacts(variant, store_of(home))
                made = artifacts.fetch("embedding_model")
                if made is None:
                    errors += [f"{name} {seed}: {error}" for error in report.errors or ["no model"]]
                    continue
                models.append(ScoredModel(name=f"{name} {seed}", digest=made.digest, path=str(made.path / "model")))
                asked = artifacts.fetch(OWN_EVALUATION) if OWN_EVALUATION in artifacts.graph else None
                if own is None and asked is not None and (asked.path / FOLDER).is_dir():
                    own = asked.path / FOLDER
        scores, samples = scored(
            models, [people_folder, *([own] if own else [])], home / "human_truth" / "scored", runner
        )
    finally:
        runner.close()
    task = next(name for name in scores["task"].unique(maintain_order=True) if name != FOLDER)
    names = {model.name for model in models}
    complete = [name for name in ARMS if all(f"{name} {seed}" in names for seed in seeds)]
    return {
        "rows": rows,
        "scores": {
            task_name: dict(part.select("model", "score").rows())
            for (task_name,), part in scores.partition_by("task", as_dict=True, maintain_order=True).items()
        },
        "differences": compared(samples.filter(task=task), task, complete, seeds),
        "agreement": agreement(scores, task, FOLDER) if own else None,
        "errors": errors,
        "wall_s": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Write the set, adapt, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SPEED_SHARED", PROJECT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder with the sets of people's queries")
    parser.add_argument("--set", choices=SETS, default=SETS[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--recipe", default="own_corpus", help="recipe of the loop")
    parser.add_argument("--rows", type=int, help="rows asked for in every arm; without it one for each passage")
    parser.add_argument("--documents", type=int, help="a part of the documents, for a first try")
    parser.add_argument("--served", action="store_true", help="the recipe's server runs already")
    args = parser.parse_args()
    if not (args.data / args.set).is_dir():
        sys.exit(f"error: no data at {args.data / args.set}: set SPEED_SHARED or --data to the folder that has it")
    os.environ.setdefault("SPEED_HOME", str(PROJECT / ".speed-human-truth"))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    home = speed_home()
    prepare_home(home)
    python = os.environ.get("SPEED_ENGINE_PYTHON", str(PROJECT / ".venv-vllm" / "bin" / "python"))
    lines = ProgressLines()
    out = home / "human_truth" / (args.set if args.documents is None else f"{args.set}_{args.documents}")
    try:
        recipe = load_recipe(args.recipe)
        corpus, folder = people(args.data, args.set, out, args.documents)
        with nullcontext() if args.served else natural.teacher(recipe, home, python):
            found = measure(recipe, home, corpus, folder, args.seeds, args.rows, lines)
    except RecipeError as error:
        sys.exit(f"error: {error}")
    for message in found["errors"]:
        print(f"error: {message}", file=sys.stderr)
    counts = {
        part: len(_lines(folder / f"{name}.jsonl")) for part, name in (("documents", "corpus"), ("queries", "queries"))
    }
    print(json.dumps({"set": args.set, **counts, "seeds": args.seeds, **found}), flush=True)
    sys.exit(1 if found["errors"] else 0)


if __name__ == "__main__":
    main()
