"""Every check on a table, in one tuple.

Each table is checked twice for its expectations (`suites.py`): `expectations` are a gate, `plausible` warns.

Belongs here: the list. Not here: the checks (`written_rows.py`, `judgements.py`, `final_rows.py`), rows and columns
(`suites.py`).
"""

from __future__ import annotations

from functools import partial

from checks.check import Check, Outcome, Subject
from checks.expectations import validate
from checks.final_rows import (
    every_task_read,
    kept_share,
    task_type_shares,
    topic_coverage,
    uncontaminated,
    vendi,
    wanted_rows,
)
from checks.judgements import judge_contradictions, judge_unreadable, revisions_readable
from checks.suites import SUITES, Severity
from checks.written_rows import all_accounted, enough_pairs, some_pairs, tasks_missing, topics_refused, valid_share

_WRITTEN = ("seed_data", "junior_data", "senior_data", "revision_data", "revised_data")


def meets_expectations(subject: Subject, severity: Severity) -> Outcome:
    """The table's expectations of one severity."""
    drawn = None if "given" in subject.artifact.metadata else subject.recipe.languages  # the user's rows have none
    languages = tuple(drawn.shares) if drawn else ()
    return validate(subject.artifact.asset, subject.artifact.table(), subject.partition, severity, languages)


def _expectations(asset: str) -> tuple[Check, ...]:
    gate = Check(
        asset,
        "expectations",
        True,
        "Columns, ids, empty cells and ranges are as downstream assets need them.",
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
    Check("evaluation_texts", "every_task", True, "Every evaluation task has texts to search for.", every_task_read),
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
            "Enough of the rows asked for are valid records.",
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
        "There are enough preference pairs to train on, over all task types.",
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
        version=2,
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
        "wanted_rows",
        True,
        "As many rows passed as are wanted, or the ceiling on rows written for them is met.",
        wanted_rows,
        fields=("final_triplets.wanted",),
    ),
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
        Check(asset, "accounted", True, "Every row is in the table or in the quarantine.", all_accounted)
        for asset in (
            "passages",
            "own_evaluation",
            "topic_tree",
            "task_list",
            *_WRITTEN,
            "preference_pairs",
            "row_scores",
            "row_verdicts",
            "final_triplets",
            "mined_negatives",
            "reranker_scores",
            "quarantine",
        )
    ),
)
