"""What each part of SPEED is worth on the user's own data and recipe: the paper's questions, asked again with seeds.

A study is a set of recipes made from one recipe, its *arms*, each run as far as its scores:

    speed               the recipe as it is; the teacher calls that it takes are N
    teacher_n           the teacher alone for N calls; `teacher_11n` for 11 N, and so on (`study.teacher_multiples`)
    speed_0.25          the recipe with a quarter of its rows at scale, for the scaling curve (`study.scaling`) and
                        as what the ablations are compared with (`study.ablation_share`)
    no_revisor          the same rows, not revised
    no_dpo              the junior writes at scale, and what it writes is revised
    junior_only         the junior writes at scale, and that is all

It is a command and not an asset, because an asset belongs to the graph of one recipe and these are the graphs of many.
They share a home: an artifact belongs to its fingerprint, whichever recipe asked for it, so what arms have in common is
made once, a smaller arm takes over the rows that a larger one has written, and what is finished is not made again.
Gates are waived: a study scores also what a gate would stop. `study.alike` says whether the embedding model passes as often
over the rows of every arm, or is trained for as many steps. All arms have the same evaluation sets, and within a seed
the same topics and embedding training; across seeds everything is drawn anew but what the teacher is asked in the same words.

**Calls** are those whose answers an arm is made of, brainstorming included, as its artifacts counted them when they
came out of the ledger: a call that several arms share counts in full for each, and each order in which candidates are
judged is a call. The teacher alone brainstorms its topics, too; its rows are what is left of its calls, in the
proportions of `senior_data.rows`. It goes through the same filters, but for those that need a generator's reading or verdicts
of the teacher (`row_verdicts`): these are part of SPEED's calls, which the teacher alone spends on rows.

**Comparisons** are paired, by sample and by seed: samples are drawn for both arms and for all seeds at once, and the spread of
the differences between seeds is added (`domain/statistics.py`: `compare`, `paired_by_seed`), since training again under
another seed is what a user does. A paired test over seeds alone would not see that all of them may share their evaluation
sets; one over samples alone would take one training for the way of training. p is of two sides, on the mean over tasks,
and after Holm over all comparisons of the study.

Belongs here: arms, their counts, the report. Not here: how a recipe is run (`runs.py`), statistics, printing (`cli.py`).
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from checks.scores import MODEL
from resources.compute.runner import Runner
from resources.progress import ProgressFor, no_progress
from resources.store.artifacts import Artifacts, partitions_of
from resources.store.shared_store import store_of
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.graph import upstream
from speed_assets.domain.statistics import (
    Difference,
    LogLinear,
    TaskSamples,
    compare,
    log_linear,
    mean_interval,
    mean_over_tasks,
    paired_by_seed,
    samples_by_model,
    superiority,
)
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES
from speed_assets.orchestration import runs
from speed_assets.recipe import Checks, PerTaskType, Recipe, RecipeError

SPEED = "speed"
_SCORES = "mteb_scores"
_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {
    "no_revisor": {"final_triplets.source": "senior_data"},
    "no_dpo": {"senior_data.writer": "junior_model"},
    "junior_only": {"senior_data.writer": "junior_model", "final_triplets.source": "senior_data"},
}


class StudyError(RuntimeError):
    """An arm has failed; what is finished is kept, and the next study goes on from there."""


@dataclass(frozen=True)
class Result:
    """One arm under one seed. `right` is the share of its training rows that is entirely right, where that is known."""

    calls: int
    rows: int
    right: float | None
    scores: Mapping[str, float]
    samples: Mapping[str, TaskSamples]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.scores.values())))


Results = Mapping[str, Sequence[Result]]
"""By arm, one for each seed, in the order of the seeds."""


# Arms


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values, by dotted path. Raises RecipeError when they do not fit together."""
    data = recipe.model_dump()
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = data
        for name in parents:
            section = section[name]
        section[last] = value
    try:
        return Recipe.model_validate(data)
    except ValueError as error:
        raise RecipeError(f"{recipe.name} cannot be studied with {dict(changes)}: {error}") from None


