"""Checks on what judges answered: contradictions, verdicts and revisions that cannot be read.

Belongs here: the teacher as judge, and the revisor. Not here: the rows that they judge.
"""

from __future__ import annotations

from checks.check import Outcome, Subject
from checks.table_counts import (
    count_in_metadata,
    outcome_with_advice,
    quarantine_metadata,
)
from speed_assets.domain.judging import at_least_by_chance

ALPHA = 0.05
"""Probability with which a judge at the limit is refused all the same, one-sided: ours."""


def judge_contradictions(subject: Subject) -> Outcome:
    """Prompts in which a judge calls a candidate best in one order and worst in another, of the judge that does so most."""
    most = subject.recipe.checks.judge_contradictions_max
    judges: dict[str, dict[str, int]] = subject.artifact.metadata["contradictions"]
    # Of few prompts a large share says little of the judge: it has to be more than a judge at the limit would come to by chance.
    over = {
        judge: found
        for judge, found in judges.items()
        if found["contradicted"] > most * found["prompts"]
        and at_least_by_chance(found["contradicted"], found["prompts"], most) < ALPHA
    }
    shown = over or judges
    worst = max(shown, key=lambda judge: _share_of(shown[judge]), default=None)
    if worst is None:
        return Outcome(True, "no prompt of this task type was judged", {"judges": {}})
    found = shown[worst]
    return outcome_with_advice(
        not over,
        f"{worst} called a candidate best in one order and worst in another on {found['contradicted']} of "
        f"{found['prompts']} prompts with two readable verdicts ({_share_of(found):.1%}), at most {most:.1%} may be so "
        "(checks.judge_contradictions_max)",
        "use a stronger teacher or fewer candidates, or look at the verdicts in the quarantined rows",
        {"judges": judges, **quarantine_metadata(subject)},
    )


def judge_unreadable(subject: Subject) -> Outcome:
    """The largest share of unreadable verdicts that any judge has."""
    most = subject.recipe.checks.judge_unreadable_max
    judges: dict[str, dict[str, int]] = subject.artifact.metadata["unreadable"]
    shares = {
        judge: found["unreadable"] / found["verdicts"] if found["verdicts"] else 0.0 for judge, found in judges.items()
    }
    worst = max(shares, key=lambda judge: shares[judge], default=None)
    if worst is None:
        return Outcome(True, "no prompt of this task type was judged", {"judges": {}})
    found = judges[worst]
    return outcome_with_advice(
        shares[worst] <= most,
        f"{found['unreadable']} of {found['verdicts']} verdicts of {worst} ({shares[worst]:.1%}) could not be read, "
        f"at most {most:.1%} may be so (checks.judge_unreadable_max)",
        "look at the verdicts in the quarantined rows; give the judge more tokens, hold it to the schema "
        "(teacher.structured_output), or use a stronger teacher",
        {"judges": judges, "problems": subject.artifact.metadata["verdict_problems"], **quarantine_metadata(subject)},
    )


def revisions_readable(subject: Subject) -> Outcome:
    """The share of the revisor's answers that can be read as revisions."""
    asked, unreadable = count_in_metadata(subject, "revisions"), count_in_metadata(subject, "revisions_unreadable")
    least = subject.recipe.checks.revisions_readable_min
    share = 1 - unreadable / asked if asked else 1.0
    return outcome_with_advice(
        share >= least,
        f"{asked - unreadable} of {asked} revisions ({share:.1%}) can be read, at least {least:.1%} must be "
        "(checks.revisions_readable_min)",
        "train the revisor on more rows or longer (revision_data.rows, revisor_model), or leave its stage out",
        {"revisions": asked, "unreadable": unreadable, "problems": subject.artifact.metadata["revision_problems"]},
    )


def _share_of(found: dict[str, int]) -> float:
    return found["contradicted"] / found["prompts"] if found["prompts"] else 0.0
