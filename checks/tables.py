"""Checks on tables: whether enough of what was asked has come out, and whether every row is accounted for.

Each table is asked twice for its expectations (`suites.py`): `expectations` are a gate, `plausible` warns.

Belongs here: shares and counts against the recipe's thresholds. Not here: rows and columns (`suites.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import polars as pl

from checks.check import Check, Outcome, Subject, example_rows
from checks.suites import SUITES, Severity, validate
from resources.inputs.evaluation_sets import offline_evaluation_texts, task_texts
from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.task_types import TRIPLET_FIELDS
from speed_assets.recipe import PerTaskType

_WRITTEN = ("seed_data", "junior_data", "senior_data", "revision_data", "revised_data")
_QUARANTINE = "look at the quarantined rows for why, then mend the stage or the threshold"
_ADVICE = {
    "seed_data": "look at the quarantined rows for why; seed_data.attempts asks again for what is not whole",
    "junior_data": "invalid rows stay in this table (`speed show junior_data`) with their problem: more seed rows or epochs "
    "teach the junior the form (seed_data.rows, junior_model.epochs)",
    "senior_data": "invalid rows stay in this table (`speed show senior_data`) with their problem; senior_data.attempts asks "
    "again for what is not whole",
    "revision_data": "look at the quarantined rows for why: these answers of the teacher cannot be read as revisions",
    "revised_data": "look at the quarantined rows for why: they were not whole, and the revisor did not make them so",
}
"""What to do about too few valid rows, by table. junior_data and senior_data keep all rows and have no quarantine."""


def meets_expectations(subject: Subject, severity: Severity) -> Outcome:
    """The table's expectations of one severity."""
    return validate(subject.artifact.asset, subject.artifact.table(), subject.partition, severity)


def topics_refused(subject: Subject) -> Outcome:
    """Refused lines as a share of the topic lines read."""
    refused = subject.artifact.table("quarantine").height
    lines = _number(subject, "asked")
    most = subject.recipe.checks.topics_refused_max
    share = refused / lines if lines else 1.0
    return _outcome(
        share <= most,
        f"{refused} of {lines} topic lines ({share:.1%}) were refused, "
        f"at most {most:.1%} may be (checks.topics_refused_max)",
        "mend the lines shown in the topic file",
        {"refused": refused, "lines": lines, "share": share, **_quarantined(subject)},
    )


def tasks_missing(subject: Subject) -> Outcome:
    """Topics without a task as a share of the topics asked for one."""
    asked = _number(subject, "asked")
    with_task = subject.artifact.table()["topic_id"].n_unique()
    most = subject.recipe.checks.tasks_missing_max
    share = 1 - with_task / asked if asked else 0.0
    return _outcome(
        share <= most,
        f"{asked - with_task} of {asked} topics ({share:.1%}) have no task, "
        f"at most {most:.1%} may (checks.tasks_missing_max)",
        "look at the quarantined rows for why; task_list.attempts asks a topic again until its task can be taken",
        {"missing": asked - with_task, "asked": asked, "share": share, **_quarantined(subject)},
    )


def valid_share(subject: Subject) -> Outcome:
    """Whole rows as a share of the rows that were to be written. The threshold is `checks.<table>_valid_min`."""
    field = f"{subject.artifact.asset}_valid_min"
    least: float = getattr(subject.recipe.checks, field)
    asked = _asked(subject)
    table = subject.artifact.table()
    valid = int(table["valid"].sum()) if "valid" in table.columns else table.height
    share = valid / asked if asked else 1.0
    metadata = {"valid": valid, "asked": asked, "share": share, **_quarantined(subject)}
    if "valid" in table.columns and valid < table.height:
        metadata["invalid_rows"] = example_rows(table.filter(~pl.col("valid")))
    return _outcome(
        share >= least,
        f"{valid} of {asked} rows asked for ({share:.1%}) are valid, at least {least:.1%} must be (checks.{field})",
        _ADVICE[subject.artifact.asset],
        metadata,
    )


def some_pairs(subject: Subject) -> Outcome:
    """A task type that asked for preference pairs has one."""
    rows, asked = subject.artifact.table().height, _judged(subject)
    return _outcome(
        rows > 0 or not asked,
        f"{rows} preference pairs from {asked} prompts, at least 1 should come out of a task type",
        "look at the quarantined rows for why: what DPO does not see of a task type it cannot align",
        {"pairs": rows, "asked": asked, **_quarantined(subject)},
    )


