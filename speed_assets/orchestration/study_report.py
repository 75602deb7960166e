"""The report of a study: intervals, comparisons, the scaling law, as JSON, table and plot.

Belongs here: comparing arms. Not here: deriving (`study_arms.py`) or running them (`study.py`), statistics (`speed_assets/domain`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.statistics import (
    Difference,
    LogLinear,
    compare,
    log_linear,
    mean_interval,
    mean_over_tasks,
    paired_by_seed,
    superiority,
)
from speed_assets.orchestration.study_arms import ABLATIONS, SPEED, Result, Results, at_share, sizes, teacher_name
from speed_assets.recipe import Recipe


def summarize(recipe: Recipe, seeds: Sequence[int], found: Results) -> dict[str, Any]:
    """The study as plain values.

    Args:
        recipe: the studied recipe; its `study` section holds alpha and the number of resamples.
        seeds: the seeds of the results, in their order.
        found: results by arm.

    Returns:
        Arms, comparisons with SPEED, and the scaling law; scores are of 0..1.
    """
    settings = recipe.study
    reference = at_share(settings.ablation_share)
    pairs = [(SPEED, teacher_name(multiple)) for multiple in settings.teacher_multiples]
    pairs += [(reference, name) for name in settings.ablations]
    compared = [_compare(found, ours, theirs, recipe) for ours, theirs in pairs]
    verdicts = superiority([mean for mean, _ in compared], settings.alpha) if compared else []
    curve = [at_share(share) for share in reversed(sizes(recipe))]
    law = None
    if len(curve) >= 3:
        matrix = {what: np.array([[getattr(r, what) for r in found[name]] for name in curve]).T for what in _CURVE}
        law = log_linear(matrix["rows"], matrix["mean"], settings.alpha)
    return {
        "recipe": recipe.name,
        "seeds": list(seeds),
        "alpha": settings.alpha,
        "n": _mean([r.calls for r in found[SPEED]]),
        "tasks": list(found[SPEED][0].scores),
        "arms": {name: _arm(of, settings.alpha) for name, of in found.items()},
        "comparisons": [
            {
                "arm": ours,
                "against": theirs,
                **_verdict(verdict),
                "p_adjusted": verdict.adjusted,
                "by_seed": [round(a.mean - b.mean, 5) for a, b in zip(found[ours], found[theirs], strict=True)],
                "tasks": tasks,
            }
            for (ours, theirs), verdict, (_, tasks) in zip(pairs, verdicts, compared, strict=True)
        ],
        "scaling": law and {"arms": curve, **_law(law)},
    }


_CURVE = ("rows", "mean")


def _compare(found: Results, ours: str, theirs: str, recipe: Recipe) -> tuple[Difference, list[dict[str, Any]]]:
    """The difference of the mean over tasks, and a line for each task, Holm over these."""
    sides, alpha = (found[ours], found[theirs]), recipe.study.alpha
    differences = [_difference(task, *sides, recipe.study.resamples) for task in found[ours][0].scores]
    by_seed = {d.task: [a.scores[d.task] - b.scores[d.task] for a, b in zip(*sides, strict=True)] for d in differences}
    name = seed_for(0, "study", ours, theirs)
    each = superiority([paired_by_seed(d, by_seed[d.task], seed_for(name, d.task)) for d in differences], alpha)
    mean = paired_by_seed(mean_over_tasks(differences), [a.mean - b.mean for a, b in zip(*sides, strict=True)], name)
    return mean, [{"task": v.difference.task, **_verdict(v), "p_adjusted": v.adjusted, "verdict": v.word} for v in each]


def _difference(task: str, ours: Sequence[Result], theirs: Sequence[Result], resamples: int) -> Difference:
    """The difference over samples alone, without the spread of seeds; a task without samples has one number and no spread."""
    if all(task in result.samples for result in (*ours, *theirs)):
        samples = [[result.samples[task] for result in side] for side in (ours, theirs)]
        return compare(task, *samples, resamples=resamples, seed=seed_for(0, "study", task), noise=False)
    ours_mean, theirs_mean = (float(np.mean([result.scores[task] for result in side])) for side in (ours, theirs))
    return Difference(task, ours_mean, theirs_mean, 0, np.full(resamples, ours_mean - theirs_mean), None)


def _verdict(verdict: Any) -> dict[str, float]:
    value = {"difference": verdict.difference.value, "low": verdict.low, "high": verdict.high}
    return {**{name: round(number, 5) for name, number in value.items()}, "p": verdict.p}


def _arm(of: Sequence[Result], alpha: float) -> dict[str, Any]:
    rights = [r.right for r in of if r.right is not None]
    interval = mean_interval([r.mean for r in of], alpha)
    return {
        "calls": _mean([r.calls for r in of]),
        "rows": _mean([r.rows for r in of]),
        "right": round(float(np.mean(rights)), 4) if rights else None,
        "score": round(interval.mean, 5),
        "low": None if interval.low is None else round(interval.low, 5),
        "high": None if interval.high is None else round(interval.high, 5),
        "by_seed": [round(r.mean, 5) for r in of],
        "tasks": {task: round(float(np.mean([r.scores[task] for r in of])), 5) for task in of[0].scores},
    }


def _mean(numbers: Sequence[int]) -> float:
    return round(float(np.mean(numbers)), 1)


def _law(law: LogLinear) -> dict[str, Any]:
    values = {
        "per_doubling": law.per_doubling,
        "low": law.low,
        "high": law.high,
        "at_one": law.at_one,
        "explained": law.explained,
        "off": law.off,
    }
    return {name: None if value is None else round(value, 5) for name, value in values.items()}


def table(summary: Mapping[str, Any]) -> str:
    """The study in Markdown: one line for each arm, and the scaling law."""
    against = {line["against"]: line for line in summary["comparisons"]}
    percent = f"{100 * (1 - summary['alpha']):g} %"
    lines = [
        f"`{summary['recipe']}`, seeds {', '.join(map(str, summary['seeds']))}, mean over {len(summary['tasks'])} tasks; "
        f"in brackets {percent} intervals; p paired by seed, two-sided, after Holm.",
        "",
        "| arm | teacher calls | rows trained on | entirely right | score | SPEED minus it | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arm in summary["arms"].items():
        right = "" if arm["right"] is None else f"{arm['right']:.3f}"
        spread = "" if arm["low"] is None else f" [{arm['low']:.3f}, {arm['high']:.3f}]"
        line = against.get(name)
        less, p = "", ""
        if line:
            than = "" if line["arm"] == SPEED else f" (`{line['arm']}`)"
            less = f"{line['difference']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]{than}"
            p = f"{line['p_adjusted']:.4f}"
        lines.append(
            f"| `{name}` | {arm['calls']:,.0f} | {arm['rows']:,.0f} | {right} | {arm['score']:.3f}{spread} | {less} | {p} |"
        )
    law = summary["scaling"]
    if law:
        lines += [
            "",
            f"Scaling over {', '.join(f'`{name}`' for name in law['arms'])}: {law['per_doubling']:+.4f} "
            f"[{law['low']:+.4f}, {law['high']:+.4f}] for each doubling of rows; the law accounts for "
            f"{law['explained']:.1%} of the variance within seeds and is off by at most {law['off']:.4f} at one size.",
        ]
    return "\n".join(lines) + "\n"


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Plot score by teacher calls, score by rows with the scaling law, and the score without each part of the loop."""
    from matplotlib.figure import Figure

    found, law = summary["arms"], summary["scaling"]
    figure = Figure(figsize=(13, 4), dpi=90, layout="constrained")
    by_calls, by_rows, parts = figure.subplots(1, 3)

    def points(axes: Any, names: Sequence[str], what: str, label: str, marker: str) -> None:
        axes.errorbar(
            [found[n][what] for n in names],
            [found[n]["score"] for n in names],
            yerr=np.array([_bars(found[n]) for n in names]).T,
            fmt=marker,
            capsize=3,
            label=label,
        )

    teachers = [name for name in found if name.startswith("teacher_")]
    curve = law["arms"] if law else [SPEED]
    points(by_calls, [SPEED], "calls", "SPEED", "o")
    points(by_rows, curve, "rows", "SPEED", "o")
    if teachers:
        points(by_calls, teachers, "calls", "teacher only", "s--")
        points(by_rows, teachers, "rows", "teacher only", "s")
    if law:
        x = np.geomspace(*(found[name]["rows"] for name in (curve[0], curve[-1])))
        middle = np.log2(x) - np.mean(np.log2([found[name]["rows"] for name in curve]))
        line = law["at_one"] + law["per_doubling"] * np.log2(x)
        by_rows.plot(x, line, color="grey", linewidth=1, label=f"{law['per_doubling']:+.3f} for each doubling")
        edges = [line + (law[edge] - law["per_doubling"]) * middle for edge in ("low", "high")]
        by_rows.fill_between(x, *edges, color="grey", alpha=0.2)
    names = [name for name in ABLATIONS if name in found]
    compared = {line["against"]: line["arm"] for line in summary["comparisons"]}
    bars = [*dict.fromkeys(compared[name] for name in names), *names]
    parts.bar(bars, [found[n]["score"] for n in bars], yerr=np.array([_bars(found[n]) for n in bars]).T.reshape(2, -1))
    if bars:
        lowest = min(found[n]["score"] - _bars(found[n])[0] for n in bars)
        parts.set_ylim(bottom=max(0.0, lowest - 0.02))
    for axes, label in ((by_calls, "teacher calls"), (by_rows, "rows trained on")):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(label)
        axes.set_ylabel("mean score over tasks")
        axes.legend(fontsize=8)
    parts.tick_params(axis="x", labelrotation=20)
    figure.savefig(path)


def _bars(arm: Mapping[str, Any]) -> tuple[float, float]:
    """Score points from an arm's score to the ends of its interval."""
    return (0.0, 0.0) if arm["low"] is None else (arm["score"] - arm["low"], arm["high"] - arm["score"])
