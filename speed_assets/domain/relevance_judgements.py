"""What is wrong with the judgements of a ranking set: what points nowhere, stands twice, or is no grade.

A wrong judgement lowers every score without a word, so each fault is refused with its count and an example. What may be meant is
a note: it is reported with the scores.

Belongs here: looking for faults in ids, texts and grades. Not here: files (`workers/folder_tasks.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Judgement = tuple[str, str, float]
"""(query id, document id, grade)."""


@dataclass
class Judged:
    """The grades of documents by query that can be scored, and what is to be reported about them."""

    grades: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def once(ids: Sequence[str], what: str) -> None:
    """Raises ValueError with the count and an example when an id stands more than once.

    Args:
        ids: in the order of the file.
        what: how the message calls the file.
    """
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(
            f"{what}: {_some(len(twice), 'id stands', 'ids stand')} more than once, such as {twice[0]!r}: give each once"
        )


def judged(
    judgements: Iterable[Judgement], queries: Iterable[str], texts: Mapping[str, str], *, drop_dangling: bool = False
) -> Judged:
    """The judgements as they are scored.

    Args:
        judgements: of one split.
        queries: ids of all queries.
        texts: texts of the corpus by id.
        drop_dangling: skip judgements that point to no query or document, and note their count.

    Raises:
        ValueError: for grades that are no integers, a pair that is judged twice in two ways, judgements that point to
            nothing, and when no judgement is left.
    """
    rows = list(judgements)
    query_ids = set(queries)
    fractional = [row for row in rows if not float(row[2]).is_integer()]
    if fractional:
        raise ValueError(
            f"{_some(len(fractional), 'relevance is', 'relevances are')} no integer, such as {fractional[0][2]:g} of query "
            f"{fractional[0][0]!r}: grades are 0 (not relevant), 1, 2, ..."
        )
    found = Judged()
    dangling = [row for row in rows if row[0] not in query_ids or row[1] not in texts]
    if dangling and not drop_dangling:
        raise ValueError(_dangling(dangling, query_ids, len(rows)))
    if dangling:
        found.notes.append(
            f"{len(dangling):,} of {len(rows):,} judgements point to no query or document and are left out"
        )
        gone = set(dangling)
        rows = [row for row in rows if row not in gone]
    if not rows:
        raise ValueError("there is no judgement of a query and a document that are there")
    changed = 0
    for query, document, grade in rows:
        of_query = found.grades.setdefault(query, {})
        changed += of_query.setdefault(document, int(grade)) != int(grade)
    if changed:
        raise ValueError(
            f"{_some(changed, 'pair is', 'pairs are')} judged twice with different grades: keep one of them"
        )
    found.notes += _notes(found.grades, texts)
    return found


def _dangling(rows: Sequence[Judgement], queries: set[str], total: int) -> str:
    query, document, _ = rows[0]
    what = f"no query has the id {query!r}" if query not in queries else f"no document has the id {document!r}"
    return (
        f"{len(rows):,} of {total:,} judgements point nowhere: {what}. Correct the ids, or set `dangling: drop` in task.yaml to skip "
        "such judgements"
    )


def _notes(grades: Mapping[str, Mapping[str, int]], texts: Mapping[str, str]) -> list[str]:
    """What may lower scores without being wrong."""
    notes = []
    ids_of: dict[str, list[str]] = {}
    for document, text in texts.items():
        ids_of.setdefault(" ".join(text.split()).casefold(), []).append(document)
    twins = {document: ids for ids in ids_of.values() if len(ids) > 1 for document in ids}
    misses = sum(
        1
        for of_query in grades.values()
        for document, grade in of_query.items()
        if grade > 0 and any(twin not in of_query for twin in twins.get(document, ()))
    )
    if misses:
        notes.append(
            f"{_some(misses, 'relevant document has', 'relevant documents have')} the same text as one that is not judged for its "
            "query: finding that one counts as a miss"
        )
    if hopeless := sum(1 for of_query in grades.values() if not any(grade > 0 for grade in of_query.values())):
        notes.append(
            f"{_some(hopeless, 'query has', 'queries have')} no relevant document: each scores 0 for any model"
        )
    if empty := sum(1 for text in texts.values() if not text.strip()):
        notes.append(f"{_some(empty, 'document has', 'documents have')} no text")
    return notes


def _some(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