def arms(recipe: Recipe, seed: int) -> dict[str, Recipe]:
    """The arms with generators under this seed, larger ones first, since smaller ones take over their rows."""
    if recipe.senior_data is None or (recipe.final_triplets.source, recipe.senior_data.writer) != (
        "revised_data",
        "senior_model",
    ):
        raise RecipeError(
            f"{recipe.name} leaves out a part of the loop: a study begins with final_triplets.source=revised_data and "
            "senior_data.writer=senior_model, and leaves out the parts itself"
        )
    alone = {"baselines": (), "untrained": False, "bm25": False}
    speed = changed(
        recipe,
        {
            "seed": seed,
            "topics.refuse": False,  # a gate as well: arms with more rows of fewer topics are what is compared
            "mteb_scores": alone,
            "embedding_reruns": {"count": 0},
            "checks": Checks.waived().model_dump(),
        },
    )
    settings = recipe.study
    found = {at_share(share): _share(speed, share) for share in sizes(recipe)}
    for name in settings.ablations:
        found[name] = changed(_share(speed, settings.ablation_share), _LEFT_OUT[name])
    return found


def sizes(recipe: Recipe) -> list[float]:
    """Shares of the rows at scale that the whole loop is run with, the whole first."""
    whole = {1.0, *recipe.study.scaling, *([recipe.study.ablation_share] if recipe.study.ablations else [])}
    return sorted(whole, reverse=True)


def at_share(share: float) -> str:
    """The name of the arm with this share of the rows."""
    return SPEED if share == 1 else f"{SPEED}_{share:g}"


def _share(recipe: Recipe, share: float) -> Recipe:
    assert recipe.senior_data is not None
    rows = recipe.senior_data.rows.model_dump()
    return changed(recipe, {"senior_data.rows": {name: round(share * count) for name, count in rows.items()}})


def teacher_name(multiple: int) -> str:
    """The name of the teacher-only arm with so many times SPEED's calls."""
    return "teacher_n" if multiple == 1 else f"teacher_{multiple}n"


def teacher_only(speed: Recipe, rows: int) -> Recipe:
    """The recipe whose triplets are `rows` examples of the teacher, on the topics that SPEED writes about.

    Examples and the alignment of generators are the same stage, so the alignment's own topics are put aside. Every call left
    from brainstorming is an example: the teacher reads none of its own rows, and nothing is fitted to such verdicts.
    """
    assert speed.senior_data is not None
    wanted = apportion(rows, speed.senior_data.rows)
    return changed(
        speed,
        {
            "final_triplets.source": "seed_data",
            "final_triplets.scores.calibration": None,
            "topics.alignment": None,
            "seed_data.rows": wanted.model_dump(),
            "row_verdicts": None,
        },
    )


def apportion(total: int, proportions: PerTaskType) -> PerTaskType:
    """`total` rows in these proportions, exactly: what rounding leaves over goes to the largest remainders.

    >>> apportion(10, PerTaskType(classification=1, retrieval=1, sts=1, matching_short=0, matching_long=0)).retrieval
    3
    """
    weights = {name: getattr(proportions, name) for name in TASK_TYPE_NAMES}
    whole = sum(weights.values())
    shares = {name: divmod(total * weight, whole) for name, weight in weights.items()}
    left = total - sum(quotient for quotient, _ in shares.values())
    most = sorted(shares, key=lambda name: -shares[name][1])[:left]
    return PerTaskType(**{name: quotient + (name in most) for name, (quotient, _) in shares.items()})


# Running