def enough_pairs(subject: Subject) -> Outcome:
    """The preference pairs that the senior was trained on, of all task types together."""
    pairs, least = _number(subject, "pairs"), subject.recipe.checks.pairs_min
    return _outcome(
        pairs >= least,
        f"{pairs} preference pairs of all task types, at least {least} must come out (checks.pairs_min)",
        "judge more prompts (preference_pairs.prompts), accept less agreement (preference_pairs.margin_min) or sample more "
        "varied candidates (junior_data.sampling)",
        {"pairs": pairs},
    )


def judge_contradictions(subject: Subject) -> Outcome:
    """Prompts in which a judge calls a candidate best in one order and worst in another, of the judge that does so most."""
    most = subject.recipe.checks.judge_contradictions_max
    judges: dict[str, dict[str, int]] = subject.artifact.metadata["contradictions"]
    # Of few prompts one alone may already be a large share.
    over = {
        judge: found
        for judge, found in judges.items()
        if found["contradicted"] > max(1, most * found["prompts"]) or (most == 0 and found["contradicted"])
    }
    shown = over or judges
    worst = max(shown, key=lambda judge: _share_of(shown[judge]), default=None)
    if worst is None:
        return Outcome(True, "no prompt of this task type was judged", {"judges": {}})
    found = shown[worst]
    return _outcome(
        not over,
        f"{worst} called a candidate best in one order and worst in another on {found['contradicted']} of "
        f"{found['prompts']} prompts with two readable verdicts ({_share_of(found):.1%}), at most {most:.1%} may be so "
        "(checks.judge_contradictions_max)",
        "use a stronger teacher or fewer candidates, or look at the verdicts in the quarantined rows",
        {"judges": judges, **_quarantined(subject)},
    )


def judge_unreadable(subject: Subject) -> Outcome:
    """Verdicts that could not be read, of the judge of whom the largest share could not."""
    most = subject.recipe.checks.judge_unreadable_max
    judges: dict[str, dict[str, int]] = subject.artifact.metadata["unreadable"]
    shares = {
        judge: found["unreadable"] / found["verdicts"] if found["verdicts"] else 0.0 for judge, found in judges.items()
    }
    worst = max(shares, key=lambda judge: shares[judge], default=None)
    if worst is None:
        return Outcome(True, "no prompt of this task type was judged", {"judges": {}})
    found = judges[worst]
    return _outcome(
        shares[worst] <= most,
        f"{found['unreadable']} of {found['verdicts']} verdicts of {worst} ({shares[worst]:.1%}) could not be read, "
        f"at most {most:.1%} may be so (checks.judge_unreadable_max)",
        "look at the verdicts in the quarantined rows; give the judge more tokens, hold it to the schema "
        "(teacher.structured_output), or use a stronger teacher",
        {"judges": judges, "problems": subject.artifact.metadata["verdict_problems"], **_quarantined(subject)},
    )


def revisions_readable(subject: Subject) -> Outcome:
    """The revisor's answers that could be read as revisions: of the others nobody knows what it would have said."""
    asked, unreadable = _number(subject, "revisions"), _number(subject, "revisions_unreadable")
    least = subject.recipe.checks.revisions_readable_min
    share = 1 - unreadable / asked if asked else 1.0
    return _outcome(
        share >= least,
        f"{asked - unreadable} of {asked} revisions ({share:.1%}) can be read, at least {least:.1%} must be "
        "(checks.revisions_readable_min)",
        "train the revisor on more rows or longer (revision_data.rows, revisor_model), or leave its stage out",
        {"revisions": asked, "unreadable": unreadable, "problems": subject.artifact.metadata["revision_problems"]},
    )


def _share_of(found: dict[str, int]) -> float:
    return found["contradicted"] / found["prompts"] if found["prompts"] else 0.0


def kept_share(subject: Subject) -> Outcome:
    """Rows that reach final_triplets as a share of those that went in; of none nothing can be made."""
    rows, rows_in = subject.artifact.table().height, _number(subject, "rows_in")
    if not rows:
        removed: dict[str, int] = subject.artifact.metadata.get("removed", {})
        reasons = ", ".join(f"{reason} {count}" for reason, count in removed.items())
        went = f"all {rows_in} were set aside ({reasons})" if reasons else f"{rows_in} went in"
        return Outcome(
            False,
            f"final_triplets is empty: no row is left to train on; {went}: see the rows with `speed quarantine`, then ask "
            "for more, use a stronger writer, or skip or readmit what is too strict (final_triplets.rules.skip, .readmit)",
            {"rows": 0, "rows_in": rows_in, **_quarantined(subject)},
        )
    least = subject.recipe.checks.kept_min
    share = rows / rows_in if rows_in else 0.0
    return _outcome(
        share >= least,
        f"{rows} of {rows_in} rows ({share:.1%}) were kept, at least {least:.1%} must be (checks.kept_min)",
        _QUARANTINE,
        {"rows": rows, "rows_in": rows_in, "share": share, **_quarantined(subject)},
    )


