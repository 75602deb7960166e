"""What is wrong with the judgements and candidates of a ranking set: what points nowhere, stands twice, or is no grade.

A wrong judgement lowers every score without a word, so each fault is refused with its count and an example. What may be meant is
a note: a plan and the check `sound_judgements` of the scores report it.

Belongs here: looking for faults in ids, texts and grades. Not here: files (`workers/folder_data.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """The judgements as they are scored. A grade below 0 is 0: collections of TREC mark spam so.

    Args:
        judgements: of one split.
        queries: ids of all queries.
        texts: texts of the corpus by id, or whatever is equal where they are.
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
        raise ValueError(_dangling(dangling[0][:2], len(dangling), len(rows), query_ids, "judgements"))
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
        kept = max(int(grade), 0)
        changed += of_query.setdefault(document, kept) != kept
    if changed:
        raise ValueError(
            f"{_some(changed, 'pair is', 'pairs are')} judged twice with different grades: keep one of them"
        )
    if negative := sum(1 for row in rows if row[2] < 0):
        found.notes.append(f"{_some(negative, 'relevance is', 'relevances are')} below 0 and counts as 0, not relevant")
    found.notes += _notes(found.grades, texts)
    return found


def unjudged(queries: Collection[str], asked: Collection[str]) -> list[str]:
    """A note on queries that no judgement names, of a set whose judged queries alone are scored.

    Args:
        queries: ids of all queries.
        asked: ids that judgements of any split name.
    """
    without = [query for query in queries if query not in asked]
    if not without:
        return []
    return [
        f"{len(without):,} of {len(queries):,} queries {'has' if len(without) == 1 else 'have'} no judgement, such as "
        f"{without[0]!r}, and will not be scored"
    ]


def judged_apart(grades: Mapping[str, Mapping[str, int]], queries: Mapping[str, str]) -> list[str]:
    """A note on queries of one text that are judged differently.

    Args:
        grades: of documents by query.
        queries: texts of all queries by id, or whatever is equal where they are.
    """
    first_of: dict[str, str] = {}
    apart = []
    for query, of_query in grades.items():
        first = first_of.setdefault(" ".join(queries[query].split()).casefold(), query)
        if of_query != grades[first]:
            apart.append((first, query))
    if not apart:
        return []
    first, second = apart[0]
    return [
        f"{_some(len(apart), 'query has', 'queries have')} the text of another one and other judgements, such as {second!r} and "
        f"{first!r}: what is right for one of them is a miss for the other"
    ]


def candidates_of(
    pairs: Iterable[tuple[str, str]],
    grades: Mapping[str, Mapping[str, int]],
    queries: Collection[str],
    documents: Collection[str],
    *,
    drop_dangling: bool = False,
) -> tuple[dict[str, list[str]], list[str]]:
    """The candidates of each judged query, each once, and what is to be reported about them.

    Args:
        pairs: (query id, document id).
        grades: of documents by query, of one split.
        queries: ids of all queries.
        documents: ids of the corpus.
        drop_dangling: skip candidates that point to no query or document, and note their count.

    Raises:
        ValueError: for candidates that point to nothing, and judged queries that have none.
    """
    notes: list[str] = []
    found: dict[str, dict[str, None]] = {}
    dangling: list[tuple[str, str]] = []
    total = twice = 0
    for query, document in pairs:
        total += 1
        if query not in queries or document not in documents:
            dangling.append((query, document))
            continue
        of_query = found.setdefault(query, {})
        twice += document in of_query
        of_query[document] = None
    if dangling and not drop_dangling:
        raise ValueError(_dangling(dangling[0], len(dangling), total, queries, "candidates"))
    if dangling:
        notes.append(f"{len(dangling):,} of {total:,} candidates point to no query or document and are left out")
    if without := [query for query in grades if query not in found]:
        raise ValueError(
            f"{_some(len(without), 'judged query has', 'judged queries have')} no candidates, such as {without[0]!r}: add "
            "them, or take out its judgements"
        )
    if twice:
        notes.append(
            f"{_some(twice, 'candidate stands', 'candidates stand')} more than once for a query and counts once"
        )
    missed = sum(
        1
        for query, of_query in grades.items()
        for document, grade in of_query.items()
        if grade > 0 and document not in found[query]
    )
    if missed:
        notes.append(
            f"{_some(missed, 'relevant document is', 'relevant documents are')} no candidate of its query: no model can find it"
        )
    return {query: list(found[query]) for query in grades}, notes


def _dangling(first: tuple[str, str], count: int, total: int, queries: Collection[str], what: str) -> str:
    query, document = first
    cause = f"no query has the id {query!r}" if query not in queries else f"no document has the id {document!r}"
    return (
        f"{count:,} of {total:,} {what} point nowhere: {cause}. Correct the ids, or set `dangling: drop` in task.yaml to skip "
        f"such {what}"
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
