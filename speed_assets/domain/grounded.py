"""Rows from passages: which passage, which kind of query and which reader each row is about.

The passage is the positive, verbatim; a writer gives the query. Which rows there are follows from hashes of passages, so that a
changed document changes its own rows and moves few others.

Belongs here: kinds of query, drawing. Not here: cutting (`passages.py`), wording of prompts (`prompt_sets/`),
rows of other task types from passages (`given_texts.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import polars as pl

from speed_assets.domain.asking import Asking
from speed_assets.domain.fingerprints import digest, seed_for, short_id
from speed_assets.domain.row_languages import with_passage_languages
from speed_assets.domain.task_types import GROUNDED

QueryKind = Literal["keyword", "question", "how_to", "claim"]
QUERY_KINDS: tuple[QueryKind, ...] = get_args(QueryKind)
ANYONE = "somebody who needs what it says"
"""The reader where the recipe names none."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a kind of query is asked for, in how many words, and the instruction that such rows are trained under."""

    asked: str
    words: tuple[int, int]
    task: str


WORDINGS: Mapping[QueryKind, Wording] = {
    "keyword": Wording(
        "two to six keywords, as typed into a search box",
        (2, 6),
        "Given search keywords, retrieve passages that are about them.",
    ),
    "question": Wording(
        "a question of five to fifteen words that the passage answers",
        (5, 15),
        "Given a question, retrieve passages that answer it.",
    ),
    "how_to": Wording(
        "a request of five to fifteen words for how to do or solve something that the passage explains",
        (5, 15),
        "Given a problem or a goal, retrieve passages that explain how to go about it.",
    ),
    "claim": Wording(
        "a claim of five to twenty words that the passage supports or refutes",
        (5, 20),
        "Given a claim, retrieve passages that support or refute it.",
    ),
}


QUERY_WORDS: Mapping[str, tuple[int, int]] = {wording.task: wording.words for wording in WORDINGS.values()}
"""Fewest and most words of a query that a prompt asks for, by the task of its kind."""


@dataclass(frozen=True, slots=True)
class Queries:
    """What queries are like. Fields as in the recipe's section `corpus`."""

    kinds: Mapping[QueryKind, float]
    """Weight of each kind."""
    personas: Sequence[str] = ()
    """Readers, one of whom is drawn for each row."""


def drawn_passages(passage_ids: Iterable[str], rows: int, seed: int, stage: str) -> list[tuple[str, int]]:
    """Draw the passage of each row: passages in the order of a hash named by stage, round after round.

    Args:
        passage_ids: of all passages that may be drawn.
        rows: to be written.
        seed: of the recipe.
        stage: that writes them.

    Returns:
        (passage id, draw) of each row; `draw` counts from 0 how often the passage was drawn before. Empty without a passage.

    >>> len(drawn_passages(["a", "b"], 3, 1, "seed_data"))
    3
    """
    ranked = sorted(passage_ids, key=lambda one: digest([seed, stage, one]))
    return [(ranked[i % len(ranked)], i // len(ranked)) for i in range(rows)] if ranked else []


def draw_name(stage: str, task_type: str) -> str:
    """The name by which a stage draws passages for a task type: queries have that of the stage alone.

    >>> draw_name("seed_data", "grounded"), draw_name("seed_data", "grounded_sts")
    ('seed_data', 'seed_data grounded_sts')
    """
    return stage if task_type == GROUNDED else f"{stage} {task_type}"


def drawn_query(queries: Queries, seed: int, row_id: str) -> tuple[QueryKind, str]:
    """The kind of query and the reader of a row."""
    rng = random.Random(seed_for(seed, "query", row_id))
    kinds = [kind for kind in QUERY_KINDS if queries.kinds.get(kind, 0) > 0]
    kind = rng.choices(kinds, [queries.kinds[kind] for kind in kinds])[0]
    return kind, rng.choice(queries.personas) if queries.personas else ANYONE


def grounded_rows(passages: pl.DataFrame, asking: Asking, queries: Queries) -> pl.DataFrame:
    """Rows whose query is to be written from passages, as `rows.synthesis_rows` gives those about topics, with the column `passage`.

    Args:
        passages: passage_id, document_id, title, text.
        asking: how many rows are asked for, and how.
        queries: what they are like.
    """
    by_id = {row["passage_id"]: row for row in passages.iter_rows(named=True)}
    asked = []
    for passage_id, draw in drawn_passages(by_id, asking.rows, asking.seed, asking.stage):
        row_id, passage = short_id(asking.stage, passage_id, draw), by_id[passage_id]
        kind, persona = drawn_query(queries, asking.seed, row_id)
        wording, text = WORDINGS[kind], passage["text"]
        prompt = partial(asking.prompts.grounded, wording.task, text, wording.asked, persona)
        topic = passage["title"] or passage["document_id"]
        asked.append(asking.row(row_id, passage_id, topic, wording.task, {}, prompt, text))
    rows = asking.table(asked, passages=True)
    return with_passage_languages(rows, asking.languages) if asking.languages else rows
