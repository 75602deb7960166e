"""What the filters of final_triplets find and what they lose, by the microworld's truth. `python -m benchmarks.filters`.

Two recipes: offline as it is, and `dirty`, the same with a teacher that errs twice as often, in its verdicts too, and so
with generators that learned from it. The same settings in both: each run finds its own bound. The truth is used to count,
by this benchmark alone: how many right rows the bound cost, next to what the run reports without it.
Near-duplicates and contamination are not about right or wrong; their rows count as lost where they were right.
Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from checks.registry import check_key, checks_of
from resources.progress import ProgressLines
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.domain.scoring import SCORE_OF
from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS
from speed_assets.microworld.toy_records import truth_of_record
from speed_assets.orchestration import run_report, runs
from speed_assets.recipe import Checks, Recipe, load_recipe

DIRTY = 2.0
"""By how much the dirty teacher errs more often."""


def recipe_of(name: str, seed: int) -> Recipe:
    """The offline recipe, or the dirty one, under a seed; no gate stops it, since filters are measured on bad rows too."""
    recipe = load_recipe("offline").model_copy(update={"seed": seed, "name": name, "checks": Checks.waived()})
    if name != "dirty":
        return recipe
    rates = {task: DIRTY * rate for task, rate in recipe.teacher.error_rates.model_dump().items()}
    errors = recipe.teacher.error_rates.model_copy(update=rates)
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"error_rates": errors})})


def right(rows: pl.DataFrame) -> pl.Series:
    """Whether each row is entirely right."""
    return pl.Series(
        [
            truth_of_record(row["task_type"], row["task"], TASK_TYPES[row["task_type"]].record(row)).all_right
            for row in rows.select("task_type", "task", *TRIPLET_FIELDS).iter_rows(named=True)
        ],
        dtype=pl.Boolean,
    )


def measure(name: str, seed: int, home: Path) -> dict[str, Any]:
    """Make final_triplets under a recipe, and hold them and every filter against the truth."""
    recipe = recipe_of(name, seed)
    report = runs.run(recipe, home, select="*final_triplets", say=ProgressLines().print_line)
    artifacts = Artifacts(recipe, Store(home))
    summary = run_report.summary(report, artifacts)
    if summary["errors"]:
        sys.exit("\n".join(f"error: {error}" for error in summary["errors"]))
    final = artifacts.get("final_triplets")
    source = recipe.final_triplets.source
    rows = pl.concat([made.table() for made in artifacts.inputs("final_triplets")[source].values()])
    truth = rows.select("row_id").with_columns(right=right(rows))
    removed = final.table("quarantine").join(truth, on="row_id", how="left", validate="1:1")
    kept = final.table().join(truth, on="row_id", how="left", validate="1:1")
    filters = {}
    reached = int((~truth["right"]).sum())
    for reason in removed["reason"].unique(maintain_order=True):
        of_reason = removed.filter(pl.col("reason") == reason)
        wrong = int((~of_reason["right"]).sum())
        filters[reason] = {
            "removed": of_reason.height,
            "precision": round(wrong / of_reason.height, 4),
            "recall": round(wrong / reached, 4) if reached else None,
            "right_lost": of_reason.height - wrong,
        }
        reached -= wrong
    rights = int(truth["right"].sum())
    return {
        "seed": seed,
        "rows_in": rows.height,
        "right_in": round(rights / rows.height, 4),
        "rows_out": kept.height,
        "final_right": round(float(kept["right"].mean()), 4),  # type: ignore[arg-type]
        "kept_right": round(int(kept["right"].sum()) / rights, 4),
        "accounted": accounted(recipe, artifacts),
        "calibration": calibration(final.metadata["calibration"], kept, removed),
        "filters": filters,
    }


def calibration(summary: dict[str, Any], kept: pl.DataFrame, removed: pl.DataFrame) -> dict[str, Any]:
    """What the run reports of its bound, and what the bound cost (`good_lost_true`): the share of the right rows that reached
    it. `kept` and `removed` hold whether a row is `right`; what was removed after it had reached it."""
    later = pl.col("reason").str.starts_with("near_duplicate") | pl.col("reason").str.starts_with("contamination")
    lost = removed.filter("right", pl.col("reason").is_in(list(SCORE_OF))).height
    reached = lost + int(kept["right"].sum()) + removed.filter("right", later).height
    names = ("bound", "judged", "judged_faulty", "scores", "off", "switched_off", "good_lost", "wrong_among_rejected")
    return {name: summary[name] for name in names if name in summary} | {"good_lost_true": round(lost / reached, 4)}


def accounted(recipe: Recipe, artifacts: Artifacts) -> bool:
    """Every step of the funnel passes its input without the rows that it quarantined, and every table passed `accounted`."""
    final = artifacts.get("final_triplets")
    flowing = final.metadata["rows_in"]
    for step in final.metadata["steps"]:
        if step["rows_in"] != flowing or step["rows_in"] != step["rows_out"] + step["removed"]:
            return False
        flowing = step["rows_out"]
    whole: bool = flowing == final.table().height
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.fetch(stage.name, partition)
        for check in checks_of(stage.name):
            if check.name == "accounted" and artifact is not None:
                outcome = artifacts.load_outcome(artifact, check.name, check_key(check, recipe))
                whole = whole and outcome is not None and bool(outcome["passed"])
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--recipes", nargs="+", choices=["offline", "dirty"], default=["offline", "dirty"])
    parser.add_argument("--homes", type=Path, help="keep the homes here instead of in a temporary folder")
    args = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.recipes:
            for seed in args.seeds:
                home = (args.homes or Path(temporary)) / f"{name}-{seed}"
                results.setdefault(name, []).append(measure(name, seed, home))
    for name, by_seed in results.items():
        print(f"\n| {name}, seed | rows in | right | rows out | right | right rows kept |\n|---|---|---|---|---|---|")
        for found in by_seed:
            print(
                f"| {found['seed']} | {found['rows_in']:,} | {found['right_in']:.1%} | {found['rows_out']:,} "
                f"| {found['final_right']:.2%} | {found['kept_right']:.1%} |"
            )
        print("\n| seed | bound | rows judged | by | good rows lost, as reported | right rows lost, truly |")
        print("|---|---|---|---|---|---|")
        for found in by_seed:
            bound, lost = found["calibration"], found["calibration"].get("good_lost")
            share = f"{lost['share']:.1%} [{lost['interval'][0]:.1%}, {lost['interval'][1]:.1%}]" if lost else "-"
            print(
                f"| {found['seed']} | {bound['bound']} | {bound['judged']} | {', '.join(bound['scores']) or '-'} | {share} "
                f"| {bound['good_lost_true']:.1%} |"
            )
        print("\n| filter, in this order | removed | of them wrong | of the wrong that reach it | right rows lost |")
        print("|---|---|---|---|---|")
        for reason in dict.fromkeys(reason for found in by_seed for reason in found["filters"]):
            of_reason = [found["filters"][reason] for found in by_seed if reason in found["filters"]]
            removed = sum(f["removed"] for f in of_reason)
            lost = sum(f["right_lost"] for f in of_reason)
            recall = sum(f["recall"] or 0.0 for f in of_reason) / len(of_reason)
            print(f"| {reason} | {removed:,} | {1 - lost / removed:.1%} | {recall:.1%} | {lost:,} |")
    worst = {
        name: {
            "final_right": min(found["final_right"] for found in by_seed),
            "kept_right": min(found["kept_right"] for found in by_seed),
            "accounted": all(found["accounted"] for found in by_seed),
            "by_seed": by_seed,
        }
        for name, by_seed in results.items()
    }
    print(json.dumps(worst))


if __name__ == "__main__":
    main()
