"""Revisions: a patch on a draft, applied only if the record stays valid.

What cannot be read says nothing: it changes no row, approves none and casts no doubt on any. A doubt comes from a readable
finding alone: a fault that the last of several readings still names, or a patch that was not taken because it would have
spoiled the record, so that the fault it was meant for is still there.

Belongs here: applying and balancing revisions. Not here: reading model text (`parsing.py`) or asking for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from speed_assets.domain.parsing import Revision, parse_record, parse_revision
from speed_assets.domain.task_types import TASK_TYPES

DRAFT_ECHO = "draft_echo"
"""Problem of a revision that only repeats its draft."""


@dataclass(frozen=True, slots=True)
class Revised:
    """A record after revision, as JSON text. `spoils` marks a revision that would have spoiled it and was not taken;
    `problem` is why a revision could not be read, and then `reason` is None."""

    record: str
    changed: bool
    spoils: bool
    reason: str | None
    problem: str | None = None


def draft_of_row(task_type: str, row: Mapping[str, str | None]) -> str:
    """The text of a row that the revisor gets: its record as one line of JSON, or the raw output if it is unreadable."""
    record = TASK_TYPES[task_type].record(row)
    return json.dumps(record, ensure_ascii=False) if record else row["output"] or ""


def revise(task_type: str, draft: str, answer: str, finished: bool | None = None) -> Revised:
    """Apply the revisor's raw answer to a draft. Unreadable answers and spoiling patches leave the draft as it was.

    Args:
        task_type: that of the draft.
        draft: the record as JSON, or raw text where none could be read.
        answer: the revisor's raw text.
        finished: Whether the revisor ended by itself; None where that is unknown.
    """
    before = parse_record(task_type, draft)
    revision = without_unchanged_fields(parse_revision(task_type, answer, finished), before.record)
    if revision.problem is not None:
        return Revised(draft, False, False, None, revision.problem)
    if not revision.changes:
        return Revised(draft, False, False, revision.reason)
    after = before.record | revision.changes
    patched = json.dumps({key: after[key] for key in TASK_TYPES[task_type].keys if key in after}, ensure_ascii=False)
    if parse_record(task_type, patched).problem is not None and before.problem is None:
        return Revised(draft, False, True, revision.reason)
    return Revised(patched, before.record != after, False, revision.reason)


def without_unchanged_fields(revision: Revision, record: Mapping[str, str]) -> Revision:
    """The revision without fields whose text is that of the record; one that repeats the record and gives no reason says nothing of it."""
    changes = {key: text for key, text in revision.changes.items() if record.get(key) != text}
    echo = bool(revision.changes) and not changes and not revision.reason
    return replace(revision, changes=changes, problem=revision.problem or (DRAFT_ECHO if echo else None))


def keeps_a_text_of_draft(task_type: str, draft: str, record: str) -> bool:
    """Whether a revised record still has a text of its draft.

    Args:
        task_type: Of the row.
        draft: The draft, as `revise` takes it.
        record: The record, as `revise` returns it.
    """
    before, after = parse_record(task_type, draft).record, parse_record(task_type, record).record
    return draft == record or any(before.get(key) == text for key, text in after.items())


@dataclass(frozen=True, slots=True)
class RevisedRows:
    """Records after the readings of a revisor, in the order of the drafts."""

    records: list[str]
    reasons: list[str | None]
    """The revisor's reason when the record was last changed, or first left unchanged."""
    doubts: list[str | None]
    """The fault that the revisor still found; None where it found none."""
    readings: list[dict[str, int]]
    """Of each reading: rows read, revisions that could not be read, rows in which a fault was found, revisions not taken."""
    problems: dict[str, int]
    """Revisions that could not be read, by problem, most frequent first."""
    readable: list[bool]
    """Whether any reading of the record could be read."""


def revise_rows(
    drafts: Sequence[str], readings: int, read: Callable[[int, list[int], list[str]], list[Revised]]
) -> RevisedRows:
    """Let a revisor read all drafts and revise them, then read again what it has changed.

    The last of several readings only finds faults. With one reading, no changed row is read again.

    Args:
        drafts: Records as JSON text.
        readings: Number of readings, at least 1.
        read: From the number of the reading, the places of the rows and their records to a revision of each.
    """
    mended = RevisedRows(list(drafts), [None] * len(drafts), [None] * len(drafts), [], {}, [False] * len(drafts))
    unread: Counter[str] = Counter()
    pending = list(range(len(drafts)))
    for reading in range(readings):
        judging = reading == readings - 1 and readings > 1
        results = read(reading, pending, [mended.records[row] for row in pending])
        for row, result in zip(pending, results, strict=True):
            if result.problem is not None:
                unread[result.problem] += 1
                continue
            mended.readable[row] = True
            if result.spoils or (judging and result.changed):
                mended.doubts[row] = result.reason or "no reason given"
            elif result.changed:
                mended.records[row] = result.record
            if reading == 0 or (result.changed and not judging):
                mended.reasons[row] = result.reason
        mended.readings.append(
            {
                "rows": len(pending),
                "unreadable": sum(result.problem is not None for result in results),
                "found_fault": sum(result.changed or result.spoils for result in results),
                "not_taken": sum(result.spoils for result in results),
            }
        )
        pending = [row for row, result in zip(pending, results, strict=True) if result.changed]
        if not pending:
            break
    mended.problems.update(unread.most_common())
    return mended


def repeat_rarer_kind(rows: pl.DataFrame, mended_share: float, repeats_max: int = 3) -> pl.DataFrame:
    """Repeat rows of the rarer kind, in order, until `mended_share` of the rows mend something.

    With no row of one kind the rows are returned unchanged.

    Args:
        rows: Rows with the column `mended`.
        mended_share: Share (0..1) of rows that mend something.
        repeats_max: Most copies of one row, even if the share is not reached then: a few answers that are learnt by heart
            teach less than they cost.
    """
    mended, fine = rows.filter("mended"), rows.filter(~pl.col("mended"))
    if mended.is_empty() or fine.is_empty() or not 0 < mended_share < 1:
        return rows
    wanted_mended = round(fine.height * mended_share / (1 - mended_share))
    if wanted_mended >= mended.height:
        mended = _repeat(mended, min(wanted_mended, repeats_max * mended.height))
    else:
        wanted_fine = round(mended.height * (1 - mended_share) / mended_share)
        fine = _repeat(fine, min(wanted_fine, repeats_max * fine.height))
    return pl.concat([mended, fine])


def _repeat(rows: pl.DataFrame, wanted: int) -> pl.DataFrame:
    whole, rest = divmod(wanted, rows.height)
    return pl.concat([rows] * whole + [rows.head(rest)])
