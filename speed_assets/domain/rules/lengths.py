"""Texts that are far from the length that their prompt asked for.

Belongs here: the two rules on lengths. Not here: what a prompt asks for (`answer_lengths.py`, `attributes.py`).
"""

from __future__ import annotations

import polars as pl

from speed_assets.domain.answer_lengths import words_allowed
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.candidates import prompt_row_id
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.grounded import QUERY_WORDS
from speed_assets.domain.language_names import UNSPACED
from speed_assets.domain.rules.languages import LanguagesByField
from speed_assets.domain.task_types import GROUNDED, TRIPLET_FIELDS


def wrong_lengths(
    rows: pl.DataFrame, tolerance: float, seed: int, skip: tuple[str, ...], languages: LanguagesByField
) -> pl.DataFrame:
    """Find texts that are far from the length that their prompt asked for.

    Args:
        rows: row_id, task_type, task, query, positive, negative.
        tolerance: 0..1; texts of fewer words than this share of the lower bound are too short, and texts of more words than the
            upper bound divided by it are too long.
        seed: of the recipe, from which the lengths asked for are drawn again.
        skip: codes of rules that are not tested.
        languages: those that each field is written in; where one of them puts no spaces between words, lengths are not tested.

    Returns:
        (length_reason, length_detail) of each row, in their order: the code and the field; null where no length is wrong.
    """
    asked: list[dict[str, float | None]] = []
    for row_id, task_type, task in rows.select("row_id", "task_type", "task").iter_rows():
        drawn = draw_attributes(task_type, seed_for(seed, "attributes", prompt_row_id(row_id)))
        of_query = words_allowed(drawn.get("query_length", drawn.get("text_length", "")))
        if task_type == GROUNDED:
            of_query = QUERY_WORDS.get(task, of_query)  # a task in words of the user's own asks for no length
        of_document = words_allowed(drawn.get("document_length", ""))[0], None  # prompts ask for at least so many
        asked.append(
            {
                f"{field}_{bound}": value
                for field, (least, most) in (("query", of_query), ("positive", of_document), ("negative", of_document))
                for bound, value in (("least", least * tolerance), ("most", most and most / tolerance))
            }
        )
    schema = {f"{field}_{bound}": pl.Float64 for field in TRIPLET_FIELDS for bound in ("least", "most")}
    bounds = pl.concat([rows.select(TRIPLET_FIELDS), pl.DataFrame(asked, schema=schema)], how="horizontal")
    found = [
        pl.when(test).then(pl.struct(pl.lit(code).alias("length_reason"), pl.lit(field).alias("length_detail")))
        for field in TRIPLET_FIELDS
        if not UNSPACED.intersection(languages[field])
        for code, test in (
            ("too_short", pl.col(field).str.count_matches(r"\S+") < pl.col(f"{field}_least")),
            ("too_long", pl.col(field).str.count_matches(r"\S+") > pl.col(f"{field}_most")),
        )
        if code not in skip
    ]
    none = pl.lit(None, dtype=pl.Struct({"length_reason": pl.String, "length_detail": pl.String}))
    return bounds.with_columns(pl.coalesce(*found, none).alias("found"))["found"].struct.unnest()