def topic_coverage(subject: Subject) -> Outcome:
    """Topics asked for that have a row in final_triplets."""
    topics = subject.artifact.metadata["diversity"]["topics"]
    least = subject.recipe.checks.topic_coverage_min
    return _outcome(
        topics["share"] >= least,
        f"{topics['covered']} of {topics['asked']} topics asked for ({topics['share']:.1%}) have a row, "
        f"at least {least:.1%} should (checks.topic_coverage_min)",
        "look in the quarantine for what became of the missing topics' rows, or ask for more rows",
        topics,
    )


def task_type_shares(subject: Subject) -> Outcome:
    """How far the task types of final_triplets are from the shares that were intended."""
    shares = subject.artifact.metadata["diversity"]["task_types"]
    most = subject.recipe.checks.task_type_distance_max
    return _outcome(
        shares["distance"] <= most,
        f"{shares['distance']:.1%} of the rows would have to be of another task type to be as intended, "
        f"at most {most:.1%} should (checks.task_type_distance_max)",
        "ask for more rows of the task types that are short, or look at which filter takes them",
        shares,
    )


def vendi(subject: Subject) -> Outcome:
    """Effective number of different rows in a sample, for each sampled row."""
    found = subject.artifact.metadata["diversity"]["vendi"]
    least = subject.recipe.checks.vendi_per_row_min
    return _outcome(
        found["per_row"] >= least,
        f"{found['rows']} sampled rows count for {found['score']} different ones, {found['per_row']:.4f} each, "
        f"at least {least:.4f} should (checks.vendi_per_row_min)",
        "sample hotter, write about more topics or remove more near-duplicates",
        found,
    )


def all_accounted(subject: Subject) -> Outcome:
    """Every row asked for or taken in is in the table or in the quarantine, and none is in both.

    The rows of task_list are its topics, of which each may have several tasks.
    """
    table, rows_in = subject.artifact.table(), _asked(subject)
    rows = table["topic_id"].n_unique() if subject.artifact.asset == "task_list" else table.height
    quarantined = subject.artifact.table("quarantine").height
    return _outcome(
        rows_in == rows + quarantined,
        f"of {rows_in} rows asked for or taken in, {rows} are in the table and {quarantined} in the quarantine, "
        f"which leaves {rows_in - rows - quarantined}, and 0 may be left",
        "find where the stage drops or doubles rows, or why it had nothing to write about",
        {"rows_in": rows_in, "rows": rows, "quarantined": quarantined},
    )


def every_task_read(subject: Subject) -> Outcome:
    """Every task that the recipe names has texts to look for, or was left out knowingly."""
    counts: dict[str, int] = subject.artifact.metadata["texts_of"]
    without = [task for task, texts in counts.items() if not texts]
    return _outcome(
        bool(counts) and not without,
        f"{sum(counts.values())} texts of {len(counts)} evaluation tasks were read, {len(without)} tasks have none",
        f"see why nothing was read of {', '.join(without) or 'any'}, or name it in evaluation.unsearched",
        {"tasks": len(counts), "texts": sum(counts.values())},
    )


def uncontaminated(subject: Subject) -> Outcome:
    """Every evaluation task was looked for, and no row of the table repeats a text of one.

    Neither is believed: the texts are found again, and the rows asked again under the recipe's limits.
    """
    recipe, rows = subject.recipe, subject.artifact.table()
    of_tasks = task_texts(subject.artifact.path)
    texts = offline_evaluation_texts(recipe.evaluation) | of_tasks
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
    return _outcome(
        not faults,
        "; ".join(faults) or f"none of {rows.height} rows repeats a text of {len(texts)} evaluation tasks",
        "materialize final_triplets anew, or leave a task out knowingly (evaluation.unsearched)",
        metadata,
    )


def _outcome(passed: bool, finding: str, advice: str, metadata: dict[str, Any]) -> Outcome:
    return Outcome(passed, finding if passed else f"{finding}: {advice}", metadata)


def _number(subject: Subject, name: str) -> int:
    """A count that the stage put into its metadata. Raises KeyError naming the stage."""
    try:
        return int(subject.artifact.metadata[name])
    except (KeyError, TypeError):
        raise KeyError(f"{subject.artifact.asset} has no count `{name}` in its metadata") from None


