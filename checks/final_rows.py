"""Checks on training rows: how many are left, how they are spread, and whether they repeat evaluation texts.

Belongs here: `final_triplets` and `evaluation_texts`. Not here: the filters themselves (`speed_assets/domain`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from checks.check import Outcome, Subject, example_rows
from checks.table_counts import (
    count_in_metadata,
    outcome_with_advice,
    quarantine_metadata,
)
from checks.written_rows import LOOK_IN_QUARANTINE
from resources.inputs.evaluation_sets import offline_evaluation_texts, task_texts
from resources.inputs.judged_queries import judged_query_texts
from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.task_types import TRIPLET_FIELDS
from speed_assets.domain.wanted_rows import share_is_kept
from speed_assets.recipe import rows_asked


def kept_share(subject: Subject) -> Outcome:
    """Rows that reach final_triplets, as a share of its input rows; an empty table fails."""
    rows, rows_in = subject.artifact.table().height, count_in_metadata(subject, "rows_in")
    if not rows:
        removed: dict[str, int] = subject.artifact.metadata.get("removed", {})
        reasons = ", ".join(f"{reason} {count}" for reason, count in removed.items())
        went = f"all {rows_in} were quarantined ({reasons})" if reasons else f"{rows_in} went in"
        return Outcome(
            False,
            f"final_triplets is empty: no row is left to train on; {went}: see the rows with `speed quarantine`, then ask "
            "for more, use a stronger writer, or skip or readmit what is too strict (final_triplets.rules.skip, .readmit)",
            {"rows": 0, "rows_in": rows_in, **quarantine_metadata(subject)},
        )
    least = subject.recipe.checks.kept_min
    share = rows / rows_in if rows_in else 0.0
    return outcome_with_advice(
        share_is_kept(rows, rows_in, least),
        f"{rows} of {rows_in} rows ({share:.1%}) were kept, at least {least:.1%} must be (checks.kept_min)",
        LOOK_IN_QUARANTINE,
        {"rows": rows, "rows_in": rows_in, "share": share, **quarantine_metadata(subject)},
    )


def wanted_rows(subject: Subject) -> Outcome:
    """Rows of final_triplets of each task type, held against `final_triplets.wanted`; a table short of it passes at the ceiling only."""
    wanted = subject.recipe.final_triplets.wanted
    if wanted is None:
        return Outcome(True, "final_triplets.wanted is not set: the rows that came out are taken")
    accepted: dict[str, int] = subject.artifact.metadata["task_types"]
    asked = rows_asked(subject.recipe, subject.recipe.final_triplets.source).model_dump()
    goals, most = wanted.rows.model_dump(), wanted.candidates_max.model_dump()
    short = {name: goal for name, goal in goals.items() if accepted.get(name, 0) < goal}
    open_ = [name for name in short if asked.get(name, 0) < most.get(name, 0)]
    counts = ", ".join(f"{accepted.get(name, 0):,} of {goal:,} {name}" for name, goal in goals.items() if goal)
    metadata = {"wanted": goals, "accepted": accepted, "asked": asked}
    if not short:
        return Outcome(True, f"as many rows passed as are wanted: {counts}", metadata)
    if not open_:
        return Outcome(
            True, f"the ceiling is met (final_triplets.wanted.candidates_max): {counts} rows passed", metadata
        )
    return Outcome(
        False,
        f"{counts} rows passed (final_triplets.wanted): run again for a further block, in the UI after *Reload definitions*; where "
        "nothing is stale then, raise final_triplets.wanted.blocks_max or want fewer rows",
        metadata,
    )


def topic_coverage(subject: Subject) -> Outcome:
    """Topics asked for that have a row in final_triplets."""
    topics = subject.artifact.metadata["diversity"]["topics"]
    least = subject.recipe.checks.topic_coverage_min
    return outcome_with_advice(
        topics["share"] >= least,
        f"{topics['covered']} of {topics['asked']} topics asked for ({topics['share']:.1%}) have a row, "
        f"at least {least:.1%} should (checks.topic_coverage_min)",
        "look in the quarantine for why the rows of missing topics were rejected, or ask for more rows",
        topics,
    )


def task_type_shares(subject: Subject) -> Outcome:
    """How far the task types of final_triplets are from the shares that were intended."""
    shares = subject.artifact.metadata["diversity"]["task_types"]
    most = subject.recipe.checks.task_type_distance_max
    return outcome_with_advice(
        shares["distance"] <= most,
        f"{shares['distance']:.1%} of the rows would have to be of another task type to be as intended, "
        f"at most {most:.1%} should (checks.task_type_distance_max)",
        "ask for more rows of the task types that are short, or see which filter removes them",
        shares,
    )


def vendi(subject: Subject) -> Outcome:
    """Effective number of different rows in a sample, for each sampled row."""
    found = subject.artifact.metadata["diversity"]["vendi"]
    least = subject.recipe.checks.vendi_per_row_min
    return outcome_with_advice(
        found["per_row"] >= least,
        f"{found['rows']} sampled rows count for {found['score']} different ones, {found['per_row']:.4f} each, "
        f"at least {least:.4f} should (checks.vendi_per_row_min)",
        "sample hotter, write about more topics or remove more near-duplicates",
        found,
    )


def every_task_read(subject: Subject) -> Outcome:
    """Every evaluation task of the recipe has texts, or is listed in `evaluation.unsearched`."""
    counts: dict[str, int] = subject.artifact.metadata["texts_of"]
    without = [task for task, texts in counts.items() if not texts]
    return outcome_with_advice(
        bool(counts) and not without,
        f"{sum(counts.values())} texts of {len(counts)} evaluation tasks were read, {len(without)} tasks have none",
        f"see why nothing was read of {', '.join(without) or 'any'}, or name it in evaluation.unsearched",
        {"tasks": len(counts), "texts": sum(counts.values())},
    )


def uncontaminated(subject: Subject) -> Outcome:
    """Every evaluation task was searched for, and no row of the table repeats a text of one.

    The check does not rely on the stage: it reads the texts again and searches the rows again under the recipe's limits.
    """
    recipe, rows = subject.recipe, subject.artifact.table()
    of_tasks = task_texts(subject.artifact.path)
    texts = offline_evaluation_texts(recipe.evaluation) | judged_query_texts(recipe.own_evaluation) | of_tasks
    looked_for = {line["task"]: line["texts"] for line in subject.artifact.metadata["contamination"]}
    unseen = [task for task, group in texts.items() if looked_for.get(task) != len(group)]
    nowhere = [] if of_tasks else recipe.evaluation.searched
    limits = Limits(**recipe.final_triplets.contamination.model_dump(exclude={"similarity"}))
    copies = EvaluationIndex(texts, limits).copies_in(rows, TRIPLET_FIELDS)
    held = rows.hstack(copies).filter(pl.col("evaluation").is_not_null())
    metadata: dict[str, Any] = {
        "rows": rows.height,
        "contaminated": held.height,
        "searched": [{"task": task, "texts": len(group)} for task, group in texts.items()],
        "unsearched": list(recipe.evaluation.unsearched),
    }
    if held.height:
        metadata["failing_rows"] = example_rows(held.select("row_id", "evaluation", "how", *TRIPLET_FIELDS))
    faults = [f"{task} was not looked for by the stage, or its texts are others now" for task in unseen]
    faults += [f"the texts of {task} were not read, so nobody looked for it" for task in nowhere]
    if held.height:
        by_task = ", ".join(f"{task} {rows}" for task, rows in held["evaluation"].value_counts(sort=True).iter_rows())
        faults.append(f"{held.height} of {rows.height} rows repeat evaluation text ({by_task}), 0 may")
    return outcome_with_advice(
        not faults,
        "; ".join(faults) or f"none of {rows.height} rows repeats a text of {len(texts)} evaluation tasks",
        "materialize final_triplets again, or leave a task out knowingly (evaluation.unsearched)",
        metadata,
    )
