"""Training triplets: the rows that pass all filters.

Belongs here: the order of the filters, their numbers from the recipe, plots. Not here: the filters
(`domain/triplet_filters.py`, `domain/rules.py`, `domain/scoring.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from speed_assets.assets.diversity import measured
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.writing import evaluation_texts, truth
from speed_assets.domain.calibration import LikelyFaulty, Settings
from speed_assets.domain.candidates import with_candidate_ids
from speed_assets.domain.contamination import Limits
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.funnel import Finder, Funnel, Readmission
from speed_assets.domain.grounded_rules import first_broken_rules_by_source
from speed_assets.domain.near_duplicates import Similarity
from speed_assets.domain.row_languages import LANGUAGE_COLUMNS, language_columns
from speed_assets.domain.rules import RULE_CODES, RULES_ACROSS_ROWS
from speed_assets.domain.scoring import SCORE_OF, SCORES, find_by_score, find_doubted
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, GROUNDED, LABEL_TYPES, TRIPLET_FIELDS
from speed_assets.domain.triplet_filters import (
    alike_in_meaning,
    alike_to_evaluation_texts,
    copies_of_evaluation_texts,
    invalid_rows,
    near_duplicates_in,
)
from speed_assets.recipe import Contamination, FinalTriplets, NearDuplicates, Rules, Scores

TRIPLETS = ("row_id", "task_type", "topic", "task", "query", "positive", "negative")
_NEARNESS = ("evaluation_similarity", "evaluation")
_VERDICT = ("faulty", "weight")
_NEEDED = (
    *TRIPLETS,
    "output",
    "valid",
    "problem",
    "quality",
    "doubt",
    *SCORES,
    "place",
    *_NEARNESS,
    *_VERDICT,
    *LANGUAGE_COLUMNS,
)


def final_triplets(run: StageRun[FinalTriplets]) -> dict[str, Any]:
    """The rows that pass all filters; the quarantine has every other row, with its reason."""
    source = run.stage.inputs[0]
    evaluation = evaluation_texts(run)
    rows = run.input_rows(source)
    twins = None
    if "row_scores" in run.inputs:
        rows = scored(rows, run.input("row_scores").table())
        twins = run.input("row_scores").table("twins")
    section, seed = run.section, run.recipe.seed
    likely_faulty = None
    if "row_verdicts" in run.inputs:
        rows = judged(rows, run.input_rows("row_verdicts"))
        if section.scores.calibration is not None:
            settings = Settings(**section.scores.calibration.model_dump())
            likely_faulty = LikelyFaulty(settings, seed_for(seed, run.stage.name, "calibration"))
    rows = with_candidate_ids(rows)  # scores and verdicts name a row by its prompt
    funnel = filtered(rows, section, evaluation, seed, run.stage.name, run.progress, twins, likely_faulty)
    if likely_faulty is not None:
        plot_calibration(likely_faulty, run.unhashed / "calibration.png")
    asked = sum(artifact.metadata["asked"] for artifact in run.inputs[source].values())
    return {
        **finished(run, funnel, evaluation, asked),
        **({} if likely_faulty is None else {"calibration": likely_faulty.summary}),
        **truth(run, funnel.rows, asked),
    }


def finished(
    run: StageRun[FinalTriplets],
    funnel: Funnel,
    evaluation: Mapping[str, Sized],
    asked: int,
    given: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Write what a funnel left and what it quarantined.

    Args:
        run: of final_triplets.
        funnel: after all filters.
        evaluation: the texts that were searched for, by evaluation set.
        asked: rows that were asked for.
        given: rows that the user gave, by task type; None for written ones.

    Returns:
        The figures of the artifact.
    """
    run.write(funnel.rows.select(*TRIPLETS, *language_columns(funnel.rows)))
    run.write(funnel.quarantine, "quarantine")
    plot_funnel(funnel, run.unhashed / "funnel.png")
    removed = funnel.quarantine
    return {
        "asked": asked,
        "rows_in": funnel.steps[0].rows_in,
        "steps": funnel.table(),
        "removed": dict(removed["reason"].value_counts(sort=True).iter_rows()),
        "contamination": contamination_report(removed, evaluation),
        "diversity": measured(run, funnel.rows, given),
        "task_types": dict(funnel.rows["task_type"].value_counts(sort=True).iter_rows()),
    }


