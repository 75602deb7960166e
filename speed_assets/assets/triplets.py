"""Training triplets: what is left when broken, repeated and contaminated rows are set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from resources.store.store import ASIDE
from speed_assets.assets.diversity import measured
from speed_assets.assets.stage import StageRun
from speed_assets.assets.writing import evaluation_texts, truth
from speed_assets.domain.calibration import LikelyFaulty, Settings
from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.funnel import Finder, Funnel, Readmission
from speed_assets.domain.near_duplicates import Similarity, near_duplicates, repeats_by_pairs
from speed_assets.domain.rules import RULE_CODES, RULES_ACROSS_ROWS, broken_rules
from speed_assets.domain.scoring import SCORE_OF, SCORES, find_by_score, find_doubted
from speed_assets.domain.task_types import TRIPLET_FIELDS
from speed_assets.recipe import Contamination, FinalTriplets, NearDuplicates

TRIPLETS = ("row_id", "task_type", "topic", "task", "query", "positive", "negative")
_NEARNESS = ("evaluation_similarity", "evaluation")
_VERDICT = ("faulty", "weight")
_NEEDED = (*TRIPLETS, "output", "valid", "problem", "quality", "doubt", *SCORES, "place", *_NEARNESS, *_VERDICT)


def final_triplets(run: StageRun) -> dict[str, Any]:
    """Filters in turn, each on what the one before has left; every removed row keeps its text and its reason."""
    source = run.stage.inputs[0]
    evaluation = evaluation_texts(run)
    rows = run.input_rows(source)
    twins = None
    if "row_scores" in run.inputs:
        rows = scored(rows, run.input("row_scores").table())
        twins = run.input("row_scores").table("twins")
    section, seed = run.recipe.final_triplets, run.recipe.seed
    likely_faulty = None
    if "row_verdicts" in run.inputs:
        rows = judged(rows, run.input_rows("row_verdicts"))
        if section.scores.calibration is not None:
            settings = Settings(**section.scores.calibration.model_dump())
            likely_faulty = LikelyFaulty(settings, seed_for(seed, run.stage.name, "calibration"))
    funnel = filtered(rows, section, evaluation, seed, run.stage.name, run.progress, twins, likely_faulty)
    run.write(funnel.rows.select(TRIPLETS))
    run.write(funnel.quarantine, "quarantine")
    (run.out / ASIDE).mkdir(exist_ok=True)
    plot_funnel(funnel, run.out / ASIDE / "funnel.png")
    if likely_faulty is not None:
        plot_calibration(likely_faulty, run.out / ASIDE / "calibration.png")
    asked = sum(artifact.metadata["asked"] for artifact in run.inputs[source].values())
    removed = funnel.quarantine
    return {
        "asked": asked,
        "rows_in": funnel.steps[0].rows_in,
        "steps": funnel.table(),
        **({} if likely_faulty is None else {"calibration": likely_faulty.summary}),
        "removed": dict(removed["reason"].value_counts(sort=True).iter_rows()),
        "contamination": contamination_report(removed, evaluation),
        "diversity": measured(run, funnel.rows),
        "task_types": dict(funnel.rows["task_type"].value_counts(sort=True).iter_rows()),
        **truth(run, funnel.rows, asked),
    }


def scored(rows: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Rows with their scores, which stand in the same order, and their place; of rows that say the same the one whose
    least likely token is the likeliest is the best. Raises ValueError when the order is another."""
    if not rows["row_id"].equals(scores["row_id"]):
        raise ValueError("row_scores are those of other rows: materialize row_scores anew")
    place = pl.int_range(pl.len(), dtype=pl.Int64).alias("place")
    known = [pl.col("least_likely").alias("quality")] if scores["least_likely"].count() else []
    return rows.hstack(scores.select(*SCORES, *_NEARNESS, place, *known))


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
) -> Funnel:
    """The funnel of written rows after every filter of the section. Columns that no filter needs are dropped.

    `twins` (a, b, similarity) are places (column `place`) of rows that an embedder finds alike. `likely_faulty` finds rows
    by the verdicts of the teacher on some of them.

    Of rows that say the same the one with the highest `quality` stays; without that column the longest.
    """
    rows = rows.select(name for name in _NEEDED if name in rows.columns)
    funnel = Funnel(rows, stage, [Readmission(**rule.model_dump()) for rule in section.readmit], clock=perf_counter)
    texts = pl.struct(TRIPLET_FIELDS).struct.json_encode()
    near = section.near_duplicates
    words = {
        field: pl.col(field).str.count_matches(" ", literal=True) >= near.words_min - 1 for field in TRIPLET_FIELDS
    }
    together = pl.concat_str("query", "positive", separator=" ")
    if near.query_least is not None:
        together = pl.when(pl.col("task_type") == "classification").then("query").otherwise(together)
    views = (
        ("near_duplicate", together, near.jaccard),
        ("near_duplicate_query", pl.when(words["query"]).then("query"), near.query_jaccard),
        ("near_duplicate_positive", pl.when(words["positive"]).then("positive"), near.positive_jaccard),
    )
    rules = section.rules.model_dump(exclude={"skip"})
    # A row has the first rule that it breaks as its reason. A rule that rows are readmitted for is a step of its own, so
    # that passing it is not passing the others.
    readmitted = {rule.reason for rule in section.readmit}
    apart = [
        code for code in RULE_CODES if code in readmitted and code not in {*section.rules.skip, *RULES_ACROSS_ROWS}
    ]
    rule_steps = [
        ("rules", {*section.rules.skip, *apart, *RULES_ACROSS_ROWS}),
        *((code, {*RULE_CODES} - {code}) for code in apart),
    ]
    # What stands in other rows is asked when repeats are gone, so that of near-identical rows the better one stays.
    beside_steps = [(code, {*RULE_CODES} - {code}) for code in RULES_ACROSS_ROWS if code not in section.rules.skip]
    scores = {}
    for reason, score in SCORE_OF.items():
        least, most = (getattr(section.scores, f"{score}_{bound}", None) for bound in ("min", "max"))
        if least is not None or most is not None:
            scores[reason] = find_by_score(score, reason, least, most)
    steps: list[tuple[str, Finder]] = [
        ("not_whole", _not_whole),
        *((name, partial(broken_rules, **rules, skip=tuple(skip), seed=seed)) for name, skip in rule_steps),
        *((("doubted", find_doubted),) if "doubt" in rows.columns else ()),
        *scores.items(),
        *((("likely_faulty", likely_faulty),) if likely_faulty is not None else ()),
        *((name, _repeats(name, view, near, jaccard)) for name, view, jaccard in views if jaccard is not None),
        *(
            (("near_duplicate_semantic", _twins(twins, near.semantic)),)
            if twins is not None and near.semantic is not None
            else ()
        ),
        *((name, partial(broken_rules, **rules, skip=tuple(skip), seed=seed)) for name, skip in beside_steps),
        ("contamination", _copies(evaluation, section.contamination)),
        *(
            (("contamination_similar", _says_the_same(section.contamination.similarity)),)
            if section.contamination.similarity is not None
            else ()
        ),
    ]
    for done, (name, find) in enumerate(steps):
        progress(done, len(steps), name)
        unread = name == "not_whole" and "output" in rows.columns
        funnel.step(name, find, pl.col("output") if unread else texts)
        if unread:
            funnel.rows = funnel.rows.drop("output")
    return funnel


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
    """How many rows each step removed, as bars beside what it left."""
    from matplotlib.figure import Figure

    steps = funnel.steps[::-1]
    figure = Figure(figsize=(6, 0.45 * len(steps) + 0.8), dpi=80, layout="constrained")
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
    figure = Figure(figsize=(5, 2.8), dpi=80, layout="constrained")
    axes = figure.subplots()
    if found is not None and faulty is not None:
        bins = [place / 20 for place in range(21)]
        asked = faulty.is_not_null().to_numpy()
        said = faulty.fill_null(False).to_numpy()
        shown = {
            "rows": found.likelihood,
            "judged, good": found.likelihood[asked & ~said],
            "judged, faulty": found.likelihood[asked & said],
        }
        axes.hist(list(shown.values()), bins=bins, label=list(shown), color=["#bbbbbb", "#4c72b0", "#c44e52"])
        axes.set_yscale("log")
        if found.summary["bound"] is not None:
            axes.axvline(found.summary["bound"], color="black", label=f"bound {found.summary['bound']:.2f}")
        axes.legend(fontsize=7)
        axes.set_title(found.summary.get("switched_off", ""), fontsize=8)
    axes.set_xlabel("likelihood of being faulty, by scores and verdicts")
    figure.savefig(path)