def _asked(subject: Subject) -> int:
    """Rows that the table had to account for: what the recipe asks for, else what the stage took in.

    The recipe is preferred because a stage that lost its input would itself believe that nothing was asked.
    """
    recipe, asset = subject.recipe, subject.artifact.asset
    if asset == "seed_data":
        return _of_type(recipe.seed_data.rows, subject)
    if asset == "junior_data" and recipe.junior_data:
        return _of_type(recipe.junior_data.prompts, subject) * recipe.junior_data.candidates
    if asset == "senior_data" and recipe.senior_data:
        return _of_type(recipe.senior_data.rows, subject)
    return _number(subject, "rows_in" if asset == "final_triplets" else "asked")


def _judged(subject: Subject) -> int:
    """Prompts that the recipe wanted judged in this partition."""
    section = subject.recipe.preference_pairs
    return _of_type(section.prompts, subject) if section else 0


def _of_type(rows: PerTaskType, subject: Subject) -> int:
    return int(getattr(rows, str(subject.partition)))


def _quarantined(subject: Subject) -> dict[str, Any]:
    """How many rows were set aside for which reason, and the first of them."""
    rows = subject.artifact.table("quarantine")
    if not rows.height:
        return {"quarantined": 0}
    counts = rows["reason"].value_counts(sort=True, name="rows")
    return {
        "quarantined": rows.height,
        "quarantined_by_reason": counts.to_dicts(),
        "quarantined_rows": example_rows(rows),
    }


def _expectations(asset: str) -> tuple[Check, ...]:
    gate = Check(
        asset,
        "expectations",
        True,
        "Columns, ids, empty cells and ranges are as every reader of this table relies on.",
        partial(meets_expectations, severity="critical"),
    )
    warning = Check(
        asset,
        "plausible",
        False,
        "No row's negative is its own query.",
        partial(meets_expectations, severity="warning"),
    )
    return (gate, warning) if any(expect.severity == "warning" for expect in SUITES[asset]) else (gate,)


CHECKS: tuple[Check, ...] = (
    Check("evaluation_texts", "every_task", True, "Every evaluation task has texts to look for.", every_task_read),
    *(check for asset in SUITES for check in _expectations(asset)),
    Check(
        "topics",
        "refused_share",
        True,
        "Few enough lines of the topic file were refused.",
        topics_refused,
        ("topics_refused_max",),
    ),
    Check("task_list", "missing_share", True, "Nearly every topic has a task.", tasks_missing, ("tasks_missing_max",)),
    *(
        Check(
            asset,
            "valid_share",
            True,
            "Enough of the rows asked for are whole records.",
            valid_share,
            (f"{asset}_valid_min",),
        )
        for asset in _WRITTEN
    ),
    Check(
        "preference_pairs",
        "pairs",
        False,
        "The task type has preference pairs.",
        some_pairs,
        version=2,
    ),
    Check(
        "senior_model",
        "pairs",
        True,
        "There were enough preference pairs to learn from, of all task types together.",
        enough_pairs,
        ("pairs_min",),
    ),
    Check(
        "preference_pairs",
        "judge_contradictions",
        True,
        "The judge does not call the same candidate best in one order and worst in another.",
        judge_contradictions,
        ("judge_contradictions_max",),
    ),
    Check(
        "preference_pairs",
        "judge_unreadable",
        True,
        "The judge's verdicts can be read.",
        judge_unreadable,
        ("judge_unreadable_max",),
    ),
    Check(
        "revised_data",
        "revisions_readable",
        True,
        "The revisor's answers can be read as revisions.",
        revisions_readable,
        ("revisions_readable_min",),
    ),
    Check(
        "final_triplets", "contamination", True, "No row repeats a text that the model is scored on.", uncontaminated
    ),
    Check("final_triplets", "kept_share", True, "Most rows survive filtering.", kept_share, ("kept_min",), version=2),
    Check(
        "final_triplets",
        "topic_coverage",
        False,
        "Nearly every topic asked for has a row.",
        topic_coverage,
        ("topic_coverage_min",),
    ),
    Check(
        "final_triplets",
        "task_type_shares",
        False,
        "Task types are mixed as intended.",
        task_type_shares,
        ("task_type_distance_max",),
    ),
    Check("final_triplets", "vendi", False, "Rows differ from each other.", vendi, ("vendi_per_row_min",)),
    *(
        Check(asset, "accounted", True, "No row vanished: in the table or in the quarantine.", all_accounted)
        for asset in (
            "topic_tree",
            "task_list",
            *_WRITTEN,
            "preference_pairs",
            "row_scores",
            "row_verdicts",
            "final_triplets",
            "mined_negatives",
            "quarantine",
        )
    ),
)
