"""Pools: what several retrievers find for a query, and what verdicts in two orders say of each passage.

A passage that answers a query and is marked by nobody counts as a miss for every model that finds it. So the results of several
retrievers are pooled (as TREC does), and each is judged next to one passage that the judge sees every time: the one that the
query was written for, or one drawn at random where nobody knows an answer. It is shown first once, and second once.

Belongs here: the pool of a query, agreement of two orders, counts. Not here: searching (`workers/pool_passages.py`), asking
(`assets/pools.py`), the wording of the question (`prompt_sets/`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from speed_assets.domain.fingerprints import digest

RETRIEVED = {"row_id": pl.String, "passage_id": pl.String, "retriever": pl.String, "rank": pl.Int64}
"""Columns of what retrievers find: a query, a passage, who found it, and its rank from 1."""
DISAGREE = "orders_disagree"
UNREADABLE = "unreadable:"
"""Begins the problem of a pair of verdicts of which one cannot be read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What two verdicts on a passage say."""

    relevant: bool | None
    """None where they disagree or one of them cannot be read."""
    problem: str | None
    """Why it is None."""
    known: tuple[bool, ...]
    """What the verdicts that can be read say of the passage next to it."""


def agreed(known_first: tuple[bool, bool] | str, known_second: tuple[bool, bool] | str) -> Reading:
    """What the verdicts in the two orders say together: a passage is relevant only when both say so.

    Args:
        known_first: (known passage, judged one), or the code of why the verdict cannot be read.
        known_second: (judged passage, known one), or such a code.

    >>> agreed((True, True), (True, True)).relevant, agreed((True, True), (False, True)).problem
    (True, 'orders_disagree')
    """
    known = tuple(
        verdict[place] for verdict, place in ((known_first, 0), (known_second, 1)) if not isinstance(verdict, str)
    )
    if isinstance(known_first, str) or isinstance(known_second, str):
        code = known_first if isinstance(known_first, str) else known_second
        return Reading(None, f"{UNREADABLE}{code}", known)
    if known_first[1] != known_second[0]:
        return Reading(None, DISAGREE, known)
    return Reading(known_second[0], None, known)


def pool_of(retrieved: pl.DataFrame, without: pl.DataFrame) -> pl.DataFrame:
    """What the retrievers found, each passage of a query once: row_id, passage_id, retrievers (names, joined), rank (the best).

    Args:
        retrieved: columns of `RETRIEVED`.
        without: row_id, passage_id of passages that need no judgement.
    """
    return (
        retrieved.join(without, on=["row_id", "passage_id"], how="anti", maintain_order="left")
        .group_by("row_id", "passage_id", maintain_order=True)
        .agg(retrievers=pl.col("retriever").str.join(", "), rank=pl.col("rank").min())
    )


def drawn_at_random(row_id: str, ranked_ids: Sequence[str], seed: int, pool: Collection[str]) -> str | None:
    """The passage that stands next to those judged for a query without a known answer; None where all are in its pool.

    It is the first whose id follows a hash of the query, so that another passage in the corpus changes the draw of few queries.

    Args:
        row_id: of the query.
        ranked_ids: of all passages, sorted; ids are hashes themselves.
        seed: of the recipe.
        pool: ids of the passages that are judged.
    """
    start = bisect_left(ranked_ids, digest([seed, "next to", row_id])[:16])
    around = (ranked_ids[(start + step) % len(ranked_ids)] for step in range(len(ranked_ids)))
    return next((one for one in around if one not in pool), None)


def denied(known: Iterable[bool]) -> bool:
    """Whether a judge denies more often than not that a known passage answers; without any verdict it does not.

    >>> denied([True, False, False]), denied([]), denied([True, False])
    (True, False, False)
    """
    said = list(known)
    return 2 * sum(said) < len(said)


def pool_counts(judged: pl.DataFrame, queries: int) -> dict[str, Any]:
    """What is to be reported of a pool, as one row of a table.

    Args:
        judged: row_id, relevant (null where not agreed), problem.
        queries: that were searched for.
    """
    read = judged.filter(pl.col("problem").is_null() | (pl.col("problem") == DISAGREE))
    relevant = int(judged["relevant"].sum())
    return {
        "pooled_per_query": _share(judged.height, queries),
        "judged": judged.height,
        "unreadable": judged.height - read.height,
        "orders_disagree": read["problem"].count(),
        "orders_agree_share": _share(read["problem"].null_count(), read.height),
        "relevant": relevant,
        "relevant_share": _share(relevant, judged.height),
        "queries_with_more_answers": judged.filter(pl.col("relevant").fill_null(False))["row_id"].n_unique(),
    }


def retriever_counts(judged: pl.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    """What each retriever added: passages, those that only it found, and how many of its passages are relevant.

    Args:
        judged: retrievers, relevant.
        names: of the retrievers.
    """
    found: list[dict[str, Any]] = []
    lists = judged["retrievers"].str.split(", ")
    for name in names:
        of_name = judged.filter(lists.list.contains(name))
        relevant = of_name.filter(pl.col("relevant").fill_null(False))
        found.append(
            {
                "retriever": name,
                "passages": of_name.height,
                "found_alone": of_name.filter(pl.col("retrievers") == name).height,
                "relevant": relevant.height,
                "relevant_found_alone": relevant.filter(pl.col("retrievers") == name).height,
            }
        )
    return found


def best_grades(judgements: Iterable[tuple[str, str, int]]) -> Mapping[tuple[str, str], int]:
    """The highest grade of each (query, passage), in the order of the first.

    >>> best_grades([("q", "a", 0), ("q", "a", 2), ("q", "b", 1)])
    {('q', 'a'): 2, ('q', 'b'): 1}
    """
    found: dict[tuple[str, str], int] = {}
    for query, passage, grade in judgements:
        found[query, passage] = max(grade, found.get((query, passage), grade))
    return found


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