def _not_whole(rows: pl.DataFrame) -> pl.DataFrame:
    if "valid" not in rows.columns:
        return pl.DataFrame({"reason": [None] * rows.height, "detail": [None] * rows.height}, schema=_FOUND)
    detail = pl.col("problem") if "problem" in rows.columns else pl.lit(None, dtype=pl.String)
    return rows.select(
        pl.when(~pl.col("valid")).then(pl.lit("not_whole")).alias("reason"),
        pl.when(~pl.col("valid")).then(detail).alias("detail"),
    )


_FOUND = {"reason": pl.String, "detail": pl.String}


def _repeats(name: str, view: pl.Expr, near: NearDuplicates, jaccard: float) -> Finder:
    similarity = Similarity(
        near.shingle,
        near.permutations,
        jaccard,
        near.boilerplate,
        near.short_words,
        near.short_jaccard,
        near.query_least or 0.0,
        near.same_positive_query_least,
    )
    # Of a row as a whole the queries must be alike besides; a field by itself has no such part.
    has_part = near.query_least is not None and name == "near_duplicate"
    part = pl.when((pl.col("task_type") != "classification") & has_part).then("query")

    def find(rows: pl.DataFrame) -> pl.DataFrame:
        seen = rows.select(_key(rows), view.alias("text"), _quality(rows), part.alias("part"))
        repeats = near_duplicates(seen["row_id"], seen["text"], similarity, seen["quality"], seen["part"])
        return _repeating(seen, repeats, name)

    return find