def study(
    recipe: Recipe,
    home: Path,
    *,
    seeds: Sequence[int] = (),
    progress: ProgressFor = no_progress,
    say: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Run every arm under every seed and write table, plot and JSON below `home/studies`; the JSON is returned, too.

    Raises RecipeError for a recipe that cannot be studied and StudyError when an arm fails.
    """
    seeds = tuple(seeds) or recipe.study.seeds
    arms(recipe, seeds[0])  # what cannot be studied is told before anything is made
    runner = Runner(home, recipe.runtime.threads, recipe.runtime.warm_start)
    found: dict[str, list[Result]] = {}

    def run(name: str, arm: Recipe, asset: str = _SCORES) -> Artifacts:
        """The artifacts of an arm, made as far as `asset`."""
        artifacts = Artifacts(arm, store_of(home))
        if any(artifacts.fetch(asset, partition) is None for partition in partitions_of(artifacts.graph[asset])):
            say(f"{name}, seed {arm.seed}: {asset}")
            report = runs.run(arm, home, select=f"*{asset}", progress=progress, say=say, runner=runner)
            if report.errors:
                raise StudyError(f"{name}, seed {arm.seed}: {'; '.join(report.errors)}")
        return artifacts

    def score(name: str, arm: Recipe) -> None:
        if recipe.study.alike == "steps" and name != SPEED:
            rows = run(name, arm, "final_triplets").get("final_triplets").metadata["rows"]
            epochs = recipe.embedding_model.epochs * found[SPEED][-1].rows / rows
            arm = changed(arm, {"embedding_model.epochs": round(epochs, 4)})
        found.setdefault(name, []).append(result(run(name, arm)))

    try:
        for seed in seeds:
            derived = arms(recipe, seed)
            for name, arm in derived.items():
                score(name, arm)
            calls = found[SPEED][-1].calls
            for multiple in recipe.study.teacher_multiples:
                name, budget = teacher_name(multiple), multiple * calls
                rows = _rows_alone(derived[SPEED], budget, partial(run, name))
                if rows <= 0:
                    raise StudyError(
                        f"{name}: brainstorming alone takes {budget - rows:,} of {budget:,} calls: take fewer topics "
                        "(topics.limit), or leave it out of study.teacher_multiples"
                    )
                say(f"{name}: {budget:,} calls, of which {budget - rows:,} are brainstorming")
                score(name, teacher_only(derived[SPEED], rows))
    finally:
        runner.close()
    summary = summarize(recipe, seeds, found)
    folder = home / "studies" / f"{recipe.name}-{digest([recipe.digest(), recipe.study.model_dump(), seeds])[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "study.md").write_text(table(summary))
    plot(summary, folder / "study.png")
    return {**summary, "folder": str(folder)}


def _rows_alone(speed: Recipe, budget: int, run: Callable[[Recipe, str], Artifacts]) -> int:
    """Examples that the teacher alone writes for `budget` calls: all but those for topics and tasks.

    Only topics that an example is about are brainstormed, so fewer examples may take fewer such calls: their number is chosen
    by what each topic costs at first, and what had to be asked again is taken off. `run` makes an asset of a recipe.
    """
    assert speed.senior_data is not None
    proportions = speed.senior_data.rows
    above = "topic_tree" if speed.topics.expand else "topics"
    made = run(teacher_only(speed, budget), above)
    topics, named = made.get(above).table().height, _calls(made, above)

    def calls(rows: int) -> int:
        asked: dict[str, int] = apportion(rows, proportions).model_dump()
        return rows + named + sum(min(topics, asked[name]) for name in asked if TASK_TYPES[name].has_brainstorm)

    rows = max(0, bisect_right(range(budget + 1), budget, key=calls) - 1)
    return budget - _calls(run(teacher_only(speed, rows), "task_list"), "task_list")


def result(artifacts: Artifacts) -> Result:
    """What an arm came to. Raises NotMaterialized when it was not run as far as its scores."""
    scores, final = artifacts.get(_SCORES), artifacts.get("final_triplets")
    truth = final.metadata.get("truth")
    rows = int(final.metadata["rows"])
    return Result(
        _calls(artifacts, _SCORES),
        rows,
        truth["all_right"] * final.metadata["asked"] / rows if truth else None,
        scores.metadata["scores"][MODEL],
        samples_by_model(scores.table("samples")).get(MODEL, {}),
    )


def _calls(artifacts: Artifacts, asset: str) -> int:
    """Teacher calls whose answers this asset is made of, whoever asked first."""
    made = [
        artifacts.get(name, partition).metadata
        for name in upstream(artifacts.graph, [asset])
        if artifacts.graph[name].asks_teacher
        for partition in partitions_of(artifacts.graph[name])
    ]
    return sum(int(m.get("teacher_calls", 0)) + int(m.get("reused_calls", 0)) for m in made)


# Reporting


def summarize(recipe: Recipe, seeds: Sequence[int], found: Results) -> dict[str, Any]:
    """The study as JSON values: arms, comparisons with SPEED, and the law of scaling. Scores are of 0..1."""
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
    """Without the chance of seeds. A task without samples has its score alone, and only seeds tell its chance."""
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
    """The study in Markdown: one line for each arm, and the law of scaling."""
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
    """Score by teacher calls, score by rows with the law of scaling, and what is left without a part of the loop."""
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
    names = [name for name in _LEFT_OUT if name in found]
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
    """How far an arm's interval reaches down and up."""
    return (0.0, 0.0) if arm["low"] is None else (arm["score"] - arm["low"], arm["high"] - arm["score"])
