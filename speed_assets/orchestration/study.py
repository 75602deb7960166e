"""`speed study`: what each part of SPEED contributes on the user's own data and recipe, over several seeds.

A study is a set of recipes made from one recipe, its *arms*, each run as far as its scores:

    speed               the recipe as it is; the teacher calls that it takes are N
    teacher_n           the teacher alone for N calls; `teacher_11n` for 11 N, and so on (`study.teacher_multiples`)
    speed_0.25          the recipe with a quarter of its rows at scale, for the scaling curve (`study.scaling`) and
                        as what the ablations are compared with (`study.ablation_share`)
    no_revisor          the same rows, not revised
    no_dpo              the junior writes at scale, and what it writes is revised
    junior_only         the junior writes at scale, and that is all
    no_distil           the same rows, and no margins of another model (where the recipe has `embedding_model.distil`)

It is a command and not an asset: an asset belongs to the graph of one recipe, and a study has the graphs of several.
They share a home: an artifact belongs to its fingerprint, not to a recipe, so shared artifacts are made
once, a smaller arm reuses the rows that a larger one has written, and a study that stopped resumes.
Gates are waived: a study also scores arms that a gate would stop. `study.alike` says whether the embedding model passes as often
over the rows of every arm, or is trained for as many steps. All arms have the same evaluation sets, and within a seed
the same topics and embedding training; across seeds everything is drawn again, except teacher calls with the same prompt.

**Calls**: an arm's count includes every call behind its artifacts, cached or not, brainstorming included: a call that
several arms share counts in full for each, and each order in which candidates are judged is a call. The teacher alone brainstorms its topics, too; its rows are what is left of its calls, in the
proportions of `senior_data.rows`. Its rows pass the same filters, except those that need a generator's scores or verdicts
of the teacher (`row_verdicts`): these are part of SPEED's calls, which the teacher alone spends on rows.

**Comparisons** are paired, by sample and by seed: samples are drawn for both arms and for all seeds at once, and the spread of
the differences between seeds is added (`domain/statistics`: `compare`, `paired_by_seed`), since training again under
another seed is what a user does. A paired test over seeds alone would not see that all of them may share their evaluation
sets; one over samples alone would take one training for the way of training. p is of two sides, on the mean over tasks,
and after Holm over all comparisons of the study.

Belongs here: running the arms, counting their calls. Not here: deriving arms (`study_arms.py`), the report (`study_report.py`),
how a recipe is run (`runs.py`), statistics, printing (`speed_assets/cli`).
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from checks.score_tables import MODEL
from resources.compute.parallel_jobs import runner_of
from resources.progress import ProgressFor, no_progress
from resources.redaction import masked
from resources.store.artifacts import Artifacts, partitions_of
from resources.store.shared_store import store_of
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import upstream
from speed_assets.domain.statistics import (
    samples_by_model,
)
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.errors import SpeedError
from speed_assets.orchestration import runs
from speed_assets.orchestration.doctor import Finding
from speed_assets.orchestration.home_environment import home_environment
from speed_assets.orchestration.study_arms import SPEED, Result, apportion, arms, changed, teacher_name, teacher_only
from speed_assets.orchestration.study_report import plot, summarize, table
from speed_assets.recipe import Recipe

_SCORES = "mteb_scores"


class StudyError(SpeedError, RuntimeError):
    """An arm has failed; everything finished is kept, and the next study resumes there."""


def study(
    recipe: Recipe,
    home: Path,
    *,
    seeds: Sequence[int] = (),
    progress: ProgressFor = no_progress,
    say: Callable[[str], None] = lambda _line: None,
    findings: Sequence[Finding] = (),
) -> dict[str, Any]:
    """Run every arm under every seed, and write table, plot and JSON to a folder in `home/studies`.

    Args:
        recipe: the recipe to study, with the complete loop.
        home: the folder with artifacts, ledger and Dagster instance.
        seeds: the seeds, in place of the recipe's `study.seeds`.
        progress: gets the progress of each stage.
        say: gets lines for a person.
        findings: what was checked before; the log of the first run has it.

    Returns:
        The JSON that was written (`study_report.summarize`), with its `folder`.

    Raises:
        RecipeError: for a recipe that cannot be studied.
        StudyError: when an arm fails.
    """
    seeds = tuple(seeds) or recipe.study.seeds
    arms(recipe, seeds[0])  # a recipe that cannot be studied is reported before anything is made
    with home_environment(home):
        running = _Study(recipe, home, progress, say, findings)
        try:
            for seed in seeds:
                running.run_seed(seed)
        finally:
            running.close()
    summary = summarize(recipe, seeds, running.results)
    folder = home / "studies" / f"{recipe.name}-{digest([recipe.digest(), recipe.study.model_dump(), seeds])[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(masked(json.dumps(summary, indent=1)) + "\n")
    (folder / "study.md").write_text(masked(table(summary)))
    plot(summary, folder / "study.png")
    return {**summary, "folder": str(folder)}


class _Study:
    """The arms of one recipe, run one after the other in one home with the same worker processes."""

    def __init__(
        self,
        recipe: Recipe,
        home: Path,
        progress: ProgressFor,
        say: Callable[[str], None],
        findings: Sequence[Finding],
    ) -> None:
        self._recipe, self._home = recipe, home
        self._progress, self._say = progress, say
        self._unwritten = findings
        self._runner = runner_of(home, recipe.runtime)
        self.results: dict[str, list[Result]] = {}

    def close(self) -> None:
        self._runner.close()

    def run_seed(self, seed: int) -> None:
        """Run every arm under one seed. Raises StudyError when an arm fails."""
        derived = arms(self._recipe, seed)
        for name, arm in derived.items():
            self._score(name, arm)
        calls = self.results[SPEED][-1].calls
        for multiple in self._recipe.study.teacher_multiples:
            name, budget = teacher_name(multiple), multiple * calls
            rows = _rows_for_budget(derived[SPEED], budget, partial(self._make, name))
            if rows <= 0:
                raise StudyError(
                    f"{name}: brainstorming alone takes {budget - rows:,} of {budget:,} calls: take fewer topics "
                    "(topics.limit), or leave it out of study.teacher_multiples"
                )
            self._say(f"{name}: {budget:,} calls, of which {budget - rows:,} are brainstorming")
            self._score(name, teacher_only(derived[SPEED], rows))

    def _make(self, name: str, arm: Recipe, asset: str = _SCORES) -> Artifacts:
        """The artifacts of an arm, made as far as `asset`."""
        artifacts = Artifacts(arm, store_of(self._home))
        if any(artifacts.fetch(asset, partition) is None for partition in partitions_of(artifacts.graph[asset])):
            self._say(f"{name}, seed {arm.seed}: {asset}")
            findings, self._unwritten = self._unwritten, ()
            report = runs.run(
                arm,
                self._home,
                select=f"*{asset}",
                progress=self._progress,
                say=self._say,
                runner=self._runner,
                findings=findings,
            )
            if report.errors:
                raise StudyError(f"{name}, seed {arm.seed}: {'; '.join(report.errors)}")
        return artifacts

    def _score(self, name: str, arm: Recipe) -> None:
        if self._recipe.study.alike == "steps" and name != SPEED:
            rows = self._make(name, arm, "final_triplets").get("final_triplets").metadata["rows"]
            epochs = self._recipe.embedding_model.epochs * self.results[SPEED][-1].rows / rows
            arm = changed(arm, {"embedding_model.epochs": round(epochs, 4)})
        self.results.setdefault(name, []).append(result_of(self._make(name, arm)))


def _rows_for_budget(speed: Recipe, budget: int, run: Callable[[Recipe, str], Artifacts]) -> int:
    """Rows that the teacher alone writes for `budget` calls: all calls except those for topics and tasks.

    Only topics that a row is about are brainstormed, so fewer rows may take fewer such calls: the number of rows is chosen by
    the first attempts, and further attempts are subtracted. `run` makes an asset of a recipe.
    """
    assert speed.senior_data is not None
    proportions = speed.senior_data.rows
    source = "topic_tree" if speed.topics.expand else "topics"
    made = run(teacher_only(speed, budget), source)
    topics, named = made.get(source).table().height, calls_behind(made, source)

    def calls(rows: int) -> int:
        asked: dict[str, int] = apportion(rows, proportions).model_dump()
        return rows + named + sum(min(topics, asked[name]) for name in asked if TASK_TYPES[name].has_brainstorm)

    rows = max(0, bisect_right(range(budget + 1), budget, key=calls) - 1)
    return budget - calls_behind(run(teacher_only(speed, rows), "task_list"), "task_list")


def result_of(artifacts: Artifacts) -> Result:
    """The result of an arm. Raises NotMaterialized when it was not run as far as its scores."""
    scores, final = artifacts.get(_SCORES), artifacts.get("final_triplets")
    truth = final.metadata.get("truth")
    rows = int(final.metadata["rows"])
    return Result(
        calls_behind(artifacts, _SCORES),
        rows,
        truth["all_right"] * final.metadata["asked"] / rows if truth else None,
        scores.metadata["scores"][MODEL],
        samples_by_model(scores.table("samples")).get(MODEL, {}),
    )


def calls_behind(artifacts: Artifacts, asset: str) -> int:
    """Teacher calls behind this asset and everything upstream of it, cached or not."""
    made = [
        artifacts.get(name, partition).metadata
        for name in upstream(artifacts.graph, [asset])
        if artifacts.graph[name].asks_teacher
        for partition in partitions_of(artifacts.graph[name])
    ]
    return sum(int(m.get("teacher_calls", 0)) + int(m.get("reused_calls", 0)) for m in made)