def _quality(rows: pl.DataFrame) -> pl.Expr:
    longest = pl.sum_horizontal(pl.col(field).str.len_chars() for field in TRIPLET_FIELDS)
    return (pl.col("quality") if "quality" in rows.columns else longest).cast(pl.Float64).alias("quality")


def _repeating(seen: pl.DataFrame, repeats: pl.DataFrame, name: str) -> pl.DataFrame:
    """(reason, detail) of rows (row_id) from what repeats what."""
    found = seen.select("row_id").join(repeats, on="row_id", how="left", maintain_order="left")
    return found.select(
        pl.when(pl.col("repeats").is_not_null()).then(pl.lit(name)).alias("reason"), pl.col("repeats").alias("detail")
    )


def _twins(twins: pl.DataFrame, similarity: float) -> Finder:
    def find(rows: pl.DataFrame) -> pl.DataFrame:
        seen = rows.select(_key(rows), "place", _quality(rows))
        repeats = repeats_by_pairs(seen, twins.filter(pl.col("similarity") >= similarity))
        return _repeating(seen, repeats, "near_duplicate_semantic")

    return find


def _says_the_same(similarity: float) -> Finder:
    def find(rows: pl.DataFrame) -> pl.DataFrame:
        same = pl.col("evaluation_similarity") >= similarity
        return rows.select(
            pl.when(same).then(pl.lit("contamination_similar")).alias("reason"),
            pl.when(same).then("evaluation").alias("detail"),
        )

    return find


def _key(rows: pl.DataFrame) -> pl.Expr:
    """A name of each row: its id, with a number where several candidates share it."""
    if rows["row_id"].is_unique().all():
        return pl.col("row_id")
    return pl.format("{}/{}", "row_id", pl.int_range(pl.len()).over("row_id")).alias("row_id")


def _copies(evaluation: Mapping[str, Iterable[str]], section: Contamination) -> Finder:
    def find(rows: pl.DataFrame) -> pl.DataFrame:
        index = EvaluationIndex(evaluation, Limits(**section.model_dump(exclude={"similarity"})))
        return index.copies_in(rows, TRIPLET_FIELDS).select(
            (pl.lit("contamination_") + pl.col("how")).alias("reason"), pl.col("evaluation").alias("detail")
        )

    return find
