"""The user's judged queries as a retrieval set: their documents are passages of the corpus, and all passages are searched.

Belongs here: from documents and texts that are judged to passages, and queries that cannot be scored. Not here: reading the file
(`resources/inputs/judged_queries.py`), pooling (`own_sets.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from resources.inputs.judged_queries import JudgedQueries, read_judged_queries
from speed_assets.assets.own_sets import GRADES, OwnSet
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.evaluation_folders import OWN_SETS
from speed_assets.domain.few_shot import query_kind
from speed_assets.domain.fingerprints import digest, short_id
from speed_assets.domain.graph import EXAMPLES, PASSAGES
from speed_assets.domain.grounded import WORDINGS
from speed_assets.domain.judged_texts import passages_of_texts, same_spaces
from speed_assets.domain.pooling import best_grades
from speed_assets.domain.relevance_judgements import judged
from speed_assets.recipe import OwnEvaluation, RecipeError

FOLDER = OWN_SETS[1]
"""Folder of the artifact with the user's queries in BEIR's layout, and what scores call the set."""


def judged_set(run: StageRun[OwnEvaluation]) -> tuple[OwnSet, dict[str, Any]]:
    """The user's queries, searched for among all passages, and what is to be reported of their judgements.

    A document counts in each of its passages. A text that no passage holds is added to those that are searched. Queries that are among
    `examples`, which are trained on, are rejected; so are those that are judged nowhere, unless the recipe pools.

    Raises:
        RecipeError: the file cannot be read, its grades cannot be scored, or no judgement is of a document of the corpus.
    """
    section = run.section
    found = _chosen(read_judged_queries(section), section.queries_max, run.recipe.seed)
    passages = run.input_rows(PASSAGES)
    places, added = _places(found, passages)
    searched = pl.concat([passages.select("passage_id", "text"), added])
    row_ids = {one: short_id(FOLDER, one) for one in found.queries}
    grades, notes = _grades(found, places, section)
    judgements = best_grades(
        (row_ids[query], place, grade)
        for query, documents in grades.items()
        for document, grade in documents.items()
        for place in places[document]
    )
    one = OwnSet(
        FOLDER,
        searched,
        pl.DataFrame(
            [(row_ids[name], WORDINGS[query_kind(text)].task, text) for name, text in found.queries.items()],
            schema=dict.fromkeys(("row_id", "task", "query"), pl.String),
            orient="row",
        ),
        pl.DataFrame([(*pair, grade, "user") for pair, grade in judgements.items()], schema=GRADES, orient="row"),
        len(found.queries),
    )
    one = one.without(_trained_on(run, one), "in_examples", "it is among examples, which are trained on")
    if section.pooled is None:
        unjudged = one.queries.join(one.grades, on="row_id", how="anti", maintain_order="left")
        one = one.without(unjudged, "not_judged", "it is judged nowhere: set own_evaluation.pooled, or judge it")
    trained = passages.filter(~pl.col("held_out") & pl.col("passage_id").is_in(one.answers()["passage_id"].implode()))
    return one, {
        "judgements": len(found.judgements),
        "judgements_notes": notes,
        "judged_texts_added": added.height,
        "judged_documents_not_held_out": trained["document_id"].n_unique(),
    }


def _chosen(found: JudgedQueries, most: int, seed: int) -> JudgedQueries:
    """The queries that are scored, and their judgements; the others are chosen away by a hash of their ids."""
    if len(found.queries) <= most:
        return found
    ranked = sorted(found.queries, key=lambda one: digest([seed, "judged query", one]))
    kept = set(ranked[:most])
    return replace(
        found,
        queries={one: text for one, text in found.queries.items() if one in kept},
        judgements=[judgement for judgement in found.judgements if judgement[0] in kept],
    )


def _grades(
    found: JudgedQueries, places: Mapping[str, list[str]], section: OwnEvaluation
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Grades of documents by query, and notes on them; judgements of documents that are nowhere are left out and counted.

    Raises:
        RecipeError: grades that cannot be scored, or no judgement of a document that is there.
    """
    if not found.judgements:
        return {}, []
    texts = {document: f"{document} {found.texts.get(document, '')}" for document in places}
    try:
        checked = judged(found.judgements, found.queries, texts, drop_dangling=True)
    except ValueError as error:
        first = found.judgements[0][1]
        raise RecipeError(
            f"own_evaluation.queries {section.queries}: {error}. Documents are named by their path below corpus.path or by their "
            f"id ({first!r} is the first that is judged), or given as texts ({section.columns.passage})"
        ) from None
    return checked.grades, checked.notes


def _places(found: JudgedQueries, passages: pl.DataFrame) -> tuple[dict[str, list[str]], pl.DataFrame]:
    """The passages of each judged document that is there, and (passage_id, text) of texts that no passage holds."""
    of_document = passages.group_by("document_id", maintain_order=True).agg("passage_id")
    in_corpus: dict[str, list[str]] = dict(of_document.iter_rows())
    wanted = dict.fromkeys(document for _, document, _ in found.judgements)
    places = {document: in_corpus[document] for document in wanted if document in in_corpus}
    texts = {
        document: text
        for document in wanted
        if document not in places and (text := same_spaces(found.texts.get(document, "")))
    }
    if not texts:
        return places, pl.DataFrame(schema={"passage_id": pl.String, "text": pl.String})
    holding = passages_of_texts(list(texts.values()), passages)
    added = {short_id("judged text", text): text for text in dict.fromkeys(texts.values()) if text not in holding}
    name_of = {text: name for name, text in added.items()}
    places |= {document: holding.get(text) or [name_of[text]] for document, text in texts.items()}
    return places, pl.DataFrame({"passage_id": list(added), "text": list(added.values())})


def _trained_on(run: StageRun[OwnEvaluation], one: OwnSet) -> pl.DataFrame:
    """The queries that are among the user's examples."""
    if EXAMPLES not in run.inputs:
        return one.queries.clear()
    trained = {_folded(query) for query in run.input_rows(EXAMPLES)["query"].drop_nulls()}
    return one.queries.filter(
        pl.Series([_folded(query) in trained for query in one.queries["query"]], dtype=pl.Boolean)
    )


def _folded(text: str) -> str:
    return same_spaces(text).casefold()