def scored(rows: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Rows with their scores, which have the same order, and their place; of rows that say the same the one whose
    least likely token is the likeliest is the best. Raises ValueError when the order is another."""
    if not rows["row_id"].equals(scores["row_id"]):
        raise ValueError("row_scores are those of other rows: materialize row_scores again")
    place = pl.int_range(pl.len(), dtype=pl.Int64).alias("place")
    quality = [pl.col("least_likely").alias("quality")] if scores["least_likely"].count() else []
    return rows.hstack(scores.select(*SCORES, *_NEARNESS, place, *quality))


def judged(rows: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Rows with the teacher's verdict (`faulty`, `weight`) where it read them."""
    of_type = pl.int_range(pl.len(), dtype=pl.Int64).over("task_type").alias("_of_type")
    found = rows.with_columns(of_type).join(
        verdicts.select("task_type", pl.col("place").alias("_of_type"), *_VERDICT),
        on=["task_type", "_of_type"],
        how="left",
        maintain_order="left",
        validate="1:1",
    )
    return found.drop("_of_type")


def filtered(
    rows: pl.DataFrame,
    section: FinalTriplets,
    evaluation: Mapping[str, Iterable[str]],
    seed: int,
    stage: str = "final_triplets",
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
    twins: pl.DataFrame | None = None,
    likely_faulty: LikelyFaulty | None = None,
    *,
    written: bool = True,
) -> Funnel:
    """The funnel of written rows after every filter of the section.

    Of rows that say the same the one with the highest `quality` stays; without that column the longest.

    Args:
        rows: the written rows; columns that no filter needs are dropped.
        section: the filters and their numbers.
        evaluation: texts that must not be in the rows, by evaluation set.
        seed: that of the recipe, from which the attributes of each prompt are drawn again.
        stage: the name that rows in the quarantine carry.
        progress: gets filters done, filters in all, and the name of the next.
        twins: a, b (places, in the column `place`, of rows that an embedding model finds alike) and their similarity.
        likely_faulty: finds rows by the teacher's verdicts on some of them.
        written: whether a model wrote the rows; rules and scores are for such alone.

    Returns:
        The funnel: rows that passed, the quarantine, and a step for each filter.
    """
    rows = rows.select(name for name in _NEEDED if name in rows.columns)
    funnel = Funnel(rows, stage, [Readmission(**rule.model_dump()) for rule in section.readmit], clock=perf_counter)
    texts = pl.struct(TRIPLET_FIELDS).struct.json_encode()
    steps: list[tuple[str, Finder]] = [
        ("not_whole", invalid_rows),
        *(_rule_steps(section, seed) if written else ()),
        *((("doubted", find_doubted),) if "doubt" in rows.columns else ()),
        *(_score_steps(section.scores) if written else ()),
        *((("likely_faulty", likely_faulty),) if likely_faulty is not None else ()),
        *_near_duplicate_steps(section.near_duplicates, twins),
        *(_steps_between_rows(section, seed) if written else ()),
        *_contamination_steps(section.contamination, evaluation),
    ]
    for done, (name, find) in enumerate(steps):
        progress(done, len(steps), name)
        unread = name == "not_whole" and "output" in rows.columns
        funnel.step(name, find, pl.col("output") if unread else texts)
        if unread:
            funnel.rows = funnel.rows.drop("output")
    return funnel


Steps = Iterator[tuple[str, Finder]]


def _rule_steps(section: FinalTriplets, seed: int) -> Steps:
    """Rules of one row. A row has the first rule that it breaks as its reason; a rule that rows are readmitted for is a step
    of its own, so that passing it is not passing the others."""
    readmitted = {rule.reason for rule in section.readmit}
    apart = [
        code for code in RULE_CODES if code in readmitted and code not in {*section.rules.skip, *RULES_ACROSS_ROWS}
    ]
    yield "rules", _broken(section.rules, {*section.rules.skip, *apart, *RULES_ACROSS_ROWS}, seed)
    for code in apart:
        yield code, _broken(section.rules, {*RULE_CODES} - {code}, seed)


def _steps_between_rows(section: FinalTriplets, seed: int) -> Steps:
    """Rules that compare rows: asked when repeats are gone, so that of near-identical rows the better one stays."""
    for code in RULES_ACROSS_ROWS:
        if code not in section.rules.skip:
            yield code, _broken(section.rules, {*RULE_CODES} - {code}, seed)


def _broken(rules: Rules, skip: Collection[str], seed: int) -> Finder:
    return partial(first_broken_rules_by_source, **rules.model_dump(exclude={"skip"}), skip=tuple(skip), seed=seed)


def _score_steps(scores: Scores) -> Steps:
    """Bounds on scores that are numbers of the recipe."""
    for reason, score in SCORE_OF.items():
        least, most = (getattr(scores, f"{score}_{bound}", None) for bound in ("min", "max"))
        if least is not None or most is not None:
            yield reason, find_by_score(score, reason, least, most)


def _near_duplicate_steps(near: NearDuplicates, twins: pl.DataFrame | None) -> Steps:
    """Repeats of query and positive together, then of each alone, then in meaning."""
    long = {
        field: pl.col(field).str.count_matches(" ", literal=True) >= near.words_min - 1
        for field in ("query", "positive")
    }
    given, labels = pl.col("task_type").is_in(GIVEN_TEXT_TYPES), pl.col("task_type").is_in(LABEL_TYPES)
    long["positive"] &= pl.col("task_type") != GROUNDED
    long["query"] &= ~given
    together = pl.concat_str("query", "positive", separator=" ")
    with_queries = near.query_least is not None
    if not with_queries:  # queries of one passage are other rows, however long the passage is
        together = pl.when(pl.col("task_type") == GROUNDED).then("query").otherwise(together)
    else:
        together = pl.when(labels).then("query").otherwise(together)
    # Rows of one passage are other rows where something else is written about it. Two labels of a passage are two tasks.
    repeated = pl.struct("task", *TRIPLET_FIELDS[:2]).is_duplicated()
    together = pl.when(given & ~labels).then("positive").when(given & ~repeated).then(None).otherwise(together)
    yield (
        "near_duplicate",
        near_duplicates_in("near_duplicate", together, _similarity(near, near.jaccard), queries_alike=with_queries),
    )
    for field, jaccard in (("query", near.query_jaccard), ("positive", near.positive_jaccard)):
        if jaccard is not None:
            reason, text = f"near_duplicate_{field}", pl.when(long[field]).then(field)
            yield reason, near_duplicates_in(reason, text, _similarity(near, jaccard))
    if twins is not None and near.semantic is not None:
        yield "near_duplicate_semantic", alike_in_meaning(twins, near.semantic)


def _similarity(near: NearDuplicates, jaccard: float) -> Similarity:
    return Similarity(
        near.shingle,
        near.permutations,
        jaccard,
        near.boilerplate,
        near.short_words,
        near.short_jaccard,
        near.query_least or 0.0,
        near.same_positive_query_least,
    )


def _contamination_steps(section: Contamination, evaluation: Mapping[str, Iterable[str]]) -> Steps:
    """Copies of evaluation texts, then rows that say the same in other words."""
    limits = Limits(**section.model_dump(exclude={"similarity"}))
    yield "contamination", copies_of_evaluation_texts(evaluation, limits)
    if section.similarity is not None:
        yield "contamination_similar", alike_to_evaluation_texts(section.similarity)


def contamination_report(removed: pl.DataFrame, evaluation: Mapping[str, Sized]) -> list[dict[str, Any]]:
    """One line per evaluation task: its texts, and how many rows were removed for repeating one, in which way."""
    counts = (
        removed.filter(pl.col("reason").str.starts_with("contamination_"))
        .group_by(pl.col("detail").alias("task"), pl.col("reason").str.strip_prefix("contamination_").alias("how"))
        .len()
    )
    by_task: dict[str, dict[str, int]] = {task: {} for task in evaluation}
    for task, how, count in counts.sort("task", "how").iter_rows():
        by_task[task][how] = count
    return [
        {"task": task, "texts": len(evaluation[task]), "removed": sum(hows.values()), **hows}
        for task, hows in by_task.items()
    ]


def plot_funnel(funnel: Funnel, path: Path) -> None:
    """How many rows each step kept and rejected, as bars."""
    from matplotlib.figure import Figure

    steps = funnel.steps[::-1]
    figure = Figure(figsize=(6, 0.45 * len(steps) + 0.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = [step.step for step in steps]
    axes.barh(names, [step.rows_out for step in steps], color="#4c72b0", label="kept")
    removed = axes.barh(
        names, [step.removed for step in steps], left=[step.rows_out for step in steps], color="#c44e52"
    )
    axes.bar_label(removed, [f"-{step.removed:,}" for step in steps], padding=3, fontsize=8)
    axes.set_xlabel("rows")
    axes.margins(x=0.15)
    figure.savefig(path)


def plot_calibration(likely_faulty: LikelyFaulty, path: Path) -> None:
    """How likely rows are faulty, the bound, and how often the teacher found judged rows of that likelihood faulty."""
    from matplotlib.figure import Figure

    found, faulty = likely_faulty.found, likely_faulty.faulty
    figure = Figure(figsize=(5, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    if found is not None and faulty is not None:
        bins = [place / 20 for place in range(21)]
        asked = faulty.is_not_null().to_numpy()
        is_faulty = faulty.fill_null(False).to_numpy()
        shown = {
            "rows": found.likelihood,
            "judged, good": found.likelihood[asked & ~is_faulty],
            "judged, faulty": found.likelihood[asked & is_faulty],
        }
        axes.hist(list(shown.values()), bins=bins, label=list(shown), color=["#bbbbbb", "#4c72b0", "#c44e52"])
        axes.set_yscale("log")
        if found.summary["bound"] is not None:
            axes.axvline(found.summary["bound"], color="black", label=f"bound {found.summary['bound']:.2f}")
        axes.legend(fontsize=7)
        axes.set_title(found.summary.get("switched_off", ""), fontsize=8)
    axes.set_xlabel("likelihood of being faulty, by scores and verdicts")
    figure.savefig(path)
