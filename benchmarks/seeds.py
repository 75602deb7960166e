"""The offline recipe under several seeds: truth by stage, scores by model, seconds. `python -m benchmarks.seeds`.

Each seed runs in a home of its own, from nothing. The junior also writes the rows that the senior writes: `junior_data` has
other topics (those that `seed_data` has taught) and another mix of task types, so the shares of both tables cannot be compared.
Last line: one JSON object with means and standard deviations, and the orderings that the product claims for its miniature.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from resources.progress import ProgressLines
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.orchestration import run_report, runs
from speed_assets.orchestration.study_arms import ABLATIONS, changed
from speed_assets.recipe import load_recipe

JUNIOR_AT_SCALE = "junior on the prompts of senior_data"


def one_seed(recipe_name: str, seed: int, home: Path) -> dict[str, Any]:
    """The summary of one run from nothing under this seed, and in its `truth` the junior on the senior's prompts."""
    recipe = load_recipe(recipe_name).model_copy(update={"seed": seed})
    report = runs.run(recipe, home, say=ProgressLines().print_line)
    found = run_report.summary(report, Artifacts(recipe, Store(home)))
    junior = changed(recipe, ABLATIONS["no_dpo"])
    written = runs.run(junior, home, select="*senior_data", say=ProgressLines().print_line)
    by_junior = run_report.summary(written, Artifacts(junior, Store(home)))
    found["errors"] += by_junior["errors"]
    if not found["errors"]:
        of_stages = found["truth"]
        found["truth"] = {
            "junior_data": of_stages.pop("junior_data"),
            JUNIOR_AT_SCALE: by_junior["truth"]["senior_data"],
            **of_stages,
        }
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "sd": round(deviation, 4)}


def mean_score(summary: dict[str, Any], model: str) -> float:
    return float(statistics.mean(summary["scores"][model].values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="offline")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--homes", type=Path, help="keep the homes here instead of in a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        homes = args.homes or Path(temporary)
        summaries = [one_seed(args.recipe, seed, homes / f"seed-{seed}") for seed in args.seeds]
    failed = [error for summary in summaries for error in summary["errors"]]
    if failed:
        sys.exit("\n".join(f"error: {error}" for error in failed))
    stages = list(summaries[0]["truth"])
    models = list(summaries[0]["scores"])
    truth = {stage: spread([s["truth"][stage]["all_right"] for s in summaries]) for stage in stages}
    scores = {model: spread([mean_score(s, model) for s in summaries]) for model in models}
    print("| share of the rows asked for, entirely right | mean | sd | by seed |\n|---|---|---|---|")
    for stage, value in truth.items():
        seeds = ", ".join(f"{s['truth'][stage]['all_right']:.3f}" for s in summaries)
        print(f"| {stage} | {value['mean']:.3f} | {value['sd']:.3f} | {seeds} |")
    print("\n| mean score over the held-out tasks | mean | sd | by seed |\n|---|---|---|---|")
    for model, value in scores.items():
        seeds = ", ".join(f"{mean_score(s, model):.3f}" for s in summaries)
        print(f"| {model} | {value['mean']:.3f} | {value['sd']:.3f} | {seeds} |")
    right = [{stage: s["truth"][stage]["all_right"] for stage in stages} for s in summaries]
    print(
        json.dumps(
            {
                "seeds": args.seeds,
                "truth": truth,
                "scores": scores,
                "wall_s": spread([s["wall_s"] for s in summaries]),
                "peak_rss_gb": max(s["peak_rss_gb"] for s in summaries),
                "stage_s": {k: spread([s["stage_s"].get(k, 0.0) for s in summaries]) for k in summaries[0]["stage_s"]},
                "junior_below_senior": [r[JUNIOR_AT_SCALE] < r["senior_data"] for r in right],
                "senior_below_revised": [r["senior_data"] < r["revised_data"] for r in right],
                "beats_every_baseline": [
                    all(
                        mean_score(s, "embedding_model") > mean_score(s, model)
                        for model in models
                        if model != "embedding_model"
                    )
                    for s in summaries
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
